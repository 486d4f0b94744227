"""The one that decides: which worker does which task, when it has failed, and whose result counts.

Each assignment has a number (its lease, a fencing token): results of an older one are refused, so a task completes once,
whoever worked on it.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec

from appliance.core.events import new_id
from appliance.core.tasks.assigning import Assigner
from appliance.core.tasks.desk import Desk
from appliance.core.tasks.entry import Entry
from appliance.core.tasks.model import Task, TaskState
from appliance.core.tasks.roster import Member, Outlet
from appliance.core.tasks.wire import Beat, Begun, Result
from appliance.core.tasks.wishes import Wish, check
from appliance.errors import ConflictError, StoreError

log = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between two looks at leases, at most."""
SMALL = 512
"""Bytes of a payload that stays in memory until its task has ended."""
AGAIN = 2.0
"""Seconds until what could not be written is tried again."""


T = TypeVar("T")


class Dispatcher:
    """Keeps the queue.

    Args:
        desk: The tasks.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.trouble: StoreError | None = None
        """Why nothing can be assigned."""
        self._assigner = Assigner(desk)

    # -- life ----------------------------------------------------------------------------------------------------------

    async def open(self, local: str) -> None:
        """Take up what an earlier run left.

        Args:
            local: Name of this machine's worker: what it had is lost, for it lived in the process that ended.

        Raises:
            StoreError: It cannot be read or written.
        """
        for entry in await self.desk.open():
            if entry.task.worker == local:
                await self.desk.lose(entry, "the appliance ended while it ran")
            else:
                entry.expires = self.desk.clock.monotonic() + self.desk.settings.lease_seconds

    def join(self, member: Member) -> None:
        """Let a worker in that is known already: this machine's, or one of an earlier run, which is silent yet."""
        name = member.worker.name
        self.desk.roster.members[name] = member
        member.has = self._of(name)
        self.desk.poke()

    async def run(self) -> None:
        """Assign, watch leases and deadlines, until cancelled."""
        wake = self.desk.wake
        while True:
            wake.clear()
            try:
                await self.look()
                if await self._assigner.assign():
                    wake.set()  # there may be more to give
                self.trouble = None
            except StoreError as error:
                if self.trouble is None or self.trouble.message != error.message:
                    log.error("tasks wait: %s", error)
                self.trouble = error
                await asyncio.sleep(AGAIN)
                continue
            try:
                async with asyncio.timeout(self._rest()):
                    await wake.wait()
            except TimeoutError:
                continue

    def _rest(self) -> float | None:
        """Seconds until something is due; None where only a call can bring something."""
        desk = self.desk
        now = desk.clock.monotonic()
        dues = [heap[0][0] - now for heap in (desk.later, desk.dues) if heap]
        if desk.flying or any(not member.worker.local for member in desk.roster.members.values()):
            dues.append(LOOK)
        return max(0.005, min(dues)) if dues else None

    # -- what operators ask --------------------------------------------------------------------------------------------

    async def submit(self, wish: Wish, owner: str) -> Task:
        """Take a task; it is on disk when this returns.

        Raises:
            InvalidArgumentsError: Its type is unknown, its payload too large, its worker unknown.
            ConflictError: Too many have not ended.
            StoreError: It is not on disk, and will not run.
        """
        desk, settings = self.desk, self.desk.settings
        payload = check(wish, desk.roster, settings)
        self._room()
        now, wall = desk.clock.monotonic(), desk.clock.wall()
        task = Task(
            task_id=new_id(), type=wish.type, state=TaskState.pending, priority=wish.priority, owner=owner, submitted=wall,
            attempts=wish.attempts or settings.attempts, wanted_worker=wish.worker,
            deadline=None if wish.deadline_s is None else wall + wish.deadline_s,
            limit_s=wish.limit_s or settings.limit_seconds, payload_bytes=len(payload), schedule=wish.schedule,
        )  # fmt: skip
        entry = Entry(task, desk.number(), now, None if wish.deadline_s is None else now + wish.deadline_s)
        entry.history = ({"time": wall, "what": f"submitted by {owner}"},)
        entry.payload = payload if len(payload) <= SMALL else None
        desk.live[task.task_id] = entry
        return await _whole(self._take(entry, payload))

    async def _take(self, entry: Entry, payload: bytes) -> Task:
        """Raises StoreError."""
        desk = self.desk
        try:
            await desk.book.add([(entry.kept(desk.boot), payload)])
        except BaseException:
            desk.live.pop(entry.task.task_id, None)
            raise
        desk.counts["submitted"] += 1
        desk.watch_due(entry)
        desk.queue(entry)
        return entry.task

    async def cancel(self, task_id: str, by: str) -> Task:
        """A task is not done, or no more; what its worker still brings is refused.

        Raises:
            ConflictError: It has ended.
            StoreError: That cannot be written; it goes on.
        """
        entry = self.desk.live.get(task_id)
        if entry is None:
            raise ConflictError("That task has ended.", "there is nothing to cancel; see `prime-spark task show`.")
        return await _whole(self._give_up(entry, TaskState.cancelled, f"cancelled by {by}"))

    async def retry(self, task_id: str, by: str) -> Task:
        """Have a task done again that failed or was cancelled.

        Raises:
            ConflictError: It has not ended, or was completed, or too many have not ended.
            NotFoundError: It is not kept any more.
            StoreError: That cannot be written.
        """
        desk = self.desk
        if desk.has(task_id):
            raise ConflictError("That task has not ended.", "wait for it, or cancel it first.")
        detail = await desk.book.show(task_id)
        task = detail.task
        if task.state is TaskState.completed:
            raise ConflictError("That task was completed.", "submit it anew where it shall be done once more.")
        if desk.has(task_id):  # somebody else was faster
            raise ConflictError("That task waits again already.", "see `prime-spark task show`.")
        self._room()
        entry = Entry(task, desk.number(), desk.clock.monotonic(), None, detail.history)
        entry.change(
            desk.clock.wall(), f"again, asked for by {by}", state=TaskState.pending, attempt=0, deliveries=0, deadline=None,
            ended=None, started=None, reason="", worker="", session="", duration_ms=None, lease=task.lease + 1,
        )  # fmt: skip
        desk.live[task_id] = entry
        return await _whole(self._revive(entry))

    async def _revive(self, entry: Entry) -> Task:
        """Raises NotFoundError, StoreError."""
        desk = self.desk
        try:
            await desk.book.revive(entry.as_change())
        except BaseException:
            desk.live.pop(entry.task.task_id, None)
            raise
        desk.queue(entry)
        return entry.task

    def _room(self) -> None:
        """Raises ConflictError where no more are taken."""
        most = self.desk.settings.waiting
        if len(self.desk.live) >= most:
            step = "wait until some have ended, cancel some, or raise tasks.waiting."
            raise ConflictError(f"{most} tasks wait or run already.", step)

    async def _give_up(self, entry: Entry, state: TaskState, reason: str) -> Task:
        """End a task that a worker may have, and tell that one. Raises StoreError."""
        before, had = entry.task, entry.in_flight
        task = await self.desk.end(entry, state, reason)
        if had:
            await self._assigner.stop(before, reason)
        return task

    # -- what workers say ----------------------------------------------------------------------------------------------

    async def hear(self, beat: Beat, outlet: Outlet) -> None:
        """A sign of life: it renews the leases of what the worker has, and shows what it has lost. Raises StoreError."""
        desk, now = self.desk, self.desk.clock.monotonic()
        member = desk.roster.hear(beat, outlet, now)
        if member is None:
            return
        member.has = self._of(beat.worker)
        desk.poke()
        for task_id, lease in beat.running:
            about = Begun(task_id=task_id, worker=beat.worker, session=beat.session, lease=lease)
            if (held := self._holder(about)) is not None:
                held.expires, held.recovered = now + desk.settings.lease_seconds, False
            else:
                await self._assigner.stop_stray(outlet, about)
        for entry in [desk.flying[each] for each in member.has if each in desk.flying]:
            await self._compare(entry, beat)
        if member.unkept:
            lasting = msgspec.structs.replace(member.worker, beat=None, running=None, load=None)
            await desk.book.keep_worker(lasting, desk.clock.wall())
            member.unkept = False

    async def _compare(self, entry: Entry, beat: Beat) -> None:
        """See whether a worker has still what it was given. Raises StoreError."""
        task = entry.task
        if not entry.in_flight or task.worker != beat.worker or entry.recovered:
            return
        if task.session != beat.session:
            await self.desk.lose(entry, "its worker was started anew")
        elif task.state is TaskState.in_progress and (task.task_id, task.lease) not in beat.running:
            await self.desk.lose(entry, "its worker has it no more")

    async def begun(self, told: Begun) -> bool:
        """A worker begins; False where it has no right to. Raises StoreError."""
        entry = self._holder(told)
        if entry is None:
            member = self.desk.roster.members.get(told.worker)
            if member is not None and not member.worker.local:
                await self._assigner.stop_stray(member.outlet, told)
            return False
        if entry.task.state is not TaskState.assigned:
            return True
        before, history, desk = entry.task, entry.history, self.desk
        if entry.expires is not None:
            entry.expires = desk.clock.monotonic() + desk.settings.lease_seconds
        wall, attempt = desk.clock.wall(), before.attempt + 1
        what = f"attempt {attempt} begun"
        entry.change(
            wall, what, told.worker, state=TaskState.in_progress, attempt=attempt, deliveries=0, started=wall, reason=""
        )
        after = entry.task
        desk.changes += 1
        try:
            await desk.book.change([entry.as_change()])
        except BaseException:
            if entry.task is after:
                entry.task, entry.history = before, history
            raise
        return entry.task is after

    async def returned(self, told: Begun, why: str = "given back by its worker") -> None:
        """A worker gives a task back, unbegun or broken off by no fault of the task's. Raises StoreError."""
        entry = self._holder(told)
        if entry is not None:
            began = entry.task.state is TaskState.in_progress
            await self.desk.back(entry, why, attempt=entry.task.attempt - began)

    async def ended(self, told: Result) -> bool:
        """What came of a task; False where it does not count. Raises StoreError: it must be told again."""
        entry, desk = self._holder(told), self.desk
        member = desk.roster.members.get(told.worker)
        if entry is None:
            kind = "duplicates" if desk.ends.knows(told.task_id, told.lease) else "refused"
            desk.counts[kind] += 1
            if kind == "refused" and member is not None:
                member.change(refused=member.worker.refused + 1)
            log.info("a result of %s for %s counts no more (%s)", told.worker, told.task_id, kind)
            return False
        if entry.task.state is TaskState.assigned:  # its beginning was not heard
            entry.change(0.0, "", attempt=entry.task.attempt + 1, state=TaskState.in_progress)
        if told.status == "completed":
            await desk.end(entry, TaskState.completed, "", told.duration_ms, msgspec.json.encode(told.result))
        elif told.final:
            await desk.end(entry, TaskState.failed, told.error, told.duration_ms)
        else:
            await desk.again(entry, told.error)
        if member is not None:
            kept = "completed" if told.status == "completed" else "failed"
            member.change(**{kept: getattr(member.worker, kept) + 1})
        return True

    # -- what time brings ----------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Leases, deadlines, and what waits for its next attempt. Raises StoreError."""
        desk = self.desk
        now = desk.clock.monotonic()
        for member in desk.roster.silence(now):
            log.warning("the worker %s gives no sign of life", member.worker.name)
            desk.changes += 1
            await desk.note("task.worker-silent", {"worker": member.worker.name, "tasks": len(member.has)})
        while desk.later and desk.later[0][0] <= now:
            entry = desk.live.get(heapq.heappop(desk.later)[1])
            if entry is not None and entry.task.state is TaskState.pending and entry.not_before <= now:
                desk.waiting.remove(entry.task.task_id)
                desk.queue(entry)
        await self._deadlines(now)
        await self._leases(now)

    async def _deadlines(self, now: float) -> None:
        desk = self.desk
        while desk.dues and desk.dues[0][0] <= now:
            due, task_id = heapq.heappop(desk.dues)
            entry = desk.live.get(task_id)
            if entry is None or entry.due != due:
                continue
            try:
                await self._give_up(entry, TaskState.failed, "its deadline passed")
            except StoreError:
                heapq.heappush(desk.dues, (due, task_id))
                raise

    async def _leases(self, now: float) -> None:
        desk = self.desk
        for entry in [each for each in desk.flying.values() if each.expires is not None]:
            member = desk.roster.members.get(entry.task.worker)
            if member is not None and not member.outlet.hears:
                # nobody could have renewed it: its worker has a whole lease once it can be heard again
                entry.expires = now + desk.settings.lease_seconds
            elif entry.expires is not None and entry.expires <= now:
                began = entry.task.state is TaskState.in_progress
                await desk.lose(entry, "its worker gave no sign of life" if began else "no worker began it")

    def _of(self, worker: str) -> set[str]:
        return {task_id for task_id, entry in self.desk.flying.items() if entry.task.worker == worker}

    def _holder(self, told: Begun | Result) -> Entry | None:
        """The task that a worker speaks of, where it has the right to."""
        entry = self.desk.flying.get(told.task_id)
        if entry is None or not entry.in_flight:
            return None
        task = entry.task
        return entry if (task.worker, task.session, task.lease) == (told.worker, told.session, told.lease) else None


async def _whole(work: Coroutine[Any, Any, T]) -> T:
    """Do this to its end also where the caller goes away: memory and disk must not part."""
    return await asyncio.shield(asyncio.ensure_future(work))

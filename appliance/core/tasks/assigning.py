"""Gives tasks to workers: the next one in order to the one of those that can do it who has the least to do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import msgspec

from appliance.core.events import rfc3339
from appliance.core.tasks.desk import Desk
from appliance.core.tasks.entry import Entry
from appliance.core.tasks.model import Task, TaskState
from appliance.core.tasks.roster import Member, Outlet, surplus
from appliance.core.tasks.wire import Begun, Order, Stop
from appliance.errors import LinkDownError, StoreError

log = logging.getLogger(__name__)

AT_ONCE = 200
"""Most tasks that are assigned in one write."""


class Assigner:
    """Assigns.

    Args:
        desk: The tasks.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def assign(self) -> bool:
        """Give some of what waits to who is free; whether there may be more to give. Raises StoreError."""
        desk, now = self._desk, self._desk.clock.monotonic()
        chosen: list[tuple[Entry, Member]] = []
        while len(chosen) < AT_ONCE:
            task_id = desk.waiting.take(lambda bucket: desk.roster.choose(bucket, now) is not None)
            if task_id is None:
                break
            entry = desk.live[task_id]
            member = desk.roster.choose(entry.bucket, now)
            assert member is not None  # `take` has asked for it
            self._hand(entry, member, now)
            chosen.append((entry, member))
        if not chosen:
            await self._recall(now)
            return False
        await self._deliver(chosen)
        return True

    async def stop(self, task: Task, reason: str, *, recall: bool = False) -> None:
        """Tell a worker to do a task no more; where it does not hear it, its result is refused."""
        member = self._desk.roster.members.get(task.worker)
        if member is None:
            return
        told = Stop(task_id=task.task_id, worker=task.worker, session=task.session, lease=task.lease, reason=reason)
        try:
            await member.outlet.stop(told, recall=recall)
        except LinkDownError as error:
            log.info("%s was not told to stop %s: %s", task.worker, task.task_id, error.message)

    async def stop_stray(self, outlet: Outlet, about: Begun) -> None:
        """Tell a worker to stop what it has no right to: it did not hear that it was cancelled, or lost."""
        desk = self._desk
        if about.task_id in desk.ending or desk.ends.knows(about.task_id, about.lease):
            return  # its end is on the way
        log.info("%s works on %s, which it does not have any more (lease %d)", about.worker, about.task_id, about.lease)
        told = Stop(
            task_id=about.task_id, worker=about.worker, session=about.session, lease=about.lease, reason="it has lost it"
        )
        try:
            await outlet.stop(told, recall=False)
        except LinkDownError as error:
            log.info("%s was not told to stop %s: %s", about.worker, about.task_id, error.message)

    def _hand(self, entry: Entry, member: Member, now: float) -> None:
        desk, worker, task = self._desk, member.worker, entry.task
        wall, given = (
            desk.clock.wall(),
            {"lease": task.lease + 1, "worker": worker.name, "session": worker.session, "reason": ""},
        )
        if worker.local:  # it begins at once: one write for both
            attempt = task.attempt + 1
            began = {"state": TaskState.in_progress, "attempt": attempt, "started": wall, "deliveries": 0}
            entry.change(wall, f"attempt {attempt} begun", worker.name, **given, **began)
        else:
            state = {"state": TaskState.assigned, "deliveries": task.deliveries + 1}
            entry.change(wall, "assigned", worker.name, **given, **state)
        entry.expires = None if worker.local else now + desk.settings.lease_seconds
        entry.recalled = entry.recovered = False
        member.has.add(task.task_id)
        desk.flying[task.task_id] = entry
        desk.changes += 1

    async def _deliver(self, chosen: list[tuple[Entry, Member]]) -> None:
        """Write who has what, then tell them. Raises StoreError: all wait again."""
        leases = {entry.task.task_id: entry.task.lease for entry, _ in chosen}
        try:
            payloads = {entry.task.task_id: entry.payload for entry, _ in chosen if entry.payload is not None}
            if absent := [task_id for task_id in leases if task_id not in payloads]:
                payloads |= await self._desk.book.payloads(absent)
            await self._desk.book.change([entry.as_change() for entry, _ in chosen if self._holds(entry, leases)])
        except StoreError:
            for entry, member in chosen:
                if self._holds(entry, leases):
                    self._take_back(entry, member)
            raise
        orders: dict[str, list[Order]] = {}
        outlets: dict[str, Outlet] = {}
        for entry, member in chosen:
            if self._holds(entry, leases):
                orders.setdefault(member.worker.name, []).append(self._order(entry, member, payloads[entry.task.task_id]))
                outlets[member.worker.name] = member.outlet
        await asyncio.gather(*(_give(outlets[name], each) for name, each in orders.items()))

    def _take_back(self, entry: Entry, member: Member) -> None:
        """An assignment that is not on disk never was; only its number is spent."""
        member.has.discard(entry.task.task_id)
        self._desk.flying.pop(entry.task.task_id, None)
        began = entry.task.state is TaskState.in_progress
        attempt, deliveries = entry.task.attempt - began, entry.task.deliveries - (not began)
        entry.change(0.0, "", state=TaskState.pending, attempt=attempt, deliveries=deliveries)
        entry.history = entry.history[:-1]
        entry.expires = None
        self._desk.queue(entry)

    def _holds(self, entry: Entry, leases: dict[str, int]) -> bool:
        """Whether it was not cancelled, or lost, meanwhile."""
        task = entry.task
        mine = self._desk.live.get(task.task_id) is entry
        return mine and entry.in_flight and task.lease == leases[task.task_id]

    def _order(self, entry: Entry, member: Member, payload: bytes) -> Order:
        task, desk = entry.task, self._desk
        attempt = task.attempt + (task.state is TaskState.assigned)
        given = msgspec.json.decode(payload) if member.worker.local else msgspec.Raw(payload)
        return Order(
            task_id=task.task_id, type=task.type, priority=int(task.priority), payload=given,
            attempt=attempt, deadline=None if task.deadline is None else rfc3339(task.deadline), worker=task.worker,
            session=task.session, lease=task.lease, lease_s=desk.settings.lease_seconds, beat=member.number,
            limit_s=task.limit_s, left_s=None if entry.due is None else max(0.0, entry.due - desk.clock.monotonic()),
        )  # fmt: skip

    async def _recall(self, now: float) -> None:
        """Have tasks given back that stand behind others where somebody else would begin them at once."""
        desk = self._desk
        for member in surplus(desk.roster.members.values()):
            reserve = [desk.flying[each] for each in member.has if each in desk.flying]
            for entry in [each for each in reserve if each.task.state is TaskState.assigned and not each.recalled]:
                other = desk.roster.idle(entry.bucket, now)
                if other is not None and other is not member:
                    entry.recalled = True
                    await self.stop(entry.task, "another worker is free", recall=True)


async def _give(outlet: Outlet, orders: Sequence[Order]) -> None:
    try:
        await outlet.give(orders)
    except LinkDownError as error:  # they may have reached it: their leases decide
        log.warning("%d tasks did not reach %s: %s", len(orders), orders[0].worker, error.message)

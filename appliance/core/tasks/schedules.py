"""Schedules: tasks that are submitted again and again.

How far each has come lies on disk. A run counts as missed where its moment is more than `LATE` seconds ago: the appliance was
off, or the clock has jumped. A clock that goes back brings no run twice: nothing before the newest run is due again.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from appliance.core.tasks import cron
from appliance.core.tasks.book import TaskBook
from appliance.core.tasks.dispatcher import Dispatcher
from appliance.core.tasks.model import Schedule, Task
from appliance.core.tasks.wishes import Wish, check
from appliance.errors import ApplianceError, ConflictError, InvalidArgumentsError, NotFoundError

log = logging.getLogger(__name__)

LATE = 90.0
"""Seconds after which a run counts as missed."""
LOOK = 30.0
"""Seconds between two looks at the clock, which may be set at any time."""
BACK = 3600.0
"""Seconds that the clock may go back before a schedule begins anew from it."""
MOST = 500
"""Schedules."""


class Schedules:
    """Submits what is due.

    Args:
        dispatcher: Takes the tasks.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._clock = dispatcher.desk.clock
        self._known: dict[str, Schedule] = {}
        self._wake = asyncio.Event()

    @property
    def _book(self) -> TaskBook:
        return self._dispatcher.desk.book

    async def open(self) -> None:
        """Bring them back. Raises StoreError."""
        self._known = {each.name: each for each in await self._book.schedules()}

    def all(self) -> tuple[Schedule, ...]:
        """By name."""
        return tuple(self._known[name] for name in sorted(self._known))

    def get(self, name: str) -> Schedule:
        """Raises NotFoundError."""
        if name not in self._known:
            known = ", ".join(sorted(self._known)) or "none"
            raise NotFoundError(f"No schedule is called {name!r}.", f"there are: {known}.")
        return self._known[name]

    async def add(self, schedule: Schedule) -> Schedule:
        """A new one; it is on disk when this returns.

        Raises:
            ConflictError: The name is taken, or there are too many.
            InvalidArgumentsError: Its fields, zone, type or payload cannot be.
        """
        if schedule.name in self._known:
            raise ConflictError(f"There is a schedule {schedule.name!r} already.", "remove it first, or take another name.")
        if len(self._known) >= MOST:
            raise ConflictError(f"There are {MOST} schedules already.", "remove some.")
        fields, now = cron.fields_of(schedule.cron), self._clock.wall()
        cron.zone_of(schedule.zone)
        desk = self._dispatcher.desk
        check(self._wish(schedule), desk.roster, desk.settings)
        due = cron.next_after(fields, schedule.zone, now)
        made = msgspec.structs.replace(schedule, cron=fields, created=now, last=now, next=due)
        await self._keep(made)
        return made

    async def remove(self, name: str) -> None:
        """Forget one; tasks that it has submitted stay. Raises NotFoundError, StoreError."""
        self.get(name)
        await self._book.drop_schedule(name)
        self._known.pop(name, None)
        self._dispatcher.desk.changes += 1

    async def switch(self, name: str, *, enabled: bool) -> Schedule:
        """On: from now on, without what was missed meanwhile. Raises NotFoundError, StoreError."""
        found, now = self.get(name), self._clock.wall()
        due = cron.next_after(found.cron, found.zone, now) if enabled else None
        made = msgspec.structs.replace(found, enabled=enabled, last=now if enabled else found.last, next=due)
        await self._keep(made)
        return made

    async def run_now(self, name: str, by: str) -> Task:
        """Submit its task once, now; its next run stays as it is. Raises NotFoundError, InvalidArgumentsError, StoreError."""
        found = self.get(name)
        task = await self._dispatcher.submit(self._wish(found), f"{by} (schedule {name})")
        await self._keep(msgspec.structs.replace(self.get(name), last_task=task.task_id))
        return task

    async def run(self) -> None:
        """Submit what is due, until cancelled."""
        while True:
            self._wake.clear()
            for name in list(self._known):
                try:
                    await self.look(name)
                except ApplianceError as error:
                    log.warning("schedule %s: %s", name, error)
            try:
                async with asyncio.timeout(self._rest()):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _rest(self) -> float | None:
        """Seconds until the next look; None where nothing is scheduled."""
        dues = [each.next for each in self._known.values() if each.enabled and each.next is not None]
        return max(0.05, min(LOOK, min(dues) - self._clock.wall())) if dues else None

    async def look(self, name: str) -> Task | None:
        """Submit the task of one where it is due; returns it. Raises ApplianceError."""
        found, now = self._known.get(name), self._clock.wall()
        if found is None or not found.enabled or found.last is None:
            return None
        if now < found.last - BACK:  # the clock was wrong before, or is now: begin anew from what it says
            await self._keep(msgspec.structs.replace(
                found, last=now, next=cron.next_after(found.cron, found.zone, now), note="the clock went back: begun anew",
            ))  # fmt: skip
            return None
        if found.next is not None and found.last <= now < found.next:
            return None
        due = await asyncio.to_thread(cron.missed, found.cron, found.zone, found.last, now)
        if not due:
            if found.next is None or found.next <= now:
                await self._keep(
                    msgspec.structs.replace(found, next=cron.next_after(found.cron, found.zone, max(now, found.last)))
                )
            return None
        late = now - due[-1] > LATE
        runs = not late or found.missed == "once"
        left = len(due) - 1 + (0 if runs else 1)
        made = msgspec.structs.replace(
            found, last=due[-1], next=cron.next_after(found.cron, found.zone, max(now, due[-1])),
            missed_runs=found.missed_runs + left, note=f"{left} missed runs were left out" if left else "",
        )  # fmt: skip
        await self._keep(made)  # before the task: a cut of the power may lose a run, and never brings one twice
        if not runs:
            return None
        try:
            task = await self._dispatcher.submit(self._wish(found), found.owner)
        except (InvalidArgumentsError, ConflictError) as error:
            await self._keep(msgspec.structs.replace(made, note=f"not submitted: {error.message}"))
            raise
        await self._keep(msgspec.structs.replace(made, last_task=task.task_id))
        return task

    async def _keep(self, schedule: Schedule) -> None:
        await self._book.keep_schedule(schedule)
        self._known[schedule.name] = schedule
        self._dispatcher.desk.changes += 1
        self._wake.set()

    @staticmethod
    def _wish(schedule: Schedule) -> Wish:
        return Wish(
            schedule.type, schedule.payload, schedule.priority, limit_s=schedule.limit_s, worker=schedule.worker,
            schedule=schedule.name,
        )  # fmt: skip

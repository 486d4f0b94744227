"""When the source is looked at, and what is done with a newer release without being asked: as the settings say."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from appliance.core.lifecycle.update.model import Checked, TrialState
from appliance.errors import ApplianceError

if TYPE_CHECKING:
    from appliance.core.lifecycle.update.desk import Desk

log = logging.getLogger(__name__)

SETTLE = 120.0
"""Seconds after the start before a look that was missed is made up for."""
LOOK = 60.0
"""Most seconds between two looks at the wall clock, which may jump."""
DAY = 86400.0
"""Seconds that a last look may lie ahead; one that lies further was noted while the clock was wrong."""
SCHEDULE = "schedule"
"""The owner of what nobody asked for."""


class Planner:
    """The plan.

    Args:
        desk: Carries it out.
        settle: Seconds after the start before the first look.
    """

    def __init__(self, desk: Desk, settle: float = SETTLE) -> None:
        self._desk = desk
        self._ground = desk.ground
        self._settle = settle
        self._first = desk.ground.clock.wall()

    async def run(self) -> None:
        """Until cancelled."""
        self._desk.show(next_check=self.moment())
        await asyncio.sleep(self._settle)
        while True:
            try:
                await self.turn()
            except ApplianceError as error:
                log.warning("the plan for updates was not carried out: %s", error)
            moment = self.moment()
            self._desk.show(next_check=moment)
            left = LOOK if moment is None else moment - self._ground.clock.wall()
            await asyncio.sleep(min(LOOK, max(1.0, left)))

    def moment(self) -> float | None:
        """When the source is looked at next, wall clock; None for never."""
        wanted = self._ground.settings
        if not wanted.source or not wanted.schedule:
            return None
        from appliance.core.tasks.cron import next_after

        last, now = self._ground.book.notes.tried or self._first, self._ground.clock.wall()
        return now if last > now + DAY else next_after(wanted.schedule, wanted.zone, last)

    async def turn(self) -> None:
        """What is due now. Raises ApplianceError."""
        now, moment = self._ground.clock.wall(), self.moment()
        if moment is not None and moment <= now:
            await self._install(await self._desk.check())
        if self._may_restart(now):
            log.info("the machine is started again into the update that was installed by the schedule")
            await self._desk.restart()

    async def _install(self, found: Checked) -> None:
        idle = self._desk.status.trial.state is TrialState.none and not self._desk.busy
        if found.newest is None or self._ground.settings.automatic == "tell" or not idle:
            return
        if self._was_left(found.newest.version):
            log.info("%s is not installed by itself again: it was left, not kept, or failed, before", found.newest.version)
            return
        job = await self._desk.install(SCHEDULE)
        await self._desk.waited(job)

    def _was_left(self, version: str) -> bool:
        """Whether a version was here before and did not stay: whoever wants it again says so."""
        notes = self._ground.book.notes
        failed = notes.last is not None and not notes.last.good and notes.last.version == version
        return failed or notes.left == version or any(each.problem and each.version == version for each in notes.slots.values())

    def _may_restart(self, now: float) -> bool:
        pending, wanted = self._ground.book.notes.pending, self._ground.settings
        ours = pending is not None and pending.by == SCHEDULE and pending.phase == "written" and not pending.reason
        waits = self._desk.status.trial.state is TrialState.waiting
        return wanted.automatic == "restart" and ours and waits and within(wanted.window, wanted.zone, now)


def within(window: str, zone: str, now: float) -> bool:
    """Whether a moment falls into a window of every day.

    Args:
        window: HH:MM-HH:MM; it may span midnight.
        zone: Name of its time zone.
        now: Wall clock.
    """
    there = datetime.fromtimestamp(now, UTC).astimezone(ZoneInfo(zone)).strftime("%H:%M")
    begin, _, end = window.partition("-")
    return begin <= there < end if begin <= end else there >= begin or there < end

"""Backups as a service: by the schedule, by hand as jobs, told in the live state; absent where no target is configured."""

from __future__ import annotations

import asyncio
import functools
import logging
import shutil
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from appliance.core.backoff import backoff
from appliance.core.figures import counted
from appliance.core.jobs import JobHandle, Jobs
from appliance.core.lifecycle.backup.contents import gaps, wanted
from appliance.core.lifecycle.backup.faults import HOW, no_target
from appliance.core.lifecycle.backup.model import BackupStatus, Restored, TargetStatus
from appliance.core.model import Health, HealthReport, JobState, JobStatus, Severity
from appliance.core.ports import Clock
from appliance.core.state import LiveState, Section
from appliance.errors import AbsentError, ApplianceError, BackupError
from appliance.settingbackup import BackupSettings

if TYPE_CHECKING:
    from appliance.core.lifecycle.backup.keeper import Keeper

log = logging.getLogger(__name__)

SETTLE = 120.0
"""Seconds after the start before a backup that was missed is made up for."""
DAY = 86400.0
LOOK = 60.0
"""Most seconds between two looks at the wall clock, which may jump."""
AGAIN, LONGEST = 600.0, 21600.0
"""Seconds until a backup that failed is tried again: the first time, and ever."""
INSTALL = "sudo apt-get install restic, then `prime-spark service restart backup`."
Tell = Callable[[str, Severity, dict[str, Any]], Awaitable[None]]
Note = Callable[[Restored, dict[str, Any], str], Awaitable[None]]
"""(what was restored, its facts, the same as a sentence)."""


class BackupService:
    """Makes backups when they are due (implements ports.Service).

    Args:
        make: Makes the keeper when it is first needed; it is given what tells how far it is.
        settings: Of the backups.
        jobs: Runs them.
        state: Where they are shown (Section.backup).
        clock: For the schedule.
        tell: Told what came of them.
        most_days: Days after which the alert tells of a proof that is too old.
        note: Writes a restore that was applied into the audit; none: nowhere.
    """

    name = "backup"
    summary = "Keeps encrypted backups of the appliance, each proved by a restore"
    depends: tuple[str, ...] = ("store",)

    def __init__(
        self,
        make: Callable[[Callable[[str, float | None], None]], Keeper],
        settings: BackupSettings,
        jobs: Jobs,
        state: LiveState,
        clock: Clock,
        tell: Tell,
        most_days: Callable[[], float] = lambda: 3.0,
        note: Note | None = None,
    ) -> None:
        self._make = make
        self._settings = settings
        self._jobs = jobs
        self._state = state
        self._clock = clock
        self._tell = tell
        self._most_days = most_days
        self._note = note
        self._handle: JobHandle | None = None
        self._ready: asyncio.Task[None] | None = None
        self._tried: dict[str, float] = {}
        self._begins = 0.0
        self._status = BackupStatus(schedule=settings.schedule)

    @functools.cached_property
    def keeper(self) -> Keeper:
        """What does the work."""
        return self._make(self._report)

    @property
    def status(self) -> BackupStatus:
        """As it is shown."""
        return self._status

    async def prepared(self) -> Keeper:
        """The keeper, once what was cut off is removed. Raises BackupError."""
        if self._ready is None or (self._ready.done() and self._ready.exception() is not None):
            self._ready = asyncio.create_task(self._prepare(), name="backup prepares")
        await asyncio.shield(self._ready)
        return self.keeper

    async def _prepare(self) -> None:
        from appliance.core.lifecycle.backup import restoring

        keeper, data = self.keeper, self.keeper.ground.places.data
        try:
            await asyncio.to_thread(keeper.prepare)
            done = await asyncio.to_thread(restoring.applied, data)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BackupError(f"{keeper.home} cannot be used: {error}.", "see the data partition.") from error
        if done is not None:
            await self._restored(done, data)
        await self.refresh()

    async def _restored(self, done: Restored, data: Path) -> None:
        """Where people look: the audit, the log, and who listens. Raises StoreError, OSError."""
        from appliance.core.lifecycle.backup import restoring

        facts = {
            "source": done.source, "device_id": done.device_id, "made": done.made, "parts": list(done.parts), "by": done.by,
            "aside": done.aside, "audit_rows_aside": done.audit_rows, "audit_rows_newer": done.audit_newer,
        }  # fmt: skip
        sentence = restored_text(done)
        if self._note is not None:
            await self._note(done, facts, sentence)
        log.warning("%s", sentence)
        await self._tell("backup.restored", Severity.warning, facts)
        await asyncio.to_thread(restoring.told, data)

    async def start(self) -> None:
        """Raises AbsentError without a target, or without restic."""
        await self.prepared()
        if not self._settings.targets:
            raise AbsentError("no target for backups is configured", HOW)
        if shutil.which("restic", path=self.keeper.ground.environ.get("PATH")) is None:
            raise AbsentError("restic is not installed", INSTALL)

    async def run(self) -> None:
        """Make backups when they are due."""
        self._begins = self._clock.wall() + SETTLE
        self._show_plan()
        await asyncio.sleep(SETTLE)
        while True:
            due, soonest = self._due()
            for name in () if self.keeper.busy else due:  # what is under way by hand ends first
                self._tried[name] = self._clock.wall()
                await self._scheduled(name)
            if soonest is None or due:
                soonest = min(self.moments().values(), default=None)
            self._show_plan()
            left = LOOK if soonest is None else soonest - self._clock.wall()
            await asyncio.sleep(min(LOOK, max(1.0, left)))

    async def _scheduled(self, name: str) -> None:
        try:
            job = await self.submit_run("schedule", name)
            await self._jobs.wait(job.job_id)
        except ApplianceError as error:
            log.error("the backup to %s was not begun: %s", name, error)

    def _due(self) -> tuple[list[str], float | None]:
        """(targets that are due, when the next one is)."""
        now, moments = self._clock.wall(), self.moments()
        later = [each for each in moments.values() if each > now]
        return [name for name, each in moments.items() if each <= now], min(later, default=None)

    def moments(self) -> dict[str, float]:
        """When each target is due: as the schedule says, sooner where the last one failed."""
        both = {name: (planned, again) for name, planned, again in self._planned()}
        return {name: min(each for each in pair if each is not None) for name, pair in both.items() if pair != (None, None)}

    def _planned(self) -> Iterator[tuple[str, float | None, float | None]]:
        """(target, when the schedule has it, when what failed is tried again if that is sooner)."""
        if not self._settings.schedule:
            return
        from appliance.core.tasks.cron import next_after

        for name, each in self.keeper.book.targets.items():
            last = max(each.last_try or each.first_seen, self._tried.get(name, 0.0))
            if last > self._clock.wall() + DAY:  # noted while the clock was wrong: it would be due in years
                yield name, self._clock.wall(), None
                continue
            planned = next_after(self._settings.schedule, self._settings.zone, last)
            soon = last + backoff(each.failures, AGAIN, LONGEST) if each.failures else None
            yield name, planned, soon if soon is not None and (planned is None or soon < planned) else None

    def _show_plan(self) -> None:
        """Show when it goes on; what is due at the start begins when that has settled."""
        rows = list(self._planned())
        planned = min((each for _, each, _ in rows if each is not None), default=None)
        again = min((each for _, _, each in rows if each is not None), default=None)
        self.show(
            next_run=None if planned is None else max(planned, self._begins),
            retry=None if again is None else max(again, self._begins),
        )

    async def submit_run(self, owner: str, target: str = "") -> JobStatus:
        """Make a backup as a job. Raises ApplianceError."""
        keeper = await self.prepared()
        if not self._settings.targets:
            raise no_target()
        if target:
            keeper.named(target)
        return await self.submit("backup", owner, lambda: self._counted(keeper.run(target)))

    async def _counted(self, work: Awaitable[list[TargetStatus]]) -> list[dict[str, Any]]:
        try:
            found = await work
        except ApplianceError as error:
            self.show(runs=self._status.runs + 1, failed=self._status.failed + 1)
            await self._tell("backup.failed", Severity.warning, {"message": error.message})
            raise
        self.show(runs=self._status.runs + 1)
        rows = [told(each) for each in found]
        await self._tell("backup.proved", Severity.info, {"targets": rows})
        return rows

    async def submit(self, name: str, owner: str, work: Callable[[], Awaitable[Any]]) -> JobStatus:
        """Do something with backups as a job. Raises ApplianceError."""

        async def job(handle: JobHandle) -> Any:
            self._handle = handle
            try:
                return await work()
            finally:
                self._handle = None
                await self.refresh()
                self._show_plan()

        return await self._jobs.submit(name, owner, job)

    async def waited(self, job: JobStatus) -> JobStatus:
        """The job when it has ended. Raises BackupError where it did not succeed."""
        ended = await self._jobs.wait(job.job_id)
        if ended.state is not JobState.completed:
            what, _, step = (ended.error or f"It was {ended.state.value}.").partition(" Next: ")
            raise BackupError(what, step)
        return ended

    def _report(self, what: str, share: float | None) -> None:
        self.show(doing=what, progress=share)
        if self._handle is not None and what:
            self._handle.report(share, what)

    async def refresh(self) -> None:
        """Look at what lies on the disk, and show it."""
        from appliance.core.lifecycle.backup import restoring

        data = self.keeper.ground.places.data
        try:
            former, last = await asyncio.to_thread(restoring.former, data), await asyncio.to_thread(restoring.last, data)
            self.show(pending=await asyncio.to_thread(restoring.pending, data), former=former, restored=last)
        except (ApplianceError, OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.error("what restores left cannot be read: %s", error)
            self.show()

    def show(self, **changes: Any) -> None:
        """Put the status where it is seen."""
        known = tuple(self.keeper.book.targets.values())
        parts = wanted(self._settings, self.keeper.ground.places)
        missing = gaps(parts, self.keeper.outside())
        self._status = replace(self._status, targets=known, parts=parts, gaps=missing, **changes)
        self._state.put(Section.backup, self._status)

    async def stop(self) -> None:
        """Jobs are ended by whoever runs them."""

    async def health(self) -> HealthReport:
        """Degraded while a target has no backup that was proved, its last one failed, or its newest proof is too old."""
        targets = self._status.targets
        bad = [each for each in targets if each.problem]
        if bad:
            return HealthReport(Health.degraded, f"{bad[0].name}: {bad[0].problem}", bad[0].next_step)
        if new := [each.name for each in targets if each.last_good is None]:
            return HealthReport(Health.degraded, f"no backup yet at {', '.join(new)}", "make one: prime-spark backup run")
        if old := [each for each in targets if self._overdue(each.last_good or 0.0)]:
            days = (self._clock.wall() - (old[0].last_good or 0.0)) / 86400
            told = f"the newest backup at {old[0].name} was proved {days:.1f} days ago"
            return HealthReport(Health.degraded, told, "make one: prime-spark backup run")
        hours = (self._clock.wall() - min(each.last_good or 0.0 for each in targets)) / 3600
        return HealthReport(Health.healthy, f"proved {hours:.0f} h ago at {counted(len(targets), 'target')}")

    def _overdue(self, last: float) -> bool:
        """Whether a proof is older than the alert allows, or than twice the time between two backups of the schedule."""
        now = self._clock.wall()
        if now - last > self._most_days() * 86400:
            return True
        if not self._settings.schedule:
            return False
        from appliance.core.tasks.cron import following

        due = [moment for moment in islice(following(self._settings.schedule, self._settings.zone, last), 50) if moment > last]
        return len(due) > 1 and now > max(due[1], last + 2 * (due[1] - due[0]))


def restored_text(done: Restored) -> str:
    """What a restore replaced, as a sentence for the audit and the log."""
    asked = f", asked by {done.by}" if done.by else ""
    where = f"; what was here lies in {done.aside}" if done.aside else ""
    rows = ""
    if done.audit_rows is not None:
        newer = "" if done.audit_newer is None else f", {done.audit_newer} of them newer than the backup"
        rows = f", with {counted(done.audit_rows, 'row')} of the former audit{newer}"
    return f"restored {', '.join(done.parts)} of {done.device_id} from {done.source}{asked}{where}{rows}"


def told(each: TargetStatus) -> dict[str, Any]:
    """A target's newest backup in figures."""
    newest = each.snapshots[0] if each.snapshots else None
    return {
        "target": each.name, "snapshot": newest.id if newest else None, "size": newest.size if newest else None,
        "added": newest.added if newest else None, "stored": newest.stored if newest else None,
        "seconds": each.seconds, "proved": each.last_good,
    }  # fmt: skip

"""What is done about updates: the watch over a trial, the orders of people and of the schedule, the status that is shown."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from appliance.core.jobs import ENDED, JobHandle, Jobs
from appliance.core.lifecycle.update import installing, telling, trial
from appliance.core.lifecycle.update.choice import uncommitted
from appliance.core.lifecycle.update.faults import BusyError
from appliance.core.lifecycle.update.gate import Gate, Verdict
from appliance.core.lifecycle.update.gate import told as why_not
from appliance.core.lifecycle.update.ground import Ground
from appliance.core.lifecycle.update.image import Facts
from appliance.core.lifecycle.update.model import Checked, Outcome, Trial, TrialState, UpdateStatus
from appliance.core.lifecycle.update.rauc import RaucStatus
from appliance.core.model import Health, HealthReport, JobState, JobStatus
from appliance.core.state import LiveState, Section
from appliance.errors import AbsentError, ApplianceError, UpdateError

log = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between two looks at the services while a trial runs."""
AGAIN = 30.0
"""Seconds until what failed, or is still being written, is looked at again."""
IDLE = 600.0
"""Seconds between two looks while nothing is under way."""


class Desk:
    """It.

    Args:
        ground: What it stands on.
        jobs: Runs what takes longer.
        state: Where the status is shown (Section.update).
        look: Seconds between two looks at a trial.
        again: Seconds until what failed is tried again.
    """

    def __init__(self, ground: Ground, jobs: Jobs, state: LiveState, look: float = LOOK, again: float = AGAIN) -> None:
        self.ground = ground
        self.problem: ApplianceError | None = None
        """What the watch last failed with."""
        self._jobs, self._state = jobs, state
        self._look, self._again = look, again
        self._began = ground.clock.monotonic()
        self._committed = False
        self._job: JobStatus | None = None
        self._ordered = False
        """From the moment an order is taken until its work has ended."""
        self._settling = asyncio.Lock()
        self._restarting: set[asyncio.Task[None]] = set()
        self._poked = asyncio.Event()
        self._rauc: RaucStatus | None = None
        wanted = ground.settings
        self.status = UpdateStatus(source=wanted.source, schedule=wanted.schedule if wanted.source else "")

    async def open(self) -> None:
        """Look where we are. Raises AbsentError without RAUC."""
        if self.ground.rauc.missing():
            raise AbsentError("rauc is not installed, so no update can be installed", "flash our image, which has it.")
        await asyncio.to_thread(self.ground.book.load)
        self.ground.book.mind(self.ground.settings.source)
        await self.refresh()

    async def run(self) -> None:
        """Until cancelled."""
        from appliance.core.lifecycle.update.planning import Planner

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch(), name="update watch")
                group.create_task(Planner(self).run(), name="update plan")
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from several

    async def _watch(self) -> None:
        while True:
            self._poked.clear()  # whoever pokes from here on has another turn
            try:
                pause = await self._turn()
                self.problem = None
            except ApplianceError as error:
                if self.problem is None or str(self.problem) != str(error):
                    log.error("the update cannot be looked after: %s", error)
                self.problem, pause = error, self._again
            await self.refresh()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):  # wait_for would lose a cancellation that meets a poke (Python 3.11)
                    await self._poked.wait()

    async def _turn(self) -> float:
        """What is to be done now, and for how many seconds there is nothing else then. Raises ApplianceError."""
        ground, facts = self.ground, self.ground.image.facts()
        now, _ = ground.image.choice()
        if uncommitted(now, facts.booted):
            return await self._judge(facts)
        if self.busy:
            return IDLE
        pending = ground.book.notes.pending
        writing = pending is not None and pending.phase == "writing"
        if not await self._settle():
            self.show(doing=f"RAUC still writes slot {pending.slot if pending is not None else ''}", progress=None)
            return self._again
        if writing and not self.busy:
            self._rauc = None
            self.show(doing="", progress=None)
        left = ground.settings.health_seconds - (ground.clock.monotonic() - self._began)
        if self._committed or left > 0:
            return IDLE if self._committed else left
        if trial.needs_commit(ground, ground.image.choice()[0], facts):
            await trial.commit(ground)
        self._committed = True
        return IDLE

    async def _judge(self, facts: Facts) -> float:
        """Look at a trial until it is committed, or given up. Raises ApplianceError where that does not succeed."""
        ground, wanted = self.ground, self.ground.settings
        pending = ground.book.notes.pending
        ours = pending if pending is not None and pending.slot == facts.booted else None
        if ours is not None and ours.reason:  # it was given up already, and the machine did not start again yet
            await trial.give_up(ground, facts, ours.reason)
            return self._again
        before = ours.before if ours is not None else {}
        gate = Gate(before, wanted.health_seconds, 60 * wanted.trial_minutes, self._began)
        while True:
            seen = gate.look(ground.services(), ground.clock.monotonic())
            run = Trial(
                TrialState.running, facts.booted, facts.version, seen.steady, wanted.health_seconds, seen.left, seen.holds
            )
            self.show(trial=run)
            if seen.verdict is Verdict.commit:
                await trial.commit(ground, seen.lacking)
                self._committed = True
                return 0.0
            if seen.verdict is Verdict.give_up:
                self.show(trial=replace(self.status.trial, state=TrialState.failed))
                await trial.give_up(ground, facts, why_not(seen, wanted.trial_minutes))
                return self._again
            await asyncio.sleep(self._look)

    def poke(self) -> None:
        """Have the watch look now."""
        self._poked.set()

    async def _settle(self) -> bool:
        """Bring the notes to what the boot choice tells, one at a time. Raises ApplianceError."""
        async with self._settling:
            return await trial.settle(self.ground)

    @property
    def busy(self) -> bool:
        """Whether an order is being carried out."""
        if self._ordered and self._job is not None:  # one that was cancelled before its first step never told its end
            known = next((each for each in self._jobs.all() if each.job_id == self._job.job_id), None)
            return known is not None and known.state not in ENDED
        return self._ordered

    async def check(self) -> Checked:
        """Look at the source, and remember what it has. Raises AbsentError, UpdateError."""
        ground, facts = self.ground, self.ground.image.facts()
        tried = ground.clock.wall()
        try:
            found = await ground.shop.look(facts.arch, facts.version)
        except AbsentError:  # that there is none was never a problem of the one that there will be
            raise
        except ApplianceError as error:
            await ground.keep(tried=tried, check_problem=error.message, check_step=error.next_step)
            self.show(check_problem=error.message, check_step=error.next_step)
            raise
        fresh = found.newest is not None and found.newest != ground.book.notes.newest
        await ground.keep(tried=tried, checked=tried, newest=found.newest, check_problem="", check_step="")
        if fresh and found.newest is not None:
            await self._offer(found.newest.version, facts.version)
        self.show(newest=found.newest, checked=tried, check_problem="", check_step="")
        return found

    async def _offer(self, version: str, running: str) -> None:
        from appliance.core.model import Severity

        await self.ground.tell("update.offered", Severity.info, {"version": version, "former": running})

    async def install(
        self, owner: str, what: str = "", *, older: bool = False, backup: bool | None = None, restart: bool = False
    ) -> JobStatus:
        """Install a release as a job.

        Args:
            owner: Who asks.
            what: Path of a bundle here, a version that the source has, or nothing for its newest.
            older: It may be older than what runs, or the same.
            backup: Make a backup first; None: as the settings say.
            restart: Restart into it when it is installed.

        Raises:
            BusyError: Another order is being carried out.
            ApplianceError: It cannot be begun.
        """
        wanted = self.ground.settings
        older, first = older or wanted.allow_older, wanted.backup_first if backup is None else backup

        async def work(report: installing.Report) -> Outcome:
            given = what.startswith("/")
            bundle = Path(what) if given else await self._fetch(what, report)
            done = await installing.install(self.ground, installing.Order(bundle, older, first, owner), report)
            if not given:
                await self.ground.shop.clear()
            return done

        job = await self.order("update.install", owner, work)
        if restart:
            task = asyncio.create_task(self._then_restart(job), name="restart after the update")
            self._restarting.add(task)
            task.add_done_callback(self._restarting.discard)
        return job

    async def _fetch(self, version: str, report: installing.Report) -> Path:
        facts = self.ground.image.facts()
        release = await self.ground.shop.pick(version, facts.arch, facts.version)
        return await self.ground.shop.fetch(release, report)

    async def _then_restart(self, job: JobStatus) -> None:
        if (await self._jobs.wait(job.job_id)).state is not JobState.completed:
            return
        try:
            await self.ground.machine.restart()
        except ApplianceError as error:
            log.error("the machine was not started again into the update: %s", error)
            self.problem = error
            await self.refresh()

    async def order(self, name: str, owner: str, work: Callable[[installing.Report], Awaitable[Any]]) -> JobStatus:
        """Carry out one order as a job; never two at once. Raises BusyError, ApplianceError."""
        self.ground.image.facts()

        async def job(handle: JobHandle) -> Any:
            def report(share: float | None, what: str) -> None:
                handle.report(share, what)
                self.show(doing=what, progress=share)

            try:
                return await work(report)
            finally:
                self._ordered, self._rauc = False, None
                await self.refresh(doing="", progress=None)
                self._poked.set()

        async with self._taken():
            self._job = await self._jobs.submit(name, owner, job, at_once=True)
            return self._job

    @asynccontextmanager
    async def _taken(self) -> AsyncIterator[None]:
        """Take an order, unless one is carried out; where it cannot be begun, none is. Raises BusyError."""
        if self.busy:
            raise BusyError("Another order about updates is being carried out.", "wait for it: prime-spark update status")
        self._ordered, self._job = True, None
        try:
            async with self._settling:  # a look at what was before ends first
                yield
        except BaseException:
            self._ordered = False
            raise

    async def waited(self, job: JobStatus) -> JobStatus:
        """The job when it has ended. Raises UpdateError where it did not succeed."""
        ended = await self._jobs.wait(job.job_id)
        if ended.state is not JobState.completed:
            what, _, step = (ended.error or f"It was {ended.state.value}.").partition(" Next: ")
            raise UpdateError(what, step)
        return ended

    async def verify(self, owner: str) -> JobStatus:
        """Read both slots again as a job, and compare them with what was written into them. Raises BusyError."""
        from appliance.core.lifecycle.update import proving

        return await self.order("update.verify", owner, lambda report: proving.verify(self.ground, report))

    async def rollback(self, owner: str) -> str:
        """Go back, or take back what waits; says what was done. Raises UpdateError where there is no way back."""
        async with self._taken():
            done = await installing.go_back(self.ground, owner)
            self._ordered = False
        await self.refresh()
        return done

    async def restart(self) -> str:
        """Start this machine again; says what was done. Raises BusyError, AbsentError, DeviceError."""
        if self.busy or not await self._settle():
            raise BusyError("An update is being written.", "wait for it: prime-spark update status")
        return await self.ground.machine.restart()

    async def refresh(self, *, ask: bool = False, **changes: Any) -> None:
        """Look at everything anew, and show it; what cannot be read is told by the health, and shown as it was.

        Args:
            ask: Ask RAUC too, which takes it some programs; else only where an order may have changed what it would say.
            changes: What else is shown.
        """
        ground = self.ground
        try:
            facts = ground.image.facts()
            now, _ = ground.image.choice()
        except ApplianceError as error:
            self.problem = self.problem or error
            self.show(**changes)
            return
        try:
            self._rauc = self._rauc if self._rauc is not None and not ask else await ground.rauc.status()
        except ApplianceError as error:  # while it writes, it answers nobody
            log.debug("RAUC did not tell its status: %s", error)
        notes, repaired = ground.book.notes, ground.image.repaired()
        self.status = telling.told(self.status, facts, now, self._rauc, notes, repaired)
        self.show(**changes)

    def show(self, **changes: Any) -> None:
        """Put the status where it is seen."""
        self.status = replace(self.status, **changes)
        self._state.put(Section.update, self.status)

    def health(self) -> HealthReport:
        """Unhealthy where a trial cannot be ended; degraded while one runs, and while something does not answer."""
        status, said = self.status, telling.summary(self.status)
        if self.problem is not None:
            health = Health.unhealthy if status.trial.state is TrialState.failed else Health.degraded
            return HealthReport(health, self.problem.message.rstrip("."), self.problem.next_step, said[2])
        if status.trial.state is TrialState.running:
            run = status.trial
            held = f", held by {', '.join(each.service for each in run.holds[:3])}" if run.holds else ""
            steady = f": well for {run.steady or 0:.0f} of {run.needed:.0f} s" if run.needed else ""
            told = f"{run.version} is on trial{steady}{held}"
            return HealthReport(Health.degraded, told, "wait: it is kept or left by itself.", said[2])
        if status.booted is not None and status.booted != status.committed:
            told = f"slot {status.committed} did not start, slot {status.booted} stands in"
            return HealthReport(Health.degraded, told, "install a version again; the next restart tries it again.", said[2])
        if status.repaired:
            return HealthReport(Health.degraded, f"the boot choice was repaired: {status.repaired}", "watch the card.", said[2])
        return HealthReport(Health.healthy, *said)

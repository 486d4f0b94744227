"""The power as a service: finds UPSes, looks at each, decides, carries the plan out, and shows how it is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from appliance.core.events import HostMetrics
from appliance.core.jobs import JobHandle, Jobs
from appliance.core.model import HealthReport
from appliance.core.ports import Clock
from appliance.core.power import due, plan, status
from appliance.core.power.book import Chosen, KeptPlan, PowerBook
from appliance.core.power.combine import Combined
from appliance.core.power.control import Control
from appliance.core.power.finding import Finder
from appliance.core.power.hands import PlanHands, Tools
from appliance.core.power.model import Phase, PiPower, PlanStatus, PowerEvent, PowerStatus, Setting, UpsDriver
from appliance.core.power.policy import Limits, grace_left, level_of
from appliance.core.power.readings import metrics_of
from appliance.core.power.runner import PlanRunner
from appliance.core.power.teller import Teller
from appliance.core.state import LiveState, Section
from appliance.errors import ApplianceError, ConflictError, PlanError, StoreError

log = logging.getLogger(__name__)

TURN = 1.0
"""Seconds between two decisions, and two showings, where nothing new is seen."""
KEPT_EVERY, KEPT = 30.0, 1440
"""Seconds between two points of the charge's history, and how many are kept: twelve hours."""
PI_EVERY = 60.0
"""Seconds between two looks at the Pi's own supply."""
PATIENCE = 15.0
"""Seconds that the plan waits after a start for what was kept of it."""
IDLE = 5.0
"""Seconds between two showings where there is no UPS: what is not known is known to be so now."""
AGAIN = 5.0
"""Seconds between two tries to read it after that."""
FLUSH = 2.0
"""Seconds that a stop waits for what is to be told."""


@dataclass(frozen=True)
class Wanted:
    """What the operator set.

    Attributes:
        setting: The configured one.
        limits: Of the policy.
        feeds: UPSes that feed this machine.
        probe_seconds: Between two searches.
        metrics_seconds: Between two readings that are kept.
    """

    setting: Setting = Setting.auto
    limits: Limits = field(default_factory=Limits)
    feeds: tuple[str, ...] = ()
    probe_seconds: float = 30.0
    metrics_seconds: float = 10.0


@dataclass(frozen=True)
class Ground:
    """What the power stands on.

    Attributes:
        wanted: By the settings.
        drivers: Makes the drivers, when they are first needed.
        book: On disk.
        teller: Tells of events.
        tools: For the plan.
        publish: Of the bus.
        jobs: Show the plan's progress.
        state: Shown there.
        clock: Both clocks.
        pi: Asks the Pi about its own supply.
        closing: Whether the appliance ends: a job that is cancelled then aborts no plan.
    """

    wanted: Wanted
    drivers: Callable[[], Sequence[UpsDriver]]
    book: PowerBook
    teller: Teller
    tools: Tools
    publish: Callable[[HostMetrics], Awaitable[None]]
    jobs: Jobs
    state: LiveState
    clock: Clock
    pi: Callable[[], Awaitable[PiPower]] | None = None
    closing: Callable[[], bool] = lambda: False


class PowerService:
    """Runs it (implements ports.Service)."""

    name = "power"
    summary = "Watches mains and battery, and carries the power plan out"
    depends: tuple[str, ...] = ()
    """Not on the store: a disk that is full or broken must not keep the power from being watched."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._looked = asyncio.Event()
        self._dirty = True
        self._shown = self._kept = float("-inf")
        self.hands = PlanHands(ground.tools)
        self.runner = PlanRunner(self.hands, ground.book, ground.clock, self._tell, self._changed)
        self.control = Control(ground.wanted.limits, ground.wanted.feeds, self.runner, ground.teller, ground.clock)
        self.control.setting = ground.wanted.setting
        ground.tools.may_halt = self.control.may_halt
        self.finder = Finder(ground.drivers, ground.clock, self._looked.set, self._tell, ground.wanted.limits.unknown_after)
        self._chosen_by = ""
        self._history: deque[tuple[float, float | None]] = deque(maxlen=KEPT)
        self._pi: PiPower | None = None
        self._halt = ""
        self._runs = False
        self._unread: StoreError | None = None
        self._job_for = ""
        self._job: asyncio.Task[None] | None = None

    # -- life

    async def start(self) -> None:
        """Read what was kept, where the store is open already; UPSes are looked for later."""
        self._runs = True
        await self._read()
        self.show()

    async def _read(self) -> bool:
        """What was kept; returns whether it could be read."""
        try:
            await self._ground.teller.load()
            if (chosen := await self._ground.book.chosen()) is not None:
                self.control.setting, self._chosen_by = chosen.setting, chosen.by
            await self.runner.load()
        except StoreError as error:
            self._unread = error
            return False
        self._unread, self.control.ready = None, True
        return True

    async def _read_until_done(self) -> None:
        """Read until it succeeds; the plan waits some seconds for it, as it may have been begun by an earlier life."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while self._unread is not None and not await self._read():
            if not self.control.ready and loop.time() - began >= PATIENCE:
                self.control.ready = True
                log.error("the power plan goes on without what was kept of it: %s", self._unread)
                self._changed()
            await asyncio.sleep(AGAIN if self.control.ready else 0.1)
        self._changed()

    async def _tell_regularly(self) -> None:
        """Once the disk can be expected to answer."""
        while not self.control.ready:  # noqa: ASYNC110 set in more than one place, and for moments only
            await asyncio.sleep(0.1)
        await self._ground.teller.run()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read_until_done(), name="power book")
            group.create_task(self._tell_regularly(), name="power teller")
            group.create_task(self.runner.work(), name="power plan")
            group.create_task(self.finder.run(self._ground.wanted.probe_seconds), name="power probe")
            group.create_task(self._decide_regularly(), name="power policy")
            group.create_task(self._publish_regularly(), name="power metrics")
            group.create_task(self._look_around(), name="power host")

    async def stop(self) -> None:
        """Let go of the UPSes; what was to be told is told, or waits for the next start of this service."""
        self._runs = False
        await self.finder.close()
        self.control.combined = Combined(reason="nobody looks")
        self.show()  # what was last seen must not go on as if it were seen
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH):
                await self._ground.teller.flush()

    async def health(self) -> HealthReport:
        """See status.health."""
        error = self._ground.teller.error or self._unread
        told = f"the disk does not do its part: {error.message}" if error is not None else ""
        return status.health(status.Condition(
            self.status(), self.control.combined, self.control.limits, told, self._halt, self.finder.searches > 0,
        ))  # fmt: skip

    async def _decide_regularly(self) -> None:
        """At every look; else when the policy may move by what was seen already, and every second while there is a UPS."""
        while True:
            self.decide()
            idle = not self.finder.watches and self.control.setting is Setting.auto and self.runner.run is None
            soon = self.control.state.due
            pause = IDLE if idle else TURN if soon is None else max(0.01, min(TURN, soon))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._looked.wait()
            self._looked.clear()

    def decide(self) -> None:
        """One decision, shown at once where something became another."""
        moved = self.control.decide(self.finder.watches)
        now = self._ground.clock.monotonic()
        self.finder.note(now)
        if moved or now - self._kept >= KEPT_EVERY:
            self._keep(now)
        if self.runner.run is not None and self._job_for != self.runner.run.run_id:
            self._job_for = self.runner.run.run_id
            self._follow()
        if moved or self._dirty or now - self._shown >= TURN:
            self.show()

    def _keep(self, now: float) -> None:
        self._kept = now
        if self.finder.watches:
            self._history.append((self._ground.clock.wall(), self.control.combined.seen.percent))

    def _changed(self) -> None:
        self._dirty = True
        self._looked.set()

    def _tell(self, kind: str, text: str, severity: str) -> None:
        self.control.tell(kind, text, severity)
        self._changed()

    async def _publish_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._ground.wanted.metrics_seconds)
            for watch in self.finder.watches.values():
                if metrics := metrics_of(watch.newest()):
                    await self._ground.publish(HostMetrics(
                        time=self._ground.clock.wall(), metrics=metrics, tags={"ups": watch.name},
                    ))  # fmt: skip

    async def _look_around(self) -> None:
        """What the Pi says of its supply, and whether this machine could be halted."""
        while True:
            if self._ground.pi is not None:
                self._pi = await self._ground.pi()
            halts = any(step.do == "halt" for stage in self.runner.plan.stages for step in stage.steps)
            self._halt = await self._ground.tools.host.missing() if halts and self.finder.watches else ""
            await asyncio.sleep(PI_EVERY)

    # -- what operators do

    async def set_mode(self, setting: Setting, who: str) -> PowerStatus:
        """Choose the setting, also for later starts; the configured one again forgets the choice. Raises StoreError."""
        configured = self._ground.wanted.setting
        chosen = None if setting is configured else Chosen(setting, who)
        await self._ground.book.keep_chosen(chosen)
        before, self.control.setting = self.control.setting, setting
        self._chosen_by = who if chosen is not None else ""
        if before is not setting:
            self.control.tell("setting", f"{who} set {setting} (before: {before})", "info", before, setting)
        self.decide()
        return self.show()

    async def set_plan(self, document: str, who: str) -> KeptPlan:
        """Use another plan, from the next run on. Raises PlanError, StoreError."""
        self.check(document)
        return await self.runner.set_plan(who, document)

    def check(self, document: str) -> plan.Plan:
        """A plan that names only what is there. Raises PlanError."""
        parsed, services = plan.parse(document), self._ground.tools.services
        plan.check(parsed, services.names() if services is not None else (), self._ground.tools.shell.nodes())
        return parsed

    async def events(self, limit: int, before: int | None) -> list[PowerEvent]:
        """What happened, newest first. Raises StoreError."""
        return await self._ground.book.events(limit, before)

    async def plans(self) -> list[KeptPlan]:
        """Versions of the plan, newest first. Raises StoreError."""
        return await self._ground.book.plans()

    async def restore(self, who: str) -> PowerStatus:
        """Take back what the plan did, where the power does not ask for it now. Raises ConflictError."""
        if self.runner.run is None:
            raise ConflictError("The plan has done nothing that could be taken back.", "there is nothing to do.")
        if self.control.state.phase not in {Phase.grid, Phase.unknown}:
            step = "wait for mains, or set the mode: prime-spark power mode on-grid."
            raise ConflictError(f"The phase is {self.control.state.phase}: it would be done again at once.", step)
        self.runner.turn_back(f"{who} asked for it")
        await self.runner.ended.wait()
        return self.show()

    async def acknowledge(self) -> PowerStatus:
        """Forget what the last run left over. Raises ConflictError, StoreError."""
        await self.runner.forget_notes()
        return self.show()

    def _follow(self) -> None:
        """A job shows how far the plan is."""
        self._job = asyncio.create_task(self._submit(), name="power job")

    async def _submit(self) -> None:
        try:
            job = await self._ground.jobs.submit("power.plan", "power", self._mirror, at_once=True)
        except ApplianceError as error:
            log.warning("the power plan runs without a job that shows it: %s", error.message)
            return
        self.runner.job_id = job.job_id

    async def _mirror(self, handle: JobHandle) -> PlanStatus:
        """The job: it only looks. Cancelling it aborts the plan, unless the appliance itself ends."""
        try:
            while self.runner.run is not None:
                now = self.runner.status()
                handle.report(self.runner.begun / max(1, len(now.stages)), now.state.value)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await self.runner.ended.wait()
        except asyncio.CancelledError:
            if not self._ground.closing():
                with contextlib.suppress(ConflictError):  # it has ended meanwhile
                    self.runner.abort("whoever cancelled its job")
            raise
        return self.runner.status()

    # -- how it is

    def show(self) -> PowerStatus:
        """Put it into the live state."""
        self._dirty, self._shown = False, self._ground.clock.monotonic()
        now = self.status()
        self._ground.state.put(Section.power, now)
        return now

    def engine_mode(self) -> str | None:
        """For the inference engine: "power-saving" while load is shed, else nothing is asked of it."""
        return "power-saving" if self.hands.shed else None

    def status(self) -> PowerStatus:
        """Everything, as of now."""
        control, seen = self.control, self.control.combined.seen
        phase = control.state.phase if self._runs else Phase.unknown
        upses = tuple(watch.status(feeds_us=name in control.combined.names) for name, watch in self.finder.watches.items())
        looks = [self.finder.watches[name].newest() for name in control.combined.names if name in self.finder.watches]
        ours = next((look.reading for look in looks if look.reading is not None), None)
        aborted = self.runner.aborted  # then nothing of the plan comes, and no halt
        slope = self.finder.slope(control.combined.names)
        now = self._ground.clock.monotonic()
        return PowerStatus(
            setting=control.setting, phase=phase, since=control.since,
            reason=control.state.reason if self._runs else "the service power does not run",
            supply=seen.supply, level=level_of(seen.percent, control.limits), percent=seen.percent,
            percent_age=None if ours is None else max(0.0, now - ours.monotonic) + ours.ages.get("percent", 0.0),
            voltage=ours.voltage if ours else None, load_w=ours.power if ours else None,
            charging=ours.charging if ours else None, runtime=control.combined.runtime,
            runtime_by=control.combined.runtime_by, on_battery_s=status.on_battery_seconds(control.state),
            grace_s=None if aborted else grace_left(control.state, control.limits), edge_only=status.edge_only(phase),
            routing=status.routing(phase), setting_by=self._chosen_by, shed=self.hands.shed,
            feeds=control.combined.reason, upses=upses, plan=self.runner.status(self._plan_problem()),
            coming=() if aborted else tuple(due.coming(
                self.runner.current, self.runner.begun, control.figures(), self.runner.needs(), control.limits, slope,
            )),
            history=tuple(self._history), events=tuple(self._ground.teller.newest), transitions=control.transitions,
            untold=self._ground.teller.untold, pi=self._pi,
        )  # fmt: skip

    def _plan_problem(self) -> str:
        """What of the plan names something that is not there any more."""
        services = self._ground.tools.services
        if services is None:
            return ""
        try:
            plan.check(self.runner.current, services.names(), self._ground.tools.shell.nodes())
        except PlanError as error:
            return error.message
        return ""

"""Values and ports of the power domain. What nothing has told is None: no UPS and no answer are never "on mains"."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from appliance.core.model import Device, Health


class Supply(StrEnum):
    """What feeds the machine now."""

    mains = "mains"
    battery = "battery"
    unknown = "unknown"


class Level(StrEnum):
    """How full the battery is (contracts, section 4)."""

    full = "full"
    high = "high"
    normal = "normal"
    low = "low"
    critical = "critical"
    unknown = "unknown"


class Setting(StrEnum):
    """What the operator wants: by the UPS, or as if there were always mains, or never."""

    auto = "auto"
    on_grid = "on-grid"
    off_grid = "off-grid"


class Phase(StrEnum):
    """Where the policy stands."""

    grid = "grid"
    battery = "battery"
    low = "low"
    critical = "critical"
    shutdown = "shutdown"
    """The orderly shutdown was begun."""
    unknown = "unknown"
    """No UPS tells anything: nothing is shed, nothing is shut down, and nobody says "on mains"."""


class UpsReading(msgspec.Struct, frozen=True):
    """One look at one UPS. Each None is something that this UPS did not tell in this look."""

    time: float
    """Wall clock, seconds since the epoch."""
    monotonic: float
    """The same instant on the monotonic clock: ages are reckoned by it."""
    supply: Supply = Supply.unknown
    charging: bool | None = None
    percent: float | None = None
    """0…100."""
    voltage: float | None = None
    """Of the battery, V."""
    current: float | None = None
    """Into the battery, A; negative while it feeds."""
    power: float | None = None
    """Drawn by the load, W."""
    runtime: float | None = None
    """Seconds left, by the UPS itself."""
    temperature_c: float | None = None
    """Of the battery or the UPS."""
    low: bool | None = None
    """The UPS itself says that its battery is low (NUT: LB)."""
    forced: bool = False
    """The UPS's manager orders a shutdown (NUT: FSD)."""
    status: str = ""
    """As the device says it, such as "OB DISCHRG"."""
    ages: dict[str, float] = {}
    """Field → seconds that its value was old in this look, where the source tells of values older than the look."""
    doubts: tuple[str, ...] = ()
    """What the source said and no UPS can mean, in words: its field is None."""


class Ups(Protocol):
    """One UPS that was found. `read` may be called again after any error."""

    name: str
    """Unique, stable over restarts: "max17048@1-36", "nut:sim@127.0.0.1", "sysfs:BAT0", "pisugar"."""
    kind: str
    """The driver's name."""
    simulated: bool
    interval: float
    """Seconds between two looks that suit it."""

    async def read(self) -> UpsReading:
        """Look once. Raises DeviceError (it answered nothing, or nonsense), AbsentError (it is gone); cancellable."""

    async def close(self) -> None:
        """Let go of it."""


class UpsDriver(Protocol):
    """One kind of UPS. Probing takes less than two seconds and changes nothing on a device."""

    kind: str

    async def probe(self) -> Sequence[Ups]:
        """Those that are there. Never raises for what is missing; a source that is configured and does not answer
        is there all the same: reading it says what is wrong.
        """

    def detect(self) -> Device:
        """Say cheaply what is there; blocks for some milliseconds."""


class UpsStatus(msgspec.Struct, frozen=True):
    """One UPS as screens show it."""

    name: str
    kind: str
    health: Health
    reason: str
    next_step: str = ""
    reading: UpsReading | None = None
    """The newest that can be believed; its age is told by its time. Where it does not answer now, its supply is unknown."""
    feeds_us: bool = False
    """The policy decides by this one."""
    refused: int = 0
    """Looks whose values could not be believed."""
    failed: int = 0
    """Looks without an answer."""
    runtime: float | None = None
    """Seconds left: the UPS's own word, else reckoned from how the charge falls."""
    runtime_by: str = ""
    """"ups", "trend" or nothing."""
    simulated: bool = False


class PiPower(msgspec.Struct, frozen=True):
    """What a Raspberry Pi tells of its own supply; None or empty where it does not."""

    flags: tuple[str, ...] | None = None
    """Now: "under-voltage", "frequency capped", "throttled", "soft temperature limit"."""
    flags_since_boot: tuple[str, ...] | None = None
    rails: dict[str, float] = {}
    """PMIC: rail → W."""
    input_volts: float | None = None
    """EXT5V, V."""
    halt_wakes: bool | None = None
    """Whether it starts again when power returns after a halt (POWER_OFF_ON_HALT=0, WAKE_ON_GPIO)."""
    reason: str = ""
    """Why something is not told."""


class PowerEvent(msgspec.Struct, frozen=True):
    """Something that happened to the power, as the history has it."""

    time: float
    """Wall clock, seconds since the epoch."""
    kind: str
    """"phase", "setting", "stage", "plan" or "ups"."""
    text: str
    severity: str = "info"
    before: str = ""
    after: str = ""
    supply: Supply = Supply.unknown
    percent: float | None = None
    runtime: float | None = None
    """Seconds left then."""
    seq: int = 0
    """Its number in the history; 0 where it is not on disk yet."""


class StageState(StrEnum):
    """How far a stage or a step of the plan is."""

    waiting = "waiting"
    running = "running"
    done = "done"
    failed = "failed"
    overdue = "overdue"
    """It took longer than its limit and was left."""
    skipped = "skipped"
    """There was nothing to do."""
    cut = "cut off"
    """It was under way when mains came back, an operator aborted, or the appliance ended."""
    reversed = "reversed"


class StepStatus(msgspec.Struct, frozen=True):
    """One step of a stage."""

    do: str
    """As the plan has it: "shed-inference", "drain-outbox", …"""
    target: str = ""
    state: StageState = StageState.waiting
    detail: str = ""
    touched: tuple[str, ...] = ()
    """What it changed, by name: what is to be put back."""


class StageStatus(msgspec.Struct, frozen=True):
    """One stage of the plan, and of its run."""

    name: str
    condition: str
    """In words."""
    limit: float
    """Seconds that it may take."""
    needs: float
    """Seconds that it is expected to take."""
    needs_by: str
    """"measured" or "limit"."""
    steps: tuple[StepStatus, ...] = ()
    state: StageState = StageState.waiting
    why: str = ""
    """Why it was begun; empty before."""
    began: float = 0.0
    """Wall clock."""
    seconds: float | None = None
    """That it took."""


class RunState(StrEnum):
    """How the plan is."""

    ready = "ready"
    """Nothing of it was begun."""
    running = "running"
    holding = "holding"
    """What was due is done; it waits for what comes."""
    reversing = "reversing"
    aborted = "aborted"
    """By an operator: nothing further is begun until mains is back."""


class PlanStatus(msgspec.Struct, frozen=True):
    """The plan, and how far it is."""

    version: int
    """0 for the default one."""
    author: str = ""
    changed: float = 0.0
    state: RunState = RunState.ready
    stages: tuple[StageStatus, ...] = ()
    needs: float = 0.0
    """Seconds that what is left of it is expected to take."""
    margin: float = 0.0
    """Seconds beside that from which on it begins early."""
    run_id: str = ""
    job_id: str = ""
    began: float = 0.0
    problem: str = ""
    """What of it cannot be carried out as things are, such as a node that is not known any more."""
    notes: tuple[str, ...] = ()
    """Left over of the last run, such as a node that somebody must wake."""


class Coming(msgspec.Struct, frozen=True):
    """What would happen next, and when."""

    what: str
    when: str
    in_seconds: float | None = None
    """At the present rate; None where none is known."""


class PowerStatus(msgspec.Struct, frozen=True):
    """Section.power."""

    setting: Setting
    phase: Phase
    since: float
    """Wall clock at which the phase began; 0 before the first."""
    reason: str
    supply: Supply = Supply.unknown
    """What the UPS says now; unknown where none answers."""
    level: Level = Level.unknown
    percent: float | None = None
    percent_age: float | None = None
    """Seconds."""
    voltage: float | None = None
    load_w: float | None = None
    charging: bool | None = None
    runtime: float | None = None
    """Seconds left."""
    runtime_by: str = ""
    """"ups" or "trend"."""
    on_battery_s: float | None = None
    """Seconds; None while it is not on battery."""
    grace_s: float | None = None
    """Seconds until the orderly shutdown; None where it is not near."""
    edge_only: bool | None = None
    """None where nobody knows."""
    routing: str | None = None
    """"edge-first" or "edge-only"; None where the power asks for nothing."""
    setting_by: str = ""
    """Who chose the setting; empty where it is the configured one."""
    shed: bool = False
    """Load is shed now."""
    feeds: str = ""
    """Which UPS the policy decides by, and why."""
    upses: tuple[UpsStatus, ...] = ()
    plan: PlanStatus | None = None
    coming: tuple[Coming, ...] = ()
    history: tuple[tuple[float, float | None], ...] = ()
    """(wall clock, percent), oldest first; None where it was not known."""
    events: tuple[PowerEvent, ...] = ()
    """Newest first."""
    transitions: int = 0
    """Since the start."""
    untold: int = 0
    """Events that could not be kept, since the start."""
    pi: PiPower | None = None

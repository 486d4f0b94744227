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
    """The newest that can be believed; its age is told by its time."""
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

"""MAX17040, MAX17043, MAX17048 and MAX17049: fuel gauges of boards such as Geekworm's X1200 and X728.

Data sheets of Maxim (Analog Devices): "MAX17040/MAX17041", "MAX17043/MAX17044", "MAX17048/MAX17049". Address 0x36;
registers of 16 bits, the high byte first, read with a repeated start.

VCELL 0x02: the MAX17040 and 43 have 12 bits of 1.25 mV, left-aligned in 16; the 48 has 16 bits of 78.125 µV: a
sixteenth of 1.25 mV, so one scale serves all. The chips for two cells in series (41, 44, 49) count twice that.
SOC 0x04: 1/256 %. VERSION 0x08: 0x001n on the 48 and 49, which alone have CRATE 0x16 (0.208 % an hour, signed);
small numbers on the others. No data sheet promises those: where the operator names the board, any version is taken.
The 40 and the 43 differ by the alert alone, which is not used here: both are "max17043".
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import msgspec

from appliance.core.model import Device, Health
from appliance.core.power.model import Supply, Ups, UpsReading
from appliance.errors import AbsentError, DeviceError
from appliance.hw.gpio import MainsPin, MainsWiring
from appliance.hw.i2c import LIMIT, Buses, Chip, I2cBus
from appliance.hw.lane import Lane
from appliance.hw.ups.told import missed, named, reading

ADDRESS = 0x36
VCELL, SOC, VERSION, CRATE = 0x02, 0x04, 0x08, 0x16
VOLT = 78.125e-6
"""V a bit, one cell."""
RATE = 0.208
"""Percent an hour a bit."""
SURE = 2.0
"""Percent an hour: a change as slow as this may be the gauge's own drift."""
TOP = 125.0
"""Percent: a gauge that knows its cell badly says somewhat more than 100; more than this says nothing."""
STEP = "check the board's battery and its seat on the header, and see: dmesg | tail"


class Registers(msgspec.Struct, frozen=True):
    """One look, as it lies in the chip."""

    version: int
    vcell: int
    soc: int
    crate: int | None
    """None on a chip without it."""


def chip_of(version: int) -> str:
    """Which chip a VERSION belongs to; nothing for one of another kind."""
    if version & 0xFFF0 == 0x0010:
        return "max17048"
    return "max17043" if 0 < version < 0x0010 else ""


def taken(version: int, named: bool) -> bool:
    """Whether a chip of this version is read: one that is known, or any where the operator names the board."""
    return bool(chip_of(version)) or (named and version != 0xFFFF)


def name_of(version: int) -> str:
    """The chip, or what it says of itself."""
    return chip_of(version) or f"version 0x{version:04x}"


def version_of(chip: Chip) -> int:
    """Which chip it says that it is."""
    return chip.word(VERSION)


def look(chip: Chip) -> Registers:
    """Read what there is to read; blocks for two milliseconds."""
    version = version_of(chip)
    crate = chip.word(CRATE) if chip_of(version) == "max17048" else None
    return Registers(version, chip.word(VCELL), chip.word(SOC), crate)


class Gauge:
    """One gauge (implements Ups).

    Args:
        bus: The bus it sits on.
        cells: In series on the gauge, 1 or 2.
        mains: The pin by which its board tells of mains; None where nobody said which.
    """

    kind = "max170xx"
    simulated = False

    def __init__(self, bus: I2cBus, cells: int = 1, mains: MainsPin | None = None) -> None:
        self.name = f"{self.kind}@{bus.number}-{ADDRESS:02x}"
        self.interval = 0.5 if mains else 2.0
        self._bus = bus
        self._cells = cells
        self._mains = mains
        self._pin = Lane("the mains pin", STEP)

    async def read(self) -> UpsReading:
        """One look. The pin is asked apart from the bus: mains goes at the moment at which a board may fail too.

        Raises:
            AbsentError, DeviceError: The gauge told nothing, and the pin nothing that a loose pin would not say.
        """
        (supply, doubts), found = await asyncio.gather(self._supply(), self._registers())
        try:
            if isinstance(found, Exception):
                raise found
            return told(found, self._cells, supply, doubts)
        except (AbsentError, DeviceError) as error:
            if self._mains is None or supply is Supply.unknown or not self._mains.wiring.driven(supply is Supply.mains):
                raise
            charging = False if supply is Supply.battery else None
            return reading(supply=supply, charging=charging, status="the mains pin alone", doubts=(*doubts, error.message))

    async def _registers(self) -> Registers | AbsentError | DeviceError:
        """What lies in the chip, or why nothing does."""
        try:
            with missed(self._mains is not None):
                found = await self._bus.look(ADDRESS, look)
        except (AbsentError, DeviceError) as error:
            return error
        if taken(found.version, self._mains is not None):
            return found
        shown = f"{self._bus.shown} 0x{ADDRESS:02x} answers with version 0x{found.version:04x}"
        return DeviceError(f"{shown}: another chip, or a disturbed bus.", STEP)

    async def _supply(self) -> tuple[Supply, list[str]]:
        if self._mains is None:
            return Supply.unknown, []
        try:
            mains = await self._pin.run(self._mains.mains, LIMIT)
        except (AbsentError, DeviceError) as error:  # the gauge still tells how full the battery is
            return Supply.unknown, [error.message]
        return (Supply.mains if mains else Supply.battery), []

    async def close(self) -> None:
        """Give the pin back."""
        if self._mains is not None:
            self._mains.close()
        self._pin.close()


def told(found: Registers, cells: int = 1, supply: Supply = Supply.unknown, doubts: Sequence[str] = ()) -> UpsReading:
    """What a look means.

    Args:
        found: The registers.
        cells: In series on the gauge.
        supply: By the mains pin; unknown where there is none: then the charge's rate is asked.
        doubts: What is already known to be wrong.

    Raises:
        DeviceError: No cell has such a voltage, or all bits are ones.
    """
    if found.vcell in {0, 0xFFFF} or found.soc == 0xFFFF:
        shown = f"VCELL 0x{found.vcell:04x}, SOC 0x{found.soc:04x}"
        raise DeviceError(f"The fuel gauge says what no battery has: {shown}.", STEP)
    percent, doubting = found.soc / 256, list(doubts)
    if percent > TOP:
        doubting.append(f"SOC is {percent:.0f} %")
    rate = None if found.crate is None else (found.crate - 0x10000 if found.crate & 0x8000 else found.crate) * RATE
    if supply is Supply.unknown and rate is not None and abs(rate) >= SURE:
        supply = Supply.mains if rate > 0 else Supply.battery
    return reading(
        supply=supply,
        charging=_charging(supply, rate),
        percent=min(100.0, percent) if percent <= TOP else None,
        voltage=round(found.vcell * VOLT * cells, 6),
        runtime=percent / -rate * 3600 if rate is not None and rate <= -SURE and percent <= 100 else None,
        status=name_of(found.version) + ("" if rate is None else f", {rate:+.1f} %/h"),
        doubts=tuple(doubting),
    )


def _charging(supply: Supply, rate: float | None) -> bool | None:
    if supply is Supply.battery:
        return False
    return None if rate is None or abs(rate) < SURE else rate > 0


class GaugeDriver:
    """Finds the gauges (implements UpsDriver).

    Args:
        buses: Shared with others.
        numbers: Of the buses to look at.
        cells: In series on the gauge: 2 for a MAX17041, 44 or 49, which cannot be told from the others by asking.
        mains: How the board tells of mains; None where nobody said which board it is.
    """

    kind = "max170xx"

    def __init__(self, buses: Buses, numbers: Sequence[int] = (1,), cells: int = 1, mains: MainsWiring | None = None) -> None:
        self._buses = [buses.bus(number) for number in numbers]
        self._cells = cells
        self._mains = mains

    def _likely(self) -> list[I2cBus]:
        """Where to look; an operator who names the board has chosen the bus."""
        return [bus for bus in self._buses if self._mains or not bus.others]

    async def probe(self) -> Sequence[Ups]:
        """The gauges that answer; one whose mains pin is configured is there without an answer too.

        The mains pin belongs to the first.
        """
        answering = []
        for bus in self._likely():
            with contextlib.suppress(AbsentError, DeviceError):  # nobody there, or it cannot be asked: none is found
                if taken(await bus.look(ADDRESS, version_of), self._mains is not None):
                    answering.append(bus)
        if self._mains is not None and not answering:
            answering = self._buses[:1]
        pins = [None if self._mains is None or index else MainsPin(self._mains) for index in range(len(answering))]
        return [Gauge(bus, self._cells, pin) for bus, pin in zip(answering, pins, strict=True)]

    def detect(self) -> Device:
        """Ask for the version on every bus; blocks for a second at most for each that hangs."""
        found = []
        for bus in self._likely():
            with contextlib.suppress(AbsentError, DeviceError):
                version = bus.look_blocking(ADDRESS, version_of)
                if taken(version, self._mains is not None):
                    found.append(f"{name_of(version)} on {bus.shown}")
        if not found:
            return Device("ups", "Fuel gauge", Health.absent, "none at 0x36 on I2C", "fit a UPS board to the header.")
        mains = f"; mains: {self._mains.shown}" if self._mains else "; no mains pin is configured"
        return Device("ups", "Fuel gauge", Health.healthy, named(len(found), found.__getitem__) + mains)

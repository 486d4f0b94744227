"""INA219: the power monitor of Waveshare's UPS HATs.

Data sheet: Texas Instruments SBOS448G, "INA219 Zero-Drift, Bidirectional Current/Power Monitor With I2C Interface".
Registers of 16 bits, the high byte first, read with a repeated start. CONFIGURATION 0x00 (reset value 0x399F; bit 15
resets, bit 14 is unused, bits 2–0 are the mode, 7 both continuously); SHUNT 0x01, signed, 10 µV whatever the gain;
BUS 0x02, bits 15–3 of 4 mV whatever the range, bit 2 unused.

The current is the shunt's voltage by its resistance. CALIBRATION 0x05 only scales the chip's own CURRENT 0x04 and
POWER 0x03, which are zero until somebody writes it: they are not read here, so that no calibration is needed and that of
another program (Waveshare's own writes 26868 for 0.01 Ω) disturbs nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from appliance.core.model import Device, Health
from appliance.core.power.model import Supply, Ups, UpsReading
from appliance.errors import AbsentError, DeviceError
from appliance.hw.i2c import Buses, Chip, I2cBus
from appliance.hw.ups.told import missed, named, reading

ADDRESSES = range(0x40, 0x46)
CONFIGURATION, SHUNT, BUS = 0x00, 0x01, 0x02
CONTINUOUS = 7
SHUNT_VOLT = 10e-6
BUS_VOLT = 4e-3
GAIN = (0.04, 0.08, 0.16, 0.32)
"""V: what the shunt's voltage cannot exceed, by bits 12 and 11 of the configuration."""
RANGE = (16.0, 32.0)
"""V: of the bus, by bit 13."""
SHUNTS = {0x43: 0.01}
"""Ω: Waveshare's UPS HAT (C), (D) and (E) are at 0x43 and have 0.01; the older ones, and bare modules, 0.1."""
STEP = "check the board's battery and its seat on the header, and see: dmesg | tail"
CURVE = (
    (3.00, 0.0), (3.30, 2.0), (3.50, 5.0), (3.61, 10.0), (3.69, 16.0), (3.73, 22.0), (3.77, 32.0), (3.80, 42.0),
    (3.84, 52.0), (3.87, 60.0), (3.95, 70.0), (4.02, 80.0), (4.11, 90.0), (4.20, 100.0),
)  # fmt: skip
"""V of one lithium-ion cell at a light load → percent. An estimate: load, cold and age shift it by ten percent and more."""


class Monitor(msgspec.Struct, frozen=True):
    """What the operator says of the board."""

    address: int = 0
    """0 to look at all of 0x40 to 0x45."""
    cells: int = 0
    """In series; 0 where nobody said, and then no percent is told."""
    shunt_ohm: float = 0.0
    """0 for what is usual at its address."""
    dead_band_a: float = 0.03
    """A: a current below it is none."""
    reversed: bool = False
    """Whether the board counts the current out of the battery as positive."""


class Registers(msgspec.Struct, frozen=True):
    """One look, as it lies in the chip."""

    configuration: int
    shunt: int
    bus: int


def look(chip: Chip) -> Registers:
    """Read what there is to read, and let a chip measure that another program has switched off; blocks for a millisecond."""
    found = peek(chip)
    if plausible(found) and found.configuration & 7 != CONTINUOUS:
        chip.write_word(CONFIGURATION, found.configuration | CONTINUOUS)
        raise DeviceError("The power monitor was switched off, and measures again now.", "end the other program that uses it.")
    return found


def peek(chip: Chip) -> Registers:
    """The same, changing nothing."""
    return Registers(chip.word(CONFIGURATION), chip.word(SHUNT), chip.word(BUS))


def signed(word: int) -> int:
    """Two's complement of 16 bits."""
    return word - 0x10000 if word & 0x8000 else word


def plausible(found: Registers) -> bool:
    """Whether an INA219 can hold this; it has no register that says what it is, and others live at its addresses."""
    if found.configuration & 0xC000 or found.bus & 0b100:
        return False
    gain, span = GAIN[found.configuration >> 11 & 3], RANGE[found.configuration >> 13 & 1]
    return abs(signed(found.shunt)) * SHUNT_VOLT <= gain + 1e-9 and (found.bus >> 3) * BUS_VOLT <= span


def likely(found: Registers) -> bool:
    """The same of a chip that nobody knows yet: one that answers every question alike, or nothing, is none."""
    alike = found.configuration == found.shunt == found.bus
    return plausible(found) and not alike and found.configuration != 0


def percent_of(volts: float, curve: Sequence[tuple[float, float]] = CURVE) -> float:
    """How full a cell is by its voltage, an estimate: between the points of the curve, straight lines."""
    if volts <= curve[0][0]:
        return curve[0][1]
    for (low, some), (high, more) in pairwise(curve):
        if volts <= high:
            return some + (more - some) * (volts - low) / (high - low)
    return curve[-1][1]


def told(found: Registers, board: Monitor, shunt_ohm: float) -> UpsReading:
    """What a look means.

    The supply is told by the current's direction: into the battery means mains, out of it battery. Below the dead band
    neither is certain by itself; where the operator has said that this is the machine's battery, a machine that runs
    without drawing from it has mains.

    Raises:
        DeviceError: No INA219 holds this, or the battery has no voltage.
    """
    volts = round((found.bus >> 3) * BUS_VOLT, 3)
    if not plausible(found) or volts == 0:
        shown = f"configuration 0x{found.configuration:04x}, shunt 0x{found.shunt:04x}, bus 0x{found.bus:04x}"
        raise DeviceError(f"The power monitor says what no battery has: {shown}.", STEP)
    current = signed(found.shunt) * SHUNT_VOLT / shunt_ohm * (-1 if board.reversed else 1)
    flows = abs(current) >= board.dead_band_a
    supply = Supply.mains if board.cells else Supply.unknown
    if flows:
        supply = Supply.mains if current > 0 else Supply.battery
    return reading(
        supply=supply,
        charging=flows and current > 0,
        percent=percent_of(volts / board.cells) if board.cells else None,
        voltage=volts,
        current=current,
        power=volts * -current if flows and current < 0 else None,
        status=f"{current * 1000:+.0f} mA",
    )


class PowerMonitor:
    """One INA219 (implements Ups).

    Args:
        bus: The bus it sits on.
        address: Of 7 bits.
        board: What the operator says of it.
    """

    kind = "ina219"
    simulated = False
    interval = 0.5

    def __init__(self, bus: I2cBus, address: int, board: Monitor) -> None:
        self.name = f"ina219@{bus.number}-{address:02x}"
        self._bus = bus
        self._address = address
        self._board = board
        self._shunt = board.shunt_ohm or SHUNTS.get(address, 0.1)

    async def read(self) -> UpsReading:
        """One look. Raises AbsentError, DeviceError."""
        with missed(bool(self._board.address)):
            found = await self._bus.look(self._address, look)
        return told(found, self._board, self._shunt)

    async def close(self) -> None:
        """Nothing is held between two looks."""


class MonitorDriver:
    """Finds INA219s (implements UpsDriver).

    Args:
        buses: Shared with others.
        numbers: Of the buses to look at.
        board: What the operator says of it.
    """

    kind = "ina219"

    def __init__(
        self,
        buses: Buses,
        numbers: Sequence[int] = (1,),
        board: Monitor | None = None,
    ) -> None:
        self._board = board or Monitor()
        addresses = (self._board.address,) if self._board.address else ADDRESSES
        self._places = [(buses.bus(number), address) for number in numbers for address in addresses]

    def _likely(self) -> list[tuple[I2cBus, int]]:
        """Where to look; an operator who names the address has chosen the bus."""
        return [(bus, address) for bus, address in self._places if self._board.address or not bus.others]

    async def probe(self) -> Sequence[Ups]:
        """Those that answer as an INA219 does; one whose address is configured is there without an answer too."""
        found = []
        for bus, address in self._likely():
            with contextlib.suppress(AbsentError, DeviceError):  # nobody there, or it cannot be asked: none is found
                if likely(await bus.look(address, peek)):
                    found.append((bus, address))
        if self._board.address and not found:
            found = self._places[:1]
        return [PowerMonitor(bus, address, self._board) for bus, address in found]

    def detect(self) -> Device:
        """Ask at every address; blocks for a second at most for each bus that hangs."""
        found = []
        for bus, address in self._likely():
            with contextlib.suppress(AbsentError, DeviceError):
                if likely(bus.look_blocking(address, peek)):
                    found.append(f"ina219 at 0x{address:02x} on {bus.shown}")
        if not found:
            return Device(
                "ups", "Power monitor", Health.absent, "none at 0x40 to 0x45 on I2C", "fit a UPS board to the header."
            )
        cells = "" if self._board.cells else "; its cells are not configured: no percent"
        return Device("ups", "ina219", Health.healthy, named(len(found), found.__getitem__) + cells)

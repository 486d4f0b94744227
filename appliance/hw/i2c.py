"""Words on an I2C bus, through smbus2 (the only file that knows it)."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from appliance.errors import AbsentError, DeviceError
from appliance.hw.lane import Lane

if TYPE_CHECKING:
    from smbus2 import SMBus

T = TypeVar("T")

LIMIT = 1.0
"""Seconds for one look at a chip: some words of 0.4 ms each; the kernel gives up on a transfer after one second."""
STEP = "check the board's seat on the header, and see: dmesg | tail; a power cycle frees a bus that hangs."
OTHERS = ("SMBus", "gmbus", "DDC", "DPDDC", "AUX", "nvkm", "NVIDIA", "AMDGPU", "Radeon")
"""What stands in the names of adapters that have no header."""
NOBODY = {errno.ENXIO, errno.EREMOTEIO, errno.ENODEV}
"""What drivers of buses say where no device acknowledges its address (kernel: Documentation/i2c/fault-codes.rst)."""


class Chip:
    """One device on an open bus.

    A word goes as SMBus "read word": address, register, repeated start, address, two bytes. SMBus has the low byte first;
    the chips here have the high byte first, so they are swapped.

    Args:
        bus: An open smbus2 bus.
        address: Of 7 bits.
    """

    def __init__(self, bus: SMBus, address: int) -> None:
        self._bus = bus
        self._address = address

    def word(self, register: int) -> int:
        """16 bits, high byte first. Raises OSError."""
        return _swapped(self._bus.read_word_data(self._address, register))

    def write_word(self, register: int, value: int) -> None:
        """16 bits, high byte first. Raises OSError."""
        self._bus.write_word_data(self._address, register, _swapped(value))


def _swapped(word: int) -> int:
    return (word & 0xFF) << 8 | word >> 8 & 0xFF


class I2cBus:
    """A bus of the kernel, opened for each look, so that it may go and come back.

    Args:
        number: As in /dev/i2c-1.
        root: Of the file system.
    """

    def __init__(self, number: int, root: Path = Path("/")) -> None:
        self.number = number
        self._root = root
        self.path = root / f"dev/i2c-{number}"
        self.shown = f"/dev/i2c-{number}"
        self.lane = Lane(self.shown, STEP)

    @property
    def others(self) -> bool:
        """Whether it is a PC's bus of memory modules, or a display's: nobody looks for UPSes there, for some chips there take
        a question for an order (EE1004 of DDR4: a page is chosen by being addressed).
        """
        try:
            name = (self._root / f"sys/class/i2c-dev/i2c-{self.number}/name").read_text(encoding="utf-8", errors="replace")
        except OSError:  # a kernel that does not tell
            return False
        return any(word in name for word in OTHERS)

    async def look(self, address: int, ask: Callable[[Chip], T], limit: float = LIMIT) -> T:
        """Ask a chip in the bus's lane. Raises AbsentError, DeviceError, DeviceStalledError.

        Args:
            address: Of 7 bits.
            ask: Called in another thread.
            limit: Seconds, the wait for others on this bus included.
        """
        return await self.lane.run(lambda: self._ask(address, ask), limit)

    def look_blocking(self, address: int, ask: Callable[[Chip], T], limit: float = LIMIT) -> T:
        """The same for a caller that may block."""
        return self.lane.run_blocking(lambda: self._ask(address, ask), limit)

    def _ask(self, address: int, ask: Callable[[Chip], T]) -> T:
        with self._told(address):
            from smbus2 import SMBus

            bus = SMBus()
            try:
                bus.open(str(self.path))
                return ask(Chip(bus, address))
            finally:
                bus.close()

    @contextlib.contextmanager
    def _told(self, address: int) -> Iterator[None]:
        where = f"0x{address:02x} on {self.shown}"
        try:
            yield
        except FileNotFoundError as error:
            step = "on a Raspberry Pi: sudo raspi-config nonint do_i2c 0 && sudo modprobe i2c-dev."
            raise AbsentError(f"There is no {self.shown}.", step) from error
        except PermissionError as error:
            raise DeviceError(
                f"This user may not open {self.shown}.", "sudo usermod -aG i2c $USER, then log in again."
            ) from error
        except OSError as error:
            if error.errno in NOBODY:
                raise NobodyError(f"Nobody answers at {where}.", STEP) from error
            if error.errno == errno.EBUSY:
                held = f"A driver of the kernel holds {where}."
                raise DeviceError(held, "read it through /sys/class/power_supply, or take its overlay out.") from error
            raise DeviceError(f"{where}: {error.strerror or error}.", STEP) from error


class NobodyError(DeviceError):
    """No device acknowledges the address."""


class Buses:
    """The buses that drivers share: one lane for each, whoever asks.

    Args:
        root: Of the file system.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._buses: dict[int, I2cBus] = {}

    def bus(self, number: int) -> I2cBus:
        """The bus of that number; it need not be there."""
        return self._buses.setdefault(number, I2cBus(number, self._root))

    def close(self) -> None:
        """Let their threads end."""
        for bus in self._buses.values():
            bus.lane.close()

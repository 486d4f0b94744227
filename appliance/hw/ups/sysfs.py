"""UPSes and batteries that the kernel knows: /sys/class/power_supply (Documentation/ABI/testing/sysfs-class-power).

Among them are the batteries of laptops, boards with a kernel driver of their own (SunFounder's PiPower 5, the max17040
overlay), and UPSes whose driver is in the kernel. A supply of scope "Device" feeds a mouse or a keyboard.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from pathlib import Path

from appliance.core.model import Device, Health
from appliance.core.power.model import Supply, Ups, UpsReading
from appliance.errors import AbsentError, DeviceError
from appliance.hw.lane import Lane
from appliance.hw.ups.told import Doubts, named, reading

FOLDER = "sys/class/power_supply"
LIMIT = 2.0
"""Seconds: a laptop's embedded controller is slow."""
STEP = "see: dmesg | tail"
OURS = frozenset({"Battery", "UPS"})
FEEDS = frozenset({"Mains", "USB", "Wireless"})
"""Types of what feeds from outside; "USB_C", "USB_PD" and the like begin with USB."""
ASKED = (
    "type", "scope", "present", "online", "status", "capacity", "capacity_level", "voltage_now", "current_now",
    "power_now", "temp", "time_to_empty_now", "energy_now", "energy_full", "charge_now", "charge_full",
)  # fmt: skip
SILENT = {errno.ENODATA, errno.EINVAL, errno.ENOENT, errno.EAGAIN, errno.EOPNOTSUPP, errno.ENOTSUP}
"""What the kernel says where a supply has no such value now."""


def attribute(supply: Path, name: str) -> str | None:
    """An attribute; None where the supply does not tell it. Raises OSError where the supply is gone or fails."""
    try:
        return (supply / name).read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        if error.errno in SILENT:
            return None
        raise


def feeding(folder: Path) -> Supply:
    """What the supplies from outside say: mains if any is online, battery if there are some and none is."""
    known = [online for supply in _children(folder) if (online := _online(supply)) is not None]
    if any(known):
        return Supply.mains
    return Supply.battery if known else Supply.unknown


def _online(supply: Path) -> bool | None:
    """Whether a supply from outside feeds; None where it is none, or does not tell."""
    try:
        if not (attribute(supply, "type") or "").startswith(tuple(FEEDS)) or _of_device(supply):
            return None
        online = attribute(supply, "online") or ""
    except OSError:  # it went away while it was asked, or its driver fails: it tells nothing now
        return None
    return online != "0" if online.isdigit() else None


def told(values: Mapping[str, str | None], outside: Supply) -> UpsReading:
    """What a supply's attributes mean.

    Args:
        values: Name → text, None where it is not told.
        outside: What the supplies from outside say.

    Raises:
        DeviceError: Neither its charge, its voltage nor its status is told.
        AbsentError: Its battery is not there.
    """
    if values.get("present") == "0":
        raise AbsentError("Its battery is not in its place.", "put it in.")
    status = values.get("status") or ""
    doubts = Doubts()
    percent = _percent(doubts, values)
    volts = doubts.number("voltage_now", values.get("voltage_now"), 0.1, 1000, 1e-6)
    supply = _supply(values, status, outside)
    if percent is None and volts is None and supply is Supply.unknown and status in {"", "Unknown"}:
        raise DeviceError("The kernel tells neither its charge nor its voltage nor its status.", STEP)
    current = doubts.number("current_now", values.get("current_now"), -1000, 1000, 1e-6)
    power = doubts.number("power_now", values.get("power_now"), -1e5, 1e5, 1e-6)
    drains = status == "Discharging"
    if drains and power is None and current and volts:
        power = abs(current) * volts
    level = values.get("capacity_level")
    return reading(
        supply=supply,
        charging={"Charging": True, "Discharging": False, "Not charging": False, "Full": False}.get(status),
        percent=percent,
        voltage=volts,
        current=None if current is None else {"Charging": abs(current), "Discharging": -abs(current)}.get(status),
        power=abs(power) if drains and power is not None else None,
        runtime=doubts.number("time_to_empty_now", values.get("time_to_empty_now"), 0, 366 * 86400) if drains else None,
        temperature_c=doubts.number("temp", values.get("temp"), -50, 150, 0.1),
        low=level in {"Critical", "Low"} if level not in {None, "", "Unknown"} else None,
        status=status,
        doubts=tuple(doubts.all),
    )


def _supply(values: Mapping[str, str | None], status: str, outside: Supply) -> Supply:
    """A UPS knows best itself; then the supplies from outside; then what the battery does. What charges is fed."""
    if values.get("type") == "UPS" and values.get("online") in {"0", "1"}:
        return Supply.mains if values.get("online") == "1" else Supply.battery
    if outside is not Supply.unknown and not (outside is Supply.battery and status == "Charging"):
        return outside
    if status in {"Charging", "Full", "Not charging"}:
        return Supply.mains
    return Supply.battery if status == "Discharging" else Supply.unknown


def _percent(doubts: Doubts, values: Mapping[str, str | None]) -> float | None:
    if values.get("capacity"):
        return doubts.number("capacity", values["capacity"], 0, 100)
    for unit in ("energy", "charge"):
        now = doubts.number(f"{unit}_now", values.get(f"{unit}_now"), 0, 1e12)
        full = doubts.number(f"{unit}_full", values.get(f"{unit}_full"), 1, 1e12)
        if now is not None and full is not None:
            return min(100.0, now / full * 100)
    return None


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:  # a kernel without the class
        return []


def _of_device(supply: Path) -> bool:
    return attribute(supply, "scope") == "Device"


def supplies(folder: Path) -> list[Path]:
    """The batteries and UPSes that feed this machine. One that cannot be asked is left out, and an empty bay."""
    found = []
    for supply in _children(folder):
        try:
            if attribute(supply, "type") in OURS and not _of_device(supply) and attribute(supply, "present") != "0":
                found.append(supply)
        except OSError:  # it went away while it was asked, or its driver fails: it cannot be said to be one of ours
            continue
    return found


class KernelSupply:
    """One supply of the kernel (implements Ups).

    Args:
        supply: Its folder.
        lane: In which it is read.
    """

    kind = "sysfs"
    simulated = False
    interval = 1.0

    def __init__(self, supply: Path, lane: Lane) -> None:
        self.name = f"sysfs:{supply.name}"
        self._supply = supply
        self._lane = lane

    async def read(self) -> UpsReading:
        """One look. Raises AbsentError, DeviceError."""
        return await self._lane.run(self._look, LIMIT)

    def _look(self) -> UpsReading:
        try:
            if attribute(self._supply, "type") is None:
                raise AbsentError(f"The kernel has no supply {self._supply.name} any more.", "plug it in again.")
            return told({name: attribute(self._supply, name) for name in ASKED}, feeding(self._supply.parent))
        except OSError as error:
            if error.errno == errno.ENODEV:
                gone = f"The kernel has no supply {self._supply.name} any more."
                raise AbsentError(gone, "plug it in again.") from error
            raise DeviceError(f"{self._supply.name}: {error.strerror or error}.", STEP) from error

    async def close(self) -> None:
        """Nothing is held between two looks."""


class SysfsDriver:
    """Finds the kernel's supplies (implements UpsDriver).

    Args:
        root: Of the file system.
    """

    kind = "sysfs"

    def __init__(self, root: Path = Path("/")) -> None:
        self._folder = root / FOLDER
        self._lane = Lane(f"/{FOLDER}", STEP)

    async def probe(self) -> Sequence[Ups]:
        """Those that are there."""
        try:
            found = await self._lane.run(lambda: supplies(self._folder), LIMIT)
        except DeviceError:  # it hangs: nothing is known of it now
            return []
        return [KernelSupply(supply, self._lane) for supply in found]

    def detect(self) -> Device:
        """What the supplies say; blocks for some milliseconds, for two seconds where one hangs."""
        try:
            said = self._lane.run_blocking(lambda: [_said(supply) for supply in supplies(self._folder)], LIMIT)
        except DeviceError as error:
            return Device("ups", "Power supply", Health.unhealthy, error.message, error.next_step)
        if not said:
            return Device("ups", "Power supply", Health.absent, f"none in /{FOLDER}", "connect a UPS board or a USB UPS.")
        return Device("ups", "Power supply", Health.healthy, named(len(said), said.__getitem__))


def _said(supply: Path) -> str:
    try:
        charge = attribute(supply, "capacity")
    except OSError as error:
        return f"{supply.name}: {error.strerror}"
    return f"{supply.name}: {charge} % charged" if charge else f"{supply.name} tells no charge"

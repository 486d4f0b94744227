"""What a Raspberry Pi tells of its own supply: by its firmware (vcgencmd), else by what the kernel passes on.

Raspberry Pi documentation: vcgencmd get_throttled (bits 0–3 now, 16–19 since the start), pmic_read_adc (Raspberry Pi 5),
bootloader_config and rpi-eeprom-config (POWER_OFF_ON_HALT, by default 0; WAKE_ON_GPIO, by default 1). Nothing is written.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from appliance.core.power.model import PiPower
from appliance.hw import thermal

LIMIT = 2.0
"""Seconds for one command; each is killed after it."""
TRIES = 3
"""Times that the boot loader's settings are asked for: where it has none, the commands take long to say so."""
RAIL = re.compile(r"^\s*(\w+)_([AV])\s+(?:current|volt)\(\d+\)=(-?\d+(?:\.\d+)?)[AV]\s*$", re.MULTILINE)
SETTINGS = ("POWER_OFF_ON_HALT", "WAKE_ON_GPIO")
HALTS = {"POWER_OFF_ON_HALT": "0", "WAKE_ON_GPIO": "1"}
"""What the boot loader does where its configuration says nothing."""


def throttled_of(text: str) -> int | None:
    """The bits of "throttled=0x50005"; None where there are none."""
    found = re.search(r"throttled=0x([0-9a-fA-F]{1,8})\b", text)
    return int(found[1], 16) if found else None


def rails_of(text: str) -> tuple[dict[str, float], float | None]:
    """What pmic_read_adc says.

    Returns:
        Rail → W, of those that tell both current and voltage; and the input's V (EXT5V).
    """
    told: dict[str, dict[str, float]] = {}
    for name, unit, value in RAIL.findall(text):
        told.setdefault(name, {})[unit] = float(value)
    watts = {name: round(both["A"] * both["V"], 6) for name, both in told.items() if len(both) == 2}
    volts = told.get("EXT5V", {}).get("V")
    return watts, volts or None


def bootloader_of(text: str) -> dict[str, str] | None:
    """The settings of a boot loader's configuration that touch a halt, with what holds where it says nothing.

    Sections other than [all] hold for some boards only and are left out. None where the text is no configuration.
    """
    found, applies, settings = dict(HALTS), True, 0
    for line in text.splitlines():
        if section := re.fullmatch(r"\s*\[(.+)\]\s*", line):
            applies, settings = section[1] == "all", settings + 1
        elif setting := re.fullmatch(r"\s*([A-Z0-9_]+)\s*=\s*(.*?)\s*", line):
            settings += 1
            if applies and setting[1] in SETTINGS:
                found[setting[1]] = setting[2]
    return found if settings else None


def wakes(settings: Mapping[str, str]) -> bool:
    """Whether something can start a halted Pi whose 5 V stayed; one that lost its 5 V starts when they return anyway."""
    return settings["POWER_OFF_ON_HALT"] == "0" and settings["WAKE_ON_GPIO"] == "1"


def under_voltage_of(sysfs: Path) -> bool | None:
    """The alarm of the kernel's rpi_volt sensor, which mainline kernels have too; None where there is none."""
    for sensor in sorted((sysfs / "class/hwmon").glob("hwmon*")):
        with contextlib.suppress(OSError):  # a sensor that goes away tells nothing
            if (sensor / "name").read_text().strip() == "rpi_volt":
                return (sensor / "in0_lcrit_alarm").read_text().strip() == "1"
    return None


class PiProbe:
    """Asks this Pi.

    Args:
        sysfs: Where sysfs is mounted.
        path: Where the commands are looked for; None for the environment's PATH.
    """

    def __init__(self, sysfs: Path = Path("/sys"), path: str | None = None) -> None:
        self._sysfs = sysfs
        self._path = path
        self._halt: dict[str, str] | None = None
        """The boot loader's settings change with a restart only: asked until they are known, or were not for some times."""
        self._tries = TRIES

    async def read(self) -> PiPower:
        """All that it tells now; what it does not tell has its reason. Never raises; takes some 30 ms."""
        said, bits = "", throttled_of(await self._said("vcgencmd", "get_throttled"))
        if bits is None:
            bits, said = await asyncio.to_thread(self._kernel)
        watts, volts = rails_of(await self._said("vcgencmd", "pmic_read_adc"))
        if self._halt is None and self._tries > 0:
            self._tries -= 1
            self._halt = await self._bootloader()
        lacking = [said] if said else []
        lacking += [] if watts else ["no readings of the power controller (only a Raspberry Pi 5 has them)"]
        lacking += [] if self._halt else ["no boot loader configuration"]
        return PiPower(
            flags=None if bits is None else thermal.flags(bits),
            flags_since_boot=None if bits is None or said else thermal.flags(bits, 16),
            rails=watts,
            input_volts=volts,
            halt_wakes=None if self._halt is None else wakes(self._halt),
            reason="; ".join(lacking),
        )

    def _kernel(self) -> tuple[int | None, str]:
        """Bits, and what they lack."""
        bits = thermal.throttled_bits(self._sysfs)
        if bits is not None:
            return bits, "" if bits >> 16 else "no vcgencmd: what was since the start is not known"
        low = under_voltage_of(self._sysfs)
        if low is None:
            return None, "no firmware of a Raspberry Pi answers (vcgencmd, sysfs)"
        return int(low), "no vcgencmd: of the flags only under-voltage is known"

    async def _bootloader(self) -> dict[str, str] | None:
        for command in (("vcgencmd", "bootloader_config"), ("rpi-eeprom-config",)):
            if (found := bootloader_of(await self._said(*command))) is not None:
                return found
        return None

    async def _said(self, *command: str) -> str:
        """What a command says; nothing where it is not there, fails, or takes too long."""
        program = shutil.which(command[0], path=self._path)
        if program is None:
            return ""
        try:
            return await _output(program, command[1:])
        except (OSError, TimeoutError):  # no firmware behind it, or it hangs: it tells nothing now
            return ""


async def _output(program: str, arguments: Sequence[str]) -> str:
    pipe, none = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    child = await asyncio.create_subprocess_exec(program, *arguments, stdin=none, stdout=pipe, stderr=none)
    try:
        out, _ = await asyncio.wait_for(child.communicate(), LIMIT)
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            with contextlib.suppress(TimeoutError):  # one that hangs in the kernel stays behind
                await asyncio.wait_for(child.wait(), 1.0)
    return out.decode(errors="replace") if child.returncode == 0 else ""

"""The devices of this machine: cheap detection through /dev, /proc and /sys, without a device library.

Devices that the doctor checks too are judged by its checks: there is one rule for each. Drivers for what is found come
with the features that use them; what is missing is said to be absent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from appliance.core.doctor.checks import gpio, hailo, i2c, microphone, ups
from appliance.core.doctor.model import DoctorContext
from appliance.core.model import CheckResult, Device, Health

HEALTH = {"ok": Health.healthy, "warning": Health.degraded, "failed": Health.unhealthy, "absent": Health.absent}
"""A check's verdict as a device's health."""
LETTERS = (28, 30, 44)
"""KEY_ENTER, KEY_A and KEY_Z (linux/input-event-codes.h): a power button has none of them."""
EV_KEY = 1


def detectors(
    root: Path = Path("/"), upses: Sequence[Callable[[], Device]] = (), environ: Mapping[str, str] = MappingProxyType({})
) -> list[Callable[[], Device]]:
    """All of them, looking below `root`; the drivers of UPSes look where they were told to, sound servers by `environ`."""
    context = DoctorContext(
        environ=environ, home=root, lock=root, ports=(), nas_path=root, model_dirs=(), root=root, upses=tuple(upses)
    )
    return [
        lambda: accelerator(context),
        lambda: judged("microphone", "Microphone", microphone.look(context)),
        lambda: judged("ups", "UPS", ups.look(context)),
        lambda: judged("i2c", "I2C bus", i2c.look(context)),
        lambda: judged("gpio", "GPIO header", gpio.look(context)),
        lambda: keyboard(context),
    ]


def judged(kind: str, name: str, result: CheckResult) -> Device:
    """What a check says, as a device."""
    return Device(kind, name, HEALTH[result.status], result.reason, result.fix)


def accelerator(context: DoctorContext) -> Device:
    """The Hailo card and its device node; how it does while it works is the inference engine's to say."""
    lacking = hailo.missing(context)
    if lacking is not None:
        return judged("accelerator", "Hailo", lacking)
    node = context.paths("dev/hailo*")[0].name
    return Device("accelerator", node, Health.healthy, f"/dev/{node} is there")


def keyboard(context: DoctorContext) -> Device:
    """A keyboard among the kernel's input devices: it has keys, and among them letters and Enter."""
    for block in context.text("proc/bus/input/devices").split("\n\n"):
        if is_keyboard(block):
            name = next((line[9:].strip('"') for line in block.splitlines() if line.startswith("N: Name=")), "keyboard")
            return Device("keyboard", name, Health.healthy, "usable for headless shortcuts")
    return Device(
        "keyboard",
        "USB keyboard",
        Health.absent,
        "no keyboard among the input devices",
        "plug one in, or use the console over SSH.",
    )


def is_keyboard(block: str) -> bool:
    """Whether a block of /proc/bus/input/devices describes a keyboard.

    Its bitmaps are words in hexadecimal, the highest first (kernel: drivers/input/input.c, input_bits_to_string).
    """
    bits = dict(line[3:].split("=", 1) for line in block.splitlines() if line.startswith("B: ") and "=" in line)
    events, keys = bits.get("EV", "").split(), bits.get("KEY", "").split()
    if not events or not keys or not int(events[-1], 16) >> EV_KEY & 1:
        return False
    lowest = int(keys[-1], 16)
    if len(keys[-1]) <= 8 and len(keys) > 1 and max(map(len, keys)) <= 8:  # a kernel of 32 bits
        lowest |= int(keys[-2], 16) << 32
    return all(lowest >> key & 1 for key in LETTERS)

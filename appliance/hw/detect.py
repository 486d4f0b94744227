"""Cheap detection of hardware through /dev, /proc and /sys, without a device library.

Drivers for what is found come with the features that use them; what is missing is said to be absent.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from appliance.core.model import Device, Health

RESPEAKER = ("2886", "0018")
"""USB vendor and product of the ReSpeaker 4-Mic Array."""


def detectors(root: Path = Path("/")) -> list[Callable[[], Device]]:
    """All of them, looking below `root`."""
    return [
        lambda: accelerator(root),
        lambda: microphone(root),
        lambda: ups(root),
        lambda: bus(root, "i2c", "dev/i2c-*", "I2C bus", "enable it: sudo raspi-config nonint do_i2c 0"),
        lambda: bus(root, "gpio", "dev/gpiochip*", "GPIO header", "GPIO is on a Raspberry Pi's header; this machine has none."),
        lambda: keyboard(root),
    ]


def accelerator(root: Path) -> Device:
    """The Hailo device node, which its kernel driver makes."""
    found = sorted((root / "dev").glob("hailo*"))
    if found:
        return Device("accelerator", found[0].name, Health.healthy, f"/dev/{found[0].name} is there")
    return Device(
        "accelerator", "Hailo", Health.absent, "no /dev/hailo* device", "fit the Hailo-8 and run: sudo apt install hailo-all"
    )


def microphone(root: Path) -> Device:
    """The ReSpeaker array, or any ALSA capture device."""
    for product in sorted((root / "sys/bus/usb/devices").glob("*/idProduct")):
        vendor = product.with_name("idVendor")
        if (_text(vendor), _text(product)) == RESPEAKER:
            return Device("microphone", "ReSpeaker 4-Mic Array", Health.healthy, f"on USB {product.parent.name}")
    captures = [line for line in _text(root / "proc/asound/pcm").splitlines() if "capture" in line]
    if captures:
        return Device(
            "microphone", captures[0].split(":")[1].strip(), Health.healthy, "an ALSA capture device, not a ReSpeaker"
        )
    return Device("microphone", "ReSpeaker", Health.absent, "no capture device", "plug the ReSpeaker array into a USB port.")


def ups(root: Path) -> Device:
    """A battery that the kernel's power_supply class knows."""
    for supply in sorted((root / "sys/class/power_supply").glob("*")):
        if _text(supply / "type") in {"Battery", "UPS"}:
            charge = _text(supply / "capacity")
            return Device("ups", supply.name, Health.healthy, f"{charge} % charged" if charge else "tells no charge")
    reason = "no battery in /sys/class/power_supply; on mains or not is unknown"
    return Device(
        "ups", "UPS", Health.absent, reason, "connect a UPS that the kernel knows; other kinds come with power management."
    )


def bus(root: Path, kind: str, pattern: str, name: str, fix: str) -> Device:
    """A device node by its pattern."""
    found = sorted(path.name for path in root.glob(pattern))
    if found:
        return Device(kind, name, Health.healthy, ", ".join(found[:4]))
    return Device(kind, name, Health.absent, f"no /{pattern}", fix)


def keyboard(root: Path) -> Device:
    """A keyboard among the kernel's input devices (proc/bus/input/devices: EV has keys and repeat, handler kbd)."""
    for block in _text(root / "proc/bus/input/devices").split("\n\n"):
        if "kbd" in block and "EV=120013" in block:
            name = next((line[9:].strip('"') for line in block.splitlines() if line.startswith("N: Name=")), "keyboard")
            return Device("keyboard", name, Health.healthy, "usable for headless shortcuts")
    return Device(
        "keyboard",
        "USB keyboard",
        Health.absent,
        "no keyboard among the input devices",
        "plug one in, or use the console over SSH.",
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""

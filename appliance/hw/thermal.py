"""Temperature, and the throttling flags of the Raspberry Pi's firmware."""

from __future__ import annotations

from pathlib import Path

FLAGS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
"""Bits of get_throttled that tell of now (Raspberry Pi documentation, vcgencmd); bits 16 to 19 tell of the past."""


def temperature(sysfs: Path) -> float | None:
    """The hottest thermal zone in °C, or None where there is none (kernel: Documentation/driver-api/thermal)."""
    readings = []
    for zone in sorted((sysfs / "class/thermal").glob("thermal_zone*/temp")):
        try:
            readings.append(int(zone.read_text()) / 1000)
        except (OSError, ValueError):  # a zone whose sensor sleeps answers with an error: it tells nothing now
            continue
    return max(readings, default=None)


def throttled(sysfs: Path) -> tuple[str, ...] | None:
    """The firmware's flags that are set now, or None on a machine without that firmware."""
    bits = throttled_bits(sysfs)
    return None if bits is None else flags(bits)


def throttled_bits(sysfs: Path) -> int | None:
    """What the kernel passes on of the firmware's get_throttled; None where it does not."""
    for path in (sysfs / "devices/platform").glob("soc*/*firmware/get_throttled"):
        try:
            return int(path.read_text(), 16)
        except (OSError, ValueError):
            continue
    return None


def flags(bits: int, shift: int = 0) -> tuple[str, ...]:
    """The flags in words.

    Args:
        bits: Of get_throttled.
        shift: 0 for those of now, 16 for what was once since the start.
    """
    return tuple(name for bit, name in FLAGS.items() if bits >> shift & 1 << bit)

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
    for path in (sysfs / "devices/platform").glob("soc*/*firmware/get_throttled"):
        try:
            bits = int(path.read_text(), 16)
        except (OSError, ValueError):
            continue
        return tuple(name for bit, name in FLAGS.items() if bits & 1 << bit)
    return None

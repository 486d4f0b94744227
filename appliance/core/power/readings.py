"""A UPS's numbers as metrics (names of contracts.md, section 2)."""

from __future__ import annotations

from appliance.core.power.combine import Look
from appliance.core.power.model import Supply

NAMES = {
    "percent": "battery_level", "voltage": "battery_voltage", "current": "battery_current", "power": "ups_power",
    "temperature_c": "battery_temperature_c",
}  # fmt: skip
"""Field of a reading → metric."""


def metrics_of(look: Look) -> dict[str, float]:
    """What it told in its newest look; a value that was only held on to is left out, as is what is not known."""
    reading = look.reading
    if reading is None:
        return {}
    found = {
        name: float(value)
        for field, name in NAMES.items()
        if (value := getattr(reading, field)) is not None and field not in reading.ages
    }
    if look.runtime is not None:
        found["battery_runtime_seconds"] = float(look.runtime)
    if reading.supply is not Supply.unknown:
        found["on_battery"] = float(reading.supply is Supply.battery)
    return found

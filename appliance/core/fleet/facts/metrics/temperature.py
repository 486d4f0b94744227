"""Temperature of the processor."""

from __future__ import annotations

from typing import Any

from appliance.core.fleet.facts.fact import Fact, NotToldError, Told

OF_THE_CPU = ("cpu", "soc", "x86_pkg", "coretemp", "k10temp", "zenpower", "core")
"""How names of sensors of the processor begin, in the kernel's drivers; where none is, the hottest plausible one counts."""


def parse(told: Told) -> dict[str, Any]:
    """Of the hottest of its sensors, °C."""
    names: dict[str, str] = {}
    values: dict[str, float] = {}
    for line in told.lines():
        path, _, text = line.partition(":")
        sensor, _, what = path.rpartition("/")
        if what in {"type", "name"}:
            names[sensor] = text
        elif text.lstrip("-").isdigit() and -40.0 < int(text) / 1000 < 150.0:
            values[sensor] = int(text) / 1000
    own = [value for sensor, value in values.items() if names.get(sensor, "").lower().startswith(OF_THE_CPU)]
    if not values:
        raise NotToldError("it has no sensor that the kernel knows")
    return {"temperature_c": round(max(own or values.values()), 1)}


FACT = Fact(
    "temperature", parse,
    script=(
        "set -- /sys/class/thermal/thermal_zone*/temp\n"
        'if [ -e "$1" ]; then grep -s . /sys/class/thermal/thermal_zone*/temp /sys/class/thermal/thermal_zone*/type /dev/null\n'
        'else set -- /sys/class/hwmon/hwmon*/temp1_input; '
        '[ -e "$1" ] && grep -s . /sys/class/hwmon/hwmon*/temp1_input /sys/class/hwmon/hwmon*/name /dev/null; fi'
    ),
)  # fmt: skip

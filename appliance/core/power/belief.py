"""Whether a UPS can be believed: readings that cannot be true are refused, counted, and their field keeps its last true value.

A jump of the charge is refused until as many looks in a row agree with it as `AGREE` says: a battery that was changed, or one
that collapses, is believed then. A charge that does not move at all while the battery feeds is a gauge that is stuck.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from appliance.core.power.model import Supply, UpsReading

RANGES: dict[str, tuple[float, float]] = {
    "percent": (0.0, 100.0), "voltage": (0.5, 600.0), "current": (-500.0, 500.0), "power": (0.0, 50_000.0),
    "runtime": (0.0, 30 * 86400.0), "temperature_c": (-40.0, 120.0),
}  # fmt: skip
"""Field → what it can be, in its unit. A battery of 0 V feeds nothing: its sensor does not answer."""
JUMP = 15.0
"""Percent points that a charge cannot move by from one look to the next…"""
RATE = 1.0
"""…beside so many for each second between them."""
AGREE = 3
"""Looks in a row that make a jump believed; they agree within `JUMP` with each other."""
HOLD = 120.0
"""Seconds for which a field keeps its last believable value."""
STUCK = 3600.0
"""Seconds on battery without any number moving, after which the charge is not believed."""
WATCHED = ("percent", "voltage", "current", "power", "runtime")


class Believed(msgspec.Struct, frozen=True):
    """A look, after what cannot be true was put right."""

    reading: UpsReading
    refused: tuple[str, ...] = ()
    """Why something of it was refused, by the driver or here."""


class Belief:
    """Judges the looks at one UPS, in their order."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, float]] = {}
        """Field → (monotonic moment, value) of the last believable one."""
        self._claims: list[float] = []
        """Charges that jumped, and agree with each other so far."""
        self._still: tuple[tuple[float | None, ...], float] | None = None
        """The numbers that have not moved since this monotonic moment."""

    def judge(self, reading: UpsReading) -> Believed:
        """What can be believed of a look."""
        refused: dict[str, str] = {}
        for field, (least, most) in RANGES.items():
            value = getattr(reading, field)
            if value is not None and (not math.isfinite(value) or not least <= value <= most):
                refused[field] = f"{field} {value:g} cannot be"
        if "percent" not in refused and reading.percent is not None:
            fault = self._jump(reading.percent, reading.monotonic) or self._stuck(reading)
            if fault:
                refused["percent"] = fault
        return Believed(self._put_right(reading, refused), (*reading.doubts, *refused.values()))

    def _jump(self, percent: float, now: float) -> str:
        """Why a charge cannot follow the one before; empty where it can, or was told often enough."""
        last = self._last.get("percent")
        if last is None or abs(percent - last[1]) <= JUMP + RATE * max(0.0, now - last[0]):
            self._claims.clear()
            return ""
        if self._claims and abs(percent - self._claims[-1]) > JUMP:
            self._claims.clear()
        self._claims.append(percent)
        if len(self._claims) >= AGREE:
            self._claims.clear()
            return ""
        return f"percent jumps from {last[1]:.0f} to {percent:.0f}"

    def _stuck(self, reading: UpsReading) -> str:
        numbers = tuple(getattr(reading, field) for field in WATCHED)
        if reading.supply is not Supply.battery or self._still is None or self._still[0] != numbers:
            self._still = (numbers, reading.monotonic)
            return ""
        still = reading.monotonic - self._still[1]
        return f"percent {reading.percent:.0f} has not moved for {still / 60:.0f} min on battery" if still > STUCK else ""

    def _put_right(self, reading: UpsReading, refused: dict[str, str]) -> UpsReading:
        changes: dict[str, Any] = {}
        ages = dict(reading.ages)
        for field in RANGES:
            value = getattr(reading, field)
            if field not in refused:
                if value is not None:
                    self._last[field] = (reading.monotonic - ages.get(field, 0.0), value)
                continue
            held = self._last.get(field)
            age = None if held is None else reading.monotonic - held[0]
            fresh = held is not None and age is not None and age <= HOLD
            changes[field] = held[1] if held is not None and fresh else None
            if age is not None and fresh:
                ages[field] = age
        return msgspec.structs.replace(reading, **changes, ages=ages) if changes else reading

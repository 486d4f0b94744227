"""The scales of a plot: a range of round numbers, and moments that a clock shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

STEPS = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 2 * 86400, 7 * 86400,
    14 * 86400, 28 * 86400, 91 * 86400, 365 * 86400, 2 * 365 * 86400, 5 * 365 * 86400, 10 * 365 * 86400,
)  # fmt: skip
"""Seconds between two labels of the axis of time."""
DAY = 86400


def round_step(least: float, *, binary: bool = False) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten (or of two, for bytes) that is not below `least`."""
    if least <= 0 or not math.isfinite(least):
        return 1.0
    if binary and least >= 1:
        return float(2.0 ** math.ceil(math.log2(least)))
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= least * (1 - 1e-9))


def value_range(values: Sequence[float], parts: int, *, binary: bool = False) -> tuple[float, float, float]:
    """(low, high, step) of an axis that holds all values, with about `parts` steps of round numbers.

    Begins at zero where that costs little room.
    """
    if not values:
        return 0.0, 1.0, 1.0 / max(1, parts)
    low, high = min(values), max(values)
    if low >= 0 and low < 0.5 * high:
        low = 0.0
    if high - low <= abs(high) * 1e-9:
        around = max(abs(high) * 0.1, 1e-3 if high else 1.0)
        low, high = (0.0 if 0 <= low <= around else low - around), high + around
    step = round_step((high - low) / max(1, parts), binary=binary)
    bottom = math.floor(low / step + 1e-9) * step
    top = math.ceil(high / step - 1e-9) * step
    return bottom, max(top, bottom + step), step


def value_ticks(low: float, high: float, step: float) -> list[float]:
    """The labelled values from low to high."""
    return [low + index * step for index in range(round((high - low) / step) + 1)]


def time_ticks(since: float, until: float, most: int) -> tuple[list[float], float]:
    """Moments to label, round ones of the local clock, and the seconds between them.

    Args:
        since: First moment, seconds since the epoch.
        until: Last one.
        most: Labels that fit.
    """
    span = max(1e-9, until - since)
    step = float(next((each for each in STEPS if span / each <= max(1, most)), STEPS[-1]))
    moment = since - (since + _offset(since)) % step
    ticks: list[float] = []
    while moment <= until and len(ticks) <= most + 1:
        shift = _offset(since) - _offset(moment) if step > 3600 else 0.0  # the clock was put on or back meanwhile
        if moment + shift >= since:
            ticks.append(moment + shift)
        moment += step
    return ticks, step


def _offset(moment: float) -> float:
    """Seconds that the local clock is ahead of UTC then."""
    offset = datetime.fromtimestamp(moment).astimezone().utcoffset()
    return offset.total_seconds() if offset is not None else 0.0


def time_label(moment: float, step: float) -> str:
    """A moment at the axis: as much of it as differs from the next one."""
    local = datetime.fromtimestamp(moment).astimezone()
    if step >= 28 * DAY:
        return local.strftime("%Y-%m-%d")
    if step >= DAY or (local.hour, local.minute, local.second) == (0, 0, 0):
        return local.strftime("%m-%d")
    return local.strftime("%H:%M:%S" if step < 60 else "%H:%M")

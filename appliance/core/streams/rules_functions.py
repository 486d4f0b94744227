"""The functions of the windows as states that grow by one value, can be joined, and are plain JSON.

The definitions are those of core.analytics.model.Aggregation: stddev and variance of a sample (n - 1), percentiles
interpolated. Sums are compensated (Neumaier), variances follow Welford and, where two states are joined, Chan.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from appliance.core.analytics.model import Aggregation

State = list[Any]
"""[count, …]: plain numbers, so that any store keeps it as JSON."""

EXTREMES = {Aggregation.min: min, Aggregation.max: max}
SUMS = frozenset({Aggregation.sum, Aggregation.avg})
SPREADS = frozenset({Aggregation.stddev, Aggregation.variance})


def start(function: Aggregation) -> State:
    """The state before the first value."""
    if function in SUMS or function in SPREADS:
        return [0, 0.0, 0.0]
    if function in EXTREMES:
        return [0, None]
    return [0]


def add(function: Aggregation, state: State, value: float | None) -> State:
    """The state with one more value. `value` is None only for count without a field."""
    count = state[0] + 1
    if function in SUMS:
        return [count, *_compensated(state[1], state[2], value or 0.0)]
    if function in SPREADS:
        delta = (value or 0.0) - state[1]
        mean = state[1] + delta / count
        return [count, mean, state[2] + delta * ((value or 0.0) - mean)]
    if function in EXTREMES:
        return [count, value if state[1] is None else EXTREMES[function](state[1], value)]
    return [count]


def join(function: Aggregation, one: State, two: State) -> State:
    """The state of all values of both."""
    if not one[0] or not two[0]:
        return one if one[0] else two
    count = one[0] + two[0]
    if function in SUMS:
        total, lost = _compensated(one[1], one[2], two[1])
        return [count, total, lost + two[2]]
    if function in SPREADS:
        delta = two[1] - one[1]
        mean = one[1] + delta * two[0] / count
        return [count, mean, one[2] + two[2] + delta * delta * one[0] * two[0] / count]
    if function in EXTREMES:
        return [count, EXTREMES[function](one[1], two[1])]
    return [count]


def result(function: Aggregation, state: State) -> float | int | None:
    """The value of a window; None where it has none, such as the deviation of a single value. Not for percentiles."""
    count = state[0]
    if function is Aggregation.count:
        return int(count)
    if not count:
        return None
    if function in SUMS:
        total = state[1] + state[2]
        return float(total / count if function is Aggregation.avg else total)
    if function in SPREADS:
        if count < 2:
            return None
        variance = max(0.0, state[2]) / (count - 1)
        return math.sqrt(variance) if function is Aggregation.stddev else variance
    return float(state[1])


def percentile(values: Iterable[float], percent: float) -> float | None:
    """Continuous percentile, as PostgreSQL's percentile_cont; None of nothing."""
    ordered: Sequence[float] = sorted(values)
    if not ordered:
        return None
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    low, high = ordered[below], ordered[min(below + 1, len(ordered) - 1)]
    return low + (high - low) * (place - below)


def _compensated(total: float, lost: float, value: float) -> tuple[float, float]:
    new = total + value
    if not math.isfinite(new):
        return new, 0.0
    lost += (total - new) + value if abs(total) >= abs(value) else (value - new) + total
    return new, lost

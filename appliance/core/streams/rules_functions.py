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
"""[count, …]: finite numbers, so that any store keeps it as JSON; [count, None, …] where they have grown beyond all numbers."""
GREATEST = 1e150
"""Values must be below it: the squares of greater ones cannot be added up. The same bound as that of the tables."""

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
    """The state with one more value, whatever it is. `value` is None only for count without a field."""
    count = state[0] + 1
    if function in EXTREMES:
        return [count, value if state[1] is None else EXTREMES[function](state[1], value)]
    if function not in SUMS and function not in SPREADS:
        return [count]
    if _is_beyond(state):
        return [count, None, None]
    if function in SUMS:
        return _finite(count, *_compensated(state[1], state[2], value or 0.0))
    delta = (value or 0.0) - state[1]
    mean = state[1] + delta / count
    return _finite(count, mean, state[2] + delta * ((value or 0.0) - mean))


def join(function: Aggregation, one: State, two: State) -> State:
    """The state of all values of both."""
    if not one[0] or not two[0]:
        return one if one[0] else two
    count = one[0] + two[0]
    if function in EXTREMES:
        return [count, EXTREMES[function](one[1], two[1])]
    if function not in SUMS and function not in SPREADS:
        return [count]
    if _is_beyond(one) or _is_beyond(two):
        return [count, None, None]
    if function in SUMS:
        total, lost = _compensated(one[1], one[2], two[1])
        return _finite(count, total, lost + two[2])
    delta = two[1] - one[1]
    mean = one[1] + delta * (two[0] / count)
    return _finite(count, mean, one[2] + two[2] + delta * delta * (one[0] * two[0] / count))


def result(function: Aggregation, state: State) -> float | int | None:
    """The value of a window; None where it has none, such as the deviation of a single value. Not for percentiles."""
    count = state[0]
    if function is Aggregation.count:
        return int(count)
    if not count or _is_beyond(state):
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
    return percentile_of(sorted(values), percent)


def percentile_of(ordered: Sequence[float], percent: float) -> float | None:
    """The same of values that are in order."""
    if not ordered:
        return None
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    low, high = ordered[below], ordered[min(below + 1, len(ordered) - 1)]
    found = low + (high - low) * (place - below)
    return found if math.isfinite(found) else None


def _is_beyond(state: State) -> bool:
    return state[0] > 0 and None in state


def _finite(count: int, *parts: float) -> State:
    return [count, *(parts if all(map(math.isfinite, parts)) else [None] * len(parts))]


def _compensated(total: float, lost: float, value: float) -> tuple[float, float]:
    new = total + value
    if not math.isfinite(new):
        return new, 0.0
    lost += (total - new) + value if abs(total) >= abs(value) else (value - new) + total
    return new, lost

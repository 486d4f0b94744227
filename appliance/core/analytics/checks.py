"""What can be wrong with a reading: pure functions, without a clock of their own."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise

LATE = 60.0
"""Seconds that a reading may take to arrive, and that its clock may be ahead."""
STEP = 2.0
"""Seconds by which the wall clock must leave the monotonic one to be called stepped."""
LEARN = 6
"""Intervals from which the usual one is told."""
PATIENCE = 3.0
"""Usual intervals without a reading that are a gap."""
LEAST = 5.0
"""Seconds beyond the usual interval that are never a gap."""
PERCENT = ("_usage", "_percent", "_percentage")
COUNTED = ("_bytes", "_total", "_count", "_seconds")
NAMED = {
    "battery_level": (0.0, 100.0), "temperature_c": (-40.0, 125.0), "uptime_s": (0.0, math.inf), "throttled": (0.0, math.inf),
    "load_1m": (0.0, math.inf), "load_5m": (0.0, math.inf), "load_15m": (0.0, math.inf), "process_cpu": (0.0, math.inf),
}  # fmt: skip


def limits(metric: str) -> tuple[float, float]:
    """The least and greatest value that a metric can have, from its name; without bounds where the name tells nothing."""
    if metric in NAMED:
        return NAMED[metric]
    if metric.endswith(PERCENT):
        return 0.0, 100.0
    if "temperature" in metric:
        return -100.0, 200.0
    return (0.0, math.inf) if metric.endswith((*COUNTED, "_rate")) else (-math.inf, math.inf)


def out_of_range(metric: str, value: float) -> str:
    """Why a value cannot be; empty where it can."""
    low, high = limits(metric)
    if not math.isfinite(value):
        return f"{value} is no number"
    if not low <= value <= high:
        wanted = f"not below {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
        return f"{value:g}, expected {wanted}"
    return ""


def late(event_time: float, arrived: float) -> str:
    """Why a reading's time cannot be trusted or is of little use any more; empty where all is well."""
    behind = arrived - event_time
    if behind > LATE:
        return f"arrived {behind:.0f} s after its time"
    return f"its time is {-behind:.0f} s in the future" if behind < -LATE else ""


def usual(arrivals: Sequence[float]) -> float | None:
    """The usual interval between arrivals (monotonic seconds, oldest first); None before there are enough."""
    if len(arrivals) <= LEARN:
        return None
    return statistics.median(later - earlier for earlier, later in pairwise(arrivals))


def gap(arrivals: Sequence[float], now: float) -> str:
    """Why the silence since the last arrival is a gap; empty where it is none. By the monotonic clock: a step is no gap."""
    interval = usual(arrivals)
    if interval is None or now - arrivals[-1] <= max(PATIENCE * interval, interval + LEAST):
        return ""
    return f"nothing for {now - arrivals[-1]:.0f} s, usually every {interval:.3g} s"


def step(offset: float, before: float) -> float | None:
    """Seconds by which the wall clock was set, where it was. `offset` is wall clock less monotonic one."""
    return offset - before if abs(offset - before) >= STEP else None

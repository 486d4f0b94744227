"""What the engine counts for the screen: dropped, expired, fallbacks, times, results a second. All bounded."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import OrderedDict, deque

from appliance.core.figures import percentile
from appliance.core.inference.model import Priority
from appliance.core.inference.status import Fallback

EDGES_MS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)
"""Upper limits of the histogram; the last bar has none."""
KEPT = 20
"""Fallbacks that are shown."""
SAMPLE = 500
"""Newest times, for percentiles."""
ARRIVALS = 64
"""Models whose last request's time is remembered."""
WINDOW = 10
"""Seconds over which results are counted."""


class Counts:
    """Counters since the start."""

    def __init__(self) -> None:
        self.dropped: dict[str, int] = {priority.name: 0 for priority in Priority}
        self.expired = self.cancelled = self.batches = self.batched = self.fallbacks = 0
        self.last: deque[Fallback] = deque(maxlen=KEPT)
        """Newest first."""
        self._bars = [0] * (len(EDGES_MS) + 1)
        self._times: deque[float] = deque(maxlen=SAMPLE)
        self._seconds: deque[tuple[int, int]] = deque(maxlen=WINDOW + 1)
        self._first: float | None = None
        self._arrivals: OrderedDict[str, float] = OrderedDict()

    def served(self, milliseconds: float, now: float) -> None:
        """A request was answered so long after it came, at this monotonic second."""
        self._bars[bisect_left(EDGES_MS, milliseconds)] += 1
        self._times.append(milliseconds)
        self._first = now if self._first is None else self._first
        if self._seconds and self._seconds[-1][0] == int(now):
            self._seconds[-1] = (int(now), self._seconds[-1][1] + 1)
        else:
            self._seconds.append((int(now), 1))

    def arrived(self, key: str, now: float) -> float:
        """A request for this model came; the seconds since the one before, infinite for the first."""
        last = self._arrivals.pop(key, -math.inf)
        self._arrivals[key] = now
        if len(self._arrivals) > ARRIVALS:
            self._arrivals.popitem(last=False)
        return now - last

    def fell_back(self, one: Fallback) -> bool:
        """Count requests that ran elsewhere; True where it is the first of a row."""
        self.fallbacks += one.count
        newest = self.last[0] if self.last else None
        if newest and (newest.model, newest.wanted, newest.used, newest.reason) == (
            one.model,
            one.wanted,
            one.used,
            one.reason,
        ):
            self.last[0] = Fallback(
                time=one.time,
                model=one.model,
                wanted=one.wanted,
                used=one.used,
                reason=one.reason,
                count=newest.count + one.count,
            )
            return False
        self.last.appendleft(one)
        return True

    def histogram(self) -> tuple[tuple[float | None, int], ...]:
        """(upper limit in ms, answers); the last limit is None: there is none."""
        return tuple(zip((*EDGES_MS, None), self._bars, strict=True))

    def times(self) -> tuple[float | None, float | None]:
        """p50 and p99 of the newest answers, ms; None before the first."""
        if not self._times:
            return None, None
        return round(percentile(self._times, 0.5), 3), round(percentile(self._times, 0.99), 3)

    def per_second(self, now: float) -> float | None:
        """Answers a second over the last ten; None before the first."""
        if self._first is None:
            return None
        begin = int(now) - WINDOW  # whole seconds are counted: the window is up to one longer than it is called
        span = max(1.0, now - max(self._first, float(begin)))
        return round(sum(count for second, count in self._seconds if second >= begin) / span, 2)

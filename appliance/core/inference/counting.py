"""Counts what inference did since its start."""

from __future__ import annotations

from collections import Counter, deque

from appliance.core.figures import percentile
from appliance.core.model import InferenceResult

RECENT = 100
"""Inferences that error rate, p50 and p95 are about."""
LIMITS: tuple[float | None, ...] = (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, None)
"""Upper limits of the histogram, ms."""
SPAN = 10
"""Seconds over which results a second are counted."""


class Counting:
    """Results, failures, refusals, times."""

    def __init__(self) -> None:
        self.total = 0
        self.errors = 0
        self.refused = 0
        self.cached = 0
        self.prepared = 0
        self.done_by: Counter[str] = Counter()
        self._last: deque[bool] = deque(maxlen=RECENT)
        self._times: deque[float] = deque(maxlen=RECENT)
        self._histogram = [0] * len(LIMITS)
        self._began: int | None = None
        self._seconds: deque[tuple[int, int]] = deque(maxlen=SPAN + 1)

    def done(self, result: InferenceResult, now: float) -> None:
        """A result that was kept.

        Args:
            result: One of the cache is no new measurement of time.
            now: Monotonic seconds.
        """
        self.total += 1
        self._tick(int(now))
        if result.cached:
            self.cached += 1
            return
        self.done_by[result.backend] += 1
        self._last.append(True)
        self._times.append(result.total_time_ms)
        place = next(index for index, limit in enumerate(LIMITS) if limit is None or result.total_time_ms <= limit)
        self._histogram[place] += 1

    def failed(self) -> None:
        """The model, or the device, failed."""
        self.errors += 1
        self._last.append(False)

    def _tick(self, second: int) -> None:
        if self._began is None:
            self._began = second
        if self._seconds and self._seconds[-1][0] == second:
            self._seconds[-1] = second, self._seconds[-1][1] + 1
        else:
            self._seconds.append((second, 1))

    def per_second(self, now: float) -> float | None:
        """Results a second over the last ten whole seconds, or those since the first result; None before one is over."""
        if self._began is None or (over := int(now) - self._began) < 1:
            return None
        return sum(count for second, count in self._seconds if int(now) - SPAN <= second < int(now)) / min(SPAN, over)

    def share(self, fraction: float) -> float | None:
        """A percentile of the newest times, ms; None where there is none."""
        return percentile(self._times, fraction) if self._times else None

    def error_rate(self) -> float | None:
        """Share of the newest that failed; None before the first."""
        return self._last.count(False) / len(self._last) if self._last else None

    def histogram(self) -> tuple[tuple[float | None, int], ...]:
        """(upper limit in ms, results) since the start."""
        return tuple(zip(LIMITS, self._histogram, strict=True))

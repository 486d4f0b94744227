"""How many messages a second, over the last ten seconds."""

from __future__ import annotations

from collections import deque

from appliance.core.ports import Clock

SPAN = 10.0
"""Seconds that count."""
STEP = 0.25
"""Seconds that share one count."""


class Rate:
    """A count of what happens, by time.

    Args:
        clock: For the monotonic clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: deque[list[float]] = deque()
        self._began = clock.monotonic()

    def add(self, count: int) -> None:
        """So many happened now."""
        now = self._clock.monotonic()
        if self._counts and now - self._counts[-1][0] < STEP:
            self._counts[-1][1] += count
        else:
            self._forget(now)
            self._counts.append([now, count])

    def value(self) -> float:
        """Of a second; over the time since the start where that is shorter."""
        now = self._clock.monotonic()
        self._forget(now)
        return sum(count for _, count in self._counts) / min(SPAN, max(1.0, now - self._began))

    def _forget(self, now: float) -> None:
        while self._counts and self._counts[0][0] < now - SPAN:
            self._counts.popleft()

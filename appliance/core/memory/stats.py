"""Counters and times of one tier."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from appliance.core.figures import percentile

KEPT = 2000
"""Newest times that percentiles are drawn from."""


@dataclass
class TierStats:
    """What happened at one tier since the start."""

    hits: int = 0
    misses: int = 0
    errors: int = 0
    times: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    """Seconds of the newest reads."""

    def milliseconds(self, share: float) -> float | None:
        """A percentile of the newest reads; None where there was none."""
        return 1000 * percentile(self.times, share) if self.times else None

"""How often one identity may ask: a leaky bucket each, of which a bounded number is kept."""

from __future__ import annotations

import math
from collections import OrderedDict

from aiolimiter import AsyncLimiter

KEPT = 2048
"""Buckets; the least recently used goes first."""


class Limiter:
    """Buckets by key.

    Args:
        rate: Requests a second; as many may come at once as two seconds allow. 0 for no bound.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._most = max(1.0, 2 * rate)
        self._buckets: OrderedDict[str, AsyncLimiter] = OrderedDict()
        self.refused = 0
        """Since the start."""

    async def take(self, key: str) -> int:
        """Let one through: 0, or the whole seconds after which to try again."""
        if not self._rate:
            return 0
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = AsyncLimiter(self._most, self._most / self._rate)
            if len(self._buckets) > KEPT:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        if not bucket.has_capacity():
            self.refused += 1
            return max(1, math.ceil(1 / self._rate))
        await bucket.acquire()
        return 0

    def __len__(self) -> int:
        return len(self._buckets)

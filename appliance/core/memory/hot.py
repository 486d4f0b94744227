"""Tier 1: what is read most, in memory. The protocol, and the in-process form for machines without Redis."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from appliance.core.memory.tier import Usage
from appliance.core.model import Health, HealthReport
from appliance.errors import TierFullError

OVERHEAD = 160
"""Bytes that an entry costs besides name and value: measured on CPython 3.11, x86-64."""


class HotTier(Protocol):
    """A cache of framed values by name. What it loses is read again from below; what it holds is never older than that.

    Each call raises TierUnavailableError where the server does not answer, TierFullError where it takes no writes.
    """

    name: str
    policy: str
    """Which entries go first: as Redis' maxmemory-policy."""

    async def open(self) -> None:
        """Become ready. Raises AbsentError, TierUnavailableError."""

    async def close(self) -> None:
        """Give everything back."""

    async def get(self, name: str) -> bytes | None:
        """One value."""

    async def get_many(self, names: Sequence[str]) -> Sequence[bytes | None]:
        """Values in the order of their names."""

    async def holds(self, names: Sequence[str]) -> Sequence[bool]:
        """Which of the values it has; that is no use of them."""

    async def set_many(self, values: Mapping[str, bytes], ttl: float | None) -> None:
        """Keep values, `ttl` seconds at most."""

    async def remove(self, names: Iterable[str]) -> None:
        """Forget values."""

    def forget_all(self) -> None:
        """From now on nothing is found that was kept before; never fails, needs no server."""

    async def health(self) -> HealthReport:
        """How it is now, from a real request."""

    async def usage(self) -> Usage | None:
        """What it holds."""

    def evictions(self) -> int:
        """Entries that made room for others, since the start."""


class _Kept(NamedTuple):
    value: bytes
    expires: float
    """Monotonic; infinite for none."""
    uses: int


class LocalLru:
    """An LRU (or LFU, or shortest time to live first) of bounded size in this process (implements HotTier).

    Args:
        limit: Bytes.
        policy: "allkeys-lru", "allkeys-lfu" or "volatile-ttl".
    """

    name = "memory"

    def __init__(self, limit: int, policy: str = "allkeys-lru") -> None:
        self._limit = limit
        self.policy = policy
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._size = 0
        self._evicted = 0

    async def open(self) -> None:
        """Nothing is needed."""

    async def close(self) -> None:
        """Let go of everything."""
        self.forget_all()

    async def get(self, name: str) -> bytes | None:
        """See HotTier."""
        kept = self._kept.get(name)
        if kept is None:
            return None
        if kept.expires <= time.monotonic():
            self._drop(name)
            return None
        self._kept.move_to_end(name)
        if self.policy == "allkeys-lfu":
            self._kept[name] = kept._replace(uses=kept.uses + 1)
        return kept.value

    async def get_many(self, names: Sequence[str]) -> Sequence[bytes | None]:
        """See HotTier."""
        return [await self.get(name) for name in names]

    async def holds(self, names: Sequence[str]) -> Sequence[bool]:
        """See HotTier."""
        now, found = time.monotonic(), (self._kept.get(name) for name in names)
        return [kept is not None and kept.expires > now for kept in found]

    async def set_many(self, values: Mapping[str, bytes], ttl: float | None) -> None:
        """See HotTier."""
        expires = float("inf") if ttl is None else time.monotonic() + ttl
        for name, value in values.items():
            if _cost(name, value) > self._limit:
                raise TierFullError(f"A value of {len(value)} bytes is larger than tier 1.", "raise memory.hot_max_mib.")
            self._drop(name)
            self._kept[name] = _Kept(value, expires, 1)
            self._size += _cost(name, value)
        while self._size > self._limit:
            self._drop(self._victim())
            self._evicted += 1

    def _victim(self) -> str:
        """Least recently used; for the other policies, the first of a sample, as Redis does it."""
        if self.policy == "allkeys-lru":
            return next(iter(self._kept))
        sample = [name for name, _ in zip(self._kept, range(16), strict=False)]
        if self.policy == "allkeys-lfu":
            return min(sample, key=lambda name: self._kept[name].uses)
        return min(sample, key=lambda name: self._kept[name].expires)

    async def remove(self, names: Iterable[str]) -> None:
        """See HotTier."""
        for name in names:
            self._drop(name)

    def _drop(self, name: str) -> None:
        kept = self._kept.pop(name, None)
        if kept is not None:
            self._size -= _cost(name, kept.value)

    def forget_all(self) -> None:
        """See HotTier."""
        self._kept.clear()
        self._size = 0

    async def health(self) -> HealthReport:
        """Always well: it is a part of this process."""
        await asyncio.sleep(0)
        return HealthReport(
            Health.degraded,
            "in this process: no redis-server is installed",
            "sudo apt-get install redis-server, or set memory.redis_url",
        )

    async def usage(self) -> Usage | None:
        """See HotTier."""
        return Usage(len(self._kept), self._size)

    def evictions(self) -> int:
        """See HotTier."""
        return self._evicted


def _cost(name: str, value: bytes) -> int:
    return len(name) + len(value) + OVERHEAD

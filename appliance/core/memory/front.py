"""Tier 1 as the memory uses it: left out while it fails, and never believed again about what it missed meanwhile."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence

from appliance.core.memory.hot import HotTier
from appliance.core.memory.stats import TierStats
from appliance.core.model import Health, HealthReport
from appliance.errors import MemoryTierError

log = logging.getLogger(__name__)


class Front:
    """Guards a HotTier: no error of it reaches a reader.

    Args:
        tier: The cache.
        largest: Bytes; larger values stay below.
    """

    def __init__(self, tier: HotTier, largest: int) -> None:
        self.tier = tier
        self.stats = TierStats()
        self._largest = largest
        self._up = False
        self._report = HealthReport(Health.degraded, "not asked yet")

    @property
    def up(self) -> bool:
        """Whether it is in use."""
        return self._up

    async def open(self) -> None:
        """Connect; one that does not answer is tried again by `probe`."""
        try:
            await self.tier.open()
        except MemoryTierError as error:
            self._failed(error)
        await self.probe()

    async def close(self) -> None:
        """Give everything back."""
        self._up = False
        await self.tier.close()

    async def probe(self) -> HealthReport:
        """Ask it how it is, and take it back into use where it answers."""
        report = await self.tier.health()
        well = report.health in {Health.healthy, Health.degraded}
        if well and not self._up:
            self.tier.forget_all()
            report = await self.tier.health()
            well = report.health in {Health.healthy, Health.degraded}
        self._up, self._report = well, report
        return report

    def report(self) -> HealthReport:
        """The newest probe's."""
        return self._report

    async def get(self, name: str) -> bytes | None:
        """A framed value, or None."""
        if not self._up:
            return None
        began = time.perf_counter()
        try:
            found = await self.tier.get(name)
        except MemoryTierError as error:
            self._failed(error)
            return None
        stats = self.stats
        stats.times.append(time.perf_counter() - began)
        if found is None:
            stats.misses += 1
        else:
            stats.hits += 1
        return found

    async def get_many(self, names: Sequence[str]) -> Sequence[bytes | None]:
        """Framed values, in order."""
        if not self._up:
            return [None] * len(names)
        began = time.perf_counter()
        try:
            found = await self.tier.get_many(names)
        except MemoryTierError as error:
            self._failed(error)
            return [None] * len(names)
        self.stats.times.append(time.perf_counter() - began)
        missing = found.count(None)
        self.stats.misses += missing
        self.stats.hits += len(names) - missing
        return found

    async def holds(self, names: Sequence[str]) -> Sequence[bool | None]:
        """Which values it has, without counting that as a use; None for each where it cannot be asked."""
        if not self._up or not names:
            return [None] * len(names)
        try:
            return await self.tier.holds(names)
        except MemoryTierError as error:
            self._failed(error)
            return [None] * len(names)

    async def set_many(self, values: Mapping[str, bytes], ttl: float | None) -> bool:
        """Keep framed values; those that are too large are removed instead. False where the tier did not take them."""
        if not self._up:
            return False
        if values and max(map(len, values.values())) > self._largest:
            await self.remove([name for name, value in values.items() if len(value) > self._largest])
            values = {name: value for name, value in values.items() if len(value) <= self._largest}
        try:
            if values:
                await self.tier.set_many(values, ttl)
        except MemoryTierError as error:
            self._failed(error)
            return False
        return True

    async def remove(self, names: Iterable[str]) -> None:
        """Forget values; where that fails, all of them."""
        if not self._up:
            return
        try:
            await self.tier.remove(names)
        except MemoryTierError as error:
            self._failed(error)

    def _failed(self, error: MemoryTierError) -> None:
        self.stats.errors += 1
        if self._up:
            log.warning("tier 1 is left out: %s", error.message)
        self._up = False
        self._report = HealthReport(Health.unhealthy, error.message, error.next_step)

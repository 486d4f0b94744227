"""The tiers below the local disk: which there are, which answer, which one a value belongs to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable

from appliance.core.memory.keys import AT_HOME
from appliance.core.memory.model import Kind, Meta, Record
from appliance.core.memory.stats import TierStats
from appliance.core.memory.tier import Replica
from appliance.core.model import Health, HealthReport
from appliance.errors import MemoryTierError, TierUnavailableError

UNASKED = HealthReport(Health.degraded, "not asked yet")


class Replicas:
    """The configured tiers, fastest first.

    Args:
        tiers: NAS, documents, objects: those that are configured.
    """

    def __init__(self, tiers: Iterable[Replica]) -> None:
        self.tiers = {tier.name: tier for tier in sorted(tiers, key=lambda tier: (tier.level, tier.name))}
        self.stats = {name: TierStats() for name in self.tiers}
        self.reports = dict.fromkeys(self.tiers, UNASKED)
        self._alone: dict[str, asyncio.Lock] = {}

    def alone(self, name: str) -> asyncio.Lock:
        """Held by whoever changes what a tier holds, or acts on what it held."""
        return self._alone.setdefault(name, asyncio.Lock())

    def answers(self, name: str) -> bool:
        """Whether the tier's newest probe went well, or it was not probed yet."""
        return self.reports[name].health in {Health.healthy, Health.degraded}

    def is_shared(self, name: str) -> bool:
        """Whether other appliances write there too; False where it is not configured."""
        return name in self.tiers and self.tiers[name].shared

    def ordered(self, names: Collection[str] | None) -> list[Replica]:
        """Those of the names (all for None), fastest first."""
        return [tier for name, tier in self.tiers.items() if names is None or name in names]

    def homes(self, meta: Meta) -> tuple[str, ...]:
        """The tiers that shall hold a value: the NAS, and one of the cloud."""
        cloud = self.cloud_home(meta)
        near = tuple(name for name, tier in self.tiers.items() if not tier.shared and tier.accepts(meta))
        return (*near, cloud) if cloud else near

    def cloud_home(self, meta: Meta) -> str:
        """The shared tier of a value: documents for JSON where they are configured, else objects; empty for none."""
        if meta.namespace in AT_HOME:
            return ""
        order = ("documents", "objects") if meta.kind is Kind.json else ("objects",)
        return next((name for name in order if name in self.tiers and self.tiers[name].accepts(meta)), "")

    async def get(self, tier: Replica, namespace: str, key: str) -> Record | None:
        """Read, and count. Raises as Replica.get; at once where the tier did not answer its newest probe."""
        stats = self.stats[tier.name]
        if not self.answers(tier.name):
            report = self.reports[tier.name]
            raise TierUnavailableError(f"{tier.name}: {report.reason}", report.next_step)
        began = time.perf_counter()
        try:
            found = await tier.get(namespace, key)
        except MemoryTierError:
            stats.errors += 1
            raise
        stats.times.append(time.perf_counter() - began)
        if found is None:
            stats.misses += 1
        else:
            stats.hits += 1
        return found

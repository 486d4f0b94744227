"""Publishes the numbers of memory and synchronisation as events, so that they are kept and can be plotted."""

from __future__ import annotations

import asyncio
from typing import Any

from appliance.core import metrics
from appliance.core.bus import Bus
from appliance.core.events import HostMetrics, Noted
from appliance.core.memory.model import MemoryStatus
from appliance.core.memory.sync import SyncTotals
from appliance.core.model import Health, HealthReport
from appliance.core.ports import Clock
from appliance.core.state import LiveState, Section


class FiguresService:
    """Reads the live state at an interval (implements ports.Service).

    Args:
        bus: Told.
        state: Read.
        clock: For times.
        interval: Seconds.
    """

    name = "figures"
    summary = "Publishes the numbers of memory and synchronisation as telemetry"
    depends: tuple[str, ...] = ("store",)

    def __init__(self, bus: Bus, state: LiveState, clock: Clock, interval: float = 60.0) -> None:
        self._bus = bus
        self._state = state
        self._clock = clock
        self._interval = interval
        self._told = 0
        self._counted: dict[str, float] = {}
        """Counts at the last publication, by what they count."""

    async def start(self) -> None:
        """Nothing is needed."""

    async def run(self) -> None:
        """Publish at the interval until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            await self.publish()

    async def publish(self) -> None:
        """One event for each set of labels."""
        groups: dict[tuple[tuple[str, str], ...], dict[str, float]] = {}
        for sample in metrics.domain_samples(self._state):
            groups.setdefault(sample.labels, {})[sample.name] = float(sample.value)
        for labels, values in groups.items():
            await self._bus.publish(HostMetrics(time=self._clock.wall(), metrics=values, tags=dict(labels)))
        self._told = len(groups)
        await self._note_changes()

    async def _note_changes(self) -> None:
        """One event for each tier that evicted something since the last time, and one for what was sent and received."""
        status, totals = self._state.get(Section.memory).value, self._state.get(Section.sync_totals).value
        for tier in status.tiers if isinstance(status, MemoryStatus) else ():
            if new := self._new(f"evictions {tier.name}", tier.evictions):
                await self._note("memory.evicted", {"tier": tier.name, "values": new, "bytes_held": tier.size})
        if isinstance(totals, SyncTotals) and (new := self._new("bytes", totals.transferred)):
            await self._note("memory.transferred", {"bytes": new})

    def _new(self, what: str, count: float) -> float:
        """How many came since the last time; the first look counts none, as they may be of days ago."""
        before = self._counted.get(what, count)
        self._counted[what] = count
        return max(0, count - before)

    async def _note(self, event: str, attributes: dict[str, Any]) -> None:
        await self._bus.publish(Noted(time=self._clock.wall(), event=event, severity="info", attributes=attributes))

    async def stop(self) -> None:
        """Nothing is held."""

    async def health(self) -> HealthReport:
        """Well as long as it runs."""
        return HealthReport(Health.healthy, f"every {self._interval:g} s, {self._told} events the last time")

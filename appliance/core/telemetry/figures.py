"""Publishes the numbers of memory and synchronisation as events, so that they are kept and can be plotted."""

from __future__ import annotations

import asyncio

from appliance.core import metrics
from appliance.core.bus import Bus
from appliance.core.events import HostMetrics
from appliance.core.model import Health, HealthReport
from appliance.core.ports import Clock
from appliance.core.state import LiveState


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

    async def stop(self) -> None:
        """Nothing is held."""

    async def health(self) -> HealthReport:
        """Well as long as it runs."""
        return HealthReport(Health.healthy, f"every {self._interval:g} s, {self._told} events the last time")

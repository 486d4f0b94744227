"""Shows the queues of the spine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from appliance.core.bus import Bus
from appliance.core.figures import counted
from appliance.core.model import Health, HealthReport, QueueStatus
from appliance.core.state import LiveState, Section

INTERVAL = 2.0


class QueueService:
    """Reads depth and drops of every queue (implements ports.Service)."""

    name = "spine"
    summary = "Carries events to their subscribers and shows the queues"
    depends: tuple[str, ...] = ("store",)

    def __init__(self, bus: Bus, more: Callable[[], tuple[QueueStatus, ...]], state: LiveState) -> None:
        self._bus = bus
        self._more = more
        self._state = state

    async def start(self) -> None:
        """Show the queues once."""
        self._show()

    async def run(self) -> None:
        """Show them at an interval."""
        while True:
            await asyncio.sleep(INTERVAL)
            self._show()

    async def stop(self) -> None:
        """Nothing is held."""

    async def health(self) -> HealthReport:
        """Degraded while a queue is nearly full."""
        full = [queue for queue in self._read() if queue.depth > 0.8 * queue.capacity]
        if full:
            text = ", ".join(f"{queue.name} {queue.depth}/{queue.capacity}" for queue in full)
            return HealthReport(Health.degraded, f"nearly full: {text}", "see which subscriber is slow on Services.")
        return HealthReport(Health.healthy, counted(len(self._read()), "queue"))

    def _read(self) -> tuple[QueueStatus, ...]:
        return (*self._bus.status(), *self._more())

    def _show(self) -> None:
        self._state.put(Section.queues, self._read())

"""The store as a service: opens the database, brings back what was kept, and says when the disk fails."""

from __future__ import annotations

import asyncio
import shutil

from appliance.core.bus import Bus
from appliance.core.events import Noted
from appliance.core.jobs import Jobs
from appliance.core.model import Health, HealthReport
from appliance.core.outbox import Outbox
from appliance.core.ports import Clock
from appliance.core.store import Store
from appliance.errors import StoreError

LOW = 64 * 1024 * 1024
"""Bytes of free disk below which the store is degraded."""

ANSWER = 2.0
"""Seconds within which the writer must answer a probe."""


class StoreService:
    """Opens and closes the SQLite store (implements ports.Service).

    Args:
        store: The database; opened here.
        outbox: Loaded after the store is open.
        jobs: Loaded after the store is open.
        bus: Told that the appliance started, once: the store may be restarted.
        clock: For times.
    """

    name = "store"
    summary = "Keeps accounts, audit, jobs, alerts and durable events in SQLite"
    depends: tuple[str, ...] = ()

    def __init__(self, store: Store, outbox: Outbox, jobs: Jobs, bus: Bus, clock: Clock) -> None:
        self._store = store
        self._outbox = outbox
        self._jobs = jobs
        self._bus = bus
        self._clock = clock
        self._told = False
        self.opened = asyncio.Event()
        """Set while the store takes writes."""

    async def start(self) -> None:
        """Open, migrate, load. Raises StoreError."""
        await asyncio.to_thread(self._store.open)
        await self._outbox.load()
        await self._jobs.load()
        self.opened.set()
        if not self._told:
            await self._bus.publish(Noted(time=self._clock.wall(), event="appliance.started", severity="info"))
            self._told = True

    async def run(self) -> None:
        """The store works in its own threads; wait until cancelled."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Commit what is queued, and close."""
        self.opened.clear()
        await asyncio.to_thread(self._store.close)

    async def health(self) -> HealthReport:
        """Unhealthy while writes fail or are not answered; degraded when the disk is nearly full."""
        try:
            await self._store.probe(ANSWER)
        except StoreError as error:
            return HealthReport(Health.unhealthy, error.message, error.next_step)
        usage = await asyncio.to_thread(shutil.disk_usage, self._store.path.parent)
        if usage.free < LOW:
            reason = f"only {usage.free // 1048576} MiB are free at {self._store.path.parent}"
            return HealthReport(Health.degraded, reason, "free space on that file system.")
        return HealthReport(Health.healthy, "every write is synced before it is acknowledged")

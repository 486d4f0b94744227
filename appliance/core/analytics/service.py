"""Keeps telemetry and durable events in the embedded store, and shows the last minutes as trends."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from appliance.core.analytics.duck import DuckStore, RejectedError
from appliance.core.analytics.pruning import GAP, PruneClock
from appliance.core.bus import Bus, Subscription
from appliance.core.events import Event, HostMetrics, InferenceCompleted
from appliance.core.figures import counted
from appliance.core.model import Health, HealthReport, QueueStatus
from appliance.core.outbox import Outbox
from appliance.core.ports import Clock
from appliance.core.state import LiveState, Section
from appliance.errors import StoreError

log = logging.getLogger(__name__)

TRENDS = ("cpu_usage", "memory_usage", "disk_usage", "temperature_c", "load_1m", "net_tx_rate", "net_rx_rate")
SPAN = 600.0
"""Seconds of readings in Section.trends."""
POINTS = 1200
"""Most readings of one metric in Section.trends."""
LOOK = 300.0
"""Seconds between looks whether old readings are to be deleted."""
RING = 2000
"""Readings that wait in memory while the disk does not take them."""
RESULTS = 50
JOURNAL = "outbox"


class AnalyticsService:
    """The sink of the spine into DuckDB (implements ports.Service)."""

    name = "analytics"
    summary = "Keeps metrics with minute and hour roll-ups, results and events in DuckDB"
    depends: tuple[str, ...] = ("store",)

    def __init__(
        self, duck: DuckStore, bus: Bus, outbox: Outbox, state: LiveState, clock: Clock, flush: float, keep_days: int
    ) -> None:
        self._duck = duck
        self._outbox = outbox
        self._state = state
        self._clock = clock
        self._flush_interval = flush
        self._keep_days = keep_days
        self._queue: Subscription = bus.subscribe(
            "analytics", (HostMetrics,), capacity=RING
        )  # what comes before the start waits
        self._pending: deque[HostMetrics] = deque(maxlen=RING)
        self._prune_clock = PruneClock(clock, None, None)
        self._trends: dict[str, deque[tuple[float, float]]] = {}
        self._results: deque[object] = deque(maxlen=RESULTS)
        self._lost = self._refused = 0
        self._flushing = asyncio.Lock()
        self._flush_error: StoreError | None = None
        self._journal_error: StoreError | None = None
        self._prune_error: StoreError | None = None
        self._epoch = 0
        self.cursor = 0

    async def start(self) -> None:
        """Open the store and show what it knows. Raises StoreError."""
        await asyncio.to_thread(self._duck.open)
        await self._resume()
        now = self._clock.wall()
        self._prune_clock = PruneClock(self._clock, *await asyncio.to_thread(self._duck.stretch, now, GAP))
        self._trends = {name: deque(maxlen=POINTS) for name in TRENDS}
        past = await asyncio.to_thread(self._duck.recent, TRENDS, now - SPAN, now, POINTS * len(TRENDS))
        for name, time, value in past:
            self._trends[name].append((time, value))
        self._results.clear()
        self._results.extend(await asyncio.to_thread(self._duck.results, RESULTS))
        self._show()

    async def run(self) -> None:
        """Take telemetry from the bus and events from the journal until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._collect(), name="analytics collect")
            group.create_task(self._flush_regularly(), name="analytics flush")
            group.create_task(self._follow_journal(), name="analytics journal")
            group.create_task(self._prune_daily(), name="analytics prune")

    async def stop(self) -> None:
        """Write what waits, then close."""
        try:
            await self.flush()
        except StoreError as error:
            log.error("telemetry of the last seconds is not on disk: %s", error.message)
        await asyncio.to_thread(self._duck.close)

    async def health(self) -> HealthReport:
        """Unhealthy while the disk does not take telemetry or events; degraded while nothing old can be deleted."""
        if self._flush_error is not None:
            reason = f"{self._flush_error.message} {counted(len(self._pending), 'reading')} waiting, {self._lost} given up"
            return HealthReport(Health.unhealthy, reason, self._flush_error.next_step)
        if self._journal_error is not None:
            reason = f"{self._journal_error.message} {counted(self.status()[0].depth, 'event')} waiting in the journal"
            return HealthReport(Health.unhealthy, reason, self._journal_error.next_step)
        if self._prune_error is not None:
            reason = f"old readings cannot be deleted, the file grows: {self._prune_error.message}"
            return HealthReport(Health.degraded, reason, self._prune_error.next_step)
        reason = f"written every {self._flush_interval:g} s"
        if self._outbox.unreadable:
            reason += f"; {counted(self._outbox.unreadable, 'event')} that could not be read or stored set aside"
        if self._refused:
            reason += f"; {counted(self._refused, 'reading')} that cannot be stored left out"
        details = {"waiting": len(self._pending), "set_aside": self._outbox.unreadable, "refused": self._refused}
        return HealthReport(Health.healthy, reason, details=details)

    def status(self) -> tuple[QueueStatus, ...]:
        """The journal as this reader sees it, and the readings that wait for the disk."""
        waiting = QueueStatus("telemetry", len(self._pending), RING, 0, self._lost, "drop oldest")
        return (self._outbox.status(self.cursor), waiting)

    async def flush(self) -> None:
        """Write the waiting readings. Raises StoreError; they go on waiting then.

        A flush that began is finished even where its caller is cancelled: its readings would be written twice else.
        """
        await asyncio.shield(asyncio.ensure_future(self._flush()))

    async def _flush(self) -> None:
        async with self._flushing:
            events = list(self._pending)
            if not events:
                return
            await self._write(events)
            for event in events:  # but for those that a full ring let go of meanwhile
                self._done_with(event)

    async def _write(self, events: list[HostMetrics]) -> None:
        """Store readings; one that cannot be stored is left out, and holds up no other. Raises StoreError."""
        try:
            await asyncio.to_thread(self._duck.add_metrics, events)
        except RejectedError as error:
            if len(events) == 1:
                self._refused += 1
                log.warning("a reading is left out: %s", error.message)
                return
            await self._write(events[: len(events) // 2])
            for event in events[: len(events) // 2]:
                self._done_with(event)
            await self._write(events[len(events) // 2 :])

    def _done_with(self, event: HostMetrics) -> None:
        """It waits no more: what is written must not be written again where a later one fails."""
        if self._pending and self._pending[0] is event:
            self._pending.popleft()

    async def _collect(self) -> None:
        while True:
            for event in await self._queue.batch():
                if isinstance(event, HostMetrics):
                    self._take(event)
            self._show()

    def _take(self, event: HostMetrics) -> None:
        if len(self._pending) == RING:
            self._lost += 1
        self._pending.append(event)
        for name, points in self._trends.items():
            while points and points[0][0] < event.time - SPAN:
                points.popleft()
            while points and points[-1][0] > event.time:  # the clock was set back
                points.pop()
            if name in event.metrics:
                points.append((event.time, event.metrics[name]))

    async def _flush_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._flush_interval)
            try:
                await self.flush()
                self._flush_error = None
            except StoreError as error:
                log.warning("telemetry waits: %s", error.message)
                self._flush_error = error

    async def _resume(self) -> None:
        """Find the place in the journal: behind what was taken over, or at the beginning of another journal."""
        epoch = self._outbox.epoch
        seq, event_id = await asyncio.to_thread(self._duck.cursor, JOURNAL)
        self._come_to(await self._outbox.resume(seq, event_id))
        self._epoch = epoch
        if self.cursor != seq:
            log.warning("the journal is not the one of before: its events are taken over from the beginning")

    def _come_to(self, seq: int) -> None:
        self.cursor = seq
        self._outbox.seen(JOURNAL, seq)

    async def _follow_journal(self) -> None:
        while True:
            await self._outbox.wait_beyond(self.cursor, self._epoch)
            try:
                if self._outbox.epoch != self._epoch:
                    await self._resume()
                await self._take_over()
                self._journal_error = None
            except StoreError as error:
                self._journal_error = error
                log.warning("events wait: %s", error.message)
                await asyncio.sleep(self._flush_interval)

    async def _take_over(self) -> None:
        """Bring the next events of the journal to disk. Raises StoreError."""
        events = await self._outbox.read(self.cursor)
        if not events:
            self._come_to(self._outbox.head)
            return
        last = events[-1][0]
        try:
            await asyncio.to_thread(self._duck.add_events, JOURNAL, events)
        except RejectedError:
            events = await self._one_by_one(events)
        self._come_to(last)
        self._show_results([event for _, event in events])

    async def _one_by_one(self, events: list[tuple[int, Event]]) -> list[tuple[int, Event]]:
        """Store what can be stored, and set the others aside; returns the stored ones. Raises StoreError."""
        stored = []
        for seq, event in events:
            try:
                await asyncio.to_thread(self._duck.add_events, JOURNAL, [(seq, event)])
            except RejectedError as error:
                await self._outbox.set_aside({seq: error.message})
            else:
                stored.append((seq, event))
        return stored

    def _show_results(self, events: list[Event]) -> None:
        fresh = [event.to_result() for event in events if isinstance(event, InferenceCompleted)]
        if fresh:
            self._results.extendleft(fresh)
            self._show()

    async def _prune_daily(self) -> None:
        while True:
            if self._prune_clock.due():
                try:
                    await asyncio.to_thread(self._duck.prune, self._keep_days, self._clock.wall())
                    self._prune_clock.done()
                    self._prune_error = None
                except StoreError as error:
                    self._prune_error = error
                    log.warning("old readings are kept for now: %s", error.message)
            await asyncio.sleep(LOOK)

    def _show(self) -> None:
        self._state.put(Section.trends, {name: tuple(points) for name, points in self._trends.items()})
        self._state.put(Section.results, tuple(self._results))

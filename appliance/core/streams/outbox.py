"""What waits for Kafka: durable events in the journal, all others in a ring that goes to disk while Kafka does not answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from appliance.core.events import Event
from appliance.core.figures import counted
from appliance.core.journal import Backlog
from appliance.core.model import Health, HealthReport
from appliance.core.outbox import Outbox
from appliance.core.ports import Clock
from appliance.core.store import Store
from appliance.core.streams.deadletters import DeadLetters
from appliance.core.streams.encode import Encoder
from appliance.core.streams.file import StreamFile
from appliance.core.streams.keeper import Keeper, Recent
from appliance.core.streams.model import ClassStatus, OutboxStatus, Priority, Producer
from appliance.core.streams.rates import Rate
from appliance.core.streams.ring import Ring
from appliance.core.streams.sender import Sender
from appliance.core.streams.sources import KAFKA, JournalSource, Replays
from appliance.core.streams.spill import Spill
from appliance.errors import DamagedError, StoreError
from appliance.settings import OutboxSettings

log = logging.getLogger(__name__)

MIB = 1024 * 1024
PAUSED = "INSERT INTO counts (name, value) VALUES ('paused', ?1) ON CONFLICT (name) DO UPDATE SET value = ?1"


class StreamOutbox:
    """The outbox of the appliance.

    Durable events are not offered here: they are in the journal already, and this is one more of its readers ("kafka").
    Where Kafka is not configured, make none of these, and call `journal.forget("kafka")` after `journal.load()`: the
    journal would keep its drops for a reader that never comes.

    What kill -9 costs: of durable events nothing; of the others at most what was in RAM, which is what came while Kafka
    answered and was not acknowledged yet, and, while it does not answer, what came in the last minute. What was sent in the
    last seconds is sent again then, with the same ids.

    Args:
        journal: The durable events; loaded when `start` is called, and again whenever its store was opened.
        store: `Store(path of streams.sqlite, "appliance.core.streams.migrations")`, not open; opened and closed here.
        clock: Both clocks.
        settings: Bounds.
        device_id: What the envelopes carry as device.
    """

    def __init__(self, journal: Outbox, store: Store, clock: Clock, settings: OutboxSettings, device_id: str) -> None:
        self._journal = journal
        self._store = store
        self._clock = clock
        self._settings = settings
        self._encoder = Encoder(device_id)
        self._file = StreamFile(store, clock)
        self._spill = Spill(store)
        self._ring = Ring(self._spill, clock, settings.memory_mib * MIB)
        self.letters = DeadLetters(store, settings.dead_letters, self._wake)
        """Dead letters: list, get, add, retry, discard."""
        self._replays = Replays(store, journal)
        sources = (JournalSource(journal), self._ring, self.letters, self._replays)
        self._sender = Sender(sources, self.letters, clock, self._heal)
        self._keeper = Keeper(journal, self._spill, self._ring, self._sender, clock, settings, self._heal)
        self._letters_lost = Recent(clock)
        self._coming = Rate(clock)
        self._healing = asyncio.Lock()
        self._backlog: dict[Priority, Backlog] = dict.fromkeys(Priority, Backlog(0, 0, None))
        journal.byte_limit = settings.disk_mib * MIB
        journal.watch(self._appended)

    async def start(self) -> None:
        """Open the file; one that is no database any more is moved aside. Raises StoreError."""
        await self._file.open()
        try:
            await self._load()
        except DamagedError as error:
            await self._file.rescue(error)
            await self._load()
        self._journal.join(KAFKA)
        await self._keeper.begin()
        self._letters_lost.begin(self.letters.dropped)

    async def _load(self) -> None:
        await self._spill.load()
        await self.letters.load()
        await self._replays.load()
        self._ring.reload()
        query = "SELECT value FROM counts WHERE name = 'paused'"
        row = await self._store.read(lambda connection: connection.execute(query).fetchone())
        self._sender.paused = row is not None and bool(row[0])

    async def run(self, producer: Producer) -> None:
        """Send what waits, and spill, until cancelled. An outage is no error: it is retried."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sender.run(producer), name="outbox sender")
            group.create_task(self._keeper.run(), name="outbox keeper")

    async def stop(self) -> None:
        """After `run` was cancelled: bring to disk what is in RAM, and close."""
        try:
            await self._ring.spill_all()
            await self._spill.save_counts()
            await self._journal.save_places()
        except StoreError as error:
            left = sum(self._ring.in_memory(each) for each in Priority)
            log.error("%d messages in memory are lost with this stop: %s", left, error.message)
        await asyncio.to_thread(self._store.close)

    def offer(self, event: Event) -> None:
        """Take an event that is not durable (a durable one is passed over: the journal has it); never blocks, never fails."""
        if event.durable:
            return
        self._ring.push(self._encoder.message(event))
        self._coming.add(1)
        self._sender.wake()

    async def room(self) -> None:
        """Wait until the ring takes more without giving up something; call it between the batches of a bus subscription.

        Where the disk does not take what is in the ring, it does not wait: then the oldest of the lowest class go.
        """
        await self._keeper.room()

    async def housekeeping(self) -> None:
        """Do at once what `run` does twice a second: bring to disk what has to go there, save cursors, look at the bounds."""
        await self._keeper.round()

    async def to_disk(self) -> None:
        """Bring all to disk that is only in memory. Raises StoreError: what it does not take stays in memory."""
        for priority in Priority:
            while self._ring.in_memory(priority):
                await self._ring.spill(priority)

    def link(self, up: bool) -> None:
        """The link to Kafka is up (send at once, whatever the backoff), or is down (bring the ring to disk)."""
        self._keeper.link_down = not up
        if up:
            self._sender.link_up()

    async def pause(self) -> None:
        """Send nothing until `resume`; kept over restarts. Raises StoreError."""
        await self._store.write(lambda connection: connection.execute(PAUSED, (1,)))
        self._sender.paused = True

    async def resume(self) -> None:
        """Go on after `pause`. Raises StoreError."""
        await self._store.write(lambda connection: connection.execute(PAUSED, (0,)))
        self._sender.paused = False
        self._sender.link_up()

    async def replay(self, since: float, until: float, topics: Collection[str] = ()) -> int:
        """Send events of the journal again, with their ids, after what waits in their classes.

        Args:
            since: First moment, wall clock, seconds since the epoch.
            until: Moment behind the last one.
            topics: Only these; all where none is named.

        Returns:
            How many events that are; those that were not sent yet are not among them, they go out anyway.

        Raises:
            StreamError: A topic has no durable events, or too many replays wait.
            StoreError: It is not begun.
        """
        count = await self._replays.begin(since, until, topics)
        self._wake()
        return count

    async def status(self) -> OutboxStatus:
        """What waits, for Section.streams; cheap enough for each second."""
        problem = self._sender.error or self._keeper.error
        try:
            self._backlog = await self._journal.backlog(KAFKA)
        except StoreError as error:
            problem = error
        classes = tuple(self._class(each) for each in Priority)
        waiting, rate = sum(each.waiting for each in classes), self._sender.rate.value()
        ages = [each.oldest_s for each in classes if each.oldest_s is not None]
        emptier = rate - self._coming.value()
        return OutboxStatus(
            waiting=waiting, bytes=sum(each.bytes for each in classes), byte_limit=self._settings.disk_mib * MIB,
            age_limit_s=self._settings.max_age_hours * 3600, oldest_s=max(ages, default=None), drain_rate=rate,
            eta_s=0.0 if not waiting else waiting / emptier if emptier > 0 else None, paused=self._sender.paused,
            sent=sum(each.sent for each in classes), dropped=sum(each.dropped for each in classes), dead=self.letters.count,
            dead_dropped=self.letters.dropped, quarantined=self._spill.quarantined, retry_s=self._sender.retry_s,
            error="" if problem is None else problem.message,
            next_step="" if problem is None else problem.next_step, classes=classes,
        )  # fmt: skip

    def _class(self, priority: Priority) -> ClassStatus:
        backlog, total, now = self._backlog[priority], self._spill.totals[priority], self._clock.wall()
        ages = [max(0.0, now - since) for since in (backlog.since, total.since) if since is not None]
        ages += [age for age in (self._ring.oldest(priority),) if age is not None]
        in_memory, waiting = self._ring.in_memory(priority), self._ring.waiting(priority)
        return ClassStatus(
            priority=priority.name, waiting=backlog.events + waiting + self._replays.waiting(priority), in_memory=in_memory,
            on_disk=backlog.events + waiting - in_memory, bytes=backlog.bytes + total.bytes + self._ring.bytes_of(priority),
            oldest_s=max(ages, default=None), sent=self._sender.sent[priority],
            dropped=self._journal.dropped_of(KAFKA)[priority] + self._spill.dropped[priority],
        )  # fmt: skip

    async def health(self) -> HealthReport:
        """Degraded while nothing goes out, the disk fails, bounds cost events, and after parts of the file were lost."""
        report = self._keeper.health(self._file.lost, self._file.lost_at)
        details = {**report.details, "letters_dropped": self.letters.dropped}
        if report.health is not Health.healthy:
            return report
        status = await self.status()
        if self._letters_lost.look(self.letters.dropped):
            reason = f"there are too many dead letters of one origin: {counted(self.letters.dropped, 'letter')} given up"
            step = "look at `prime-spark streams dead-letters`, and retry or discard them."
            return HealthReport(Health.degraded, reason, step, details)
        if status.paused:
            reason = f"sending to Kafka is paused: {counted(status.waiting, 'event')} wait"
            return HealthReport(Health.degraded, reason, "resume it: `prime-spark streams resume`.", details)
        if status.error and (status.waiting or not self._sender.down):
            reason = f"what waits for Kafka does not go out: {status.error} {counted(status.waiting, 'event')} wait"
            return HealthReport(Health.degraded, reason, status.next_step, details)
        return HealthReport(report.health, report.reason, report.next_step, details)

    def _appended(self, count: int) -> None:
        self._journal.join(KAFKA)  # the journal may be another one
        self._coming.add(count)
        self._sender.wake()

    def _wake(self) -> None:
        self._sender.wake()

    async def _heal(self, error: StoreError) -> None:
        """Where the streams' own file is damaged: save what can be saved."""
        rescues = self._file.rescues
        damaged = isinstance(error, DamagedError) and str(self._store.path) in error.message
        if not damaged and not self._file.broken:
            return
        async with self._healing:
            if self._file.rescues != rescues and not self._file.broken:
                return
            try:
                await self._rescue(error)
            except StoreError as again:
                log.error("%s could not be mended: %s", self._store.path, again.message)

    async def _rescue(self, error: StoreError) -> None:
        before = {each: self._ring.on_disk(each) for each in Priority}
        if isinstance(error, DamagedError):
            await self._file.rescue(error)
        else:
            await self._file.open()
        await self._load()
        gone = sum(max(0, count - self._ring.on_disk(each)) for each, count in before.items())
        await self._spill.count_lost(gone)
        self._sender.mended()

"""The streams as a service: the link, the outbox behind it, the consumers of orders, and what the Streams screen shows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from appliance.core.backoff import backoff
from appliance.core.bus import Bus, Subscription
from appliance.core.events import HostMetrics, new_id
from appliance.core.model import Health, HealthReport
from appliance.core.observe.spans import Spans
from appliance.core.outbox import Outbox
from appliance.core.ports import Clock
from appliance.core.refusals import Refusals, printed
from appliance.core.state import LiveState, Section
from appliance.core.streams import topics
from appliance.core.streams.commands import Commander
from appliance.core.streams.kafka import NO_TOPIC, Access
from appliance.core.streams.kafka_link import FIRST, LONGEST, KafkaLink
from appliance.core.streams.kafka_reader import KafkaReader, Record
from appliance.core.streams.model import DeadLetter, LinkState, LinkStatus, OutboxStatus, StreamsStatus
from appliance.core.streams.outbox import StreamOutbox
from appliance.core.streams.tail import Tails
from appliance.core.streams.traffic import Traffic
from appliance.core.streams.updates import Updates
from appliance.core.streams.watch import ClusterWatch
from appliance.errors import AbsentError, ApplianceError, LinkDownError, StoreError
from appliance.settings import OutboxSettings

log = logging.getLogger(__name__)

SHOW = 1.0
"""Seconds between two puts into the live state."""
NOT_CONFIGURED = ("Kafka is not configured.", "set kafka.bootstrap_servers (KAFKA_BOOTSTRAP_SERVERS) and restart.")
LETTER = 64 * 1024
"""Most bytes that are kept of a message that broke its handler."""
READER = "kafka"
"""Name of Kafka's reader in the journal."""


@dataclass(frozen=True)
class Parts:
    """What the service works with.

    Attributes:
        access: To the cluster; None where Kafka is not configured.
        outbox: What waits; None likewise.
        journal: The durable events.
        bus: Gives telemetry.
        state: Shown there.
        clock: Both clocks.
        traffic: Counts.
        commander: Takes commands; None where they are switched off.
        updates: Takes offers of models; None without Kafka.
        refusals: Limits the audit's rows; closed here.
        watch: Looks at topics and groups; None without Kafka.
        device_id: In the names of this device's consumer groups.
        bounds: Shown where there is no outbox.
        spans: Begins those of messages that came.
    """

    access: Access | None
    outbox: StreamOutbox | None
    journal: Outbox
    bus: Bus
    state: LiveState
    clock: Clock
    traffic: Traffic
    commander: Commander | None
    updates: Updates | None
    refusals: Refusals
    watch: ClusterWatch | None
    device_id: str
    bounds: OutboxSettings
    spans: Spans = field(default_factory=Spans)


class StreamService:
    """Runs everything between the spine and Kafka (implements ports.Service)."""

    name = "streams"
    summary = "Brings events to Kafka, and takes signed commands and offers of models from it"
    depends: tuple[str, ...] = ("store",)

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.link: KafkaLink | None = None
        self.tails = Tails(self._watcher, parts.clock.monotonic, parts.clock.wall)
        self._queue: Subscription | None = None
        self._carrying: set[asyncio.Task[None]] = set()
        self._error: StoreError | None = None
        self._deaf: dict[str, ApplianceError] = {}
        """Why a topic of orders is not read now."""

    @property
    def outbox(self) -> StreamOutbox:
        """What waits. Raises AbsentError."""
        if self.parts.outbox is None:
            raise AbsentError(*NOT_CONFIGURED)
        return self.parts.outbox

    @property
    def connected(self) -> KafkaLink:
        """The link. Raises AbsentError where Kafka is not configured, or the service does not run."""
        if self.parts.access is None:
            raise AbsentError(*NOT_CONFIGURED)
        if self.link is None:
            raise AbsentError("The service streams does not run.", "look at Services for why.")
        return self.link

    async def start(self) -> None:
        """Open the outbox; Kafka may come later. Raises AbsentError where it is not configured, StoreError."""
        if self.parts.access is None or self.parts.watch is None:
            await self.parts.journal.forget(READER)
            self.parts.state.put(Section.streams, absent(self.parts))
            raise AbsentError(*NOT_CONFIGURED)
        await self.outbox.start()
        self._queue = self.parts.bus.subscribe("kafka", (HostMetrics,))
        watch = self.parts.watch
        headers = self.parts.bus.origins.headers
        self.link = KafkaLink(
            self.parts.access, self.parts.traffic, self.parts.clock, watch.prepare, self._changed, watch.make, headers
        )
        await self.show()

    async def run(self) -> None:
        """Work until cancelled."""
        link, parts = self.connected, self.parts
        async with asyncio.TaskGroup() as group:
            group.create_task(link.run(), name="kafka link")
            group.create_task(self.outbox.run(link), name="kafka outbox")
            group.create_task(self._collect(), name="kafka telemetry")
            group.create_task(self._show_regularly(), name="kafka show")
            if parts.watch is not None:
                group.create_task(parts.watch.run(link.up, self._watcher), name="kafka watch")
            if parts.commander is not None:
                group.create_task(self._follow(topics.COMMANDS, "commands", self._command), name="kafka commands")
            if parts.updates is not None:
                group.create_task(self._follow(topics.UPDATES, "updates", parts.updates.take), name="kafka updates")

    async def stop(self) -> None:
        """Keep what waits, and close."""
        self.link = None
        if self._queue is not None:
            self._queue.close()
            self._queue = None
        if self.parts.outbox is not None:  # before anything that waits for a broker: what is in memory must reach the disk
            await self.parts.outbox.stop()
        await asyncio.gather(self.tails.stop(), self.parts.refusals.close(1.0))

    async def health(self) -> HealthReport:
        """Degraded while Kafka does not answer, or orders are not read; as the outbox says otherwise."""
        status = self.connected.status
        if self._error is not None:
            return HealthReport(Health.unhealthy, self._error.message, self._error.next_step)
        if status.state is not LinkState.up:
            waiting = (await self.outbox.status()).waiting
            return HealthReport(Health.degraded, f"{status.reason} {waiting} events wait", status.next_step)
        if self._deaf:
            topic, error = next(iter(self._deaf.items()))
            return HealthReport(Health.degraded, f"{topic} is not read: {error.message}", error.next_step)
        report = await self.outbox.health()
        return report if report.health is not Health.healthy else HealthReport(Health.healthy, status.reason)

    def _changed(self, status: LinkStatus) -> None:
        log.info("Kafka is %s: %s", status.state.value, status.reason)
        self.outbox.link(status.state is LinkState.up)

    async def _collect(self) -> None:
        """Hand telemetry to the outbox as fast as it takes it."""
        queue = self._queue
        while queue is not None:
            for event in await queue.batch():
                self.outbox.offer(event)
            await self.outbox.room()

    def _reader(self, group: str = "") -> KafkaReader:
        if self.parts.access is None:
            raise AbsentError(*NOT_CONFIGURED)
        return KafkaReader(self.parts.access, self.parts.traffic, group)

    def _watcher(self) -> KafkaReader:
        """One whose messages do not count: the appliance only looks at them."""
        if self.parts.access is None:
            raise AbsentError(*NOT_CONFIGURED)
        return KafkaReader(self.parts.access, None)

    async def _follow(self, topic: str, purpose: str, handler: Callable[[Record], Awaitable[None]]) -> None:
        """Read a topic in this device's own group; offsets are committed behind each record."""
        failures = 0
        while True:
            await self.connected.up.wait()
            if self._carrying:  # by an earlier run of this service, which one of them restarts; they are not committed
                await asyncio.wait(set(self._carrying))
            reader = self._reader(f"prime-spark-{purpose}-{self.parts.device_id}")
            try:
                await reader.start([topic])
                while True:
                    if not reader.has(topic):
                        raise LinkDownError("The topic is not on the broker.", NO_TOPIC)
                    for record in await reader.take():
                        await self._handle(handler, record, purpose)
                        self._error = None
                        await reader.commit(record)
                    self._deaf.pop(topic, None)
                    failures = 0
            except StoreError as error:
                self._error = error
                log.error("%s waits: %s", topic, error.message)
            except ApplianceError as error:
                self._deaf[topic] = error
                log.warning("%s is not read: %s", topic, error.message)
            finally:
                await reader.stop()
            failures += 1
            await asyncio.sleep(backoff(failures, FIRST, LONGEST))

    async def _handle(self, handler: Callable[[Record], Awaitable[None]], record: Record, purpose: str) -> None:
        """Have one record handled; one that the handler breaks on is set aside. Raises StoreError."""
        facts = {"messaging.system": "kafka", "messaging.destination.name": record.topic}
        try:
            with self.parts.spans.span(f"process {record.topic}", facts, "consumer", record.origin):
                await handler(record)
        except StoreError:
            raise
        except Exception as error:  # whoever may write to the topic must not stop this service with one message
            where = f"{record.topic} [{record.partition}] at {record.offset}"
            log.exception("%s cannot be handled; it becomes a dead letter", where)
            letter = DeadLetter(
                letter_id=new_id(), time=self.parts.clock.wall(), origin=purpose, topic=record.topic,
                key=record.key[:256].decode(errors="backslashreplace"), size=len(record.value), partition=record.partition,
                offset=record.offset, reason=printed(f"it broke the program: {type(error).__name__}: {error}")[:500],
            )  # fmt: skip
            await self.outbox.letters.add(letter, record.value[:LETTER])

    async def _command(self, record: Record) -> None:
        """Carry one out; a command that restarts this very service goes on while it does. Raises StoreError."""
        commander = self.parts.commander
        if commander is None:
            return
        task = asyncio.create_task(commander.take(record.value, f"{record.partition}:{record.offset}"), name="kafka command")
        self._carrying.add(task)
        task.add_done_callback(self._carried)
        await asyncio.shield(task)

    def _carried(self, task: asyncio.Task[None]) -> None:
        self._carrying.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a command was not taken to its end: %s", error)

    async def _show_regularly(self) -> None:
        while True:
            await asyncio.sleep(SHOW)
            try:
                await self.show()
            except StoreError as error:
                log.warning("the streams are not shown: %s", error.message)

    async def show(self) -> None:
        """Put everything into the live state. Raises StoreError."""
        parts, link = self.parts, self.link
        if link is None or parts.watch is None:
            return
        parts.state.put(Section.streams, StreamsStatus(
            link=link.status, outbox=await self.outbox.status(), topics=parts.watch.topics(),
            groups=parts.watch.groups if link.up.is_set() else (),
            **({"commands": parts.commander.stats()} if parts.commander else {}),
            offers=parts.updates.shown() if parts.updates else (),
            offers_passed=parts.updates.passed if parts.updates else 0,
        ))  # fmt: skip


def absent(parts: Parts) -> StreamsStatus:
    """What is shown without Kafka."""
    empty = OutboxStatus(
        waiting=0, bytes=0, byte_limit=parts.bounds.disk_mib * 1024 * 1024, age_limit_s=parts.bounds.max_age_hours * 3600,
        oldest_s=None, drain_rate=0.0, eta_s=None, paused=False, sent=0, dropped=0, dead=0, quarantined=0, retry_s=None,
    )  # fmt: skip
    reason, step = NOT_CONFIGURED
    return StreamsStatus(link=LinkStatus(state=LinkState.absent, reason=reason, next_step=step), outbox=empty)

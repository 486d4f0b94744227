"""The link to Kafka: comes up whenever a broker does, says truthfully how it is, and brings messages there in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from appliance.core.backoff import backoff
from appliance.core.ports import Clock
from appliance.core.streams import kafka_once
from appliance.core.streams.kafka import ANSWER_MS, Access, describe, probe
from appliance.core.streams.kafka_lanes import Headers, Lanes, RenewalError
from appliance.core.streams.model import LinkState, LinkStatus, Message, Refused
from appliance.core.streams.topics import NAMES, may_reply_on
from appliance.core.streams.traffic import Traffic
from appliance.errors import ApplianceError, LinkDownError

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

log = logging.getLogger(__name__)

FIRST, LONGEST = 0.5, 30.0
"""Seconds before the first and the later tries to connect."""
WATCH = 3.0
"""Seconds between two looks at a cluster."""
START = 20.0
"""Seconds that a producer has to become ready."""
GIVE_UP = 60.0
"""Seconds after which a cluster that does not answer any more is looked for from the start, by its bootstrap servers."""
BATCH = 256 * 1024
"""Most bytes in one batch, before compression."""
FULL = 500
"""Messages that wait for no others."""
ONCE = 8.0
"""Seconds for making a producer for a single message, and again for its answer."""
AGAIN = 10.0
"""Seconds between two tries to make a missing topic."""
REPLY_TOPICS = 20
"""Most topics beyond the contract's that are made, for replies to commands."""
RENEWALS = 5
"""Producers in a row that may fail in one call without anything having been settled."""


class KafkaLink:
    """Keeps one idempotent producer (implements streams.model.Producer and kafka_once.OnceProducer).

    Args:
        access: To the cluster.
        traffic: Counts.
        clock: For times.
        prepare: Awaited after each connection, before anything is sent: returns (HOST:PORT of the brokers, most bytes of a
            batch, fewest in-sync replicas by topic); raises LinkDownError.
        changed: Called after each change of the status.
        make_topic: Makes a topic that is missing; raises LinkDownError. None where nobody can.
    """

    def __init__(
        self,
        access: Access,
        traffic: Traffic,
        clock: Clock,
        prepare: Callable[[], Awaitable[tuple[tuple[str, ...], int, dict[str, int]]]],
        changed: Callable[[LinkStatus], None],
        make_topic: Callable[[str], Awaitable[None]] | None = None,
        headers: Headers = lambda _: [],
    ) -> None:
        self._access = access
        self._clock = clock
        self._prepare = prepare
        self._changed = changed
        self._make_topic = make_topic
        self._tried: dict[str, float] = {}
        """When a missing topic was last tried to be made."""
        self._producer: AIOKafkaProducer | None = None
        self._batch_bytes = BATCH
        self._needed: dict[str, int] = {}
        self._traffic = traffic
        self._lanes = Lanes(traffic, self._why_not, headers)
        self._sending = asyncio.Lock()
        self._departed = 0.0
        """When the newest messages went out, on the monotonic clock."""
        self._worn = asyncio.Event()
        self._renewing: asyncio.Task[None] | None = None
        self.up = asyncio.Event()
        """Set while messages are taken."""
        self.status = LinkStatus(
            state=LinkState.connecting, reason="not tried yet", bootstrap=access.settings.bootstrap_servers, since=clock.wall()
        )

    async def run(self) -> None:
        """Connect, watch, connect again, until cancelled."""
        failures = 0
        try:
            while True:
                try:
                    await self._connect()
                    failures = 0
                    await self._watch()
                except ApplianceError as error:
                    self._fall(error)
                await self._let_go()
                failures += 1
                await asyncio.sleep(backoff(failures, FIRST, LONGEST))
        finally:
            self.up.clear()
            await self._let_go()

    async def send(self, messages: Sequence[Message]) -> list[Refused]:
        """See streams.model.Producer. One call at a time: others wait."""
        async with self._sending:
            await self._linger(len(messages))
            return await self._send(messages)

    async def send_once(self, message: Message) -> None:
        """See kafka_once.OnceProducer."""
        if not self.up.is_set():
            raise LinkDownError(self.status.reason, self.status.next_step)
        try:
            async with asyncio.timeout(ONCE):
                producer = await self._make(self._access.settings.bootstrap_servers)
        except TimeoutError as error:
            raise LinkDownError(f"No producer was ready within {ONCE:g} s.", "look at streams status.") from error
        try:
            async with asyncio.timeout(ONCE):
                await kafka_once.send(producer, message)
        except TimeoutError as error:
            raise kafka_once.UnansweredError(f"No answer came within {ONCE:g} s.", "look at streams status.") from error
        finally:
            await end(producer)
        self._traffic.sent(message.topic, 1, len(message.value))

    async def _send(self, messages: Sequence[Message]) -> list[Refused]:
        failed = 0
        while failed < RENEWALS:
            if self._renewing is not None:  # for a call that was cancelled meanwhile
                await self._renew()
            producer = self._ready()
            try:
                return await self._lanes.carry(producer, messages, self._missing)
            except RenewalError as error:
                log.warning("the producer is replaced: %s", error)
                failed = 0 if error.progress else failed + 1
                await self._renew()
        self._worn.set()
        raise LinkDownError("Kafka's brokers refuse each new producer.", "see the brokers' logs.")

    async def _linger(self, count: int) -> None:
        """Let messages gather where they wait: after a small batch the next one takes its time."""
        if count < FULL and (early := self._departed + self._access.settings.linger_ms / 1000 - self._clock.monotonic()) > 0:
            await asyncio.sleep(early)
        self._departed = self._clock.monotonic()

    async def _missing(self, topic: str) -> LinkDownError | None:
        """Make a topic that is not there, where that is wanted; returns why its messages wait, None where they do not.

        Messages of the contract's topics wait for them. Those of other topics do not: they hold up nothing.
        """
        wanted = topic in NAMES or may_reply_on(topic)
        told = f"The topic {topic} is not on the broker."
        error = LinkDownError(told, "create it there, or set kafka.create_topics.")
        if wanted and self._access.settings.create_topics and self._make_topic is not None and self._may_make(topic):
            try:
                await self._make_topic(topic)
                return None
            except LinkDownError as found:
                log.warning("%s", found)
                error = LinkDownError(f"{told} {found.message}", found.next_step)
        return error if topic in NAMES else None

    def _may_make(self, topic: str) -> bool:
        """Whether a missing topic is made now: not at each batch anew, and not so many as a program can name."""
        now, tried = self._clock.monotonic(), self._tried.get(topic)
        if tried is not None and now - tried < AGAIN:
            return False
        if topic not in NAMES and tried is None and len(set(self._tried) - NAMES) >= REPLY_TOPICS:
            return False
        self._tried[topic] = now
        return True

    def _ready(self) -> AIOKafkaProducer:
        if not self.up.is_set():
            raise LinkDownError(self.status.reason, self.status.next_step)
        if self._producer is None:
            raise LinkDownError("Kafka's producer is being replaced.", "wait a moment.")
        return self._producer

    async def _connect(self) -> None:
        """Raises LinkDownError, ConfigError."""
        if self.status.state is not LinkState.down:
            self._tell(LinkState.connecting, "connecting")
        server = await probe(self._access)
        brokers, self._batch_bytes, self._needed = await self._prepare()
        self._producer = await self._make(server)
        self._worn.clear()
        self.up.set()
        self._tell(LinkState.up, f"connected through {server}", brokers=brokers)

    async def _make(self, server: str) -> AIOKafkaProducer:
        from aiokafka import AIOKafkaProducer
        from aiokafka.errors import KafkaError

        arguments = await asyncio.to_thread(self._access.arguments)
        producer = AIOKafkaProducer(
            **arguments, enable_idempotence=True, acks="all", compression_type="snappy",
            max_batch_size=min(BATCH, self._batch_bytes), metadata_max_age_ms=60_000,
        )  # fmt: skip
        try:
            async with asyncio.timeout(START):
                await producer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await end(producer)
            raise await describe(server, self._access, error) from error
        except asyncio.CancelledError:
            await end(producer)
            raise
        return producer

    async def _renew(self) -> None:
        """A new producer in place of one whose numbers of sequence are spent. Raises LinkDownError.

        It goes on where the caller is cancelled: without a producer nothing could be sent any more.
        """
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._replace(), name="kafka producer")
        await asyncio.wait({self._renewing})
        if self._renewing is not None and self._renewing.done():
            done, self._renewing = self._renewing, None
            if done.cancelled():
                raise LinkDownError(self.status.reason, self.status.next_step)
            done.result()

    async def _replace(self) -> None:
        """Raises LinkDownError."""
        try:
            await self._discard()
            self._producer = await self._make(self._access.settings.bootstrap_servers)
        except BaseException:
            self._worn.set()
            raise

    async def _watch(self) -> None:
        """Look at the cluster until its producer must be replaced. Raises LinkDownError where it is looked for anew."""
        silent_since: float | None = None
        while not self._worn.is_set():
            error = await self._look()
            if error is None:
                silent_since = None
            else:
                self._fall(error)
                silent_since = silent_since or self._clock.monotonic()
                if self._clock.monotonic() - silent_since > GIVE_UP:
                    raise error
            try:
                async with asyncio.timeout(WATCH):
                    await self._worn.wait()
            except TimeoutError:
                continue

    async def _look(self) -> LinkDownError | None:
        """Ask the cluster for its brokers; returns why it does not tell."""
        from aiokafka.errors import KafkaError

        producer = self._producer
        if producer is None:
            if self._renewing is None:  # nobody is replacing it
                self._worn.set()
            return None
        try:
            async with asyncio.timeout(ANSWER_MS / 1000 + 1):
                found = await producer.client.fetch_all_metadata()
        except (KafkaError, OSError, TimeoutError) as error:
            return await self._silent(error)
        brokers = tuple(sorted(f"{each.host}:{each.port}" for each in found.brokers()))
        if producer is self._producer and (self.status.state is not LinkState.up or self.status.brokers != brokers):
            self.up.set()
            self._tell(LinkState.up, "connected", brokers=brokers)
        return None

    async def _silent(self, error: BaseException) -> LinkDownError:
        try:
            server = await probe(self._access)
        except LinkDownError as found:
            return found
        return LinkDownError(
            f"The brokers that {server} names do not answer ({error}).", "see whether their advertised names can be reached."
        )

    async def _why_not(self, topic: str, partition: int) -> LinkDownError:
        """Why a batch is not taken though nobody refuses it."""
        error = await self._look()
        if error is not None:
            self._fall(error)
            return error
        cluster: Any = self._producer.client.cluster if self._producer is not None else None
        known = cluster._partitions.get(topic, {}).get(partition) if cluster is not None else None  # no public way to isr
        if cluster is not None and topic not in cluster.topics():
            return LinkDownError(f"The topic {topic} is not on the broker any more.", "it is made again if that is wanted.")
        needed = self._needed.get(topic, 1)
        if known is not None and known.leader < 0:
            return LinkDownError(f"{topic} [{partition}] has no leader.", "start the brokers that have it.")
        if known is not None and len(known.isr) < needed:
            told = f"{topic} [{partition}] has {len(known.isr)} in-sync replicas of the {needed} that it needs."
            return LinkDownError(told, "start the other brokers of the cluster.")
        return LinkDownError(
            f"{topic} [{partition}] takes nothing in time.", "see the broker's log: it may be slow, or its disk full."
        )

    def _fall(self, error: ApplianceError) -> None:
        self.up.clear()
        if (self.status.state, self.status.reason) != (LinkState.down, error.message):
            log.warning("Kafka: %s", error)
            self._tell(LinkState.down, error.message, error.next_step)

    def _tell(self, state: LinkState, reason: str, next_step: str = "", brokers: tuple[str, ...] | None = None) -> None:
        since = self.status.since if state is self.status.state else self._clock.wall()
        self.status = LinkStatus(
            state=state, reason=reason, next_step=next_step, bootstrap=self._access.settings.bootstrap_servers,
            brokers=self.status.brokers if brokers is None else brokers, since=since,
        )  # fmt: skip
        self._changed(self.status)

    async def _let_go(self) -> None:
        """End the producer, and the making of another."""
        renewing, self._renewing = self._renewing, None
        if renewing is not None:
            renewing.cancel()
            ended = (await asyncio.gather(renewing, return_exceptions=True))[0]
            if isinstance(ended, Exception):
                log.warning("no producer could be made: %s: %s", type(ended).__name__, ended)
        await self._discard()

    async def _discard(self) -> None:
        producer, self._producer = self._producer, None
        self._lanes.forget()
        if producer is not None:
            await end(producer)


async def end(producer: AIOKafkaProducer) -> None:
    """Close a producer at once: what it has not sent is sent again by its owner; waiting for a dead broker would not end."""
    sender = producer._sender.sender_task  # stop() alone would wait for brokers that may never come back
    if sender is not None and not sender.done():
        await producer.client.close()
        for _ in range(3):
            sender.cancel()
            await asyncio.wait([sender], timeout=1.0)
            if sender.done():
                break
    try:
        async with asyncio.timeout(2.0):
            await producer.stop()
    except TimeoutError:
        log.warning("a producer of Kafka did not close in time; its connections are closed")

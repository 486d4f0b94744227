"""One lane for each partition: its batches go out one after the other, so that an order holds whatever happens to one of them.

What a call has brought to the broker before it failed is remembered until the same messages come again; and a batch whose
answer did not come in time stays with the producer, which knows how to repeat it without storing it twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from appliance.core.streams.model import Message, Refused
from appliance.core.streams.traffic import Traffic
from appliance.errors import LinkDownError, StreamError

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer
    from aiokafka.producer.message_accumulator import BatchBuilder

PATIENCE = 8.0
"""Seconds without an answer to a batch after which the reason is looked for; less than the library's own, ANSWER_MS, after
which it gives up batches of partitions without a leader."""
LARGEST = 16 * 1024 * 1024
"""Bytes of a message that is not even tried: brokers close the connection on far larger ones instead of refusing them."""
UNSENDABLE = frozenset({
    "MessageSizeTooLargeError", "RecordListTooLargeError", "RecordTooLargeError", "CorruptRecordException",
    "InvalidTimestampError", "PolicyViolationError", "InvalidTopicError",
    "UnsupportedForMessageFormatError", "InvalidRecordError",
})  # fmt: skip
"""Errors of the library that speak of the message."""
TOO_LARGE = frozenset({"MessageSizeTooLargeError", "RecordListTooLargeError", "RecordTooLargeError"})
LEARNED = 60.0
"""Seconds for which a size that a broker refused for a topic is not tried again: each refusal costs a producer."""
LEADERLESS = frozenset({"LeaderNotAvailableError", "NotLeaderForPartitionError"})
"""Errors of batches that were given up because nobody leads their partition."""
REMEMBERED = 200_000
"""Most messages of a failed call whose fate is remembered."""

Lane = tuple[str, int]
"""(topic, partition)."""


class RenewalError(StreamError):
    """The producer cannot go on: a sequence has a hole.

    Args:
        message: Why.
        progress: Something was settled by it: the same call may be tried again.
    """

    def __init__(self, message: str, *, progress: bool) -> None:
        super().__init__(message)
        self.progress = progress


class Flight(NamedTuple):
    """A batch that the producer has."""

    future: asyncio.Future[object]
    messages: list[Message]


Headers = Callable[[str], list[tuple[str, bytes]]]
Missing = Callable[[str], Awaitable[LinkDownError | None]]
"""Told of a topic that is not there; may make it. Returns why its messages wait; None where they go out or are refused."""


class Lanes:
    """Sends through a producer that its owner gives.

    Args:
        traffic: Counts.
        why_not: Finds out why a partition does not take a batch.
        headers: Of a message, by its id.
    """

    def __init__(
        self, traffic: Traffic, why_not: Callable[[str, int], Awaitable[LinkDownError]], headers: Headers = lambda _: []
    ) -> None:
        self._headers = headers
        self._traffic = traffic
        self._why_not = why_not
        self._flights: dict[Lane, Flight] = {}
        self._settled: dict[str, Refused | None] = {}
        self._limits: dict[str, tuple[int, float]] = {}
        """By topic: bytes of a batch that were refused, and until when (monotonic) that is believed."""
        self._mine: frozenset[str] = frozenset()
        """Ids of the present call."""
        self._alone: set[str] = set()
        """Ids of messages that go out one by one: their batch was refused as a whole."""

    async def carry(self, producer: AIOKafkaProducer, messages: Sequence[Message], missing: Missing) -> list[Refused]:
        """Send messages; returns those that can never be sent, the others are stored.

        Args:
            producer: Sends.
            messages: In their order.
            missing: Asked about a topic that is not there; see Missing.

        Raises:
            LinkDownError: Some wait.
            RenewalError: Some wait, for another producer.
        """
        self._mine = frozenset(each.id for each in messages)
        lanes, absent = await self._sorted(producer, messages, missing)
        ends = await asyncio.gather(*(self._run(producer, lane, each) for lane, each in lanes.items()), return_exceptions=True)
        errors = [each for each in ends if isinstance(each, BaseException)]
        for kind in (LinkDownError, BaseException):  # a batch that is still on its way keeps the producer
            for error in errors:
                if isinstance(error, kind):
                    raise error
        if absent is not None:
            raise absent
        refused = [found for each in messages if (found := self._settled.pop(each.id, None)) is not None]
        self._alone.difference_update(each.id for each in messages)
        return refused

    def forget(self) -> None:
        """Their producer is gone."""
        for flight in self._flights.values():
            flight.future.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._flights.clear()

    async def _sorted(
        self, producer: AIOKafkaProducer, messages: Sequence[Message], missing: Missing
    ) -> tuple[dict[Lane, list[Message]], LinkDownError | None]:
        """Messages by partition, and why some wait for their topic."""
        from aiokafka.partitioner import DefaultPartitioner

        place, parts = DefaultPartitioner(), dict[str, list[int] | LinkDownError | str]()
        for topic in {m.topic for m in messages}:
            parts[topic] = await self._partitions(producer, topic)
            if isinstance(parts[topic], str):
                error = await missing(topic)
                parts[topic] = error or (await self._partitions(producer, topic))
        lanes: dict[Lane, list[Message]] = {}
        for message in messages:
            if message.id in self._settled:
                continue
            known = parts[message.topic]
            if isinstance(known, LinkDownError):
                continue
            if isinstance(known, str):
                self._settle([message], known)
            elif len(message.value) > LARGEST:
                self._settle([message], f"it has {len(message.value)} bytes, more than the {LARGEST} that are tried at all")
            else:
                lanes.setdefault((message.topic, place(message.key, known, known)), []).append(message)
        return lanes, next((each for each in parts.values() if isinstance(each, LinkDownError)), None)

    async def _partitions(self, producer: AIOKafkaProducer, topic: str) -> list[int] | str:
        """The numbers of a topic's partitions, or why there are none."""
        from aiokafka.errors import KafkaError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError

        try:
            if producer.client.cluster.partitions_for_topic(topic) is None:
                known = await producer.client.fetch_all_metadata()  # partitions_for would go on asking for seconds
                if topic not in known.topics() and topic not in known.unauthorized_topics:
                    return f"the topic {topic} does not exist"
            return sorted(await producer.partitions_for(topic))
        except UnknownTopicOrPartitionError:
            return f"the topic {topic} does not exist"
        except TopicAuthorizationFailedError:
            return f"this user may not write to {topic}"
        except (KafkaError, OSError, TimeoutError) as error:
            raise LinkDownError(f"Kafka does not tell where {topic} is: {error}.", "see the broker's log.") from error

    async def _run(self, producer: AIOKafkaProducer, lane: Lane, waiting: list[Message]) -> None:
        """Send one lane's messages. Raises LinkDownError, RenewalError."""
        rest = waiting
        while rest:
            flight = self._flights.get(lane) or await self._depart(producer, lane, rest)
            if flight is None:
                rest = [each for each in rest if each.id not in self._settled]
                continue
            done, _ = await asyncio.wait([flight.future], timeout=PATIENCE)
            if not done:
                raise await self._why_not(*lane)
            self._flights.pop(lane, None)
            if not flight.future.cancelled() and type(flight.future.exception()).__name__ in LEADERLESS:
                raise await self._why_not(*lane)
            self._land(producer, flight, lane)
            mine = {each.id for each in flight.messages}
            rest = [each for each in rest if each.id not in mine]

    async def _depart(self, producer: AIOKafkaProducer, lane: Lane, waiting: list[Message]) -> Flight | None:
        """Hand a batch over; None where the first message is as large as what was refused already. Raises RenewalError."""
        from aiokafka.errors import KafkaError

        batch, taken = self._fill(producer, waiting)
        batch.close()
        limit, until = self._limits.get(lane[0], (0, 0.0))
        if time.monotonic() < until and (size := _size(self._fill(producer, waiting)[0])) >= limit:
            if len(taken) == 1:
                told = f"MessageSizeTooLarge: it makes {size} bytes, and the broker refused {limit} in this topic just now"
                self._settle(taken, told)
            self._alone.update(each.id for each in taken)
            return None
        try:
            future = await producer.send_batch(batch, lane[0], partition=lane[1])
        except KafkaError as error:
            raise RenewalError(f"{type(error).__name__}: {error}", progress=False) from error
        flight = self._flights[lane] = Flight(future, taken)
        return flight

    def _fill(self, producer: AIOKafkaProducer, waiting: list[Message]) -> tuple[BatchBuilder, list[Message]]:
        """A batch of the first messages, and which they are."""
        batch, taken = producer.create_batch(), list[Message]()
        for message in waiting:
            alone = message.id in self._alone
            if alone and taken:
                break
            headers = self._headers(message.id)
            if batch.append(timestamp=None, key=message.key, value=message.value, headers=headers) is None:
                break
            taken.append(message)
            if alone:
                break
        return batch, taken

    def _land(self, producer: AIOKafkaProducer, flight: Flight, lane: Lane) -> None:
        """Take note of a batch's end. Raises RenewalError, LinkDownError."""
        if flight.future.cancelled():
            raise RenewalError("a batch was given up", progress=False)
        error = flight.future.exception()
        if error is None:
            self._settle(flight.messages, None)
            self._traffic.sent(lane[0], len(flight.messages), sum(len(each.value) for each in flight.messages))
            return
        told = f"{type(error).__name__}: {error}"
        if type(error).__name__ in UNSENDABLE:
            if type(error).__name__ in TOO_LARGE:
                self._learn(producer, flight, lane[0])
            if len(flight.messages) == 1:
                self._settle(flight.messages, f"the broker refuses it: {told}")
            else:
                self._alone.update(each.id for each in flight.messages)
            raise RenewalError(told, progress=True) from error
        if "AuthorizationFailed" in type(error).__name__:
            raise LinkDownError(f"This user may not write to {lane[0]}.", "give the user the right on the broker.") from error
        raise RenewalError(told, progress=False) from error

    def _learn(self, producer: AIOKafkaProducer, flight: Flight, topic: str) -> None:
        """Remember how large a refused batch was."""
        batch = producer.create_batch()
        for each in flight.messages:
            batch.append(timestamp=None, key=each.key, value=each.value, headers=self._headers(each.id))
        known, until = self._limits.get(topic, (0, 0.0))
        size, now = _size(batch), time.monotonic()
        self._limits[topic] = (min(size, known) if now < until else size, now + LEARNED)

    def _settle(self, messages: list[Message], reason: str | None) -> None:
        if len(self._settled) > REMEMBERED:  # of calls that nobody repeats: sending again does no harm
            self._settled = {name: fate for name, fate in self._settled.items() if name in self._mine}
        for each in messages:
            self._settled[each.id] = None if reason is None else Refused(each, reason)
            if reason is not None:
                self._traffic.of(each.topic).refused += 1


def _size(batch: BatchBuilder) -> int:
    """Bytes of a batch, compressed: those that brokers measure. It cannot be sent any more then."""
    return len(batch._build())  # no public way: size() tells how large it was before

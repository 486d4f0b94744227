"""A member of a consumer group that is told where to read from: offsets are kept by whoever uses it, not by Kafka."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from appliance.core.streams.kafka import Access, probe
from appliance.errors import LinkDownError

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, TopicPartition

log = logging.getLogger(__name__)

ASK = 5.0
"""Seconds that Kafka has for a question."""
START = 20.0
"""Seconds until the first connection stands."""
SESSION_MS = 10_000
"""A member that is silent for so long is given up; its partitions go to others."""


class Place(NamedTuple):
    """One partition."""

    topic: str
    partition: int


class Lost(Exception):  # noqa: N818 it tells where reading cannot go on, and is always answered
    """What was to be read is not there (any more): these partitions have to be placed anew."""

    def __init__(self, places: Collection[Place]) -> None:
        super().__init__(", ".join(f"{place.topic}/{place.partition}" for place in places))
        self.places = frozenset(places)


class GroupConsumer:
    """Reads the topics of a group.

    Args:
        access: How Kafka is reached.
        group: The consumer group.
        topics: Names; those that do not exist yet are found within seconds of their making.
    """

    def __init__(self, access: Access, group: str, topics: Collection[str]) -> None:
        self._access = access
        self._group = group
        self._topics = sorted(topics)
        self._client: AIOKafkaConsumer | None = None
        self.changes = 0
        """Grows whenever partitions are given or taken away; all positions have to be set again then."""
        self.passed: dict[Place, int] = {}
        """Up to where the last `poll` has come, also past what Kafka never gives: marks of transactions, what was aborted."""
        self.passed_changes = -1
        """`changes` at that moment: after another one it says nothing."""

    async def start(self) -> None:
        """Join the group. Raises LinkDownError, ConfigError."""
        from aiokafka import AIOKafkaConsumer
        from aiokafka.errors import KafkaError

        await probe(self._access)
        client = AIOKafkaConsumer(
            **await asyncio.to_thread(self._access.arguments),
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=SESSION_MS // 5,
            max_poll_interval_ms=2**31 - 1,
            metadata_max_age_ms=5000,
            max_partition_fetch_bytes=2 * 1024 * 1024,
        )
        self._client = client
        try:
            async with asyncio.timeout(START):
                await client.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await self.stop()
            raise LinkDownError(
                f"Kafka did not take this consumer: {type(error).__name__}: {error}.",
                "see the broker's log; it is tried again.",
            ) from error
        client.subscribe(self._topics, listener=_listener(self))

    async def stop(self) -> None:
        """Leave the group; within 5 s."""
        client, self._client = self._client, None
        if client is None:
            return
        try:
            async with asyncio.timeout(ASK):
                await client.stop()
        except Exception as error:  # noqa: BLE001 whatever a dying client says, it is let go of
            log.info("leaving the group %s: %s: %s", self._group, type(error).__name__, error)

    def assigned(self) -> frozenset[Place]:
        """The partitions that are ours now."""
        return frozenset(Place(each.topic, each.partition) for each in self._live.assignment())

    async def poll(self, ready: Collection[Place], wait: float, limit: int) -> dict[Place, list[Any]]:
        """Messages of these partitions, in order; empty where none came within `wait` seconds.

        Raises:
            LinkDownError: Kafka refuses.
            Lost: The position of a partition is outside of what Kafka has.
        """
        from aiokafka.errors import IllegalStateError, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

        wanted = [self._of(place) for place in ready]
        try:
            found = await self._live.getmany(*wanted, timeout_ms=int(wait * 1000), max_records=limit)
        except OffsetOutOfRangeError as error:
            raise Lost([Place(*each) for each in error.args[0]]) from error
        except (NoOffsetForPartitionError, IllegalStateError) as error:  # of before its position was set
            log.debug("not placed yet: %s", error)
            return {}
        except KafkaError as error:
            raise LinkDownError(
                f"Kafka refuses to be read: {error}.", "check the rights of this user on the topics."
            ) from error
        self._note_passed(ready)
        return {Place(each.topic, each.partition): records for each, records in found.items()}

    def _note_passed(self, ready: Collection[Place]) -> None:
        subscription = self._live._subscription.subscription  # position() would wait for those that have none
        assignment = None if subscription is None else subscription.assignment
        states = {place: None if assignment is None else assignment.state_value(self._of(place)) for place in ready}
        self.passed = {
            place: state.position for place, state in states.items() if state is not None and state.has_valid_position
        }
        self.passed_changes = self.changes

    def seek(self, positions: Mapping[Place, int]) -> None:
        """Read on from there. Raises Lost for partitions that are not ours any more."""
        from aiokafka.errors import IllegalStateError

        self.passed = {}
        for place, offset in positions.items():
            try:
                self._live.seek(self._of(place), offset)
            except IllegalStateError as error:
                raise Lost([place]) from error

    async def bounds(self, places: Collection[Place]) -> dict[Place, tuple[int, int]]:
        """First offset, and the one after the last, of partitions. Raises LinkDownError."""
        from aiokafka.errors import KafkaError

        wanted = [self._of(place) for place in places]
        try:
            async with asyncio.timeout(ASK):
                first = await self._live.beginning_offsets(wanted)
                last = await self._live.end_offsets(wanted)
        except (KafkaError, TimeoutError, OSError) as error:
            raise LinkDownError(
                f"Kafka does not say what it has: {_told(error)}.", "check the brokers and the network; it is tried again."
            ) from error
        return {place: (first[each], last[each]) for place, each in zip(places, wanted, strict=True)}

    async def commit(self, positions: Mapping[Place, int]) -> None:
        """Tell Kafka how far the group is, for those who look at its lag; what counts is kept elsewhere."""
        from aiokafka.errors import KafkaError

        mine = self.assigned()
        told = {self._of(place): offset for place, offset in positions.items() if place in mine}
        if not told:  # given away meanwhile; the client takes no empty message
            return
        try:
            async with asyncio.timeout(ASK):
                await self._live.commit(told)
        except (KafkaError, TimeoutError, OSError) as error:
            log.info("Kafka was not told how far the group %s is (%s)", self._group, type(error).__name__)

    @property
    def _live(self) -> AIOKafkaConsumer:
        if self._client is None:
            raise LinkDownError("Kafka is not connected.", "it is tried again.")
        return self._client

    @staticmethod
    def _of(place: Place) -> TopicPartition:
        from aiokafka import TopicPartition

        return TopicPartition(place.topic, place.partition)


def _listener(consumer: GroupConsumer) -> Any:
    """Notes rebalances; nobody waits in it."""
    from aiokafka import ConsumerRebalanceListener

    class Noted(ConsumerRebalanceListener):  # type: ignore[misc]
        def on_partitions_revoked(self, revoked: Any) -> None:
            consumer.changes += 1

        def on_partitions_assigned(self, assigned: Any) -> None:
            consumer.changes += 1
            log.info("partitions of %s: %s", consumer._group, sorted(f"{each.topic}/{each.partition}" for each in assigned))

    return Noted()


def _told(error: BaseException) -> str:
    """An error that may have no words of its own."""
    if isinstance(error, TimeoutError):
        return f"no answer within {ASK:g} s"
    return str(error).rstrip(".") or type(error).__name__

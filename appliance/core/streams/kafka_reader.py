"""Reads topics: with a group, which remembers how far it came, or without one, from the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from appliance.core.observe.origins import origin_of
from appliance.core.streams.kafka import Access, describe
from appliance.core.streams.traffic import Traffic
from appliance.errors import LinkDownError

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer

log = logging.getLogger(__name__)

START = 20.0
"""Seconds that a consumer has to become ready."""
CLOSE = 5.0


class Record(NamedTuple):
    """One message as it came."""

    topic: str
    partition: int
    offset: int
    time: float
    """Of the broker, seconds since the epoch."""
    key: bytes
    value: bytes
    origin: str = ""
    """traceparent, where it brings one."""


class KafkaReader:
    """A consumer; start it, take records, commit, stop it.

    Args:
        access: To the cluster.
        traffic: Counts; None where nothing is to be counted.
        group: Its consumer group; empty for none.
        largest: Most bytes that one fetch brings of a partition; a larger single message comes all the same.
    """

    def __init__(self, access: Access, traffic: Traffic | None, group: str = "", largest: int = 1 << 20) -> None:
        self._access = access
        self._traffic = traffic
        self._group = group or None
        self._largest = largest
        self._consumer: AIOKafkaConsumer | None = None

    @property
    def consumer(self) -> AIOKafkaConsumer:
        """The library's one. Raises LinkDownError before `start`."""
        if self._consumer is None:
            raise LinkDownError("The reader of Kafka is not connected.", "wait for the link.")
        return self._consumer

    async def start(self, topics: Iterable[str] = ()) -> None:
        """Connect, and read these topics from where the group was, or from their first messages. Raises LinkDownError."""
        from aiokafka import AIOKafkaConsumer
        from aiokafka.errors import KafkaError

        arguments = await asyncio.to_thread(self._access.arguments)
        self._consumer = AIOKafkaConsumer(
            *topics, **arguments, group_id=self._group, enable_auto_commit=False, auto_offset_reset="earliest",
            max_partition_fetch_bytes=self._largest, metadata_max_age_ms=60_000,
        )  # fmt: skip
        try:
            async with asyncio.timeout(START):
                await self._consumer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await self.stop()
            raise await describe(self._access.settings.bootstrap_servers, self._access, error) from error
        except asyncio.CancelledError:
            await self.stop()
            raise

    async def start_near_end(self, topic: str, before: int) -> None:
        """Read a topic without a group, from about its last `before` messages on. Raises LinkDownError."""
        from aiokafka import TopicPartition
        from aiokafka.errors import KafkaError

        await self.start()
        try:
            found = await self.consumer._client.fetch_all_metadata()
            parts = [TopicPartition(topic, each) for each in sorted(found.partitions_for_topic(topic) or ())]
            if not parts:
                raise LinkDownError(f"The topic {topic} is not on the broker.", "list them: prime-spark streams topics.")
            self.consumer.assign(parts)
            begins, ends = await self.consumer.beginning_offsets(parts), await self.consumer.end_offsets(parts)
            for each in parts:
                self.consumer.seek(each, max(begins[each], ends[each] - before))
        except (KafkaError, OSError, TimeoutError) as error:
            raise await describe(self._access.settings.bootstrap_servers, self._access, error) from error

    async def take(self, limit: int = 100, wait: float = 1.0) -> list[Record]:
        """Up to `limit` records that came within `wait` seconds. Raises LinkDownError."""
        from aiokafka.errors import KafkaError

        try:
            found = await self.consumer.getmany(timeout_ms=int(wait * 1000), max_records=limit)
        except (KafkaError, OSError, TimeoutError) as error:
            raise await describe(self._access.settings.bootstrap_servers, self._access, error) from error
        records = [_record(part.topic, part.partition, each) for part, listed in found.items() for each in listed]
        if self._traffic is not None:
            for each in records:
                self._traffic.received(each.topic, 1, len(each.value))
        return records

    def has(self, topic: str) -> bool:
        """Whether the cluster has this topic, as far as the consumer knows by now."""
        return bool(self.consumer.partitions_for_topic(topic))

    async def commit(self, record: Record) -> None:
        """The group has this record, and all before it in its partition. Raises LinkDownError."""
        from aiokafka import TopicPartition
        from aiokafka.errors import KafkaError

        try:
            await self.consumer.commit({TopicPartition(record.topic, record.partition): record.offset + 1})
        except (KafkaError, OSError, TimeoutError) as error:
            raise await describe(self._access.settings.bootstrap_servers, self._access, error) from error

    async def stop(self) -> None:
        """Leave the group and close; a consumer whose start failed, too."""
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        try:
            async with asyncio.timeout(CLOSE):
                await consumer.stop()
        except TimeoutError:
            log.warning("a consumer of Kafka did not close within %g s", CLOSE)


def _record(topic: str, partition: int, found: Any) -> Record:
    origin = origin_of(found.headers)
    return Record(topic, partition, found.offset, found.timestamp / 1000, found.key or b"", found.value or b"", origin)

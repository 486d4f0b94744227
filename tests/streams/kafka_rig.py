"""What the tests of Kafka share: access to a broker, messages, a link that runs, and what lies in a topic."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from appliance.core.clock import SystemClock
from appliance.core.events import new_id, rfc3339
from appliance.core.streams.kafka import Access
from appliance.core.streams.kafka_link import KafkaLink
from appliance.core.streams.model import LinkStatus, Message, Priority
from appliance.core.streams.traffic import Traffic
from appliance.settings import KafkaSettings


def access(servers: str, password: str = "", **settings: Any) -> Access:
    """As the appliance has it."""
    return Access(KafkaSettings(bootstrap_servers=servers, **settings), password, "test")


def message(topic: str, number: int, key: str = "device-1", size: int = 0) -> Message:
    """A numbered one."""
    clock = SystemClock().wall()
    body: dict[str, Any] = {
        "v": 1, "id": new_id(), "timestamp": rfc3339(clock), "source": "edge", "device_id": key, "type": "test",
        "data": {"number": number, "filling": "x" * size},
    }  # fmt: skip
    return Message(body["id"], topic, key.encode(), msgspec.json.encode(body), Priority.normal, clock)


@asynccontextmanager
async def running_link(
    reached: Access,
    brokers: tuple[str, ...] = (),
    batch: int = 1 << 20,
    needed: dict[str, int] | None = None,
    make: Callable[[str], Awaitable[None]] | None = None,
) -> AsyncIterator[tuple[KafkaLink, list[LinkStatus]]]:
    """A link that runs, and the list of what it tells."""
    told: list[LinkStatus] = []

    async def prepare() -> tuple[tuple[str, ...], int, dict[str, int]]:
        return brokers, batch, needed or {}

    clock = SystemClock()
    link = KafkaLink(reached, Traffic(clock.monotonic), clock, prepare, told.append, make)
    task = asyncio.create_task(link.run())
    try:
        yield link, told
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def stored(servers: str, topic: str, only: str | None = None) -> list[tuple[int, str, dict[str, Any]]]:
    """What a topic holds: (partition, key, envelope), in each partition's order.

    Args:
        servers: Where Kafka listens.
        topic: Its name.
        only: Read messages of this key alone; other tests may have written what is no envelope.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers, group_id=None, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        parts = [TopicPartition(topic, each) for each in sorted(await consumer._client._wait_on_metadata(topic))]
        consumer.assign(parts)
        ends = await consumer.end_offsets(parts)
        found: list[tuple[int, str, dict[str, Any]]] = []
        for part in parts:
            await consumer.seek_to_beginning(part)
        while any([await consumer.position(part) < ends[part] for part in parts]):
            for part, records in (await consumer.getmany(timeout_ms=500, max_records=5000)).items():
                found += [
                    (part.partition, record.key.decode(), msgspec.json.decode(record.value))
                    for record in records
                    if only is None or record.key == only.encode()
                ]
        return found
    finally:
        await consumer.stop()


async def amount(servers: str, topic: str) -> int:
    """How many messages a topic holds, whatever they are."""
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, group_id=None, enable_auto_commit=False)
    await consumer.start()
    try:
        parts = [TopicPartition(topic, each) for each in await consumer._client._wait_on_metadata(topic)]
        consumer.assign(parts)
        first, last = await consumer.beginning_offsets(parts), await consumer.end_offsets(parts)
        return sum(last[part] - first[part] for part in parts)
    finally:
        await consumer.stop()


def numbers(found: Sequence[tuple[int, str, dict[str, Any]]], key: str) -> list[int]:
    """The numbers of one key's messages, in their order."""
    return [document["data"]["number"] for _, each, document in found if each == key]

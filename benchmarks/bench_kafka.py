"""Draining the outbox to a real Kafka, beside bare aiokafka and librdkafka (confluent-kafka) with the same messages."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from appliance.core.clock import SystemClock
from appliance.core.events import HostMetrics
from appliance.core.outbox import Outbox
from appliance.core.store import Store
from appliance.core.streams.encode import Encoder
from appliance.core.streams.kafka import Access
from appliance.core.streams.kafka_link import BATCH, KafkaLink
from appliance.core.streams.model import Message
from appliance.core.streams.outbox import StreamOutbox
from appliance.core.streams.traffic import Traffic
from appliance.settings import KafkaSettings, OutboxSettings
from benchmarks.rows import Figure, at_least
from tests.servers.kafka import KafkaServer

MESSAGES = 20_000
SAMPLES = 40
"""In one message of telemetry."""
BUDGET = 100_000.0
"""Samples a second."""
TOPIC = HostMetrics.topic
DEVICE = "bench"
ROUNDS = 3
"""The best of them counts, for each."""


def run() -> list[Figure]:
    """All of it, on a broker of its own with the usual options of Java."""
    with tempfile.TemporaryDirectory(prefix="prime-spark-bench-") as directory:
        server = KafkaServer(Path(directory) / "kafka", heap="512m", options=())
        server.start()
        try:
            return asyncio.run(_all(server, Path(directory)))
        finally:
            server.kill()


def events() -> list[HostMetrics]:
    """Scrapes with 40 numbers each."""
    now = time.time()
    names = [f"metric_{number:02d}" for number in range(SAMPLES)]
    return [
        HostMetrics(time=now + number / 1000, metrics={name: number * 1.25 + place for place, name in enumerate(names)})
        for number in range(MESSAGES)
    ]


async def _all(server: KafkaServer, directory: Path) -> list[Figure]:
    await server.create_topic(TOPIC, 3)
    scrapes = events()
    encode = Encoder(DEVICE).message
    messages = [encode(each) for each in scrapes]

    def ours(number: int) -> Callable[[], Coroutine[Any, Any, float]]:
        return lambda: _outbox(server, directory / f"outbox-{number}", scrapes)

    drained, bare, librdkafka = 0.0, 0.0, 0.0
    for number in range(ROUNDS):  # in turns: the machine is not equally quick all the time
        drained = max(drained, await ours(number)())
        bare = max(bare, await _aiokafka(server, messages))
        librdkafka = max(librdkafka, await asyncio.to_thread(_confluent, server, messages))
    size = sum(len(each.value) for each in messages) // len(messages)
    peer = f"bare aiokafka, {size} bytes a message"
    return [
        at_least("outbox drained to Kafka", drained * SAMPLES, "samples/s", BUDGET, peer, round(bare * SAMPLES)),
        Figure("outbox drained to Kafka", round(drained), "messages/s", None, "bare aiokafka", round(bare)),
        Figure(
            "outbox drained to Kafka", round(drained), "messages/s", None, "librdkafka (confluent-kafka)", round(librdkafka)
        ),
    ]


async def _outbox(server: KafkaServer, directory: Path, scrapes: list[HostMetrics]) -> float:
    """Messages a second from a full outbox to an empty one, acknowledged by the broker."""
    directory.mkdir()
    clock, spine = SystemClock(), Store(directory / "spine.sqlite")
    await asyncio.to_thread(spine.open)
    journal = Outbox(spine, DEVICE)
    await journal.load()
    store = Store(directory / "streams.sqlite", "appliance.core.streams.migrations")
    outbox = StreamOutbox(journal, store, clock, OutboxSettings(memory_mib=256), DEVICE)
    await outbox.start()

    async def prepare() -> tuple[tuple[str, ...], int, dict[str, int]]:
        return (), BATCH, {}

    access = Access(KafkaSettings(bootstrap_servers=server.bootstrap()), "", "bench")
    link = KafkaLink(access, Traffic(clock.monotonic), clock, prepare, lambda status: None)
    connecting = asyncio.create_task(link.run())
    await link.up.wait()
    for each in scrapes:
        outbox.offer(each)
    outbox.link(up=True)
    began = time.perf_counter()
    sending = asyncio.create_task(outbox.run(link))
    while (await outbox.status()).sent < len(scrapes):
        await asyncio.sleep(0.005)
    took = time.perf_counter() - began
    for task in (sending, connecting):
        task.cancel()
    await asyncio.gather(sending, connecting, return_exceptions=True)
    await outbox.stop()
    await asyncio.to_thread(spine.close)
    return len(scrapes) / took


async def _aiokafka(server: KafkaServer, messages: list[Message]) -> float:
    """The same messages by the library's own best form for single ones."""
    from aiokafka import AIOKafkaProducer

    producer = AIOKafkaProducer(
        bootstrap_servers=server.bootstrap(),
        enable_idempotence=True,
        compression_type="snappy",
        max_batch_size=BATCH,
        linger_ms=20,
    )
    await producer.start()
    try:
        began = time.perf_counter()
        futures = [await producer.send(each.topic, each.value, each.key) for each in messages]
        await asyncio.gather(*futures)
        return len(messages) / (time.perf_counter() - began)
    finally:
        await producer.stop()


def _confluent(server: KafkaServer, messages: list[Message]) -> float:
    from confluent_kafka import Producer

    options = {"enable.idempotence": True, "compression.type": "snappy", "linger.ms": 20, "batch.size": BATCH}
    producer = Producer({"bootstrap.servers": server.bootstrap(), **options, "queue.buffering.max.messages": 1_000_000})
    producer.list_topics(TOPIC, 10.0)
    began = time.perf_counter()
    for each in messages:
        producer.produce(each.topic, each.value, each.key)
        producer.poll(0)
    left = producer.flush(60.0)
    took = time.perf_counter() - began
    if left:
        raise RuntimeError(f"{left} messages were not acknowledged")
    return len(messages) / took

"""Draining the outbox to a real Kafka, beside bare aiokafka and librdkafka (confluent-kafka) with the same messages."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from statistics import median
from typing import Any

from appliance.core.clock import SystemClock
from appliance.core.events import HostMetrics, Noted
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

MESSAGES = 200_000
SAMPLES = 40
"""In one message of telemetry."""
BUDGET = 100_000.0
"""Samples a second."""
TOPIC = HostMetrics.topic
MIGRATIONS = "appliance.core.streams.migrations"
DEVICE = "bench"
DURABLE = 20_000
"""Durable events, which are slow to make."""
RING = "outbox drained to Kafka, from memory"
DISK = "outbox drained to Kafka, from disk after an outage"
JOURNAL = "durable events drained to Kafka, from the journal"
BARE, LIBRDKAFKA = "aiokafka, whole batches", "librdkafka (confluent-kafka)"
ROUNDS = 3
"""The median of them counts, for each."""


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
    await server.create_topic(Noted.topic, 3)
    scrapes = events()
    encode = Encoder(DEVICE).message
    messages = [encode(each) for each in scrapes]

    found: dict[str, list[float]] = {}
    for number in range(ROUNDS):  # in turns: the machine is not equally quick all the time
        for name, spilled in ((RING, False), (DISK, True)):
            found.setdefault(name, []).append(await _outbox(server, directory / f"{name} {number}", scrapes, spilled=spilled))
        found.setdefault(JOURNAL, []).append(await _journal(server, directory / f"journal-{number}"))
        found.setdefault(BARE, []).append(await _aiokafka(server, messages))
        found.setdefault(LIBRDKAFKA, []).append(await asyncio.to_thread(_confluent, server, messages))
    size = sum(len(each.value) for each in messages) // len(messages)
    middle = {name: median(rates) for name, rates in found.items()}
    peers = ((BARE, middle[BARE]), (LIBRDKAFKA, middle[LIBRDKAFKA]))
    return [
        at_least(
            f"{RING}, {size} bytes a message", middle[RING] * SAMPLES, "samples/s", BUDGET, BARE, round(middle[BARE] * SAMPLES)
        ),
        *(
            Figure(name, round(middle[name]), "messages/s", None, peer, round(rate))
            for name in (RING, DISK)
            for peer, rate in peers
        ),
        Figure(JOURNAL, round(middle[JOURNAL]), "messages/s"),
    ]


async def _outbox(server: KafkaServer, directory: Path, scrapes: list[HostMetrics], *, spilled: bool) -> float:
    """Messages a second from a full outbox to an empty one, acknowledged by the broker; after an outage all are on disk."""

    async def fill(outbox: StreamOutbox, _: Outbox) -> int:
        for each in scrapes:
            outbox.offer(each)
        return len(scrapes)

    return await _drained(server, directory, fill, again=spilled)


async def _journal(server: KafkaServer, directory: Path) -> float:
    """The same for durable events, which wait in the journal."""

    async def fill(_: StreamOutbox, journal: Outbox) -> int:
        for number in range(DURABLE):
            await journal.append(Noted(time=time.time(), event="bench.note", severity="info", attributes={"n": number}))
        return DURABLE

    return await _drained(server, directory, fill)


async def _drained(
    server: KafkaServer,
    directory: Path,
    fill: Callable[[StreamOutbox, Outbox], Coroutine[Any, Any, int]],
    *,
    again: bool = False,
) -> float:
    """Messages a second of an outbox that `fill` filled with so many; with `again` it was stopped and started in between."""
    directory.mkdir()
    clock, spine = SystemClock(), Store(directory / "spine.sqlite")
    await asyncio.to_thread(spine.open)
    journal = Outbox(spine, DEVICE)
    await journal.load()
    path, limits = directory / "streams.sqlite", OutboxSettings(memory_mib=512)
    outbox = StreamOutbox(journal, Store(path, MIGRATIONS), clock, limits, DEVICE)
    await outbox.start()

    async def prepare() -> tuple[tuple[str, ...], int, dict[str, int]]:
        return (), BATCH, {}

    access = Access(KafkaSettings(bootstrap_servers=server.bootstrap()), "", "bench")
    link = KafkaLink(access, Traffic(clock.monotonic), clock, prepare, lambda status: None)
    connecting = asyncio.create_task(link.run())
    await link.up.wait()
    count = await fill(outbox, journal)
    if again:  # stopping brings all of it to disk
        await outbox.stop()
        outbox = StreamOutbox(journal, Store(path, MIGRATIONS), clock, limits, DEVICE)
        await outbox.start()
        on_disk = sum(each.on_disk for each in (await outbox.status()).classes)
        if on_disk != count:
            raise RuntimeError(f"{on_disk} of {count} messages are on disk")
    outbox.link(up=True)
    began = time.perf_counter()
    sending = asyncio.create_task(outbox.run(link))
    while (await outbox.status()).sent < count:
        await asyncio.sleep(0.005)
    took = time.perf_counter() - began
    for task in (sending, connecting):
        task.cancel()
    await asyncio.gather(sending, connecting, return_exceptions=True)
    await outbox.stop()
    await asyncio.to_thread(spine.close)
    return count / took


async def _aiokafka(server: KafkaServer, messages: list[Message]) -> float:
    """The same messages by the library's quickest form: whole batches, as the link sends them."""
    from aiokafka import AIOKafkaProducer

    producer = AIOKafkaProducer(
        bootstrap_servers=server.bootstrap(), enable_idempotence=True, compression_type="snappy", max_batch_size=BATCH
    )
    await producer.start()
    try:
        await producer.send_and_wait(TOPIC, messages[0].value, messages[0].key)  # connected, as ours is
        began = time.perf_counter()
        futures, batch = [], producer.create_batch()
        for each in messages:
            if batch.append(key=each.key, value=each.value, timestamp=None) is None:
                futures.append(await producer.send_batch(batch, TOPIC, partition=0))
                batch = producer.create_batch()
                batch.append(key=each.key, value=each.value, timestamp=None)
        futures.append(await producer.send_batch(batch, TOPIC, partition=0))
        await asyncio.gather(*futures)
        return len(messages) / (time.perf_counter() - began)
    finally:
        await producer.stop()


def _confluent(server: KafkaServer, messages: list[Message]) -> float:
    """The same by librdkafka in its quickest form: connected before, large batches, callbacks served now and then."""
    from confluent_kafka import Producer

    options = {"enable.idempotence": True, "compression.type": "snappy", "linger.ms": 100}
    producer = Producer({"bootstrap.servers": server.bootstrap(), **options, "queue.buffering.max.messages": 1_000_000})
    producer.produce(TOPIC, messages[0].value, messages[0].key)
    producer.flush(20.0)
    began = time.perf_counter()
    for number, each in enumerate(messages):
        producer.produce(each.topic, each.value, each.key)
        if number % 1000 == 0:
            producer.poll(0)
    left = producer.flush(60.0)
    took = time.perf_counter() - began
    if left:
        raise RuntimeError(f"{left} messages were not acknowledged")
    return len(messages) / took

"""Servers that die, producers that go on, and a sink as a process: what the chaos test is made of."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from tests.servers.child import Child
from tests.servers.kafka import KafkaServer
from tests.servers.postgres import PostgresServer
from tests.sink.rig import telemetry

TOPIC = "edge.telemetry"
BATCH = 250  # events that a producer sends at once


class SinkProcess:
    """`prime-spark agent --role sink`.

    Args:
        home: its own.
        kafka: the broker.
        postgres: the database's server.
        database: its name.
    """

    def __init__(self, home: Path, kafka: KafkaServer, postgres: PostgresServer, database: str) -> None:
        home.mkdir(mode=0o700, parents=True)
        text = f'[analytics]\ndatabase = "{database}"\ntls = "disable"\n[sink]\nbatch_rows = 2000\nwait_ms = 100\n'
        (home / "config.toml").write_text(text)
        self.child = Child(home / "sink.log")
        self._env = {
            "PRIME_SPARK_HOME": str(home),
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap(),
            "POSTGRES_HOST": "127.0.0.1",
            "POSTGRES_PORT": str(postgres.port),
            "POSTGRES_USER": "postgres",
        }

    def start(self) -> None:
        """Start it; returns at once."""
        self.child.spawn([sys.executable, "-m", "appliance", "agent", "--role", "sink"], lambda: True, env=self._env)


def events_of(producer: int, keys: int, count: int, base: float) -> list[tuple[bytes, dict[str, Any]]]:
    """A producer's events: its devices in turn, each with numbers and times that grow by one (second, millisecond)."""
    found = []
    for number in range(count):
        device = f"p{producer}-{number % keys}"
        seq = number // keys
        found.append((device.encode(), telemetry(float(seq), device, base + seq / 1000)))
    return found


async def produce(bootstrap: str, events: Sequence[tuple[bytes, dict[str, Any]]], sent: list[int]) -> None:
    """Send all, in order for each key: what is not known to have arrived is sent again, as an outbox does.

    The broker may die at any time; `sent` gets the size of each batch that arrived.
    """
    messages = [(key, msgspec.json.encode(event)) for key, event in events]
    at = 0
    while at < len(messages):
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, request_timeout_ms=5000)
        try:
            await producer.start()
            while at < len(messages):
                batch = messages[at : at + BATCH]
                async with asyncio.timeout(10):
                    futures = [await producer.send(TOPIC, value, key=key) for key, value in batch]
                    await asyncio.gather(*futures)
                at += len(batch)
                sent.append(len(batch))
        except (KafkaError, OSError, TimeoutError):
            await asyncio.sleep(0.2)  # as long as the broker is away
        finally:
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(2):
                    await producer.stop()


async def topic_order(bootstrap: str) -> dict[str, list[int]]:
    """For each device the numbers in the order in which they first stand in the topic."""
    found: dict[str, dict[int, None]] = {}
    consumer = AIOKafkaConsumer(
        TOPIC, bootstrap_servers=bootstrap, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    await consumer.start()
    try:
        ends = await consumer.end_offsets(list(consumer.assignment()))
        while any([await consumer.position(each) < end for each, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    event = msgspec.json.decode(record.value)
                    found.setdefault(event["device_id"], {}).setdefault(int(event["data"]["metrics"]["seq"]))
    finally:
        await consumer.stop()
    return {device: list(numbers) for device, numbers in found.items()}


class Chaos:
    """Kills what it is given, in an order that a seed decides.

    Args:
        seed: of the order.
        kafka: the broker.
        postgres: the database's server.
        dsn: of the database.
        sinks: two of them; the second one comes and goes.
    """

    def __init__(self, seed: int, kafka: KafkaServer, postgres: PostgresServer, dsn: str, sinks: list[SinkProcess]) -> None:
        self._random = random.Random(seed)
        self._kafka, self._postgres, self._dsn, self._sinks = kafka, postgres, dsn, sinks
        self.done: list[str] = []

    async def strike(self, kind: str = "") -> None:
        """One blow, and its repair."""
        kind = kind or self._random.choice(KINDS)
        self.done.append(kind)
        await getattr(self, f"_{kind}")()

    async def _broker(self) -> None:
        await asyncio.to_thread(self._kafka.kill)
        await asyncio.sleep(self._random.random())
        await asyncio.to_thread(self._kafka.launch)
        await asyncio.to_thread(self._kafka.wait)

    async def _database(self) -> None:
        await asyncio.to_thread(self._postgres.kill)
        await asyncio.sleep(self._random.random() * 0.5)
        await asyncio.to_thread(self._postgres.start)

    async def _transaction(self) -> None:
        """The server's processes of the sinks are ended in the middle of what they do."""
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'prime-spark%'"
        for _ in range(5):
            await asyncio.sleep(self._random.random() * 0.3)
            connection = await asyncpg.connect(self._dsn, timeout=10)
            try:
                await connection.execute(query)
            finally:
                await connection.close()

    async def _sink(self) -> None:
        await asyncio.to_thread(self._sinks[0].child.kill)
        self._sinks[0].start()
        await asyncio.sleep(self._random.random() * 3)

    async def _rebalance(self) -> None:
        second = self._sinks[1]
        if second.child.running:
            await asyncio.to_thread(second.child.kill)
        else:
            second.start()
        await asyncio.sleep(self._random.random() * 3)

    def heal(self) -> None:
        """All run again."""
        self._postgres.recover()
        self._kafka.recover()
        if not self._sinks[0].child.running:
            self._sinks[0].start()


KINDS = ("broker", "database", "transaction", "sink", "rebalance")


def count() -> int:
    """How many events: PRIME_SPARK_CHAOS=200000 for the whole test."""
    return int(os.environ.get("PRIME_SPARK_CHAOS", "20000"))


def beginning(events: int) -> float:
    """A time that leaves room for the events' own ones, and lies in the day before none of them."""
    return time.time() - 60 - events / 1000

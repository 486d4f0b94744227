"""What the chaos test is made of: servers that die, devices and appliances that are killed, and what is left of it all."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import asyncpg
import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from appliance.core.events import HealthChanged, HostMetrics, InferenceCompleted, Noted
from tests.chaos.device import LIFE, acknowledged
from tests.servers.child import Child
from tests.servers.kafka import KafkaServer
from tests.servers.postgres import PostgresServer

ROOT = Path(__file__).parents[2]
TOPICS = tuple(each.topic for each in (HostMetrics, HealthChanged, Noted, InferenceCompleted))
NUMBERS = ("metrics", "details", "attributes", "result")
"""Which field of an event's data has its number, by its type."""
STORED = """
SELECT 'edge.telemetry' AS topic, device_id, event_id, time, value::bigint AS n FROM device_metrics WHERE metric_name = 'n'
UNION ALL SELECT 'edge.ai.inference', device_id, event_id, time, (result -> 'result' ->> 'n')::bigint
FROM ai_inference_results
UNION ALL SELECT CASE event_type WHEN 'health.changed' THEN 'system.health' ELSE 'analytics.events' END, device_id, event_id,
       time, coalesce(event_data -> 'details' ->> 'n', event_data -> 'attributes' ->> 'n')::bigint
FROM analytics_events WHERE device_id LIKE 'chaos-%'
"""
"""All events of the devices, whatever table has them."""
DURABLE = f"SELECT count(*) FROM ({STORED}) AS s WHERE topic <> 'edge.telemetry'"
CONFIG = """
[node]
device_id = "{name}"
[ssh]
enabled = false
[analytics]
database = "{database}"
tls = "disable"
[sink]
enabled = {enabled}
batch_rows = 2000
wait_ms = 100
"""


class Started:
    """A process that is killed and started again.

    Args:
        home: its own; it is made.
    """

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o700)
        self.home = home
        self.child = Child(home / "output.log")

    def start(self) -> None:
        """Start it (again); returns at once."""
        raise NotImplementedError


class Device(Started):
    """A producer: see device.py.

    Args:
        home: its own.
        name: its id.
        kafka: the broker.
        wanted: acknowledged events that it shall come to.
    """

    def __init__(self, home: Path, name: str, kafka: KafkaServer, wanted: int) -> None:
        super().__init__(home)
        self.name = name
        self.wanted = wanted
        self.lives = 0
        self._servers = kafka.bootstrap()

    def start(self) -> None:
        """Start it (again); returns at once."""
        self.lives += 1
        said = [str(self.home), self.name, self._servers, str(self.lives * LIFE), str(self.wanted)]
        self.child.spawn([sys.executable, "-m", "tests.chaos.device", *said], lambda: True, env={"PYTHONPATH": str(ROOT)})

    @property
    def done(self) -> bool:
        """Whether all its events are acknowledged."""
        return len(acknowledged(self.home)) >= self.wanted


class Sinking(Started):
    """A process with a sink inside: a whole appliance, or the role of the agent.

    Args:
        home: its own.
        name: its device's id.
        kafka: the broker.
        postgres: the database's server.
        database: its name.
        appliance: a whole one.
    """

    def __init__(
        self, home: Path, name: str, kafka: KafkaServer, postgres: PostgresServer, database: str, *, appliance: bool
    ) -> None:
        super().__init__(home)
        text = CONFIG.format(name=name, database=database, enabled=str(appliance).lower())
        (home / "config.toml").write_text(text)
        self._command = ["headless"] if appliance else ["agent", "--role", "sink"]
        self._env = {
            "PRIME_SPARK_HOME": str(home),
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap(),
            "POSTGRES_HOST": "127.0.0.1",
            "POSTGRES_PORT": str(postgres.port),
            "POSTGRES_USER": "postgres",
        }

    def start(self) -> None:
        """Start it; returns at once."""
        self.child.spawn([sys.executable, "-m", "appliance", *self._command], lambda: True, env=self._env)


class Chaos:
    """Kills what it is given, in an order that a seed decides.

    Args:
        seed: of the order.
        kafka: the broker.
        postgres: the database's server.
        dsn: of the database.
        sinks: an appliance with a sink in it, and a second sink that comes and goes.
        devices: the producers.
    """

    def __init__(
        self, seed: int, kafka: KafkaServer, postgres: PostgresServer, dsn: str, sinks: list[Sinking], devices: list[Device]
    ) -> None:
        self._random = random.Random(seed)
        self._kafka, self._postgres, self._dsn = kafka, postgres, dsn
        self._sinks, self._devices = sinks, devices
        self.done: list[str] = []

    async def strike(self, kind: str = "") -> None:
        """One blow, and its repair."""
        kind = kind or self._random.choice(KINDS)
        self.done.append(kind)
        await getattr(self, f"_{kind}")()

    async def _broker(self) -> None:
        await asyncio.to_thread(self._kafka.kill)
        await asyncio.sleep(self._random.random())
        self._kafka.launch()
        await asyncio.to_thread(self._kafka.wait)

    async def _database(self) -> None:
        await asyncio.to_thread(self._postgres.kill)
        await asyncio.sleep(self._random.random() * 0.5)
        self._postgres.start()

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

    async def _appliance(self) -> None:
        await asyncio.to_thread(self._sinks[0].child.kill)
        self._sinks[0].start()
        await asyncio.sleep(self._random.random() * 3)

    async def _device(self) -> None:
        struck = self._random.choice(self._devices)
        await asyncio.to_thread(struck.child.kill)
        struck.start()
        await asyncio.sleep(self._random.random())

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
        processes: list[Started] = [self._sinks[0], *self._devices]
        for each in processes:
            if not each.child.running:
                each.start()


KINDS = ("broker", "database", "transaction", "appliance", "device", "device", "rebalance")


def count() -> int:
    """How many events: PRIME_SPARK_CHAOS=200000 for the whole test."""
    return int(os.environ.get("PRIME_SPARK_CHAOS", "12000"))


@contextlib.asynccontextmanager
async def _reader(bootstrap: str) -> AsyncIterator[tuple[AIOKafkaConsumer, dict[TopicPartition, int]]]:
    """A consumer at the begin of all topics of the devices, and where they end."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", isolation_level="read_committed")
    await consumer.start()
    try:
        parts = [TopicPartition(topic, part) for topic in TOPICS for part in range(3)]
        consumer.assign(parts)
        yield consumer, await consumer.end_offsets(parts)
    finally:
        await consumer.stop()


async def ends_of(bootstrap: str) -> dict[tuple[str, int], int]:
    """Where the partitions of the devices' topics end."""
    async with _reader(bootstrap) as (_, ends):
        return {(each.topic, each.partition): end for each, end in ends.items()}


async def in_topics(bootstrap: str) -> dict[tuple[str, str], dict[str, int]]:
    """By (topic, device) the numbers of its events by their ids, in the order in which they first stand there."""
    found: dict[tuple[str, str], dict[str, int]] = {}
    async with _reader(bootstrap) as (consumer, ends):
        while any([await consumer.position(each) < end for each, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    event = msgspec.json.decode(record.value)
                    if event["device_id"].startswith("chaos-"):
                        found.setdefault((record.topic, event["device_id"]), {}).setdefault(event["id"], number_of(event))
    return found


def number_of(event: dict[str, object]) -> int:
    """The number that device.py gave it."""
    data = msgspec.convert(event["data"], dict[str, object])
    carrier = next(data[each] for each in NUMBERS if each in data)
    return int(msgspec.convert(carrier, dict[str, float])["n"])


def sorted_once(numbers: Sequence[int]) -> bool:
    """Whether they grow, and none stands there twice."""
    return all(one < two for one, two in itertools.pairwise(numbers))

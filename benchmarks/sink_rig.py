"""A broker with messages and a database, for the sink's benchmark."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
from aiokafka import AIOKafkaProducer

from appliance.core.analytics import copying
from appliance.core.analytics.rows import METRICS, TOPICS
from appliance.core.analytics.timescale import Database
from appliance.core.clock import SystemClock
from appliance.core.events import new_id, rfc3339
from appliance.core.streams.kafka import Access
from appliance.core.streams.sink import SESSION, Sink
from appliance.core.streams.sink_decode import Brought, Decoder, Now
from appliance.core.streams.sink_upkeep import Upkeep
from appliance.settings import AnalyticsSettings, KafkaSettings, SinkSettings
from tests.servers.kafka import KafkaServer
from tests.servers.postgres import PostgresServer, private_directory

DEVICES, METRIC_NAMES = 50, 20
"""Devices, and samples in one message: a scrape."""


@dataclass(frozen=True)
class Ground:
    """Servers."""

    kafka: KafkaServer
    postgres: PostgresServer

    def database(self, name: str) -> Database:
        """A new database."""
        self.postgres.create_database(name)
        place = AnalyticsSettings(host="127.0.0.1", port=self.postgres.port, user="postgres", database=name, tls="disable")
        return Database(place, "", "benchmark", options=SESSION, pristine=False)

    def sink(self, database: Database, group: str, batch: int) -> Sink:
        """A sink that is not started."""
        access = Access(KafkaSettings(bootstrap_servers=self.kafka.bootstrap()), "", "benchmark")
        return Sink(SinkSettings(group=group, batch_rows=batch), access, database, SystemClock())


@asynccontextmanager
async def ground() -> AsyncIterator[Ground]:
    """Both servers, as they come: PostgreSQL with fsync, Kafka with the JVM's usual options."""
    home, directory = private_directory(), Path(tempfile.mkdtemp(prefix="prime-spark-bench-"))
    kafka, postgres = KafkaServer(directory, heap="512m", options=()), PostgresServer(home, fsync=True)
    try:
        postgres.start()
        kafka.start()
        await asyncio.gather(*(kafka.create_topic(name, 3) for name in TOPICS))
        yield Ground(kafka, postgres)
    finally:
        kafka.kill()
        postgres.kill()
        shutil.rmtree(home)
        shutil.rmtree(directory)


def scrapes(count: int) -> list[dict[str, Any]]:
    """Envelopes of telemetry, one a device and second, the newest now."""
    began = time.time() - count / DEVICES - 10
    return [
        {
            "v": 1, "id": new_id(), "timestamp": rfc3339(began + number // DEVICES), "source": "edge",
            "device_id": f"pi-{number % DEVICES}", "type": "host.metrics",
            "data": {
                "metrics": {f"metric_{index}": number * 0.37 + index for index in range(METRIC_NAMES)}, "tags": {"room": "lab"},
            },
        }
        for number in range(count)
    ]  # fmt: skip


async def fill(bootstrap: str, events: list[dict[str, Any]]) -> None:
    """Bring events into the topic."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, compression_type="snappy", linger_ms=20) as producer:
        for start in range(0, len(events), 5000):
            part = events[start : start + 5000]
            sent = [
                await producer.send("edge.telemetry", msgspec.json.encode(each), key=each["device_id"].encode())
                for each in part
            ]
            await asyncio.gather(*sent)


async def bare_copy(database: Database, events: list[dict[str, Any]], batch: int) -> float:
    """Rows a second of COPY from bytes that are ready, into the same table with the same indexes; no roll-ups, no offsets."""
    decoder, now = Decoder(), Now(time.time(), time.time())
    made = [
        decoder.event(Brought(topic="edge.telemetry", partition=0, offset=0, key=None, value=msgspec.json.encode(each)), now)
        for each in events
    ]
    rows = [row for each in made for row in each.rows]
    await database.open()
    await Upkeep(database).ensure({METRICS: {each.moment // METRICS.chunk * METRICS.chunk for each in made}})

    async def copy(connection: asyncpg.Connection) -> float:
        began = time.perf_counter()
        for start in range(0, len(rows), batch):
            async with connection.transaction():
                source = copying.stream(rows[start : start + batch])
                await connection.copy_to_table(METRICS.name, source=source, columns=METRICS.columns, format="binary")
        return len(rows) / (time.perf_counter() - began)

    speed = await database.run(copy, 600.0)
    await database.close()
    return speed


async def sink_speed(place: Ground, database: Database, group: str, rows: int, batch: int) -> float:
    """Rows a second from the first stored batch's beginning to the last one's end, all of it: fetch, decode, write, roll up."""
    sink = place.sink(database, group, batch)
    began = time.perf_counter()
    task = asyncio.create_task(sink.run())
    try:
        while not sink._positions:
            await asyncio.sleep(0.001)
        began = time.perf_counter()
        while sink.figures.rows["device_metrics"] < rows:
            if task.done():
                task.result()
            await asyncio.sleep(0.005)
        return rows / (time.perf_counter() - began)
    finally:
        task.cancel()
        await asyncio.wait({task})
        await sink.stop()

"""What the sink's tests share: a sink on a broker and a database of the test's own, and messages for it."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import msgspec
from aiokafka import AIOKafkaProducer

from appliance.core.analytics.rows import TOPICS
from appliance.core.analytics.timescale import Database
from appliance.core.clock import SystemClock
from appliance.core.events import new_id, rfc3339
from appliance.core.ports import Clock
from appliance.core.streams.kafka import Access
from appliance.core.streams.kafka_consumer import Place
from appliance.core.streams.sink import SESSION, Sink
from appliance.settings import AnalyticsSettings, KafkaSettings, SinkSettings
from tests.servers.fixtures import Topics
from tests.support import wait_for


def place_of(dsn: str) -> AnalyticsSettings:
    """A DSN as settings."""
    parts = urlsplit(dsn)
    return AnalyticsSettings(
        host=str(parts.hostname), port=parts.port or 5432, user=parts.username or "", database=parts.path[1:], tls="disable"
    )


def envelope(data: dict[str, Any], device: str | None = "pi-1", moment: float | None = None, **more: Any) -> dict[str, Any]:
    """An event of version 1; `more` replaces fields, None removes them."""
    whole = {
        "v": 1,
        "id": new_id(),
        "timestamp": rfc3339(time.time() if moment is None else moment),
        "source": "edge",
        "device_id": device,
        "type": "test",
        "data": data,
    }
    return {name: value for name, value in (whole | more).items() if value is not None}


def telemetry(seq: float, device: str = "pi-1", moment: float | None = None, **more: Any) -> dict[str, Any]:
    """An event of edge.telemetry with one metric."""
    return envelope({"metrics": {"seq": seq}, "tags": {"room": "lab"}}, device, moment, **more)


def made_sink(bootstrap: str, prefix: str, dsn: str, clock: Clock | None = None, **settings: Any) -> Sink:
    """A sink that is not started."""
    wanted = SinkSettings(group=f"{prefix}sink", **({"wait_ms": 50} | settings))
    access = Access(KafkaSettings(bootstrap_servers=bootstrap), "", "test-sink")
    database = Database(place_of(dsn), "", "sink test", options=SESSION, pristine=False)
    return Sink(wanted, access, database, clock or SystemClock(), prefix)


class Rig:
    """A sink's surroundings.

    Args:
        kafka: the test's share of the broker.
        dsn: of an empty database.
    """

    def __init__(self, kafka: Topics, dsn: str) -> None:
        self.kafka = kafka
        self.dsn = dsn
        self.group = f"{kafka.prefix}sink"

    async def make_topics(self, partitions: int = 3) -> None:
        """All topics of the contract."""
        await asyncio.gather(*(self.kafka.server.create_topic(self.kafka.prefix + name, partitions) for name in TOPICS))

    def sink(self, clock: Clock | None = None, dsn: str = "", bootstrap: str = "", **settings: Any) -> Sink:
        """A sink that is not started."""
        return made_sink(bootstrap or self.kafka.bootstrap, self.kafka.prefix, dsn or self.dsn, clock, **settings)

    async def send(self, topic: str, events: Sequence[dict[str, Any] | bytes], key: bytes = b"pi-1") -> None:
        """Bring events into a topic, in order."""
        async with AIOKafkaProducer(bootstrap_servers=self.kafka.bootstrap, enable_idempotence=True) as producer:
            sent = [
                await producer.send(
                    self.kafka.prefix + topic, event if isinstance(event, bytes) else msgspec.json.encode(event), key=key
                )
                for event in events
            ]
            await asyncio.gather(*sent)

    async def rows(self, query: str, *arguments: Any) -> list[Any]:
        """What a query brings."""
        connection = await asyncpg.connect(self.dsn, timeout=10)
        try:
            return list(await connection.fetch(query, *arguments))
        finally:
            await connection.close()

    async def value(self, query: str, *arguments: Any) -> Any:
        """The one value of a query; None where the tables are not there yet."""
        try:
            return (await self.rows(query, *arguments))[0][0]
        except asyncpg.UndefinedTableError:
            return None

    async def count(self, table: str = "device_metrics") -> int:
        """Rows of a table; 0 where it is not there yet."""
        return int(await self.value(f"SELECT count(*) FROM {table}") or 0)

    async def writer_offset(self, sink: Sink, place: Place) -> int | None:
        """Where the database has the sink read on."""
        return (await sink._writer.offsets()).get(place)

    async def wait_count(self, number: int, table: str = "device_metrics", timeout: float = 30.0) -> None:
        """Return when a table has so many rows, and fail where it has more."""
        found = -1

        async def enough() -> bool:
            nonlocal found
            found = await self.count(table)
            return found >= number

        await wait_for(enough, timeout, f"{number} rows in {table}")
        assert found == number


@contextlib.asynccontextmanager
async def running(sink: Sink) -> AsyncIterator[Sink]:
    """A sink that works meanwhile."""
    await sink.start()
    task = asyncio.create_task(sink.run())
    try:
        yield sink
    finally:
        early = task.done()
        task.cancel()
        await asyncio.wait({task})
        await sink.stop()
        if early:  # it never ends by itself: show why
            task.result()


def fixed_id(number: int) -> str:
    """An id that is the same in each run."""
    return str(uuid.UUID(int=number, version=7))


ROLLUPS = """
SELECT bucket, device_id, metric_name, avg_value, min_value, max_value, count FROM device_metrics_{period} ORDER BY 1, 2, 3
"""
RECOMPUTED = """
SELECT date_trunc('{unit}', time, 'UTC') AS bucket, device_id, metric_name, avg(value) AS avg_value, min(value) AS min_value,
       max(value) AS max_value, count(*) AS count
FROM device_metrics GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""


async def assert_rollups(rig: Rig) -> None:
    """The roll-ups are what the raw rows say."""
    for period, unit in (("hourly", "hour"), ("daily", "day")):
        kept = await rig.rows(ROLLUPS.format(period=period))
        true = await rig.rows(RECOMPUTED.format(unit=unit))
        assert len(kept) == len(true)
        for mine, real in zip(kept, true, strict=True):
            assert (mine[0], *mine[1:3], *mine[4:]) == (real[0], *real[1:3], *real[4:])
            assert abs(mine[3] - real[3]) <= 1e-9 * max(1.0, abs(real[3]))

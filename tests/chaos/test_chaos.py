"""Events from four producers while broker, database and sink are killed at random: each is stored exactly once, in order."""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from appliance.core.analytics.rows import TOPICS
from tests.chaos.rig import KINDS, Chaos, SinkProcess, beginning, count, events_of, produce, topic_order
from tests.servers.kafka import KafkaServer
from tests.servers.postgres import PostgresServer, private_directory
from tests.sink.rig import Rig, assert_rollups
from tests.support import wait_for

log = logging.getLogger(__name__)

PRODUCERS, KEYS = 4, 5


class Field:
    """Servers of the test's own, for they die."""

    def __init__(self, kafka: KafkaServer, postgres: PostgresServer, dsn: str, sinks: list[SinkProcess]) -> None:
        self.kafka, self.postgres, self.dsn, self.sinks = kafka, postgres, dsn, sinks


@pytest.fixture
async def field(tmp_path: Path, postgres_template: Path) -> AsyncIterator[Field]:
    home = private_directory()
    kafka, postgres = KafkaServer(tmp_path / "kafka"), PostgresServer(home, postgres_template)
    sinks: list[SinkProcess] = []
    try:
        postgres.start()
        kafka.start()
        dsn = postgres.create_database("chaos")
        await asyncio.gather(*(kafka.create_topic(name, 3) for name in TOPICS))
        sinks = [SinkProcess(tmp_path / f"sink{number}", kafka, postgres, "chaos") for number in (1, 2)]
        yield Field(kafka, postgres, dsn, sinks)
    finally:
        for each in sinks:
            each.child.kill()
        kafka.kill()
        postgres.kill()
        shutil.rmtree(home)


async def stored(dsn: str) -> tuple[int, int]:
    """Rows, and different events among them."""
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        row = await connection.fetchrow("SELECT count(*), count(DISTINCT event_id) FROM device_metrics")
    finally:
        await connection.close()
    assert row is not None
    return int(row[0]), int(row[1])


@pytest.mark.timeout(3600)
async def test_each_event_is_stored_exactly_once_whatever_dies(field: Field) -> None:
    seed = random.SystemRandom().randrange(2**32)
    log.info("seed %d", seed)
    total = count()
    each, base = total // PRODUCERS, beginning(total)
    field.sinks[0].start()
    chaos = Chaos(seed, field.kafka, field.postgres, field.dsn, field.sinks)
    sent: list[int] = []
    producers = [
        asyncio.create_task(produce(field.kafka.bootstrap(), events_of(number, KEYS, each, base), sent))
        for number in range(PRODUCERS)
    ]
    try:
        for kind in random.Random(seed).sample(KINDS, len(KINDS)):
            await chaos.strike(kind)
        while (await stored(field.dsn))[1] < total * 0.9 and sum(sent) < total:
            await chaos.strike()
        await asyncio.to_thread(chaos.heal)
        await asyncio.gather(*producers)

        async def all_there() -> bool:
            return (await stored(field.dsn))[1] >= each * PRODUCERS

        await wait_for(all_there, 60 + total / 500, f"all events; struck by {chaos.done}")
    finally:
        for task in producers:
            task.cancel()
        await asyncio.gather(*producers, return_exceptions=True)
    assert await stored(field.dsn) == (each * PRODUCERS, each * PRODUCERS)
    await _assert_order(field, each)
    log.info("%d events, struck by %s", each * PRODUCERS, chaos.done)


async def _assert_order(field: Field, each: int) -> None:
    """In the topic and in the table, each device's numbers stand in order, without a hole."""
    whole = list(range(each // KEYS))
    in_topic = await topic_order(field.kafka.bootstrap())
    assert len(in_topic) == PRODUCERS * KEYS
    assert {device: numbers for device, numbers in in_topic.items() if numbers != whole} == {}
    connection = await asyncpg.connect(field.dsn, timeout=10)
    try:
        query = "SELECT device_id, array_agg(value::int ORDER BY time) FROM device_metrics GROUP BY 1"
        in_table = dict(await connection.fetch(query))
        assert {device for device, numbers in in_table.items() if numbers != whole} == set()
        assert in_table.keys() == in_topic.keys()
        assert await connection.fetchval("SELECT count(*) FROM dead_letters") == 0
    finally:
        await connection.close()
    rig = Rig.__new__(Rig)
    rig.dsn = field.dsn
    await assert_rollups(rig)

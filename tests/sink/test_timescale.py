"""The tables on a server with timescaledb, which PRIME_SPARK_TEST_TIMESCALE_DSN names; its user may make databases.

PRIME_SPARK_TEST_TIMESCALE_DSN=postgresql://postgres:secret@127.0.0.1:5432/postgres pytest tests/sink/test_timescale.py
"""

from __future__ import annotations

import os
import random
import secrets
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import asyncpg
import pytest

from appliance.core.analytics.cache import AnswerCache
from appliance.core.analytics.model import Aggregation, Query
from appliance.core.analytics.querying import Analytics
from appliance.core.analytics.rows import ROLLUP_KEEP, TABLES
from appliance.core.analytics.timescale import Database
from appliance.core.analytics.timescale_query import PostgresReader
from appliance.core.clock import SystemClock
from appliance.core.state import LiveState
from appliance.core.streams.sink_upkeep import Upkeep
from tests.analytics.rig import Reading
from tests.analytics.test_same_answers import agree
from tests.sink.rig import RECOMPUTED, ROLLUPS, place_of
from tests.sink.test_questions import Pipe, message

DSN = os.environ.get("PRIME_SPARK_TEST_TIMESCALE_DSN", "")
pytestmark = pytest.mark.skipif(not DSN, reason="PRIME_SPARK_TEST_TIMESCALE_DSN names no server with timescaledb")
DAY = 86_400
COMPRESSED = {"device_metrics": 7, "ai_inference_results": 7, "sensor_data": 1, "analytics_events": 7}
"""Days after which chunks are compressed."""


@pytest.fixture
async def database() -> AsyncIterator[Database]:
    """The tables in a new database."""
    name = f"prime_spark_test_{secrets.token_hex(6)}"
    parts = urlsplit(DSN)
    server = await asyncpg.connect(DSN, timeout=10)
    await server.execute(f"CREATE DATABASE {name}")
    place = place_of(urlunsplit(parts._replace(path=f"/{name}"))).model_copy(update={"tls": "prefer"})
    made = Database(place, unquote(parts.password or ""), "timescale test")
    try:
        assert (await made.open()).timescale
        yield made
    finally:
        await made.close()
        await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await server.close()


async def fetch(database: Database, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
    """What a query brings."""
    rows: list[Any] = await database.run(lambda connection: connection.fetch(query, *arguments))
    return [tuple(row) for row in rows]


async def execute(database: Database, query: str) -> None:
    """One statement, outside of a transaction."""
    await database.run(lambda connection: connection.execute(query))


async def test_chunks_compression_retention_and_aggregates_are_those_of_the_contract(database: Database) -> None:
    widths = dict(await fetch(database, "SELECT hypertable_name, time_interval FROM timescaledb_information.dimensions"))
    assert {table.name: widths[table.name] for table in TABLES} == {
        table.name: timedelta(seconds=table.chunk) for table in TABLES
    }
    said = await fetch(
        database,
        "SELECT proc_name, hypertable_name, (config ->> 'compress_after')::interval, "
        "(config ->> 'drop_after')::interval FROM timescaledb_information.jobs WHERE hypertable_name IS NOT NULL",
    )
    compress = {table: after for proc, table, after, _ in said if "compression" in proc or "columnstore" in proc}
    drop = {table: after for proc, table, _, after in said if proc == "policy_retention"}
    assert compress == {table: timedelta(days=days) for table, days in COMPRESSED.items()}
    assert {table.name: drop[table.name] for table in TABLES} == {table.name: timedelta(seconds=table.keep) for table in TABLES}
    kept = [after for table, after in drop.items() if table not in {each.name for each in TABLES}]
    assert kept == [timedelta(seconds=ROLLUP_KEEP)] * 2
    views = await fetch(
        database, "SELECT view_name, materialized_only FROM timescaledb_information.continuous_aggregates ORDER BY 1"
    )
    assert views == [("device_metrics_daily", False), ("device_metrics_hourly", False)]


def readings(seed: int, count: int, days: float) -> list[Reading]:
    """Random readings of the last days, the newest an hour old."""
    chance, now = random.Random(seed), int(time.time() * 1e6)
    return [
        Reading(
            now - int(chance.uniform(3600, days * DAY) * 1e6), f"pi-{chance.randrange(3)}", chance.choice(["cpu", "heat"]),
            chance.uniform(-1000, 1000), {},
        )
        for _ in range(count)
    ]  # fmt: skip


async def assert_aggregates(database: Database) -> None:
    """The continuous aggregates are what the raw rows say."""
    for period, unit in (("hourly", "hour"), ("daily", "day")):
        held = await fetch(database, ROLLUPS.format(period=period))
        true = await fetch(database, RECOMPUTED.format(unit=unit))
        assert [(*row[:3], *row[4:]) for row in held] == [(*row[:3], *row[4:]) for row in true]
        assert [row[3] for row in held] == pytest.approx([row[3] for row in true], rel=1e-9, abs=1e-9)


async def refresh(database: Database) -> None:
    """What the policies do from time to time."""
    for period, end in (("hourly", "1 hour"), ("daily", "1 day")):
        span = f"now() - interval '29 days', now() - interval '{end}'"
        await execute(database, f"CALL refresh_continuous_aggregate('device_metrics_{period}', {span})")


async def test_the_sinks_rows_are_aggregated_before_and_after_a_refresh_and_late_ones_too(database: Database) -> None:
    pipe = Pipe(database)
    await pipe.begin()
    bodies = [message(each) for each in readings(1, 3000, 20)]
    assert await pipe.write(bodies, 500) == 0  # COPY straight into the hypertable
    await assert_aggregates(database)
    await refresh(database)
    await assert_aggregates(database)
    late = [message(each) for each in readings(2, 500, 20)]
    assert await pipe.write([*late, *bodies[:700]], 500) == 700  # by way of the staging table
    await refresh(database)
    await assert_aggregates(database)


async def test_rows_go_into_compressed_chunks_once(database: Database) -> None:
    pipe = Pipe(database)
    await pipe.begin()
    bodies = [message(each) for each in readings(3, 2000, 20)]
    await pipe.write(bodies, 500)
    await fetch(database, "SELECT compress_chunk(c) FROM show_chunks('device_metrics', older_than => interval '2 days') AS c")
    assert await pipe.write(bodies, 500) == 2000
    assert await pipe.write([message(each) for each in readings(4, 300, 20)], 500) == 0
    await refresh(database)
    assert await fetch(database, "SELECT count(*) FROM device_metrics") == [(2300,)]
    await assert_aggregates(database)


async def test_great_numbers_do_not_stop_the_refresh_of_others(database: Database) -> None:
    pipe, now = Pipe(database), int(time.time() * 1e6) - 3 * DAY * 1_000_000
    await pipe.begin()
    great = [Reading(now + number, "pi", "great", 9e149 * (-1) ** number, {}) for number in range(40_000)]
    await pipe.write([message(each) for each in great], 20_000)
    await refresh(database)
    assert await fetch(database, "SELECT sum(count)::bigint FROM device_metrics_daily") == [(40_000,)]


async def test_all_jobs_run_and_old_chunks_go(database: Database) -> None:
    pipe = Pipe(database)
    await pipe.begin()
    await pipe.write([message(each) for each in readings(5, 500, 60)], 500)
    for (job,) in await fetch(database, "SELECT job_id FROM timescaledb_information.jobs WHERE hypertable_name IS NOT NULL"):
        await execute(database, f"CALL run_job({job})")
    ((oldest,),) = await fetch(database, "SELECT extract(epoch FROM now() - min(time))::float8 FROM device_metrics")
    assert oldest < 31 * DAY
    upkeep = Upkeep(database)
    assert await upkeep.round(await upkeep.clocks(time.time())) == ""


async def test_questions_are_answered_as_by_a_plain_calculation(database: Database) -> None:
    pipe = Pipe(database)
    await pipe.begin()
    found = readings(6, 2000, 12)
    await pipe.write([message(each) for each in found], 500)
    await refresh(database)
    clock = SystemClock()
    asking = Analytics(PostgresReader(database), AnswerCache(None), clock, LiveState(clock))
    day = int(time.time()) // DAY * DAY
    for aggregation in Aggregation:
        for bucket in ("5m", "1h", "1d", "1mo"):
            for by in ((), ("device_id",)):
                query = Query(
                    metric="cpu", since=day - 10 * DAY, until=day, aggregation=aggregation, bucket=bucket, percentile=95.0,
                    group_by=by,
                )  # fmt: skip
                agree(found, query, await asking.ask(query))
    assert await asking.metrics() == ["cpu", "heat"]
    assert await asking.devices("cpu") == ["pi-0", "pi-1", "pi-2"]

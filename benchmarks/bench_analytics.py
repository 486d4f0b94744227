"""Questions over ten million readings in both stores, beside the bare SQL by hand on the same store."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from appliance.core.analytics.cache import AnswerCache
from appliance.core.analytics.duck import DuckStore
from appliance.core.analytics.duck_query import DuckReader
from appliance.core.analytics.model import Aggregation, Query
from appliance.core.analytics.querying import Analytics
from appliance.core.analytics.timescale import Database
from appliance.core.analytics.timescale_query import PostgresReader
from appliance.core.state import LiveState
from benchmarks.rows import Figure, at_most
from tests.analytics.rig import settings_of
from tests.servers.postgres import PostgresServer, private_directory
from tests.support import ManualClock

ROWS = int(os.environ.get("PRIME_SPARK_BENCH_ROWS", "10000000"))
DEVICES, METRICS, EVERY = 4, 10, 10
"""Devices, metrics of each, and seconds between readings."""
BEGIN = 1_780_272_000
"""A midnight."""
SAMPLES = ROWS // (DEVICES * METRICS)
END = BEGIN + SAMPLES * EVERY // 3600 * 3600
"""On the hour, where also the ranges end that somebody asks for up to now."""
BUDGET = 25.0
"""Milliseconds."""
WARM, MEASURED, RAW, TURNS = 32, 320, 24, 10
DAYS = (1, 3, 7, 28)
GROUPS: tuple[tuple[str, ...], ...] = ((), ("device_id",))
READINGS = """
    SELECT {time}({begin} + i * {every}), 'device-' || d, 'metric_' || m, 50 + 40 * sin(i / 1000.0 + m) + d,
           {tags}, {uuid}
    FROM {series}
"""
ROLL = """
    INSERT INTO {table}
    SELECT date_trunc('{unit}', time{zone}), device_id, metric_name, {mean}, min(value), max(value), count(*)
    FROM device_metrics {where} GROUP BY 1, 2, 3
"""


def run() -> list[Figure]:
    """Both stores, one after the other."""
    return [*_duck(), *_postgres()]


def questions() -> Iterator[Query]:
    """Hour buckets over several ranges and metrics, with and without devices."""
    kinds = (Aggregation.avg, Aggregation.max, Aggregation.sum, Aggregation.count)
    numbers = itertools.count()
    for days, group, kind in itertools.cycle(itertools.product(DAYS, GROUPS, kinds)):
        number = next(numbers)
        end = END - 3600 * (number % 12)
        yield Query(
            metric=f"metric_{number % METRICS}", since=max(BEGIN, end - days * 86400), until=end, aggregation=kind, bucket="1h",
            group_by=group,
        )  # fmt: skip


async def _measure(ask: Callable[[Query], Awaitable[Any]], count: int, asked: Iterator[Query]) -> list[float]:
    """Milliseconds of so many questions, one after the other."""
    times = []
    for query in itertools.islice(asked, count):
        began = time.perf_counter()
        await ask(query)
        times.append((time.perf_counter() - began) * 1000)
    return times


def _p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


async def _figures(store: str, analytics: Analytics, bare: Callable[[Query], Awaitable[Any]]) -> list[Figure]:
    """Ours and the bare SQL in turns, so that what else the machine does meets both."""
    asked, raw = questions(), (_raw(query) for query in questions())
    await _measure(analytics.ask, WARM, asked)
    await _measure(bare, WARM, asked)
    ours, theirs = [], []
    for _ in range(TURNS):
        ours += await _measure(analytics.ask, MEASURED // TURNS, asked)
        theirs += await _measure(bare, MEASURED // TURNS, asked)
    single = await _measure(analytics.ask, RAW, raw)
    label = f"{store}, {ROWS / 1e6:g} M readings"
    return [
        at_most(f"{label}: hour buckets, p95", _p95(ours), "ms", BUDGET, "bare SQL by hand, p95", round(_p95(theirs), 2)),
        Figure(
            f"{label}: hour buckets, median", round(statistics.median(ours), 2), "ms", None, "bare SQL by hand, median",
            round(statistics.median(theirs), 2),
        ),
        Figure(f"{label}: percentile of a day's single readings, median", round(statistics.median(single), 2), "ms"),
        Figure(f"{label}: percentile of a day's single readings, p95", round(_p95(single), 2), "ms"),
    ]  # fmt: skip


def _raw(query: Query) -> Query:
    since = max(BEGIN, query.until - 86400)
    return msgspec.structs.replace(query, aggregation=Aggregation.percentile, since=since, group_by=())


def _analytics(store: Any) -> Analytics:
    clock = ManualClock(END)
    return Analytics(store, AnswerCache(None), clock, LiveState(clock))


def _duck() -> list[Figure]:
    with tempfile.TemporaryDirectory() as scratch:
        duck = DuckStore(Path(scratch) / "a.duckdb", "pc")
        duck.open()
        series = f"range({SAMPLES}) AS a(i), range({DEVICES}) AS b(d), range({METRICS}) AS c(m)"
        fill = READINGS.format(
            time="to_timestamp", begin=BEGIN, every=EVERY, tags="""'{"room":"a"}'""", uuid="uuid()", series=series
        )
        duck.query(f"INSERT INTO device_metrics {fill}", [])
        for day in range(BEGIN, END, 86400):  # by days, as it comes: all at once would not fit into the store's memory
            where = f"WHERE time >= to_timestamp({day}) AND time < to_timestamp({day + 86400})"
            for table, unit in (("device_metrics_minute", "minute"), ("device_metrics_hourly", "hour")):
                duck.query(ROLL.format(table=table, unit=unit, zone="", mean="sum(value)", where=where), [])
        try:
            return asyncio.run(_figures("DuckDB", _analytics(DuckReader(duck, 1e5)), lambda query: _bare_duck(duck, query)))
        finally:
            duck.close()


async def _bare_duck(duck: DuckStore, query: Query) -> Any:
    """What somebody would write for this very query."""
    head, group = ("device_id, ", "1, 2") if query.group_by else ("", "1")
    what = {"avg": "sum(sum_value) / sum(count)", "max": "max(max_value)", "sum": "sum(sum_value)", "count": "sum(count)"}
    sql = (
        f"SELECT {head}epoch(bucket), {what[query.aggregation.value]} FROM device_metrics_hourly WHERE metric_name = ? "
        f"AND bucket >= to_timestamp(?) AND bucket < to_timestamp(?) GROUP BY {group} ORDER BY {group}"
    )
    return await asyncio.to_thread(duck.query, sql, [query.metric, query.since, query.until])


def _postgres() -> list[Figure]:
    directory = private_directory()
    try:
        with PostgresServer(directory) as server:
            return asyncio.run(_over_postgres(server.create_database("bench")))
    finally:
        shutil.rmtree(directory)


async def _over_postgres(dsn: str) -> list[Figure]:
    database = Database(settings_of(dsn), "", "bench")
    try:
        await database.open()
        await database.run(_fill, 3600)
        return await _figures("PostgreSQL", _analytics(PostgresReader(database)), lambda query: _bare_postgres(database, query))
    finally:
        await database.close()


async def _fill(connection: Any) -> None:
    """Daily partitions as the sink makes them, filled in the order of time; then the roll-ups."""
    unique = await connection.fetchval(
        "SELECT conname FROM pg_constraint WHERE conrelid = 'device_metrics'::regclass AND contype = 'u'"
    )
    columns = await connection.fetchval("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = $1", unique)
    await connection.execute(f"ALTER TABLE device_metrics DROP CONSTRAINT {unique}")
    per_day = 86400 // EVERY
    for day in range(-(-SAMPLES // per_day)):
        start = BEGIN + day * 86400
        await connection.execute(
            f"CREATE TABLE device_metrics_d{day} PARTITION OF device_metrics FOR VALUES FROM (to_timestamp({start})) "
            f"TO (to_timestamp({start + 86400}))"
        )
        last = min(SAMPLES, (day + 1) * per_day) - 1
        series = f"generate_series({day * per_day}, {last}) i, generate_series(0, {DEVICES - 1}) d"
        series += f", generate_series(0, {METRICS - 1}) m"
        fill = READINGS.format(
            time="to_timestamp",
            begin=BEGIN,
            every=EVERY,
            tags="""'{"room":"a"}'::jsonb""",
            uuid="gen_random_uuid()",
            series=series,
        )
        await connection.execute(f"INSERT INTO device_metrics {fill}", timeout=600)
    await connection.execute("SET statement_timeout = 0")
    await connection.execute(f"ALTER TABLE device_metrics ADD CONSTRAINT {unique} {columns}", timeout=1800)
    for table, unit in (("device_metrics_hourly", "hour"), ("device_metrics_daily", "day")):
        await connection.execute(ROLL.format(table=table, unit=unit, zone=", 'UTC'", mean="avg(value)", where=""), timeout=600)
    await connection.execute("VACUUM ANALYZE device_metrics_hourly", timeout=600)
    await connection.execute("VACUUM ANALYZE device_metrics_daily", timeout=600)
    await connection.execute("ANALYZE device_metrics", timeout=600)


async def _bare_postgres(database: Database, query: Query) -> Any:
    """What somebody would write for this very query."""
    head, group = ("device_id, ", "1, 2") if query.group_by else ("", "1")
    what = {
        "avg": "sum(avg_value * count) / sum(count)",
        "max": "max(max_value)",
        "sum": "sum(avg_value * count)",
        "count": "sum(count)",
    }
    sql = (
        f"SELECT {head}bucket, {what[query.aggregation.value]} FROM device_metrics_hourly WHERE metric_name = $1 "
        f"AND bucket >= to_timestamp($2) AND bucket < to_timestamp($3) GROUP BY {group} ORDER BY {group}"
    )
    return await database.run(lambda connection: connection.fetch(sql, query.metric, query.since, query.until))

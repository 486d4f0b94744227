"""Both stores with the same readings, and a plain calculation beside them."""

from __future__ import annotations

import asyncio
import json
import math
import statistics
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from appliance.core.analytics.cache import AnswerCache
from appliance.core.analytics.duck import DuckStore
from appliance.core.analytics.duck_query import DuckReader
from appliance.core.analytics.model import Answer, Query
from appliance.core.analytics.querying import Analytics
from appliance.core.analytics.timescale import Database
from appliance.core.analytics.timescale_query import PostgresReader
from appliance.core.state import LiveState
from appliance.settings import AnalyticsSettings
from tests.support import ManualClock

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ROLL = (
    "INSERT INTO {table} SELECT date_trunc('{unit}', time, 'UTC'), device_id, metric_name, sum(value) / count(*), min(value), "
    "max(value), count(*) FROM device_metrics WHERE metric_name = ANY($1::text[]) GROUP BY 1, 2, 3"
)


class Reading(NamedTuple):
    """One value; the time in microseconds since the epoch."""

    at: int
    device: str
    metric: str
    value: float
    tags: dict[str, str]


def settings_of(dsn: str) -> AnalyticsSettings:
    """The settings that lead to a test's database."""
    place = urlsplit(dsn)
    return AnalyticsSettings(
        host=place.hostname or "",
        port=place.port or 0,
        user=place.username or "",
        database=place.path.strip("/"),
        tls="disable",
    )


def lasting(store: DuckReader | PostgresReader) -> DuckReader | PostgresReader:
    """The store as one that keeps everything for good: nothing is deleted in these tests, whatever the clock says."""
    store.levels = tuple(level._replace(keep=1e5) for level in store.levels)
    return store


class Stores:
    """DuckDB and PostgreSQL, each behind the same questions.

    Args:
        directory: For DuckDB's file.
        dsn: Of an empty database.
        runner: Its loop is the database's.
        now: Wall clock.
    """

    def __init__(self, directory: Path, dsn: str, runner: asyncio.Runner, now: float = 1_800_000_000.0) -> None:
        self.runner = runner
        self.clock = ManualClock(now)
        self.duck = DuckStore(directory / "analytics.duckdb", "pc")
        self.duck.open()
        self.database = Database(settings_of(dsn), "", "test")
        state = LiveState(self.clock)
        self.both = [
            Analytics(lasting(store), AnswerCache(None), self.clock, state)
            for store in (DuckReader(self.duck, 30), PostgresReader(self.database))
        ]
        runner.run(self._prepare())

    async def _prepare(self) -> None:
        await self.database.open()
        await self.execute("CREATE TABLE device_metrics_rest PARTITION OF device_metrics DEFAULT")

    async def execute(self, sql: str, *parameters: Any) -> None:
        """Run one statement in PostgreSQL."""
        await self.database.run(lambda connection: connection.execute(sql, *parameters))

    def add(self, readings: Sequence[Reading]) -> None:
        """Put readings into both, with their roll-ups. A metric's readings must come in one call."""
        rows = [
            (EPOCH + timedelta(microseconds=each.at), each.device, each.metric, each.value, json.dumps(each.tags), uuid.uuid4())
            for each in readings
        ]
        self.duck.add_readings([(*row[:5], str(row[5])) for row in rows])
        self.runner.run(self._add(rows))
        self.clock.move(10)  # names are looked for again

    async def _add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        insert = "INSERT INTO device_metrics VALUES ($1, $2, $3, $4, $5, $6)"
        await self.database.run(lambda connection: connection.executemany(insert, rows))
        metrics = list({row[2] for row in rows})
        for table, unit in (("device_metrics_hourly", "hour"), ("device_metrics_daily", "day")):
            await self.execute(ROLL.format(table=table, unit=unit), metrics)

    def ask(self, query: Query) -> tuple[Answer, Answer]:
        """What DuckDB and PostgreSQL say."""
        duck, postgres = (self.runner.run(each.ask(query)) for each in self.both)
        return duck, postgres

    def close(self) -> None:
        """Close both."""
        self.runner.run(self.database.close())
        self.duck.close()


@contextmanager
def stores(directory: Path, dsn: str, now: float = 1_800_000_000.0) -> Iterator[Stores]:
    """Both stores, closed at the end."""
    with asyncio.Runner() as runner:
        both = Stores(directory, dsn, runner, now)
        try:
            yield both
        finally:
            both.close()


def start_of(at: int, bucket: str) -> int:
    """Start of a bucket by the calendar, seconds since the epoch; another way than the program's."""
    moment = EPOCH + timedelta(microseconds=at)
    if bucket == "1mo":
        return int(moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp())
    if bucket == "1w":
        day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        return int((day - timedelta(days=day.weekday())).timestamp())
    width = int(bucket[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[bucket[-1]]
    return at // 1_000_000 - at // 1_000_000 % width


def label(reading: Reading, by: str) -> str:
    """What a reading is grouped under."""
    return reading.device if by == "device_id" else reading.tags.get(by.removeprefix("tag:"), "")


Plain = dict[tuple[str, ...], dict[int, list[float]]]


def plain(readings: Sequence[Reading], query: Query) -> Plain:
    """The values of each bucket of each series, by going through all readings."""
    since = start_of(round(query.since * 1e6), query.bucket) * 1_000_000
    until = round(query.until * 1e6)
    found: Plain = defaultdict(lambda: defaultdict(list))
    for each in readings:
        wanted = (
            each.metric == query.metric and since <= each.at < until and (not query.devices or each.device in query.devices)
        )
        if wanted and all(each.tags.get(name) == value for name, value in query.tags.items()):
            found[tuple(label(each, by) for by in query.group_by)][start_of(each.at, query.bucket)].append(each.value)
    return found


def number(values: Sequence[float], query: Query) -> tuple[float | None, float]:
    """What becomes of a bucket's values, and how much of it rounding may take: 1e-9 of what was added up."""
    name = query.aggregation.value
    most = max(map(abs, values))
    if name in ("stddev", "variance"):
        if len(values) < 2:
            return None, 0.0
        variance = float(statistics.variance(values))
        slack = 1e-9 * max(variance, min(most * most, 1e300) * 1e-5)
        return (
            (variance, slack)
            if name == "variance"
            else (math.sqrt(variance), max(1e-9 * math.sqrt(variance), math.sqrt(slack)))
        )
    if name == "percentile":
        ranked = sorted(values)
        place = query.percentile / 100 * (len(ranked) - 1)
        low, high = ranked[math.floor(place)], ranked[math.ceil(place)]
        return low + (high - low) * (place - math.floor(place)), 1e-9 * most
    total = math.fsum(values)
    made = {"sum": total, "avg": total / len(values), "min": min(values), "max": max(values), "count": float(len(values))}
    return made[name], 1e-9 * (math.fsum(map(abs, values)) if name in ("sum", "avg") else most)

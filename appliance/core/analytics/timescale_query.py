"""Questions to TimescaleDB or PostgreSQL (implements reading.AnalyticsStore)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appliance.core.analytics import buckets
from appliance.core.analytics.asking import Asked
from appliance.core.analytics.buckets import Bucket
from appliance.core.analytics.plan import Level, Part
from appliance.core.analytics.reading import TAG_ROWS, Span, gathered, row_of
from appliance.core.analytics.shape import Row, overflow
from appliance.core.analytics.sql import Statement, counting
from appliance.core.analytics.timescale import Database
from appliance.errors import DatabaseError

if TYPE_CHECKING:
    from asyncpg import Connection

LIMIT = 25.0
"""Seconds for one question."""
LEVELS = (
    Level("device_metrics", 0, 30), Level("device_metrics_hourly", 3600, 365), Level("device_metrics_daily", 86400, 365),
)  # fmt: skip
"""Of contracts.md, section 3."""
OUT_OF_RANGE = "22003"
"""SQLSTATE of a number that is larger than its type."""


class PostgresDialect:
    """PostgreSQL's SQL (implements sql.Dialect)."""

    listed = "array_agg"

    def start(self, column: str, bucket: Bucket) -> str:
        """Of PostgreSQL itself, so that it works without the extension."""
        if not bucket.seconds:
            return f"date_trunc('month', {column}, 'UTC')"
        origin = buckets.moment(buckets.micros(bucket.origin)).isoformat()
        return f"date_bin(INTERVAL '{bucket.seconds} seconds', {column}, TIMESTAMPTZ '{origin}')"

    def seconds(self, start: str) -> str:
        """A start is a time."""
        return f"CAST(extract(epoch FROM {start}) AS bigint)"

    def time(self, number: int) -> str:
        """A time is a parameter."""
        return f"${number}::timestamptz"

    def moment(self, micros: int) -> Any:
        """With its zone."""
        return buckets.moment(micros)

    def label(self, column: str) -> str:
        """Sorted by bytes, whatever the database sorts by."""
        return f"coalesce({column}, '') COLLATE \"C\""

    def tag(self, number: int) -> str:
        """By its name."""
        return f"(tags ->> ${number}::text)"

    def tag_name(self, name: str) -> str:
        """As it is."""
        return name

    def among(self, column: str, number: int) -> str:
        """A list is a parameter."""
        return f"{column} = ANY(${number}::text[])"

    def rolled_sum(self) -> str:
        """A roll-up has the average."""
        return "avg_value * count"

    def percentile(self, number: int) -> str:
        """Interpolated."""
        return f"percentile_cont(${number}::float8) WITHIN GROUP (ORDER BY x)"


class PostgresReader:
    """Reads through the pool.

    Args:
        database: The pool.
    """

    levels = LEVELS

    def __init__(self, database: Database) -> None:
        self._database = database
        self._dialect = PostgresDialect()

    @property
    def name(self) -> str:
        """Which of the two it is; "postgresql" before that is known."""
        schema = self._database.schema
        return "timescaledb" if schema is not None and schema.timescale else "postgresql"

    async def open(self) -> None:
        """Make sure that the tables are there. Raises DatabaseError."""
        await self._database.open()

    async def close(self) -> None:
        """Give the connections back."""
        await self._database.close()

    async def look(self) -> None:
        """One row at most."""
        await self._read("SELECT 1 FROM device_metrics LIMIT 1", [])

    async def rows(self, asked: Asked, parts: list[Part]) -> list[Row]:
        """The series. Raises QueryError, DatabaseError."""
        statement = Statement(asked, self._dialect)
        try:
            found = await self._read(statement.text(parts), statement.parameters)
        except DatabaseError as error:
            if error.sqlstate == OUT_OF_RANGE:
                raise overflow(asked) from error
            raise
        return [row_of(tuple(each), len(asked.query.group_by)) for each in found]

    async def count(self, level: Level, metric: str, since: int, until: int) -> int:
        """Readings that a table knows of between two moments, in microseconds."""
        moments = [buckets.moment(since), buckets.moment(until)]
        return int((await self._read(counting(level, self._dialect), [metric, *moments]))[0][0])

    async def reach(self) -> dict[str, int]:
        """Plain roll-ups are written with the readings, and TimescaleDB's add the newest readings themselves: each has all.

        But for readings that arrive late in a TimescaleDB: these are in its roll-ups from the next refresh on.
        """
        return {}

    async def metrics(self) -> list[str]:
        """Names of all metrics."""
        return [row[0] for row in await self._read(NAMES.format(column="metric_name", where="true"), [])]

    async def devices(self, metric: str | None) -> list[str]:
        """All devices, or those that have a metric."""
        where = "true" if metric is None else "metric_name = $1"
        return [row[0] for row in await self._read(NAMES.format(column="device_id", where=where), [metric] if metric else [])]

    async def tags(self, metric: str) -> dict[str, list[str]]:
        """Values by the name of their tag, from the newest readings of a metric."""
        return gathered(row[0] for row in await self._read(TAGS, [metric]))

    async def span(self, metric: str) -> Span | None:
        """From the first hour to the last one that has a metric."""
        ends = "extract(epoch FROM min(bucket))::float8, extract(epoch FROM max(bucket))::float8 + 3600"
        sql = f"SELECT {ends}, sum(count)::bigint FROM device_metrics_hourly WHERE metric_name = $1"  # noqa: S608
        ((since, until, count),) = await self._read(sql, [metric])
        return None if since is None else Span(since, until, count)

    async def _read(self, sql: str, parameters: list[Any]) -> list[Any]:
        async def work(connection: Connection) -> list[Any]:
            return list(await connection.fetch(sql, *parameters))

        return await self._database.run(work, LIMIT)


NAMES = 'SELECT DISTINCT {column} COLLATE "C" FROM device_metrics_daily WHERE {where} ORDER BY 1'
"""The days are the smallest table that has all names; all of it is read."""
TAGS = (
    "SELECT DISTINCT tags::text FROM (SELECT tags FROM device_metrics WHERE metric_name = $1 ORDER BY time DESC "  # noqa: S608
    f"LIMIT {TAG_ROWS}) AS newest WHERE tags IS NOT NULL"
)
"""Different sets of tags of the newest readings of a metric."""

"""Questions to the embedded store (implements reading.AnalyticsStore)."""

from __future__ import annotations

import asyncio
import itertools
import operator
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from appliance.core.analytics.asking import Asked
from appliance.core.analytics.buckets import Bucket
from appliance.core.analytics.duck import ROLLUPS, DuckStore
from appliance.core.analytics.model import Aggregation
from appliance.core.analytics.plan import Level, Part
from appliance.core.analytics.reading import TAG_ROWS, Span, gathered, row_of
from appliance.core.analytics.shape import Row
from appliance.core.analytics.sql import Statement, counting
from appliance.core.observe.spans import child, statement
from appliance.errors import QueryError

SECOND = 1_000_000
FEW = 5000
"""Rows of a roll-up that are put together here, on the loop: a few milliseconds; grouping in DuckDB takes as long for one."""
LIMIT = 25.0
"""Seconds for one question, with the wait for those before it; as for PostgreSQL."""

AGAIN = 0.05
"""Seconds between interrupts of a question that is to end."""


class Recorded(NamedTuple):
    """One event of readings, as it is kept: seconds since the epoch, device, id, metrics with values, tags as JSON."""

    time: float
    device: str
    event_id: str
    metrics: dict[str, float]
    tags: str | None


class DuckDialect:
    """DuckDB's SQL (implements sql.Dialect). Buckets are whole numbers: exact, and quicker than times."""

    listed = "list"

    def start(self, column: str, bucket: Bucket) -> str:
        """Microseconds, by division; months by the calendar."""
        if not bucket.seconds:
            return f"date_trunc('month', {column})"
        width, origin = bucket.seconds * SECOND, bucket.origin * SECOND
        return f"make_timestamptz((epoch_us({column}) - ({origin})) // {width} * {width} + ({origin}))"

    def seconds(self, start: str) -> str:
        """A start is a time."""
        return f"epoch_us({start}) // {SECOND}"

    def time(self, number: int) -> str:
        """From microseconds."""
        return f"make_timestamptz(${number}::BIGINT)"

    def moment(self, micros: int) -> Any:
        """As it is."""
        return micros

    def label(self, column: str) -> str:
        """DuckDB sorts by bytes."""
        return f"coalesce({column}, '')"

    def tag(self, number: int) -> str:
        """By its JSON pointer."""
        return f"json_extract_string(tags, ${number})"

    def tag_name(self, name: str) -> str:
        """A JSON pointer (RFC 6901)."""
        return "/" + name.replace("~", "~0").replace("/", "~1")

    def among(self, column: str, number: int) -> str:
        """A list is a parameter."""
        return f"list_contains(${number}::VARCHAR[], {column})"

    def rolled_sum(self) -> str:
        """Kept as it is."""
        return "sum_value"

    def percentile(self, number: int) -> str:
        """Interpolated, as SQL's percentile_cont."""
        return f"quantile_cont(x, ${number}::DOUBLE)"


class DuckReader:
    """Reads on a connection of its own, in a thread of its own: neither writes nor anybody else's threads wait for it.

    Args:
        duck: The store.
        keep_days: How long readings are kept.
    """

    name = "duckdb"

    def __init__(self, duck: DuckStore, keep_days: float) -> None:
        self._duck = duck
        self._dialect = DuckDialect()
        self._thread = ThreadPoolExecutor(1, "duck-read")
        rolled = (Level(table, {"minute": 60, "hour": 3600}[unit], days) for table, (unit, days) in ROLLUPS.items())
        self.levels = (Level("device_metrics", 0, keep_days), *rolled)

    async def open(self) -> None:
        """It is opened by who writes there."""

    async def close(self) -> None:
        """It is closed by who writes there."""

    async def look(self) -> None:
        """One row at most."""
        await self._read("SELECT 1 FROM device_metrics LIMIT 1", [])

    async def rows(self, asked: Asked, parts: list[Part]) -> list[Row]:
        """The series. Raises QueryError, StoreError."""
        width = parts[0].level.width
        if len(parts) == 1 and width and width == asked.bucket.seconds:  # grouped by the device at most: it has no tags
            few = await self._few(asked, parts[0])
            if few is not None:
                return few
        statement = Statement(asked, self._dialect)
        text = statement.text(parts)
        return [row_of(each, len(asked.query.group_by)) for each in await self._read(text, statement.parameters)]

    async def _few(self, asked: Asked, part: Part) -> list[Row] | None:
        """The same from a roll-up's own buckets, put together here: quicker where they are few; None where they are not."""
        statement = Statement(asked, self._dialect)
        text = statement.as_they_are(part, FEW + 1)
        ((*labels, starts, values, counts),) = await self._read(text, statement.parameters)
        if starts is None:
            return []
        return None if len(starts) > FEW else joined(asked, labels[0] if labels else None, starts, values, counts)

    async def count(self, level: Level, metric: str, since: int, until: int) -> int:
        """Readings that a table knows of between two moments, in microseconds."""
        return int((await self._read(counting(level, self._dialect), [metric, since, until]))[0][0])

    async def reach(self) -> dict[str, int]:
        """Roll-ups are written with the readings: each has all."""
        return {}

    async def metrics(self) -> list[str]:
        """Names of all metrics."""
        return [name for (name,) in await self._read("SELECT DISTINCT metric_name FROM device_metrics_hourly ORDER BY 1", [])]

    async def devices(self, metric: str | None) -> list[str]:
        """All devices, or those that have a metric."""
        where = "" if metric is None else "WHERE metric_name = $1 "
        sql = f"SELECT DISTINCT device_id FROM device_metrics_hourly {where}ORDER BY 1"  # noqa: S608
        return [name for (name,) in await self._read(sql, [] if metric is None else [metric])]

    async def tags(self, metric: str) -> dict[str, list[str]]:
        """Values by the name of their tag, from the newest readings of a metric."""
        return gathered(text for (text,) in await self._read(TAGS, [metric]))

    async def span(self, metric: str) -> Span | None:
        """From the first hour to the last one that has a metric."""
        numbers = "epoch(min(bucket)), epoch(max(bucket)) + 3600, sum(count)::BIGINT"
        sql = f"SELECT {numbers} FROM device_metrics_hourly WHERE metric_name = $1"  # noqa: S608
        ((since, until, count),) = await self._read(sql, [metric])
        return None if since is None else Span(float(since), float(until), int(count))

    async def newest(self, limit: int) -> list[Recorded]:
        """The newest events with their readings, newest first. Raises QueryError, StoreError."""
        rows = await self._read(NEWEST, [limit])
        return [Recorded(row[0], row[1], row[2], dict(zip(row[3], row[4], strict=True)), row[5]) for row in rows]

    async def _read(self, sql: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
        """Rows; a reader that goes away, or waits too long, ends the work."""
        stop = threading.Event()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(LIMIT):
                with child("duckdb", kind="client") as span:
                    if span.sampled:
                        span.set({"db.system.name": "duckdb", **statement(sql)})
                    return await loop.run_in_executor(self._thread, self._duck.read, sql, parameters, stop)
        except TimeoutError:
            self._end(stop)
            raise QueryError(
                f"The embedded store has no answer within {LIMIT:g} s.", "ask for a shorter range, or again when less is asked."
            ) from None
        except asyncio.CancelledError:
            self._end(stop)
            raise

    def _end(self, stop: threading.Event) -> None:
        """Interrupt a question until it has ended."""
        if self._duck.interrupt(stop):
            asyncio.get_running_loop().call_later(AGAIN, self._end, stop)


def joined(asked: Asked, labels: list[str] | None, starts: list[int], values: list[float], counts: list[int]) -> list[Row]:
    """Rows of a roll-up as series: those of one bucket (of several devices, where these are not told apart) as one."""
    join = {Aggregation.min: min, Aggregation.max: max}.get(asked.query.aggregation, operator.add)
    lines: dict[str, dict[int, tuple[float, int]]] = {}
    for label, start, value, count in zip(labels or itertools.repeat(""), starts, values, counts, strict=False):
        line = lines.setdefault(label, {})
        known = line.get(start)
        line[start] = (value, count) if known is None else (join(known[0], value), known[1] + count)
    average = asked.query.aggregation is Aggregation.avg
    found = []
    for label, line in lines.items():
        numbers = tuple(zip(*line.values(), strict=True))
        found.append(Row((label,) if labels else (), tuple(line), numbers if average else numbers[:1]))
    return found


NEWEST = (
    "SELECT epoch(time), device_id, event_id::VARCHAR, list(metric_name), list(value), any_value(tags)::VARCHAR "
    "FROM device_metrics WHERE time >= (SELECT min(moment) FROM (SELECT DISTINCT time AS moment FROM device_metrics "
    "ORDER BY moment DESC LIMIT $1)) GROUP BY time, device_id, event_id ORDER BY time DESC, event_id LIMIT $1"
)
"""Events of the newest moments: these first, so that no more readings are gathered than are handed over."""
TAGS = (
    "SELECT DISTINCT tags::VARCHAR FROM (SELECT tags FROM device_metrics WHERE metric_name = $1 ORDER BY time DESC "  # noqa: S608
    f"LIMIT {TAG_ROWS}) AS newest WHERE tags IS NOT NULL"
)
"""Different sets of tags of the newest readings of a metric."""

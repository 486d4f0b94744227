"""What can be asked about the past, and the answers. None is "not known"."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Aggregation(StrEnum):
    """What becomes of the values in one bucket. Sample statistics: stddev and variance divide by n - 1."""

    sum = "sum"
    avg = "avg"
    min = "min"
    max = "max"
    count = "count"  # type: ignore[assignment]  # str.count gives way: nobody counts in a name
    percentile = "percentile"
    """Continuous (linearly interpolated), as PostgreSQL's percentile_cont and DuckDB's quantile_cont."""
    stddev = "stddev"
    variance = "variance"


class Fill(StrEnum):
    """What stands in buckets without values."""

    none = "none"
    """They are left out."""
    null = "null"
    previous = "previous"
    """The value of the bucket before, where there is one."""
    linear = "linear"
    """On the straight line between the neighbours; null at the ends."""


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """One question about a metric.

    Attributes:
        metric: Its name.
        since: First moment, seconds since the epoch; the bucket that it lies in is whole.
        until: First moment that is not asked for any more.
        aggregation: What becomes of a bucket's values.
        bucket: Width: a number with s, m, h, d, w or mo (calendar month, UTC), from 1s to 1mo. Buckets are aligned to the
            epoch (weeks: Monday; months: the first), in UTC.
        percentile: From 0 to 100, where the aggregation is percentile.
        devices: Only these; empty for all.
        tags: Only readings that carry all of these.
        group_by: "device_id", or "tag:NAME"; one series for each combination.
        fill: What stands in empty buckets.
        top: Only so many series, those with the greatest mean; 0 for all.
    """

    metric: str
    since: float
    until: float
    aggregation: Aggregation = Aggregation.avg
    bucket: str = "1m"
    percentile: float = 95.0
    devices: tuple[str, ...] = ()
    tags: dict[str, str] = {}
    group_by: tuple[str, ...] = ()
    fill: Fill = Fill.none
    top: int = 0


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an answer."""

    labels: dict[str, str]
    """By what it was grouped; empty where it was not."""
    points: tuple[tuple[float, float | None], ...]
    """(bucket start, seconds since the epoch; value), oldest first."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a query found."""

    query: Query
    series: tuple[Series, ...]
    store: str
    """"duckdb", "timescaledb" or "postgresql"."""
    source: str
    """The table that was read: the raw one, or a roll-up."""
    cached: bool
    elapsed_ms: float
    as_of: float
    """Wall clock of the reading from the store; older than now where the answer was cached."""
    cut: bool = False
    """There was more than may be returned."""
    kept_since: float | None = None
    """Buckets before this (seconds since the epoch) were asked for and are left out: not all of them is kept any more."""


class QualityFinding(msgspec.Struct, frozen=True, kw_only=True):
    """Something wrong with the data of one metric of one device."""

    check: str
    """"gap", "duplicate", "out_of_range" or "late"."""
    metric: str
    device_id: str
    since: float
    """Wall clock of the first occurrence."""
    until: float | None
    """Of the last one; None while it goes on."""
    count: int
    detail: str
    gone: bool = False
    """It did not end by good readings: the metric stayed away for a day, or had to make room."""


class QueryStats(msgspec.Struct, frozen=True, kw_only=True):
    """Section.analytics: queries since the start."""

    store: str = ""
    """The newest one's."""
    total: int = 0
    cached: int = 0
    """Answered from the memory."""
    errors: int = 0
    """Refused, or failed by the store."""
    p50_ms: float | None = None
    p95_ms: float | None = None
    cache_failures: int = 0
    """Times that the memory failed; the queries were answered all the same."""

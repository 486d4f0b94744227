"""From a store's rows to an answer's series: the same for every store, so that their answers cannot differ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from appliance.core.analytics.asking import DEVICE, POINTS, TAG, Asked
from appliance.core.analytics.model import Aggregation, Fill, Series
from appliance.errors import QueryError

ROWS = 300_000
"""Most buckets that a store hands over where series are to be ranked; without a rank, one more than an answer may have."""
DIGITS = 12
"""Of a mean by which series are ranked: what differs beyond them is how a store added up."""
Point = tuple[float, float | None]


class Row(NamedTuple):
    """One series as a store hands it over.

    Attributes:
        labels: In the order of the query's group_by.
        starts: Of its buckets that have readings, seconds since the epoch.
        values: One list for each number of a bucket: for the average the sum and the count, else the number itself.
    """

    labels: tuple[str, ...]
    starts: Sequence[int]
    values: tuple[Sequence[float | None], ...]


def limit(asked: Asked) -> int:
    """Most buckets that a store is to hand over."""
    return (ROWS if asked.query.top else POINTS) + 1


def shape(asked: Asked, rows: Sequence[Row]) -> tuple[tuple[Series, ...], bool]:
    """The series, filled, ranked and bounded; and whether there was more.

    Raises:
        QueryError: Values are too large to be added up, or there are too many to rank.
    """
    handed = sum(len(row.starts) for row in rows)
    cut = handed >= limit(asked)
    if cut and asked.query.top:
        raise QueryError(
            f"More than {ROWS:,} points would have to be ranked.", "ask for a shorter range, wider buckets, or fewer devices."
        )
    kept = sorted(rows[:-1] if cut else rows, key=lambda row: row.labels)  # the last one may be cut off anywhere
    lines = [(row.labels, _points(asked, row)) for row in kept if row.starts]
    if asked.query.top:
        lines = sorted(lines, key=lambda line: (-_mean(line[1]), line[0]))[: asked.query.top]
    room = POINTS
    found: list[Series] = []
    starts = [float(start) for start in _grid(asked)] if asked.query.fill is not Fill.none else []
    for labels, points in lines:
        filled = _fill(points, starts, asked.query.fill)
        if len(filled) > room:
            return tuple(found), True
        room -= len(filled)
        found.append(Series(labels=named(asked, labels), points=filled))
    return tuple(found), cut


def named(asked: Asked, labels: Sequence[str]) -> dict[str, str]:
    """Labels by what was grouped: device_id, and tags by their own names, but for a tag that is called device_id."""
    names = (by if by in (DEVICE, TAG + DEVICE) else by.removeprefix(TAG) for by in asked.query.group_by)
    return dict(zip(names, labels, strict=True))


def _grid(asked: Asked) -> Iterator[int]:
    return asked.bucket.starts(asked.query.since, asked.query.until)


def _points(asked: Asked, row: Row) -> list[Point]:
    if asked.query.aggregation is Aggregation.avg:
        sums, counts = row.values
        values: Sequence[float | None] = [
            total / count if total is not None and count else None for total, count in zip(sums, counts, strict=True)
        ]
    else:
        (values,) = row.values
    points = [(float(start), value) for start, value in zip(row.starts, values, strict=True)]
    if any(value is not None and not math.isfinite(value) for value in values):
        raise overflow(asked)
    if any(before[0] > after[0] for before, after in pairwise(points)):
        points.sort()
    return points


def overflow(asked: Asked) -> QueryError:
    """Said where a number is larger than a float can be."""
    return QueryError(
        f"The values of {asked.query.metric} are too large for {asked.query.aggregation.value}.",
        "ask for min, max or count, or for other devices.",
    )


def _mean(points: Sequence[Point]) -> float:
    """Of the buckets that have a number, to so many digits; without one the least there is."""
    values = [value for _, value in points if value is not None]
    if not values:
        return -math.inf
    return float(f"{math.fsum(value / len(values) for value in values):.{DIGITS}g}")


def _fill(points: Sequence[Point], starts: Sequence[float], fill: Fill) -> tuple[Point, ...]:
    if fill is Fill.none:
        return tuple(points)
    known = dict(points)
    if fill is Fill.null:
        return tuple((start, known.get(start)) for start in starts)
    return tuple(_previous(known, starts) if fill is Fill.previous else _linear(known, starts))


def _previous(known: dict[float, float | None], starts: Sequence[float]) -> Iterator[Point]:
    """Empty buckets take the last number before them; one that has readings but no number (stddev of one) keeps none."""
    last: float | None = None
    for start in starts:
        value = known.get(start, last)
        yield start, value
        last = last if value is None else value


def _linear(known: dict[float, float | None], starts: Sequence[float]) -> Iterator[Point]:
    """Empty buckets lie on the line between the numbers around them."""
    after: list[tuple[float, float] | None] = [None] * len(starts)
    coming: tuple[float, float] | None = None
    for index in range(len(starts) - 1, -1, -1):
        after[index] = coming
        value = known.get(starts[index])
        coming = coming if value is None else (starts[index], value)
    before: tuple[float, float] | None = None
    for start, later in zip(starts, after, strict=True):
        if start in known:
            value = known[start]
            before = before if value is None else (start, value)
            yield start, value
        elif before is None or later is None:
            yield start, None
        else:
            share = (start - before[0]) / (later[0] - before[0])
            yield start, before[1] * (1 - share) + later[1] * share

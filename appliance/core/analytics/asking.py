"""From what somebody asks to a query that can be answered: parsed, bounded, and always written the same way."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from appliance.core.analytics import buckets
from appliance.core.analytics.buckets import Bucket
from appliance.core.analytics.model import Aggregation, Query
from appliance.errors import QueryError

POINTS = 100_000
"""Most points of an answer."""
LATEST = 253_402_300_800.0
"""The first moment of the year 10000, which no store can name."""
NAME = 256
"""Longest name of a metric, device or tag, characters."""
DEVICE = "device_id"
TAG = "tag:"
MERGED = frozenset({Aggregation.sum, Aggregation.avg, Aggregation.min, Aggregation.max, Aggregation.count})
"""Those that can be made of the parts of a bucket; the others need its readings."""


class Asked(NamedTuple):
    """A checked query.

    Attributes:
        query: Written the one way: `since` at its bucket's start, lists sorted.
        bucket: Its width.
        since: Microseconds since the epoch, a bucket's start.
        until: Microseconds.
    """

    query: Query
    bucket: Bucket
    since: int
    until: int

    @property
    def tagged(self) -> bool:
        """Whether tags matter, which only readings carry."""
        return bool(self.query.tags) or any(by.startswith(TAG) for by in self.query.group_by)

    @property
    def merges(self) -> bool:
        """Whether roll-ups can answer it, where their width fits."""
        return self.query.aggregation in MERGED and not self.tagged


def check(query: Query) -> Asked:
    """Check a query as far as that goes without the store.

    Raises:
        QueryError: Says what is wrong with it, and what to ask instead.
    """
    bucket = buckets.parse(query.bucket)
    _check_range(query, bucket)
    if query.aggregation is Aggregation.percentile and not 0 <= query.percentile <= 100:  # NaN is not, either
        raise QueryError(f"There is no {query.percentile:g}th percentile.", "give one from 0 to 100.")
    if not 0 <= query.top <= 1000:
        raise QueryError(f"The greatest {query.top} series cannot be told.", "give top from 1 to 1000, or 0 for all.")
    _check_names(query)
    since = bucket.floor(query.since)
    plain = msgspec.structs.replace(
        query,
        since=float(since),
        bucket=bucket.text,
        percentile=query.percentile if query.aggregation is Aggregation.percentile else 95.0,
        devices=tuple(sorted(set(query.devices))),
        tags=dict(sorted(query.tags.items())),
        group_by=tuple(dict.fromkeys(query.group_by)),
    )
    return Asked(plain, bucket, buckets.micros(since), buckets.micros(query.until))


def _check_range(query: Query, bucket: Bucket) -> None:
    if not (math.isfinite(query.since) and math.isfinite(query.until)):
        raise QueryError("The range has no beginning or no end.", "give since and until, or a range such as 1h.")
    if query.since >= query.until:
        raise QueryError("The range ends before it begins.", "give a since that is before until.")
    if query.since < 0 or query.until >= LATEST:
        raise QueryError("The range leaves the years 1970 to 9999.", "give since and until within them.")
    if (query.until - bucket.floor(query.since)) / bucket.least > POINTS:
        better = buckets.wider(query.since, query.until, POINTS)
        raise QueryError(
            f"Buckets of {bucket.text} over that range are more than {POINTS:,} points.",
            f"ask for a shorter range, or for buckets of {better} or more.",
        )


def _check_names(query: Query) -> None:
    names = (query.metric, *query.devices, *query.tags.keys(), *query.tags.values(), *query.group_by)
    if not query.metric or any(len(name) > NAME or not (name.isprintable() and _encodes(name)) for name in names):
        raise QueryError(
            f"A name is empty, longer than {NAME} characters, or not printable.", "see `prime-spark analytics metrics`."
        )
    if len(query.devices) > 1000 or len(query.tags) > 16 or len(query.group_by) > 4:
        raise QueryError("Too much is asked at once.", "give at most 1000 devices, 16 tags, and 4 names to group by.")
    for by in query.group_by:
        if by != DEVICE and not (by.startswith(TAG) and len(by) > len(TAG)):
            raise QueryError(f"Nothing can be grouped by {by!r}.", "group by device_id or tag:NAME.")


def _encodes(name: str) -> bool:
    """Whether it is text at all: a lone surrogate is not."""
    return not any("\ud800" <= char <= "\udfff" for char in name)


def time_of(text: str) -> float:
    """A moment as RFC 3339, or as seconds since the epoch. Raises QueryError."""
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text, re.ASCII):
        return float(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise QueryError(f"{text[:40]!r} is no moment.", "give one as 2026-03-01T12:00:00Z (RFC 3339).") from None
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()


def range_of(
    bucket: str, now: float, range_: str | None, since: str | None, until: str | None, default: str = "1h"
) -> tuple[float, float]:
    """(since, until) in seconds, of a length up to now, or of two moments.

    A range that reaches to now ends with the bucket that now lies in: nothing is later, and the same question a moment
    later is the same query, which a cache can answer.

    Raises:
        QueryError: Both are given, or one is wrong.
    """
    if range_ and since:
        raise QueryError("Both a range and a beginning are given.", "give range, or since and until.")
    end = float(buckets.parse(bucket).ceil(now)) if until is None else time_of(until)
    if since:
        return time_of(since), end
    return max(0.0, (now if until is None else end) - buckets.span(range_ or default)), end


def pairs(texts: Sequence[str]) -> dict[str, str]:
    """Tags given as name=value. Raises QueryError."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise QueryError(f"{text[:80]!r} is no tag.", "give it as NAME=VALUE.")
        if found.setdefault(name, value) != value:
            raise QueryError(f"The tag {name} is given twice.", "a reading has one value of it: give one.")
    return found

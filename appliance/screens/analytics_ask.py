"""What the Analytics page asks: a metric, a range that can be moved and zoomed, a bucket that fits the screen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

BUCKETS: tuple[tuple[str, int], ...] = (
    ("1s", 1), ("2s", 2), ("5s", 5), ("10s", 10), ("15s", 15), ("30s", 30), ("1m", 60), ("2m", 120), ("5m", 300),
    ("10m", 600), ("15m", 900), ("30m", 1800), ("1h", 3600), ("2h", 7200), ("3h", 10800), ("6h", 21600), ("12h", 43200),
    ("1d", 86400), ("1w", 604800), ("1mo", 31 * 86400),
)  # fmt: skip
"""(name, seconds)."""
RANGES: tuple[tuple[str, str, float], ...] = (
    ("1", "15 min", 900.0), ("2", "1 h", 3600.0), ("3", "6 h", 6 * 3600.0), ("4", "24 h", 86400.0), ("5", "7 d", 7 * 86400.0),
    ("6", "30 d", 30 * 86400.0),
)  # fmt: skip
"""(key, words, seconds)."""
AGGREGATIONS: tuple[tuple[str, str, float], ...] = (
    ("avg", "avg", 95.0), ("min", "min", 95.0), ("max", "max", 95.0), ("sum", "sum", 95.0), ("count", "count", 95.0),
    ("p50", "percentile", 50.0), ("p90", "percentile", 90.0), ("p95", "percentile", 95.0), ("p99", "percentile", 99.0),
    ("stddev", "stddev", 95.0), ("variance", "variance", 95.0),
)  # fmt: skip
"""(name, aggregation, percentile)."""
LINES = 6
"""Most lines of a plot: more cannot be told apart."""
SHORTEST, LONGEST = 10.0, 10 * 365 * 86400.0
"""Seconds of the range."""
FIRST = ("cpu_usage", "temperature_c", "memory_usage")
"""Metrics to begin with, where they are there."""
FASTEST, SLOWEST = 2.0, 60.0
"""Seconds between two readings while the end of the range is now."""


@dataclass(frozen=True)
class Ask:
    """One question; every change is a new one.

    Attributes:
        metric: Its name; "" before one is known.
        aggregation: Name in AGGREGATIONS.
        length: Of the range, seconds.
        until: Its end; None for now.
        bucket: Name in BUCKETS; "" for what fits.
        devices: Only these; empty for all.
        compare: One line for each device.
    """

    metric: str = ""
    aggregation: str = "avg"
    length: float = 3600.0
    until: float | None = None
    bucket: str = ""
    devices: tuple[str, ...] = ()
    compare: bool = False

    def width_of(self, columns: int) -> tuple[str, int]:
        """The bucket: (name, seconds).

        Args:
            columns: Points that a line has room for.
        """
        if self.bucket:
            return next((each for each in BUCKETS if each[0] == self.bucket), (self.bucket, 60))
        return next((each for each in BUCKETS if self.length / each[1] <= max(1, columns)), BUCKETS[-1])

    def window(self, now: float) -> tuple[float, float]:
        """(since, until)."""
        until = self.until if self.until is not None else now
        return max(0.0, until - self.length), until

    def arguments(self, now: float, columns: int) -> dict[str, Any]:
        """Of `analytics.query`."""
        since, until = self.window(now)
        name, seconds = self.width_of(columns)
        _, aggregation, percentile = next(each for each in AGGREGATIONS if each[0] == self.aggregation)
        edge = until if self.until is not None or seconds > 86400 else (until // seconds + 1) * seconds
        return {
            "metric": self.metric, "agg": aggregation, "percentile": percentile, "bucket": name, "device": list(self.devices),
            "since": f"{max(0.0, since):.0f}", "until": f"{edge:.0f}", "by": ["device_id"] if self.compare else [],
            "top": LINES if self.compare else 0, "fill": "null",
        }  # fmt: skip

    def zoomed(self, factor: float, around: float, now: float) -> Ask:
        """The range longer or shorter by a factor; a moment stays where it is.

        Args:
            factor: Above 1 shows more time.
            around: The moment, seconds since the epoch.
            now: The range ends there at the latest.
        """
        since, until = self.window(now)
        length = max(SHORTEST, min(LONGEST, self.length * factor))
        share = (until - around) / max(1e-9, until - since)
        end = around + length * share
        at_end = self.until is None and share <= 0.02
        return replace(self, length=length, until=None if at_end or end >= now else end)

    def moved(self, by: float, now: float) -> Ask:
        """The range earlier (by < 0) or later, by a share of its length."""
        end = self.window(now)[1] + by * self.length
        return replace(self, until=None if end >= now else max(self.length, end))

    def pause(self, columns: int) -> float:
        """Seconds until the answer is worth another reading."""
        return max(FASTEST, min(SLOWEST, self.width_of(columns)[1] / 2))


def first_of(known: Sequence[str]) -> str:
    """The metric to begin with; "" where there is none."""
    return next((name for name in FIRST if name in known), next(iter(known), ""))


UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def seconds_of(text: str) -> float | None:
    """A length such as "90m" or "3d"; None where it is none."""
    found = re.fullmatch(r"\s*(\d{1,6}(?:\.\d+)?)\s*([smhdw])\s*", text)
    return float(found[1]) * UNITS[found[2]] if found is not None else None

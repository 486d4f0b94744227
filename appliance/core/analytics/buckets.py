"""Widths of time: parsing, and where their buckets begin. All in UTC; the epoch's week began on a Thursday, ours on Monday."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from appliance.errors import QueryError

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
"""Seconds of each unit; a month (mo) has none."""
LONGEST = 31 * 86400
"""Seconds; no bucket is wider, but for the calendar month, which is not wider either."""
MONDAY = -3 * 86400
"""The Monday before the epoch: where weeks are counted from."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WIDTH = re.compile(r"([0-9]{1,7})(mo|[smhdw])", re.ASCII)
COMMON = ("1s", "5s", "10s", "30s", "1m", "5m", "15m", "30m", "1h", "6h", "12h", "1d", "1w", "1mo")


class Bucket(NamedTuple):
    """A width of time.

    Attributes:
        text: As it is written shortest.
        seconds: 0 for the calendar month.
        origin: Where its buckets are counted from, seconds since the epoch.
    """

    text: str
    seconds: int
    origin: int = 0

    @property
    def least(self) -> int:
        """The shortest that one of its buckets is, seconds."""
        return self.seconds or 28 * 86400

    def floor(self, moment: float) -> int:
        """Start of the bucket that a moment lies in, seconds since the epoch."""
        if self.seconds:
            return (math.floor(moment) - self.origin) // self.seconds * self.seconds + self.origin
        at = _utc(math.floor(moment))
        return int(datetime(at.year, at.month, 1, tzinfo=UTC).timestamp())

    def ceil(self, moment: float) -> int:
        """The first start that is not before a moment."""
        start = self.floor(moment)
        return start if start >= moment else self.after(start)

    def after(self, start: int) -> int:
        """Start of the next bucket."""
        return start + self.seconds if self.seconds else self.floor(start + 32 * 86400)

    def starts(self, since: float, until: float) -> Iterator[int]:
        """Starts of all buckets from the one that `since` lies in to the last one that begins before `until`."""
        start = self.floor(since)
        while start < until:
            yield start
            start = self.after(start)

    def divides(self, width: int) -> bool:
        """Whether each of its buckets is made of whole spans of `width` seconds (which divide a day)."""
        return not self.seconds or self.seconds % width == 0


def parse(text: str) -> Bucket:
    """A width such as 5s, 1m, 6h, 1d, 1w or 1mo.

    Raises:
        QueryError: It is none, or not between one second and one month.
    """
    found = WIDTH.fullmatch(text.strip())
    if found is None:
        near = difflib.get_close_matches(text, COMMON, n=1, cutoff=0.3)
        hint = f"did you mean {near[0]}? " if near else ""
        raise QueryError(f"{text[:40]!r} is no width of time.", f"{hint}Give a number with s, m, h, d, w or mo, such as 5m.")
    count, unit = int(found[1]), found[2]
    if unit == "mo":
        if count != 1:
            raise QueryError(f"Buckets of {count} months are not made.", "the widest is 1mo.")
        return Bucket("1mo", 0)
    seconds = count * UNITS[unit]
    if not 1 <= seconds <= LONGEST:
        raise QueryError(f"Buckets of {text} are not made.", "give a width from 1s to 1mo.")
    return Bucket(_text(seconds, unit), seconds, MONDAY if unit == "w" else 0)


def _text(seconds: int, unit: str) -> str:
    """The same width always gets the same words; weeks stay weeks, as they begin elsewhere than seven days do."""
    if unit == "w":
        return f"{seconds // UNITS['w']}w"
    name = next(each for each in ("d", "h", "m", "s") if seconds % UNITS[each] == 0)
    return f"{seconds // UNITS[name]}{name}"


def wider(since: float, until: float, points: int) -> str:
    """The narrowest common width that cuts a range into at most so many buckets."""
    return next((each for each in COMMON if (until - since) / parse(each).least + 2 <= points), "1mo")


def span(text: str) -> float:
    """A length of time such as 90s, 1h, 7d or 1mo (30 days), in seconds. Raises QueryError."""
    found = WIDTH.fullmatch(text.strip())
    if found is None or int(found[1]) == 0:
        raise QueryError(f"{text[:40]!r} is no length of time.", "give a number with s, m, h, d, w or mo, such as 1h.")
    return float(int(found[1]) * (30 * 86400 if found[2] == "mo" else UNITS[found[2]]))


def micros(moment: float) -> int:
    """Seconds as whole microseconds, which is what the stores keep."""
    return round(moment * 1_000_000)


def moment(micro: int) -> datetime:
    """Microseconds since the epoch as a time in UTC, exactly."""
    return EPOCH + timedelta(microseconds=micro)


def _utc(seconds: int) -> datetime:
    return EPOCH + timedelta(seconds=seconds)

"""Schedules: times of the week, by the clock on the wall where the node stands.

"mon-fri 08:00-18:00; sat,sun 22:00-06:00": parts with ";" between, each days (all where none are named) and times. A time
span that ends before it begins goes on into the next day; one that ends when it begins lasts the whole day.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
PART = re.compile(r"(?:([a-z]{3}(?:[-,][a-z]{3})*)\s+)?(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})")
WHOLE_DAYS = re.compile(r"[a-z]{3}(?:[-,][a-z]{3})*")
DAY = 1440
"""Minutes."""
MOST = 20
HINT = 'write it as "mon-fri 08:00-18:00; sat,sun 22:00-06:00"; without days it holds on all of them.'


class Span(NamedTuple):
    """Minutes of the days on which it begins; `end` is beyond 1440 where it goes on into the next day."""

    days: frozenset[int]
    begin: int
    end: int


class ScheduleError(ValueError):
    """A text that is no schedule."""


def parse(text: str) -> tuple[Span, ...]:
    """The spans of a schedule; none for an empty text, which means always. Raises ScheduleError."""
    parts = [part.strip() for part in text.lower().split(";") if part.strip()]
    if len(parts) > MOST:
        raise ScheduleError(f"a schedule has {MOST} parts at most; this one has {len(parts)}.")
    return tuple(_span(part) for part in parts)


def _span(part: str) -> Span:
    if WHOLE_DAYS.fullmatch(part):
        return Span(_days(part), 0, DAY)
    found = PART.fullmatch(part)
    if found is None:
        raise ScheduleError(f"{part[:40]!r} is no part of a schedule; {HINT}")
    begin, end = (_minute(int(found[index]), int(found[index + 1]), part) for index in (2, 4))
    return Span(_days(found[1]) if found[1] else frozenset(range(7)), begin, end if end > begin else end + DAY)


def _minute(hour: int, minute: int, part: str) -> int:
    if hour > 24 or minute > 59 or (hour == 24 and minute):
        raise ScheduleError(f"{part[:40]!r} has a time that no clock shows; {HINT}")
    return hour * 60 + minute


def _days(text: str) -> frozenset[int]:
    found: set[int] = set()
    for piece in text.split(","):
        names = piece.split("-")
        if len(names) > 2 or any(name not in DAYS for name in names):
            raise ScheduleError(f"{piece[:20]!r} is no day; the days are {', '.join(DAYS)}, or a span such as mon-fri.")
        first, last = DAYS.index(names[0]), DAYS.index(names[-1])
        found |= {(first + step) % 7 for step in range((last - first) % 7 + 1)}
    return frozenset(found)


def zone(name: str) -> tzinfo | None:
    """The time zone of that name; None for the machine's own. Raises ScheduleError."""
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ScheduleError(f"{name[:60]!r} is no time zone; write one such as Europe/Berlin.") from error


def local(wall: float, where: tzinfo | None) -> datetime:
    """What the clock on the wall shows there; daylight saving included."""
    return datetime.fromtimestamp(wall, where) if where is not None else datetime.fromtimestamp(wall).astimezone()


def holds(spans: tuple[Span, ...], moment: datetime) -> bool:
    """Whether the schedule holds at a local time; an empty one always does."""
    minute, today = moment.hour * 60 + moment.minute, moment.weekday()
    yesterday = (today - 1) % 7
    return not spans or any(
        (today in span.days and span.begin <= minute < span.end) or (yesterday in span.days and minute + DAY < span.end)
        for span in spans
    )


def next_begin(spans: tuple[Span, ...], moment: datetime) -> datetime | None:
    """The next time, within eight days, at which a span begins; None where there is none."""
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    begins = [
        midnight + timedelta(days=ahead, minutes=span.begin)
        for ahead in range(9)
        for span in spans
        if (midnight + timedelta(days=ahead)).weekday() in span.days
    ]
    return min((begin for begin in begins if begin > moment), default=None)

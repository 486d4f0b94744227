"""Which tables answer a query: the coarsest roll-up that gives the same answer, and finer ones for what it lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from appliance.core.analytics.asking import Asked

SECOND = 1_000_000


class Level(NamedTuple):
    """One table of readings.

    Attributes:
        table: Its name.
        width: Seconds that one of its rows stands for; 0 for the readings themselves.
        keep: Days that its rows are kept.
    """

    table: str
    width: int
    keep: float


class Part(NamedTuple):
    """A piece of the range from one table; microseconds since the epoch."""

    level: Level
    since: int
    until: int


def parts(asked: Asked, levels: Sequence[Level], reach: Mapping[str, int], now: float) -> list[Part]:
    """The range cut into pieces, oldest first.

    Args:
        asked: The query.
        levels: Tables, the readings first, then ever wider roll-ups.
        reach: Roll-up table → the moment (microseconds) up to which it has all readings; one that is not named has all.
        now: Wall clock, seconds since the epoch.
    """
    fitting = [level for level in levels if not level.width or (asked.merges and asked.bucket.divides(level.width))]
    return _cover(fitting, asked.since, asked.until, reach, now)


def _cover(fitting: Sequence[Level], since: int, until: int, reach: Mapping[str, int], now: float) -> list[Part]:
    """From the widest table what that has whole; the ends from the finer ones."""
    if since >= until:
        return []
    *finer, level = fitting
    if not finer:
        return [Part(level, since, until)]
    step = level.width * SECOND
    begin, end = since, min(until, reach.get(level.table, until)) // step * step
    if any(each.keep > level.keep for each in finer):  # older rows are deleted here, and there are better ones
        begin = max(begin, -(-round((now - level.keep * 86400) * SECOND) // step) * step)
    if begin >= end:
        return _cover(finer, since, until, reach, now)
    older, newer = _cover(finer, since, begin, reach, now), _cover(finer, end, until, reach, now)
    return [*older, Part(level, begin, end), *newer]


def rounded(asked: Asked, levels: Sequence[Level], lacking: Level) -> list[Part]:
    """The range from the roll-up that is kept longest, with all of its last row; empty where none is kept longer and fits."""
    longer = [level for level in levels if level.width and level.keep > lacking.keep]
    fitting = [level for level in longer if asked.merges and asked.bucket.divides(level.width)]
    if not fitting:
        return []
    level = max(fitting, key=lambda each: each.keep)
    step = level.width * SECOND
    return [Part(level, asked.since, -(-asked.until // step) * step)]


def first_whole(asked: Asked, levels: Sequence[Level], now: float) -> int:
    """Start (microseconds) of the first bucket that no table has lost a part of, as far as times to keep tell."""
    longest = max(level.keep for level in levels)
    return asked.bucket.ceil(max(0.0, now - longest * 86400)) * SECOND


def source(found: Sequence[Part]) -> str:
    """The tables, as an answer names them."""
    return " + ".join(dict.fromkeys(part.level.table for part in found))


def doubtful(found: Sequence[Part], levels: Sequence[Level], now: float) -> list[tuple[Part, Level]]:
    """Pieces that reach back to where their table's rows may be deleted already, with the table that knows longest."""
    told = []
    for part in found:
        wider = [level for level in levels if level.width > part.level.width and level.keep > part.level.keep]
        if wider and part.since < (now - part.level.keep * 86400) * SECOND:
            told.append((part, max(wider, key=lambda level: level.keep)))
    return told

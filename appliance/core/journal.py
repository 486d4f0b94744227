"""The SQL of the journal's bounds: which events go when there are too many, and what still waits for a reader."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from appliance.core.streams.model import Priority

Places = tuple[int, ...]
"""By class, the number up to which a reader has all events."""
NOWHERE: Places = (0,) * len(Priority)
Drops = dict[str, dict[Priority, int]]
"""By reader and class, events that were given up before it had them."""
READER = "reader "
"""Before a reader's name in the counts: where it stood. A reader by class has "/" and the class behind its name."""
PLACE = "INSERT INTO outbox_counts (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2"
COUNT = "INSERT INTO outbox_counts (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = value + ?2"
DROPPED = "dropped"
"""In the counts: of all readers together. With "/" and a class behind it, of a class; with the reader between them, of it."""
RESERVED = 2**62
"""Among what is held: nothing of the class may go until its reader says what it took."""


class Stored(NamedTuple):
    """One row of the journal."""

    seq: int
    id: str
    type: str
    time: float
    envelope: bytes


class Backlog(NamedTuple):
    """What waits for a reader in one class."""

    events: int
    bytes: int
    since: float | None
    """Wall clock since when the oldest waits."""


class Bound(NamedTuple):
    """What is too much, and who may not lose it."""

    events: int
    """Over the limit."""
    bytes: int
    """Bytes over the limit."""
    read: Places
    """Every reader has these."""
    held: Places
    """These are being sent; RESERVED while the sender reads a class."""
    readers: Mapping[str, Places] = {}
    """Where each reader stands."""


class Trimmed(NamedTuple):
    """What was deleted."""

    events: int
    bytes: int
    missed: Mapping[Priority, int]
    """By class, those that a reader had not."""
    by_reader: Drops
    """Those that each reader had not."""


def first_bytes(rows: Iterable[Stored], size: int) -> list[Stored]:
    """The first rows, up to so many bytes of envelopes, but at least one; no more are taken than the one that is too much."""
    found: list[Stored] = []
    for row in rows:
        size -= len(row.envelope)
        if size < 0 and found:
            break
        found.append(row)
    return found


def load_places(counts: Mapping[str, int]) -> dict[str, Places]:
    """Where the readers stood, as the counts have it."""
    found: dict[str, list[int]] = {}
    for name, seq in counts.items():
        if name.startswith(READER):
            reader, _, number = name.removeprefix(READER).partition("/")
            places = found.setdefault(reader, list(NOWHERE))
            for each in Priority if not number else (int(number),):
                places[each] = seq
    return {reader: tuple(places) for reader, places in found.items()}


def load_drops(counts: Mapping[str, int]) -> Drops:
    """What each reader missed, as the counts have it."""
    found: Drops = {}
    for name, count in counts.items():
        kind, *which = name.split("/")
        if kind == DROPPED and len(which) == 2:
            found.setdefault(which[0], dict.fromkeys(Priority, 0))[Priority(int(which[1]))] = count
    return found


def save_places(connection: sqlite3.Connection, readers: Mapping[str, Places]) -> None:
    """Write down where the readers stand."""
    for reader, places in readers.items():
        names = [f"{READER}{reader}/{int(each)}" for each in Priority]
        rows = [(READER + reader, places[0])] if len(set(places)) == 1 else zip(names, places, strict=True)
        connection.execute("DELETE FROM outbox_counts WHERE name = ? OR name GLOB ?", (READER + reader, f"{READER}{reader}/?"))
        connection.executemany(PLACE, rows)


def trim(connection: sqlite3.Connection, bound: Bound) -> Trimmed:
    """Delete what is too much: first what every reader has, then of the lowest class the oldest.

    A class that is reserved ends it: the next trim goes on there, and no higher class pays for it.
    """
    known = " OR ".join(f"(priority = {int(each)} AND seq <= {bound.read[each]})" for each in Priority)
    gone, count, size = [], bound.events, bound.bytes
    missed: list[tuple[Priority, int]] = []
    queries: list[tuple[Priority | None, str]] = [(None, f"SELECT seq, size FROM outbox WHERE {known} ORDER BY seq")]  # noqa: S608 numbers only
    for each in reversed(Priority):
        if bound.held[each] == RESERVED:
            break
        first = max(bound.read[each], bound.held[each])
        queries.append((each, f"SELECT seq, size FROM outbox WHERE priority = {int(each)} AND seq > {first} ORDER BY seq"))  # noqa: S608
    for priority, query in queries:
        for seq, length in connection.execute(query):
            if count <= 0 and size <= 0:
                break
            gone.append(seq)
            count, size = count - 1, size - length
            if priority is not None:
                missed.append((priority, seq))
    return _delete(connection, gone, bound.bytes - size, missed, bound.readers)


def expire(connection: sqlite3.Connection, before: float, bound: Bound) -> Trimmed:
    """Delete what a reader missed, and has waited since before that moment (wall clock)."""
    size = 0
    missed: list[tuple[Priority, int]] = []
    for each in Priority:
        first = max(bound.read[each], bound.held[each])
        query = "SELECT seq, size FROM outbox WHERE priority = ? AND seq > ? AND since < ?"
        for seq, length in connection.execute(query, (int(each), first, before)):
            size += length
            missed.append((each, seq))
    return _delete(connection, [seq for _, seq in missed], size, missed, bound.readers)


def _delete(
    connection: sqlite3.Connection,
    gone: Sequence[int],
    size: int,
    missed: Sequence[tuple[Priority, int]],
    readers: Mapping[str, Places],
) -> Trimmed:
    """Delete rows, and count those that were missed: by any reader, and by each."""
    total = _by_class(each for each, _ in missed)
    drops = {reader: _by_class(each for each, seq in missed if seq > places[each]) for reader, places in readers.items()}
    connection.executemany("DELETE FROM outbox WHERE seq = ?", ((seq,) for seq in gone))
    connection.execute(COUNT, (DROPPED, len(missed)))
    for prefix, counts in ((DROPPED, total), *((f"{DROPPED}/{reader}", counts) for reader, counts in drops.items())):
        connection.executemany(COUNT, [(f"{prefix}/{int(each)}", count) for each, count in counts.items() if count])
    return Trimmed(len(gone), size, total, drops)


def _by_class(classes: Iterable[Priority]) -> dict[Priority, int]:
    counts = Counter(classes)
    return {each: counts[each] for each in Priority}


def backlog(connection: sqlite3.Connection, places: Places) -> dict[Priority, Backlog]:
    """What waits for a reader that stands there."""
    query = "SELECT count(*), coalesce(sum(size), 0), min(since) FROM outbox WHERE priority = ? AND seq > ?"
    return {each: Backlog(*connection.execute(query, (int(each), places[each])).fetchone()) for each in Priority}

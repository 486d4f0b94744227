"""The local disk's tables as values: SQL in one place."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection
from typing import Any, NamedTuple, TypeVar

import msgspec

from appliance.core.memory.keys import key_id
from appliance.core.memory.model import Kind, Meta

T = TypeVar("T")
COLUMNS = (
    "entry, namespace, key, kind, version, checksum, size, modified, expires, tags, device, deleted, "
    "place, stored, pinned, hits, used"
)
SELECT = f"SELECT {COLUMNS} FROM entries "  # noqa: S608 no value of anybody's is in it
UPSERT = """
INSERT INTO entries (
    key_id, namespace, key, kind, version, checksum, size, modified, expires, tags, device, deleted, place, stored, used
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (namespace, key) DO UPDATE SET kind = excluded.kind, version = excluded.version, checksum = excluded.checksum,
    size = excluded.size, modified = excluded.modified, expires = excluded.expires, tags = excluded.tags,
    device = excluded.device, deleted = excluded.deleted, place = excluded.place, stored = excluded.stored, used = excluded.used
RETURNING entry
"""


class Row(NamedTuple):
    """One key on this disk."""

    entry: int
    meta: Meta
    place: str
    """"" (no copy of the value here), "row" or "file"."""
    stored: int
    pinned: bool
    hits: int
    used: float


def row_of(values: tuple[Any, ...]) -> Row:
    """A row selected with COLUMNS."""
    entry, namespace, key, kind, version, checksum, size, modified, expires, tags, device, deleted, place, *rest = values
    meta = Meta(
        namespace=namespace, key=key, kind=Kind(kind), version=version, checksum=checksum, size=size, modified=modified,
        expires=expires, tags=tuple(msgspec.json.decode(tags)), device=device, deleted=bool(deleted),
    )  # fmt: skip
    stored, pinned, hits, used = rest
    return Row(entry, meta, place, stored, bool(pinned), hits, used)


def at_one_moment(connection: sqlite3.Connection, work: Callable[[], T]) -> T:
    """Several reads that belong together: without a transaction a commit may come between a row and its value."""
    connection.execute("BEGIN")
    try:
        return work()
    finally:
        connection.execute("ROLLBACK")


def find(connection: sqlite3.Connection, namespace: str, key: str) -> Row | None:
    """The row of a key."""
    values = connection.execute(SELECT + "WHERE namespace = ? AND key = ?", (namespace, key)).fetchone()
    return None if values is None else row_of(values)


def select(connection: sqlite3.Connection, condition: str, values: tuple[Any, ...] = ()) -> list[Row]:
    """The rows that a condition of ours chooses."""
    return [row_of(found) for found in connection.execute(SELECT + condition, values)]


def find_entry(connection: sqlite3.Connection, entry: int) -> Row | None:
    """The row of a number."""
    values = connection.execute(SELECT + "WHERE entry = ?", (entry,)).fetchone()
    return None if values is None else row_of(values)


def upsert(connection: sqlite3.Connection, meta: Meta, place: str, stored: int, used: float) -> int:
    """Make this the key's newest version; returns its entry."""
    values = (
        key_id(meta.namespace, meta.key), meta.namespace, meta.key, meta.kind.value, meta.version, meta.checksum, meta.size,
        meta.modified, meta.expires, msgspec.json.encode(meta.tags).decode(), meta.device, meta.deleted, place, stored, used,
    )  # fmt: skip
    return int(connection.execute(UPSERT, values).fetchone()[0])


def leave(connection: sqlite3.Connection, row: Row, homes: set[str]) -> None:
    """Let the tiers give a key up that hold it, or may, and are none of its homes any more."""
    for tier in purge(connection, row, homes):
        connection.execute("DELETE FROM copies WHERE tier = ? AND entry = ?", (tier, row.entry))
        connection.execute("DELETE FROM owed WHERE tier = ? AND entry = ?", (tier, row.entry))
        connection.execute("DELETE FROM conflicts WHERE tier = ? AND entry = ?", (tier, row.entry))


def purge(connection: sqlite3.Connection, row: Row, homes: Collection[str] = ()) -> set[str]:
    """Have a key removed from all tiers but its homes; returns those tiers.

    What a tier is owed may be there already: delivered, but not written down as such.
    """
    held = connection.execute(
        "SELECT tier, version FROM copies WHERE entry = ? UNION SELECT tier, ? FROM owed WHERE entry = ?",
        (row.entry, row.meta.version, row.entry),
    ).fetchall()
    doomed = [(tier, row.meta.namespace, row.meta.key, version) for tier, version in held if tier not in homes]
    connection.executemany("INSERT OR IGNORE INTO purges (tier, namespace, key, version) VALUES (?, ?, ?, ?)", doomed)
    return {tier for tier, *_ in doomed}


def may_go(tiers: Collection[str]) -> tuple[str, tuple[str, ...]]:
    """(condition, its values): this disk's copy is not needed, as one of the tiers holds it, and nobody waits for it."""
    marks = ", ".join("?" * len(tiers))
    condition = (
        "place <> '' AND pinned = 0 AND deleted = 0 AND EXISTS (SELECT 1 FROM copies c "  # noqa: S608 question marks only
        f"WHERE c.entry = entries.entry AND c.version = entries.version AND c.tier IN ({marks})) "
        "AND NOT EXISTS (SELECT 1 FROM owed o WHERE o.entry = entries.entry)"
    )
    return condition, tuple(tiers)


def may_leave(tier: str, others: Collection[str]) -> tuple[str, tuple[str, ...]]:
    """(condition, its values): a tier's copy is not needed: this disk or another tier has it, and nothing is owed there."""
    marks = ", ".join("?" * len(others))
    condition = (
        "pinned = 0 AND deleted = 0 AND EXISTS (SELECT 1 FROM copies c "  # noqa: S608 question marks only
        "WHERE c.entry = entries.entry AND c.version = entries.version AND c.tier = ?) "
        "AND NOT EXISTS (SELECT 1 FROM owed o WHERE o.entry = entries.entry AND o.tier = ?) "
        "AND (place <> '' OR EXISTS (SELECT 1 FROM copies c "
        f"WHERE c.entry = entries.entry AND c.version = entries.version AND c.tier IN ({marks})))"
    )
    return condition, (tier, tier, *others)


def file_name(meta: Meta) -> str:
    """Name of a large value's file; each version has its own, so a crash never leaves half of one under a good name."""
    identifier = key_id(meta.namespace, meta.key)
    return f"files/{identifier[:2]}/{identifier}.{meta.version}"

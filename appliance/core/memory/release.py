"""What a tier gave up for want of room, as the index knows it."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from appliance.core.memory import rows
from appliance.core.memory.rows import Row
from appliance.core.store import Store

COUNTED = "evictions:"
"""Before a tier's name, under which its evictions are counted."""


async def release(store: Store, tier: str, row: Row, others: Collection[str]) -> bool:
    """A tier gives up its copy of a version; the copy itself is to be purged then, after a crash too.

    Args:
        store: The index.
        tier: Its name.
        row: The entry with that version.
        others: Tiers that hold the version as well.

    Returns:
        False where it may not by now: it is another version, pinned or owed, or neither this disk nor `others` have it.

    Raises:
        StoreError: The index failed; nothing has changed.
    """
    return await store.write(lambda connection: _release(connection, tier, row, others))


def _release(connection: sqlite3.Connection, tier: str, row: Row, others: Collection[str]) -> bool:
    condition, values = rows.may_leave(tier, others)
    meta = row.meta
    may = f"SELECT 1 FROM entries WHERE entry = ? AND version = ? AND {condition}"  # noqa: S608 a condition of ours
    if connection.execute(may, (row.entry, meta.version, *values)).fetchone() is None:
        return False
    connection.execute("DELETE FROM copies WHERE tier = ? AND entry = ?", (tier, row.entry))
    connection.execute("INSERT OR REPLACE INTO let_go (tier, entry, version) VALUES (?, ?, ?)", (tier, row.entry, meta.version))
    connection.execute(
        "INSERT OR IGNORE INTO purges (tier, namespace, key, version) VALUES (?, ?, ?, ?)",
        (tier, meta.namespace, meta.key, meta.version),
    )
    count = "INSERT INTO totals (name, value) VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1"
    connection.execute(count, (COUNTED + tier,))
    return True


async def evictions(store: Store) -> dict[str, int]:
    """Values that tiers gave up for want of room, ever, by tier. Raises StoreError."""
    sql = "SELECT name, value FROM totals WHERE substr(name, 1, ?) = ?"
    found = await store.read(lambda connection: connection.execute(sql, (len(COUNTED), COUNTED)).fetchall())
    return {name.removeprefix(COUNTED): count for name, count in found}

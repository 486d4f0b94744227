"""What the lower tiers are owed, what they had in common with this disk, and what conflicts; all in the disk's database."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from appliance.core.events import new_id
from appliance.core.memory import codec, rows
from appliance.core.memory.model import Meta, Record
from appliance.core.memory.rows import Row
from appliance.core.ports import Clock
from appliance.core.store import Store
from appliance.errors import CorruptRecordError

log = logging.getLogger(__name__)

SEEDED = 1000
"""Entries that are looked at in one go."""
BELIEVED = "clock"
"""Under which the time is noted."""
AWAY = "@"
"""Between a tier's name and the identity of a store that was there before; no tier's name has it."""
NOTE = "The disk's note of their version"


def away(tier: str, identity: str) -> str:
    """What a store goes by while another one is in its place."""
    return f"{tier}{AWAY}{identity}"


class Debt(NamedTuple):
    """One entry that waits to be delivered."""

    entry: int
    namespace: str
    tags: tuple[str, ...]
    size: int
    modified: float
    since: float
    attempts: int


class Debts(NamedTuple):
    """All that waits for one tier."""

    waiting: int
    oldest: float | None
    """Wall clock."""


class Waiting(NamedTuple):
    """A conflict that waits for the operator, as lists have it."""

    conflict_id: str
    entry: int
    tier: str
    detected: float
    reason: str
    version: str
    """Theirs."""
    theirs: Meta | None
    """None where the note of their version is damaged."""


class OpenConflict(NamedTuple):
    """A conflict that waits for the operator, with their version."""

    conflict_id: str
    entry: int
    tier: str
    detected: float
    reason: str
    theirs: Record


class Ledger:
    """Debts, copies, bases and conflicts.

    Args:
        store: The local disk's database.
        clock: For times.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def debts(self, tier: str, limit: int) -> list[Debt]:
        """What a tier is owed, oldest first; open conflicts wait apart."""

        def work(connection: sqlite3.Connection) -> list[Debt]:
            found = connection.execute(
                "SELECT o.entry, e.namespace, e.tags, e.size, e.modified, o.since, o.attempts FROM owed o "
                "JOIN entries e ON e.entry = o.entry WHERE o.tier = ? AND NOT EXISTS "
                "(SELECT 1 FROM conflicts c WHERE c.entry = o.entry AND c.tier = o.tier) ORDER BY o.since LIMIT ?",
                (tier, limit),
            )
            return [Debt(row[0], row[1], tuple(msgspec.json.decode(row[2])), *row[3:]) for row in found]

        return await self._store.read(work)

    async def counts(self) -> dict[str, Debts]:
        """Debts and purges by tier."""

        def work(connection: sqlite3.Connection) -> dict[str, Debts]:
            owed = connection.execute("SELECT tier, count(*), min(since) FROM owed GROUP BY tier").fetchall()
            sql = "SELECT tier, count(*) FROM purges WHERE instr(tier, ?) = 0 GROUP BY tier"
            purges = dict(connection.execute(sql, (AWAY,)).fetchall())
            found = {tier: Debts(count + purges.pop(tier, 0), oldest) for tier, count, oldest in owed}
            return found | {tier: Debts(count, None) for tier, count in purges.items()}

        return await self._store.read(work)

    async def common(self, tier: str, entry: int) -> str:
        """The version that tier and disk had in common last; empty for none."""

        def work(connection: sqlite3.Connection) -> str:
            found = connection.execute("SELECT version FROM copies WHERE tier = ? AND entry = ?", (tier, entry)).fetchone()
            return str(found[0]) if found else ""

        return await self._store.read(work)

    async def delivered(self, tier: str, done: list[tuple[int, str]]) -> bool:
        """(entry, version) lie in the tier now; an entry that has changed since stays owed. False where one is gone here."""

        def work(connection: sqlite3.Connection) -> bool:
            all_there = True
            for entry, version in done:
                if not connection.execute("SELECT 1 FROM entries WHERE entry = ?", (entry,)).fetchone():
                    all_there = False
                    continue
                connection.execute(
                    "INSERT OR REPLACE INTO copies (tier, entry, version) VALUES (?, ?, ?)", (tier, entry, version)
                )
                connection.execute("DELETE FROM let_go WHERE tier = ? AND entry = ?", (tier, entry))
                connection.execute("DELETE FROM purges WHERE tier = ? AND version = ?", (tier, version))
                connection.execute(
                    "DELETE FROM owed WHERE tier = ? AND entry = ? AND EXISTS "
                    "(SELECT 1 FROM entries e WHERE e.entry = owed.entry AND e.version = ?)",
                    (tier, entry, version),
                )
                connection.execute(
                    "DELETE FROM bases WHERE entry = ? AND NOT EXISTS (SELECT 1 FROM owed WHERE owed.entry = bases.entry)",
                    (entry,),
                )
            return all_there

        return await self._store.write(work)

    async def owe(self, tier: str, entry: int) -> None:
        """Deliver the entry's newest version."""
        now = self._clock.wall()
        await self._store.write(
            lambda connection: connection.execute(
                "INSERT OR IGNORE INTO owed (tier, entry, since) VALUES (?, ?, ?)", (tier, entry, now)
            )
        )

    async def settle(self, tier: str, entry: int) -> None:
        """Nothing is owed any more, as where the tier does not take such a value."""
        await self._store.write(
            lambda connection: connection.execute("DELETE FROM owed WHERE tier = ? AND entry = ?", (tier, entry))
        )

    async def failed(self, tier: str, entry: int, error: str) -> None:
        """Count an attempt."""
        await self._store.write(
            lambda connection: connection.execute(
                "UPDATE owed SET attempts = attempts + 1, error = ? WHERE tier = ? AND entry = ?", (error[:500], tier, entry)
            )
        )

    async def lost(self, tier: str, entry: int) -> None:
        """The tier does not have what it had: it is owed again, with nothing in common and nothing to decide."""
        now = self._clock.wall()

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM conflicts WHERE tier = ? AND entry = ?", (tier, entry))
            connection.execute("DELETE FROM copies WHERE tier = ? AND entry = ?", (tier, entry))
            connection.execute("INSERT OR IGNORE INTO owed (tier, entry, since) VALUES (?, ?, ?)", (tier, entry, now))

        await self._store.write(work)

    async def moved(self, tier: str, entry: int) -> None:
        """The tier does not have the entry any more, and need not."""

        def work(connection: sqlite3.Connection) -> None:
            for table in ("copies", "owed", "conflicts"):
                connection.execute(f"DELETE FROM {table} WHERE tier = ? AND entry = ?", (tier, entry))  # noqa: S608 constants

        await self._store.write(work)

    async def doomed(self, tier: str, namespace: str, key: str) -> set[str]:
        """Versions of a key that are gone here and wait to be removed there: whoever finds one has found nothing."""
        sql = "SELECT version FROM purges WHERE tier = ? AND namespace = ? AND key = ?"
        return await self._store.read(lambda connection: {row[0] for row in connection.execute(sql, (tier, namespace, key))})

    async def met(self, tier: str, identity: str) -> bool:
        """A tier was opened; returns whether it is another store than the last time.

        What the one before holds, and what shall go from it, is kept under its own name until it comes back: disks that
        take turns bring no deleted value back.
        """

        def work(connection: sqlite3.Connection) -> bool:
            found = connection.execute("SELECT identity FROM identities WHERE tier = ?", (tier,)).fetchone()
            connection.execute("INSERT OR REPLACE INTO identities (tier, identity) VALUES (?, ?)", (tier, identity))
            other = found is not None and found[0] != identity
            if other:
                for table in ("copies", "purges", "let_go"):
                    sql = f"UPDATE OR REPLACE {table} SET tier = ? WHERE tier = ?"  # noqa: S608 one of three words
                    connection.execute(sql, (away(tier, found[0]), tier))
                    connection.execute(sql, (tier, away(tier, identity)))
            return other

        return await self._store.write(work)

    async def seed(self, tier: str, takes: Callable[[Meta], bool]) -> int:
        """Owe a tier all that belongs there and that it does not have, as after it was configured; returns how much.

        Goes through the index in parts, and lets other readers and writers in between.
        """
        last, owed = 0, 0
        while found := await self._lacking(tier, last):
            last = found[-1].entry
            wanted = [row.entry for row in found if takes(row.meta)]
            await self._owe_many(tier, wanted)
            owed += len(wanted)
        return owed

    async def _lacking(self, tier: str, after: int) -> list[Row]:
        """The next ones that a tier does not have, or has in another version."""
        condition = (
            "WHERE entry > ? AND ((deleted = 0 AND place <> '' AND NOT EXISTS "
            "(SELECT 1 FROM copies c WHERE c.tier = ? AND c.entry = entries.entry) AND NOT EXISTS (SELECT 1 FROM let_go l "
            "WHERE l.tier = ? AND l.entry = entries.entry AND l.version = entries.version)) OR EXISTS "
            "(SELECT 1 FROM copies c WHERE c.tier = ? AND c.entry = entries.entry AND c.version <> entries.version)) "
            "ORDER BY entry LIMIT ?"
        )
        return await self._store.read(lambda connection: rows.select(connection, condition, (after, tier, tier, tier, SEEDED)))

    async def _owe_many(self, tier: str, entries: list[int]) -> None:
        now = self._clock.wall()
        sql = "INSERT OR IGNORE INTO owed (tier, entry, since) SELECT ?, entry, ? FROM entries WHERE entry = ?"
        if entries:
            wanted = [(tier, now, entry) for entry in entries]
            await self._store.write(lambda connection: connection.executemany(sql, wanted))

    async def purges(self, tier: str, limit: int) -> list[tuple[str, str, str]]:
        """(namespace, key, version) that shall go from a tier."""
        sql = "SELECT namespace, key, version FROM purges WHERE tier = ? LIMIT ?"
        return await self._store.read(lambda connection: connection.execute(sql, (tier, limit)).fetchall())

    async def purged(self, tier: str, namespace: str, key: str, version: str) -> None:
        """That one is gone."""
        sql = "DELETE FROM purges WHERE tier = ? AND namespace = ? AND key = ? AND version = ?"
        await self._store.write(lambda connection: connection.execute(sql, (tier, namespace, key, version)))

    async def known(self, tier: str) -> dict[str, tuple[int, str, str]]:
        """Key id → (entry, version here, last common version with the tier)."""
        sql = (
            "SELECT e.key_id, e.entry, e.version, coalesce(c.version, '') FROM entries e "
            "LEFT JOIN copies c ON c.entry = e.entry AND c.tier = ?"
        )

        def work(connection: sqlite3.Connection) -> dict[str, tuple[int, str, str]]:
            return {row[0]: (row[1], row[2], row[3]) for row in connection.execute(sql, (tier,))}

        return await self._store.read(work)

    async def copies(self, entry: int) -> tuple[dict[str, str], set[str]]:
        """(tier → version it holds, tiers that are owed) of an entry."""

        def work(connection: sqlite3.Connection) -> tuple[dict[str, str], set[str]]:
            held = dict(connection.execute("SELECT tier, version FROM copies WHERE entry = ?", (entry,)).fetchall())
            owed = {row[0] for row in connection.execute("SELECT tier FROM owed WHERE entry = ?", (entry,))}
            return held, owed

        return await self._store.read(lambda connection: rows.at_one_moment(connection, lambda: work(connection)))

    async def base(self, tier: str, entry: int) -> Record | None:
        """The version that tier and disk had in common last, where it is kept."""
        sql = (
            "SELECT b.body FROM bases b JOIN copies c ON c.entry = b.entry AND c.version = b.version "
            "WHERE c.tier = ? AND b.entry = ?"
        )
        found = await self._store.read(lambda connection: connection.execute(sql, (tier, entry)).fetchone())
        return None if found is None else codec.decode(found[0], "a last common version")

    async def open_conflict(self, row: Row, tier: str, theirs: Record, reason: str) -> bool:
        """Keep both versions until the operator decides; a newer one of theirs takes the older one's place.

        Returns whether none was open before.
        """
        identifier, now = new_id(), self._clock.wall()
        body = await asyncio.to_thread(codec.encode, theirs)

        def work(connection: sqlite3.Connection) -> bool:
            connection.execute(
                "INSERT INTO conflicts (conflict_id, entry, tier, detected, theirs, reason, version) "
                "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (entry, tier) DO UPDATE SET "
                "theirs = excluded.theirs, reason = excluded.reason, version = excluded.version",
                (identifier, row.entry, tier, now, body, reason, theirs.meta.version),
            )
            found = connection.execute("SELECT conflict_id FROM conflicts WHERE entry = ? AND tier = ?", (row.entry, tier))
            return bool(found.fetchone()[0] == identifier)

        return await self._store.write(work)

    async def conflicts(self) -> list[Waiting]:
        """All that wait, oldest first. A damaged one is listed with the others."""
        sql = "SELECT conflict_id, entry, tier, detected, reason, version FROM conflicts ORDER BY detected"
        found = await self._store.read(lambda connection: connection.execute(sql).fetchall())
        return [Waiting._make((*row, await self._their_meta(row[2], row[1]))) for row in found]

    async def _their_meta(self, tier: str, entry: int) -> Meta | None:
        """One at a time: they may be large."""
        try:
            record = await self.theirs(tier, entry)
        except CorruptRecordError as error:
            log.error("%s It is fetched again by the next synchronisation.", error.message)
            return None
        return None if record is None else record.meta

    async def conflict(self, end: str) -> list[OpenConflict]:
        """Those that wait whose ids end so; two at most. Raises CorruptRecordError."""
        sql = (
            "SELECT conflict_id, entry, tier, detected, reason, theirs FROM conflicts "
            "WHERE substr(conflict_id, -length(?1)) = ?1 LIMIT 2"
        )
        found = await self._store.read(lambda connection: connection.execute(sql, (end,)).fetchall())
        return [OpenConflict._make((*row[:5], await asyncio.to_thread(codec.decode, row[5], NOTE))) for row in found]

    async def count_conflicts(self) -> int:
        """How many wait, without reading them."""
        sql = "SELECT count(*) FROM conflicts"
        return await self._store.read(lambda connection: int(connection.execute(sql).fetchone()[0]))

    async def disputed(self, tier: str) -> dict[int, str]:
        """Entry → their version, of the conflicts with a tier that wait."""
        sql = "SELECT entry, version FROM conflicts WHERE tier = ?"
        return await self._store.read(lambda connection: dict(connection.execute(sql, (tier,)).fetchall()))

    async def theirs(self, tier: str, entry: int) -> Record | None:
        """Their version, as a conflict that waits keeps it; None where none does. Raises CorruptRecordError."""
        sql = "SELECT theirs FROM conflicts WHERE tier = ? AND entry = ?"
        found = await self._store.read(lambda connection: connection.execute(sql, (tier, entry)).fetchone())
        return None if found is None else await asyncio.to_thread(codec.decode, found[0], NOTE)

    async def close_conflict(self, conflict_id: str) -> None:
        """The operator, or a newer version, has decided."""
        await self._store.write(
            lambda connection: connection.execute("DELETE FROM conflicts WHERE conflict_id = ?", (conflict_id,))
        )

    async def expired(self, now: float, limit: int) -> list[Row]:
        """Entries whose time has come."""
        return await self._store.read(
            lambda connection: rows.select(
                connection, "WHERE expires IS NOT NULL AND expires <= ? ORDER BY expires LIMIT ?", (now, limit)
            )
        )

    async def believe(self, now: float) -> None:
        """Write down what time it is, while the clock is believed."""
        await self._store.write(
            lambda connection: connection.execute(
                "INSERT OR REPLACE INTO totals (name, value) VALUES (?, ?)", (BELIEVED, int(now))
            )
        )

    async def believed(self) -> float:
        """What was written down last; where there is nothing yet, when something was used last. 0 for never."""
        sql = "SELECT coalesce((SELECT value FROM totals WHERE name = ?), (SELECT max(used) FROM entries), 0)"
        return await self._store.read(lambda connection: float(connection.execute(sql, (BELIEVED,)).fetchone()[0]))

    async def old_tombstones(self, before: float, limit: int) -> list[Row]:
        """Deletions that every tier knows, from before a moment; also those that are out of reach now."""
        condition = (
            "WHERE deleted = 1 AND modified < ? AND NOT EXISTS (SELECT 1 FROM owed o WHERE o.entry = entries.entry) "
            "AND NOT EXISTS (SELECT 1 FROM copies c WHERE c.entry = entries.entry AND c.version <> entries.version) LIMIT ?"
        )
        return await self._store.read(lambda connection: rows.select(connection, condition, (before, limit)))

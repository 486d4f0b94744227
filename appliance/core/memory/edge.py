"""Tier 2 on the local disk, and the index of all that this appliance remembers.

Small values lie in SQLite, where hundreds of writes share one sync; large ones are files, written before the row that
names them is committed. A write is on disk before it returns. See docs/adr/0006.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from appliance.core.memory import codec, files, rows
from appliance.core.memory.beside import beside
from appliance.core.memory.damage import Damage
from appliance.core.memory.ledger import Ledger
from appliance.core.memory.model import Meta, Record
from appliance.core.memory.rows import Row
from appliance.core.memory.stripes import Stripes
from appliance.core.memory.uncut import uncut
from appliance.core.ports import Clock
from appliance.core.store import Store
from appliance.errors import CorruptRecordError, DiskFullError, StoreError

log = logging.getLogger(__name__)

IN_ROW = 64 * 1024
"""Bytes up to which an encoded record lies in the database."""
READS = 3
"""Tries at a file: between index and file a newer version may have taken its place."""


class Settled(NamedTuple):
    """A version of theirs that a settlement has heeded."""

    tier: str
    version: str
    body: bytes
    """Encoded."""


class Put(NamedTuple):
    """One version to keep."""

    record: Record
    owed_to: tuple[str, ...] = ()
    """Tiers that shall get it."""
    common: tuple[tuple[str, str], ...] = ()
    """(tier, version): tiers that hold it already."""
    only_if: str | None = None
    """Keep it only while the key's version here is this one ("" for none); None for always."""
    leave: bool = False
    """Tiers that hold the key and are not named above give it up: it lies elsewhere from now on."""
    over: Settled | None = None
    """What a tier holds, where this version was made from it and shall replace it there: it is the last common one."""


class Totals(NamedTuple):
    """What the disk holds."""

    entries: int
    stored: int
    evictions: int


class EdgeStore:
    """Records on the local disk.

    Args:
        directory: Where database and files lie.
        clock: For times of use.
        shared: Tiers that others write to as well; what they had in common with this disk is kept for three-way merges.
    """

    def __init__(self, directory: Path, clock: Clock, shared: Collection[str] = ()) -> None:
        self.directory = directory
        self.store = Store(directory / "memory.sqlite", "appliance.core.memory.migrations")
        self.ledger = Ledger(self.store, clock)
        self._clock = clock
        self._shared = tuple(shared)
        self.damage = Damage()
        self._files = Stripes()
        """Held by whoever writes or removes a file."""

    async def open(self) -> None:
        """Open, migrate, remove what crashes left. Raises StoreError."""
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        self.store.open()
        with contextlib.closing(sqlite3.connect(self.store.path)) as connection:
            kept = {rows.file_name(row.meta) for row in rows.select(connection, "WHERE place = 'file'")}
        with files.directory(self.directory) as root:
            for path, _ in list(files.walk(root, "files")):
                if path not in kept:
                    files.remove(root, path)

    async def close(self) -> None:
        """Commit what is queued, and close."""
        await asyncio.to_thread(self.store.close)

    async def put(self, *puts: Put) -> list[bool]:
        """Keep versions, all in one transaction; returns, for each, whether it was kept (see Put.only_if).

        A caller that is cancelled does not stop it: rows without their files would be left, or files without rows.

        Raises:
            DiskFullError: No room; none of them is kept.
            StoreError: The database failed; none of them is kept.
        """
        return await uncut(self._keep(puts))

    async def _keep(self, puts: Sequence[Put]) -> list[bool]:
        bodies = await self._encode(puts)
        written = [put.record.meta for put, body in zip(puts, bodies, strict=True) if len(body) > IN_ROW]
        try:
            kept, stale = await self._commit(puts, bodies, written)
        except Exception:  # not where the loop ends meanwhile: the row may be there; what is too much goes at the next start
            await self._sweep(written)
            raise
        for put, done in zip(puts, kept, strict=True):
            if done:
                self.damage.mended(put.record.meta)
        await self._sweep(stale)
        return kept

    async def _commit(
        self, puts: Sequence[Put], bodies: Sequence[bytes], written: Sequence[Meta]
    ) -> tuple[list[bool], list[Meta]]:
        """Files first, then the rows that name them; nobody sweeps between the two."""

        def work(connection: sqlite3.Connection) -> tuple[list[bool], list[Meta]]:
            return self._put_all(connection, puts, bodies)

        if not written:
            return await self.store.write(work)
        async with self._files.writing(rows.file_name(meta) for meta in written):
            await asyncio.to_thread(self._write_files, puts, bodies)
            return await self.store.write(work)

    async def _sweep(self, versions: Sequence[Meta]) -> None:
        """Remove files of versions, unless a row names them (again)."""
        if not versions:
            return

        def named(connection: sqlite3.Connection) -> list[str]:
            found = ((meta, rows.find(connection, meta.namespace, meta.key)) for meta in versions)
            return [
                rows.file_name(meta)
                for meta, row in found
                if row is None or row.place != "file" or row.meta.version != meta.version
            ]

        try:
            async with self._files.writing(rows.file_name(meta) for meta in versions):
                await asyncio.to_thread(self._remove_files, await self.store.read(named))
        except (StoreError, OSError) as error:
            log.warning("%d files of old values stay until the next start: %s", len(versions), error)

    async def _encode(self, puts: Sequence[Put]) -> list[bytes]:
        def work() -> list[bytes]:
            return [b"" if put.record.meta.deleted else codec.encode(put.record) for put in puts]

        return await beside(sum(len(put.record.value) for put in puts), work)

    def _write_files(self, puts: Sequence[Put], bodies: Sequence[bytes]) -> None:
        try:
            with files.directory(self.directory) as root:
                for put, body in zip(puts, bodies, strict=True):
                    if len(body) > IN_ROW:
                        files.write(root, rows.file_name(put.record.meta), body)
        except OSError as error:
            if error.errno in files.NO_ROOM:
                raise DiskFullError(f"No room for the value at {self.directory}.", "free space on that file system.") from error
            raise StoreError(f"{self.directory} cannot be written: {error.strerror}.", "check the disk.") from error

    def _remove_files(self, names: Sequence[str]) -> None:
        with files.directory(self.directory) as root:
            for name in names:
                with contextlib.suppress(OSError):  # what stays is swept at the next start
                    files.remove(root, name)

    def _put_all(
        self, connection: sqlite3.Connection, puts: Sequence[Put], bodies: Sequence[bytes]
    ) -> tuple[list[bool], list[Meta]]:
        kept, stale = [], []
        for put, body in zip(puts, bodies, strict=True):
            before = rows.find(connection, put.record.meta.namespace, put.record.meta.key)
            known = before.meta.version if before is not None else ""
            if put.only_if is not None and put.only_if != known:
                kept.append(False)
                if len(body) > IN_ROW:
                    stale.append(put.record.meta)
                continue
            if before is not None and before.place == "file" and before.meta.version != put.record.meta.version:
                stale.append(before.meta)
            self._put_one(connection, put, body, before)
            kept.append(True)
        return kept, stale

    def _put_one(self, connection: sqlite3.Connection, put: Put, body: bytes, before: Row | None) -> None:
        place = "" if not body else "row" if len(body) <= IN_ROW else "file"
        if self._shared and before is not None:
            _keep_base(connection, before, self._shared)
        entry = rows.upsert(connection, put.record.meta, place, len(body), self._clock.wall())
        if place == "row":
            connection.execute("INSERT OR REPLACE INTO bodies (entry, body) VALUES (?, ?)", (entry, body))
        else:
            connection.execute("DELETE FROM bodies WHERE entry = ?", (entry,))
        if put.leave and before is not None:
            rows.leave(connection, before, {*put.owed_to, *(tier for tier, _ in put.common)})
        for tier, version in put.common:
            connection.execute("INSERT OR REPLACE INTO copies (tier, entry, version) VALUES (?, ?, ?)", (tier, entry, version))
            connection.execute("DELETE FROM owed WHERE tier = ? AND entry = ?", (tier, entry))
        for tier in put.owed_to:
            connection.execute(
                "INSERT INTO owed (tier, entry, since) VALUES (?, ?, ?) "
                "ON CONFLICT (tier, entry) DO UPDATE SET attempts = 0, error = ''",
                (tier, entry, self._clock.wall()),
            )
        if put.over is not None:
            _heed(connection, entry, put.over)
        if put.common:
            _drop_base(connection, entry)

    async def row(self, namespace: str, key: str) -> Row | None:
        """What is known of a key; tombstones and expired ones included. Raises StoreError."""
        return await self.store.read(lambda connection: rows.find(connection, namespace, key))

    async def by_number(self, entry: int) -> Row | None:
        """As `row`, by number."""
        return await self.store.read(lambda connection: rows.find_entry(connection, entry))

    async def get(self, namespace: str, key: str) -> tuple[Row, Record | None] | None:
        """The row of a key with its value where this disk holds it.

        Raises:
            CorruptRecordError: The disk's copy is damaged.
            StoreError: The database or the file could not be read.
        """
        return await self._read(lambda connection: rows.find(connection, namespace, key))

    async def record(self, entry: int) -> tuple[Row, Record | None] | None:
        """As `get`, by number."""
        return await self._read(lambda connection: rows.find_entry(connection, entry))

    async def _read(self, choose: Callable[[sqlite3.Connection], Row | None]) -> tuple[Row, Record | None] | None:
        for _ in range(READS):
            found = await self.store.read(
                lambda connection: rows.at_one_moment(connection, lambda: self._fetch(connection, choose(connection)))
            )
            if found is None:
                return None
            row, body = found
            if row.meta.deleted:
                return row, Record(row.meta, b"")
            if not row.place:
                return row, None
            if row.place == "file":
                body = await asyncio.to_thread(self._read_file, row)
            if body is not None:
                return row, await self._decode(row, body)
        self.damage.note(row.meta)
        raise CorruptRecordError(f"The value of {row.meta.namespace}:{row.meta.key} is missing on disk.", "check the disk.")

    def _fetch(self, connection: sqlite3.Connection, row: Row | None) -> tuple[Row, bytes | None] | None:
        if row is None:
            return None
        if row.place != "row":
            return row, None
        found = connection.execute("SELECT body FROM bodies WHERE entry = ?", (row.entry,)).fetchone()
        return row, found[0] if found else None

    def _read_file(self, row: Row) -> bytes | None:
        try:
            with files.directory(self.directory) as root:
                return files.read(root, rows.file_name(row.meta))
        except OSError as error:
            raise StoreError(f"A value at {self.directory} cannot be read: {error.strerror}.", "check the disk.") from error

    async def _decode(self, row: Row, body: bytes) -> Record:
        name = f"The disk's copy of {row.meta.namespace}:{row.meta.key}"
        try:
            record = await beside(max(len(body), row.meta.size), lambda: codec.decode(body, name))
        except CorruptRecordError:
            self.damage.note(row.meta)
            raise
        if record.meta.checksum != row.meta.checksum:
            self.damage.note(row.meta)
            raise CorruptRecordError(
                f"{name} is of another version than its index says.", "another copy is used where there is one."
            )
        return Record(row.meta, record.value)

    async def drop_value(self, row: Row, tiers: Collection[str]) -> bool:
        """Let go of this disk's copy of a value, keeping what is known of the key.

        Returns:
            False where it may not go by now: it is another version, pinned or owed, or none of `tiers` holds it.
        """

        def work(connection: sqlite3.Connection) -> bool:
            condition, values = rows.may_go(tiers)
            changed = connection.execute(
                f"UPDATE entries SET place = '', stored = 0 WHERE entry = ? AND version = ? AND {condition}",  # noqa: S608
                (row.entry, row.meta.version, *values),
            ).rowcount
            if changed:
                connection.execute("DELETE FROM bodies WHERE entry = ?", (row.entry,))
                connection.execute("UPDATE totals SET value = value + 1 WHERE name = 'evictions'")
            return bool(changed)

        dropped = await self.store.write(work)
        if dropped and row.place == "file":
            await self._sweep([row.meta])
        return dropped

    async def lost(self, row: Row, tier: str) -> None:
        """A tier does not give the version that it should hold: it is owed it again, and is no reason to let it go here."""

        def work(connection: sqlite3.Connection) -> None:
            sql = "DELETE FROM copies WHERE tier = ? AND entry = ? AND version = ?"
            if connection.execute(sql, (tier, row.entry, row.meta.version)).rowcount:
                values = (tier, row.entry, self._clock.wall())
                connection.execute("INSERT OR IGNORE INTO owed (tier, entry, since) VALUES (?, ?, ?)", values)

        await self.store.write(work)

    async def forget(self, row: Row) -> None:
        """Remove a key with all that is known of it, as an expired one; tiers that hold it, or may, get a purge."""

        def work(connection: sqlite3.Connection) -> None:
            if connection.execute(
                "SELECT 1 FROM entries WHERE entry = ? AND version = ?", (row.entry, row.meta.version)
            ).fetchone():
                rows.purge(connection, row)
                connection.execute("DELETE FROM entries WHERE entry = ?", (row.entry,))

        await self.store.write(work)
        if row.place == "file":
            await self._sweep([row.meta])

    async def drop_tombstone(self, row: Row) -> None:
        """Forget that a key was deleted: every tier knows by now."""
        sql = "DELETE FROM entries WHERE entry = ? AND version = ? AND deleted = 1"
        await self.store.write(lambda connection: connection.execute(sql, (row.entry, row.meta.version)))

    async def used(self, reads: Mapping[int, int]) -> None:
        """Write down that entries were read, and how often."""
        if reads:
            now = self._clock.wall()
            values = [(count, now, entry) for entry, count in reads.items()]
            sql = "UPDATE entries SET hits = hits + ?, used = ? WHERE entry = ?"
            await self.store.write(lambda connection: connection.executemany(sql, values))

    async def totals(self) -> Totals:
        """Kept by triggers, so they are right after any crash."""

        def work(connection: sqlite3.Connection) -> Totals:
            found = dict(connection.execute("SELECT name, value FROM totals").fetchall())
            return Totals(found["entries"], found["stored"], found["evictions"])

        return await self.store.read(work)


def _keep_base(connection: sqlite3.Connection, before: Row, shared: Sequence[str]) -> None:
    """Keep the version that a shared tier has, before it is replaced here; only values that lie in rows.

    It takes the place of an older base. What only the NAS has, others never saw: that is no common version.
    """
    connection.execute(
        "INSERT OR REPLACE INTO bases (entry, version, body) "
        "SELECT b.entry, ?, b.body FROM bodies b WHERE b.entry = ? AND EXISTS (SELECT 1 FROM "
        "copies c WHERE c.entry = b.entry AND c.version = ? AND c.tier IN (SELECT value FROM json_each(?)))",
        (before.meta.version, before.entry, before.meta.version, json.dumps(shared)),
    )


def _heed(connection: sqlite3.Connection, entry: int, over: Settled) -> None:
    """A settlement is one with its version on disk: what follows, after a crash too, goes on from what it has heeded."""
    connection.execute(
        "INSERT OR REPLACE INTO copies (tier, entry, version) VALUES (?, ?, ?)", (over.tier, entry, over.version)
    )
    connection.execute("DELETE FROM bases WHERE entry = ?", (entry,))
    if len(over.body) <= IN_ROW:
        connection.execute("INSERT INTO bases (entry, version, body) VALUES (?, ?, ?)", (entry, over.version, over.body))


def _drop_base(connection: sqlite3.Connection, entry: int) -> None:
    """Forget a base once no tier differs from the entry."""
    connection.execute(
        "DELETE FROM bases WHERE entry = ? AND NOT EXISTS (SELECT 1 FROM owed WHERE owed.entry = bases.entry)", (entry,)
    )

"""The file of the streams: opened, and saved as far as that goes where it is damaged."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from appliance.core.migrations import migrate
from appliance.core.ports import Clock
from appliance.core.store import Store, connect, make_file
from appliance.errors import DamagedError

log = logging.getLogger(__name__)

MIGRATIONS = "appliance.core.streams.migrations"
TABLES = ("counts", "blocks", "letters", "replays", "quarantine")
ASIDE = ".damaged-"
"""Between the file's name and the second in which it was moved aside."""
KEPT = 2
"""Files moved aside that are kept, the newest."""


class StreamFile:
    """Opens streams.sqlite.

    Args:
        store: Not open.
        clock: For the names of files moved aside.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.lost = ""
        """What happened to a file that was moved aside; empty for nothing."""
        self.lost_at = 0.0
        """On the monotonic clock."""
        self.rescues = 0
        """How often that happened."""
        self.broken = False
        """It is not open, because it could not be saved."""

    async def open(self) -> None:
        """Open it; one that is no database any more is moved aside for a new one. Raises StoreError."""
        try:
            await asyncio.to_thread(self._store.open)
            self.broken = False
        except DamagedError as error:
            await self.rescue(error)

    async def rescue(self, error: DamagedError) -> None:
        """Move the file aside, make a new one, and copy into it what can be read. Raises StoreError."""
        self.broken = True
        await asyncio.to_thread(self._store.close)
        aside = await asyncio.to_thread(self._move_aside)
        saved = await asyncio.to_thread(_salvage, aside, self._store.path)
        self.lost = f"{self._store.path.name} was damaged and is kept as {aside.name}; {saved} rows of it could be saved"
        self.lost_at = self._clock.monotonic()
        self.rescues += 1
        log.error("%s: %s", self.lost, error.message)
        await asyncio.to_thread(self._store.open)
        self.broken = False

    def _move_aside(self) -> Path:
        path = self._store.path
        number = int(self._clock.wall())
        while (aside := path.with_name(f"{path.name}{ASIDE}{number}")).exists():
            number += 1
        for end in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + end).rename(aside.with_name(aside.name + end))
        numbers = {int(each.name.partition(ASIDE)[2].partition("-")[0]) for each in path.parent.glob(f"{path.name}{ASIDE}*")}
        for old in sorted(numbers)[:-KEPT]:
            for end in ("-wal", "-shm", ""):
                path.with_name(f"{path.name}{ASIDE}{old}{end}").unlink(missing_ok=True)
        return aside


def _salvage(aside: Path, path: Path) -> int:
    """Copy the rows that can be read into a new file; returns how many."""
    make_file(path)
    saved = 0
    with contextlib.closing(connect(path)) as fresh:
        migrate(fresh, MIGRATIONS)
        try:
            with contextlib.closing(sqlite3.connect(aside)) as old:
                for table in TABLES:
                    columns = [row[0] for row in fresh.execute("SELECT name FROM pragma_table_info(?)", (table,))]
                    put = f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608
                    fresh.execute("BEGIN")
                    for row in _rows(old, table, columns):
                        fresh.execute(put, row)
                        saved += 1
                    fresh.execute("COMMIT")
        except sqlite3.Error as error:
            log.error("the rest of %s cannot be saved: %s", aside, error)
            if fresh.in_transaction:
                fresh.execute("COMMIT")
    return saved


def _rows(old: sqlite3.Connection, table: str, columns: list[str]) -> Iterator[tuple[object, ...]]:
    """The rows of a table that can be read, found from both its ends."""
    numbers: set[int] = set()
    for order in ("ASC", "DESC"):
        try:
            numbers.update(number for (number,) in old.execute(f"SELECT rowid FROM {table} ORDER BY rowid {order}"))  # noqa: S608
        except sqlite3.DatabaseError as error:
            log.warning("%s is damaged, %s: %s", table, order, error)
    for number in sorted(numbers):
        try:
            row = old.execute(f"SELECT {', '.join(columns)} FROM {table} WHERE rowid = ?", (number,)).fetchone()  # noqa: S608
        except sqlite3.DatabaseError as error:
            log.warning("row %d of %s is lost: %s", number, table, error)
            continue
        if row is not None:
            yield row

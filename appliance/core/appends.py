"""Gathers the events that are appended in one turn of the loop into one write, so that each costs one row and no more."""

from __future__ import annotations

import asyncio
import functools
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from appliance.core.store import Store, explain

MOST = 1000
"""Most events in one write."""
APPEND = (
    "INSERT INTO outbox (id, type, envelope, priority, time, since, size) VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (id) DO NOTHING"
)
FAULTS = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError, ValueError, TypeError)
"""What one row does to itself; any other error is one of the disk."""
Row = tuple[str, str, bytes, int, float, float, int]
Outcome = tuple[int, bool] | Exception | None
"""Number of an event, and whether it is a new one; why it is not stored; None where nobody wants it any more."""


class Append(NamedTuple):
    """One event on its way."""

    row: Row
    future: asyncio.Future[int]


class Appends:
    """The way of events into the journal.

    Args:
        store: An open store.
        took: Awaited with what was written, before its callers are told.
    """

    def __init__(self, store: Store, took: Callable[[Sequence[Append], Sequence[Outcome]], Awaitable[None]]) -> None:
        self._store = store
        self._took = took
        self._part: list[Append] = []
        """What the newest write will bring along, while it has not begun."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writes: set[asyncio.Task[None]] = set()

    def add(self, row: Row) -> asyncio.Future[int]:
        """Store one; the future has its number when it is on disk, or the StoreError.

        A future that is cancelled before the write began leaves its event out.
        """
        loop = asyncio.get_running_loop()
        if not self._part or self._loop is not loop or len(self._part) >= MOST:
            self._loop, self._part = loop, []
            loop.call_soon(self._begin, self._part)
        append = Append(row, loop.create_future())
        self._part.append(append)
        return append.future

    def _begin(self, part: list[Append]) -> None:
        """Write what this turn of the loop gathered; after it, also where tasks are eager (Python 3.12)."""
        task = asyncio.get_running_loop().create_task(self._write(part), name="journal append")
        self._writes.add(task)
        task.add_done_callback(functools.partial(self._end, part))

    async def _write(self, part: list[Append]) -> None:
        if self._part is part:
            self._part = []
        outcomes = await self._store.write(functools.partial(_insert_all, part, self._store))
        await self._took(part, outcomes)
        for (_, future), outcome in zip(part, outcomes, strict=True):
            if future.done() or outcome is None:
                continue
            if isinstance(outcome, tuple):
                future.set_result(outcome[0])
            else:
                future.set_exception(outcome)

    def _end(self, part: list[Append], task: asyncio.Task[None]) -> None:
        """Whatever ended the write, each caller hears of it."""
        self._writes.discard(task)
        if self._part is part:
            self._part = []
        error = None if task.cancelled() else task.exception()
        for append in part:
            if append.future.done():
                continue
            if error is None:
                append.future.cancel()
            else:
                append.future.set_exception(error)


def _insert_all(part: Sequence[Append], store: Store, connection: sqlite3.Connection) -> list[Outcome]:
    """All rows at once, which is cheaper; one by one where one of them fails, is not wanted any more, or is there already."""
    rows = [append.row for append in part if not append.future.cancelled()]
    connection.execute("SAVEPOINT appends")
    try:
        whole = len(rows) == len(part) and connection.executemany(APPEND, rows).rowcount == len(rows)
    except FAULTS:
        whole = False
    if whole:
        last = int(connection.execute("SELECT last_insert_rowid()").fetchone()[0])
        connection.execute("RELEASE appends")
        return [
            (seq, True) for seq in range(last - len(rows) + 1, last + 1)
        ]  # AUTOINCREMENT: one transaction, one row of numbers
    connection.execute("ROLLBACK TO appends")
    connection.execute("RELEASE appends")
    return [None if append.future.cancelled() else _insert(append.row, store, connection) for append in part]


def _insert(row: Row, store: Store, connection: sqlite3.Connection) -> Outcome:
    """One row; an error of its own spoils no other. Raises sqlite3.Error where the disk fails."""
    try:
        cursor = connection.execute(APPEND, row)
        if cursor.rowcount:
            return int(cursor.lastrowid or 0), True
        return int(connection.execute("SELECT seq FROM outbox WHERE id = ?", row[:1]).fetchone()[0]), False
    except FAULTS as error:
        return explain(error, store.path) if isinstance(error, sqlite3.Error) else error

"""The part of the ring that is on disk: blocks of many messages, in order, each with a checksum."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from appliance.core.store import Store
from appliance.core.streams.encode import pack, unpack
from appliance.core.streams.model import Message, Priority
from appliance.errors import CorruptRecordError

log = logging.getLogger(__name__)

KEPT = 20
"""Damaged blocks that are kept, the newest."""
COUNT = "INSERT INTO counts (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = value + ?2"
QUARANTINED = "quarantined"


class Part(NamedTuple):
    """Messages that follow each other in one class."""

    priority: Priority
    first: int
    """Number of the first one."""
    messages: Sequence[Message]
    since: float
    """Wall clock at which the first one came."""
    until: float
    """The same of the last one."""


class Total(NamedTuple):
    """What of a class is on disk."""

    messages: int = 0
    bytes: int = 0
    since: float | None = None
    last: int = 0
    """The highest number."""
    until: float | None = None


class Spill:
    """Blocks in streams.sqlite.

    Args:
        store: Opened by its owner.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.totals: dict[Priority, Total] = dict.fromkeys(Priority, Total())
        self.quarantined = 0
        """Messages in damaged blocks, since ever."""
        self.dropped = dict.fromkeys(Priority, 0)
        """Messages given up, since ever, in memory or on disk."""
        self._uncounted = dict.fromkeys(Priority, 0)

    async def load(self) -> None:
        """Learn what is there; whenever the store was opened. Raises StoreError."""
        counts = await self._store.read(lambda c: dict(c.execute("SELECT name, value FROM counts").fetchall()))
        self.quarantined = counts.get(QUARANTINED, 0)
        self.dropped = {each: counts.get(f"dropped/{int(each)}", 0) + self._uncounted[each] for each in Priority}
        await self._reload(Priority)

    async def _reload(self, classes: Iterable[Priority]) -> None:
        self.totals |= await self._store.read(lambda connection: _totals(connection, classes))

    @property
    def bytes(self) -> int:
        """Of all blocks."""
        return sum(total.bytes for total in self.totals.values())

    async def add(self, parts: Sequence[Part], instead_of: Sequence[tuple[Priority, int]] = ()) -> None:
        """Write messages down, all or none; in place of blocks of these first numbers. Raises StoreError."""
        lost = {each: count for each, count in self._uncounted.items() if count}

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(DELETE, instead_of)
            for part in parts:
                proof, body = pack(part.priority, part.first, part.messages)
                last, count = part.first + len(part.messages) - 1, len(part.messages)
                row = (int(part.priority), part.first, last, count, part.since, part.until, len(body), proof, body)
                connection.execute(
                    "INSERT OR REPLACE INTO blocks (priority, first, last, messages, since, until, size, digest, body) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    row,
                )
            _count_drops(connection, lost)

        await self._store.write(write)
        self._counted(lost)
        await self._reload({part.priority for part in parts})

    def drop(self, priority: Priority, count: int = 1) -> None:
        """Count what was given up in memory; it is written down with the next block."""
        self.dropped[priority] += count
        self._uncounted[priority] += count

    def _counted(self, lost: Mapping[Priority, int]) -> None:
        for each, count in lost.items():
            self._uncounted[each] -= count

    async def front(self, priority: Priority, after: int) -> tuple[int, list[Message]] | None:
        """The first block with a last number above `after`, as (number of its first message, messages).

        Damaged ones before it are put into quarantine and counted. Raises StoreError.
        """

        def read(connection: sqlite3.Connection) -> tuple[int, list[Message] | None, str] | None:
            row = connection.execute(FRONT, (int(priority), after)).fetchone()
            if row is None:
                return None
            first, proof, body = row
            try:
                return first, unpack(priority, first, proof, body), ""
            except CorruptRecordError as error:
                return first, None, error.message

        while (found := await self._store.read(read)) is not None:
            first, messages, reason = found
            if messages is not None:
                return first, messages
            await self._quarantine(priority, first, reason)
        return None

    async def _quarantine(self, priority: Priority, first: int, reason: str) -> None:
        def move(connection: sqlite3.Connection) -> int:
            where = (int(priority), first)
            connection.execute(ASIDE, (reason, *where))
            found = connection.execute(
                "DELETE FROM blocks WHERE priority = ? AND first = ? RETURNING messages", where
            ).fetchall()
            connection.execute(COUNT, (QUARANTINED, sum(count for (count,) in found)))
            connection.execute(PRUNE, (KEPT,))
            return sum(count for (count,) in found)

        count = await self._store.write(move)
        self.quarantined += count
        log.error("a block of %d messages of class %s is in quarantine: %s", count, priority.name, reason)
        await self._reload((priority,))

    async def count_lost(self, count: int) -> None:
        """Messages that went with a damaged file. Raises StoreError."""
        await self._store.write(lambda connection: connection.execute(COUNT, (QUARANTINED, count)))
        self.quarantined += count

    async def remove(self, priority: Priority, upto: int) -> None:
        """Forget the blocks of a class whose last number is not above `upto`: they are sent. Raises StoreError."""
        query = "DELETE FROM blocks WHERE priority = ? AND first <= ? AND last <= ?"
        await self._store.write(lambda connection: connection.execute(query, (int(priority), upto, upto)))
        await self._reload((priority,))

    async def trim(self, excess: int, held: Mapping[Priority, int]) -> None:
        """Give up the oldest of the lowest class. Raises StoreError: nothing is given up.

        Args:
            excess: Bytes to get rid of.
            held: By class, blocks with a first number up to this one are being sent and stay.
        """

        def work(connection: sqlite3.Connection) -> dict[Priority, int]:
            left, lost, gone = excess, dict.fromkeys(Priority, 0), []
            for each in reversed(Priority):
                query = "SELECT first, messages, size FROM blocks WHERE priority = ? AND first > ? ORDER BY first"
                for first, messages, size in connection.execute(query, (int(each), held[each])):
                    if left <= 0:
                        break
                    gone.append((int(each), first))
                    left, lost[each] = left - size, lost[each] + messages
            _give_up(connection, gone, lost)
            return lost

        await self._gave_up(await self._store.write(work))

    async def expire(self, before: float, held: Mapping[Priority, int]) -> None:
        """Give up what has waited since before that moment (wall clock). Raises StoreError."""

        def work(connection: sqlite3.Connection) -> dict[Priority, int]:
            lost, gone = dict.fromkeys(Priority, 0), []
            for each in Priority:
                query = "SELECT first, messages FROM blocks WHERE priority = ? AND first > ? AND until < ?"
                for first, messages in connection.execute(query, (int(each), held[each], before)):
                    gone.append((int(each), first))
                    lost[each] += messages
            _give_up(connection, gone, lost)
            return lost

        if any(total.since is not None and total.since < before for total in self.totals.values()):
            await self._gave_up(await self._store.write(work))

    async def _gave_up(self, lost: Mapping[Priority, int]) -> None:
        for each, count in lost.items():
            self.dropped[each] += count
        await self._reload([each for each, count in lost.items() if count])

    async def shift(self, after: Mapping[Priority, int], upto: Mapping[Priority, int], seconds: float) -> None:
        """The wall clock was stepped: blocks with numbers above `after`, up to `upto`, wait since another moment."""
        rows = [(seconds, seconds, int(each), first, upto[each]) for each, first in after.items()]
        query = "UPDATE blocks SET since = since + ?, until = until + ? WHERE priority = ? AND first > ? AND first <= ?"
        await self._store.write(lambda connection: connection.executemany(query, rows))
        await self._reload(Priority)

    async def save_counts(self) -> None:
        """Write down the drops that are not. Raises StoreError."""
        lost = {each: count for each, count in self._uncounted.items() if count}
        if lost:
            await self._store.write(lambda connection: _count_drops(connection, lost))
            self._counted(lost)


def _totals(connection: sqlite3.Connection, classes: Iterable[Priority]) -> dict[Priority, Total]:
    query = (
        "SELECT coalesce(sum(messages), 0), coalesce(sum(size), 0), min(since), coalesce(max(last), 0), max(until) "
        "FROM blocks WHERE priority = ?"
    )
    return {each: Total(*connection.execute(query, (int(each),)).fetchone()) for each in classes}


def _give_up(connection: sqlite3.Connection, gone: Iterable[tuple[int, int]], lost: Mapping[Priority, int]) -> None:
    connection.executemany(DELETE, gone)
    _count_drops(connection, lost)


def _count_drops(connection: sqlite3.Connection, lost: Mapping[Priority, int]) -> None:
    connection.executemany(COUNT, [(f"dropped/{int(each)}", count) for each, count in lost.items() if count])


DELETE = "DELETE FROM blocks WHERE priority = ? AND first = ?"
FRONT = "SELECT first, digest, body FROM blocks WHERE priority = ? AND last > ? ORDER BY first LIMIT 1"
ASIDE = (
    "INSERT INTO quarantine (time, priority, first, messages, reason, body) "
    "SELECT unixepoch(), priority, first, messages, ?, body FROM blocks WHERE priority = ? AND first = ?"
)
PRUNE = "DELETE FROM quarantine WHERE rowid NOT IN (SELECT rowid FROM quarantine ORDER BY rowid DESC LIMIT ?)"

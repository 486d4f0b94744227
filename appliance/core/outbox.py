"""The durable journal of events, and the readers that follow it by cursor."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from appliance.core import journal
from appliance.core.appends import Append, Appends, Outcome
from appliance.core.events import Event, InferenceCompleted, envelope, from_envelope
from appliance.core.journal import NOWHERE, Backlog, Bound, Drops, Places, Stored, Trimmed
from appliance.core.model import QueueStatus
from appliance.core.store import Store
from appliance.core.streams.model import Priority
from appliance.errors import StoreError

log = logging.getLogger(__name__)

ASIDE = 1000
"""Events set aside that are kept, the newest."""
GIB = 1024**3


class Outbox:
    """Durable events in SQLite, bounded by count and bytes, and by age where somebody calls `expire`.

    At a bound those go first that every reader has, then the oldest of the lowest class; those that a reader missed are
    counted by class.

    Args:
        store: An open store.
        device_id: What the envelopes carry as device.
        capacity: Most events kept.
        byte_limit: Most bytes of envelopes kept.
        wall: Wall clock, seconds since the epoch.
    """

    def __init__(
        self,
        store: Store,
        device_id: str,
        capacity: int = 100_000,
        byte_limit: int = GIB,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._device_id = device_id
        self._capacity = capacity
        self.byte_limit = byte_limit
        self._wall = wall
        self._appends = Appends(store, self._took)
        self._appended = asyncio.Event()
        self._watchers: list[Callable[[int], None]] = []
        self._head = 0
        self._heads = list(NOWHERE)
        self._count = 0
        self.bytes = 0
        """Of all envelopes that are kept."""
        self._readers: dict[str, Places] = {}
        self._saved: dict[str, Places] = {}
        self._held: Places = NOWHERE
        self._trimming = asyncio.Lock()
        self._encoder = msgspec.json.Encoder()
        self.dropped = 0
        """Events that were trimmed before every reader had them."""
        self.dropped_by = dict.fromkeys(Priority, 0)
        """The same by class."""
        self._drops: Drops = {}
        self.unreadable = 0
        """Events that were set aside because they could not be read or stored."""
        self.epoch = 0
        """Grows whenever the store was opened: what lies in it may be another journal, and readers `resume`."""

    async def load(self) -> None:
        """Learn where the journal ends; whenever the store was opened."""

        def read(connection: sqlite3.Connection) -> tuple[list[tuple[int, int, int, int]], dict[str, int]]:
            query = "SELECT priority, count(*), sum(size), max(seq) FROM outbox GROUP BY priority"
            rows = connection.execute(query).fetchall()
            return rows, dict(connection.execute("SELECT name, value FROM outbox_counts"))

        rows, counts = await self._store.read(read)
        self._heads = list(NOWHERE)
        for priority, _, _, newest in rows:
            self._heads[priority] = newest
        self._head = max(self._heads)
        self._count, self.bytes = sum(row[1] for row in rows), sum(row[2] for row in rows)
        self.dropped, self.unreadable = counts.get(journal.DROPPED, 0), counts.get("unreadable", 0)
        self.dropped_by = {each: counts.get(f"{journal.DROPPED}/{int(each)}", 0) for each in Priority}
        self._drops = journal.load_drops(counts)
        self._readers = self._saved = journal.load_places(counts)
        self._held = NOWHERE
        self.epoch += 1
        self._tell(0)

    def watch(self, callback: Callable[[int], None]) -> None:
        """Have something called on this loop with the number of events that were stored; 0 where the journal was opened."""
        self._watchers.append(callback)

    def _tell(self, count: int) -> None:
        self._appended.set()
        for callback in self._watchers:
            callback(count)

    async def resume(self, seq: int, event_id: str) -> int:
        """Where a reader goes on that had come to event `event_id` at number `seq`.

        Returns:
            `seq`, or 0 where this is another journal than the one it read (the database was moved away, or an
            older one was restored): its numbers mean other events then, and it begins again.
        """

        def look(connection: sqlite3.Connection) -> bool:
            row = connection.execute("SELECT id FROM outbox WHERE seq = ?", (seq,)).fetchone()
            if row is not None:
                return bool(row[0] == event_id)
            first = connection.execute("SELECT min(seq) FROM outbox").fetchone()[0]
            return first is not None and seq < first  # trimmed: whatever there is comes after it

        return seq if await self._store.read(look) else 0

    async def append(self, event: Event) -> int:
        """Store one event; on disk when this returns. The same id twice is stored once.

        Raises:
            StoreError: It is not stored.
        """
        body = self._encoder.encode(envelope(event, self._device_id))
        return await self._appends.add(
            (event.id, event.type, body, int(event.priority), event.time, self._wall(), len(body)),
        )

    async def _took(self, part: Sequence[Append], outcomes: Sequence[Outcome]) -> None:
        """After a write: keep the books, and tell of it."""
        stored = 0
        for (row, _), outcome in zip(part, outcomes, strict=True):
            if not isinstance(outcome, tuple):
                continue
            seq, fresh = outcome
            stored += 1
            if fresh:
                self._heads[row[3]] = max(self._heads[row[3]], seq)
                self._count += 1
                self.bytes += row[6]
        self._head = max(self._head, *self._heads)
        await self._trim()
        self._tell(stored)

    def seen(self, reader: str, seq: int, priority: Priority | None = None) -> None:
        """A reader has everything up to number `seq` (of one class, or of all): what is trimmed of that is not lost."""
        places = self.places(reader)
        fresh = tuple(seq if priority in {None, each} else places[each] for each in Priority)
        self._readers = {**self._readers, reader: fresh}  # a new one: the writer's thread reads it

    def join(self, reader: str) -> None:
        """A reader that may be a new one is there: what it has not read counts as missed when it goes."""
        if reader not in self._readers:
            self._readers = {**self._readers, reader: NOWHERE}

    def places(self, reader: str) -> Places:
        """By class, up to which number a reader has everything."""
        return self._readers.get(reader, NOWHERE)

    def dropped_of(self, reader: str) -> dict[Priority, int]:
        """By class, events that were given up before this reader had them, since it joined first."""
        return self._drops.get(reader) or dict.fromkeys(Priority, 0)

    def hold(self, priority: Priority, seq: int) -> None:
        """What the sender is at: these are not given up while they are under way; 0 for none."""
        self._held = tuple(seq if each is priority else self._held[each] for each in Priority)

    async def reserve(self, priority: Priority) -> None:
        """Before the sender reads a class: nothing of it is given up until `hold` says what is under way."""
        self.hold(priority, journal.RESERVED)
        async with self._trimming:  # what began before that is over then
            pass

    async def save_places(self) -> None:
        """Write down where the readers stand, if that changed. Raises StoreError."""
        readers = self._readers
        if readers != self._saved:
            await self._store.write(lambda connection: journal.save_places(connection, readers))
            self._saved = readers

    async def forget(self, reader: str) -> None:
        """A reader comes no more: nothing is kept or counted for it. Raises StoreError."""
        name = journal.READER + reader
        query = "DELETE FROM outbox_counts WHERE name = ? OR name GLOB ? OR name GLOB ?"
        values = (name, f"{name}/?", f"{journal.DROPPED}/{reader}/?")
        await self._store.write(lambda connection: connection.execute(query, values))
        self._drops.pop(reader, None)
        self._readers = {each: places for each, places in self._readers.items() if each != reader}
        self._saved = {each: places for each, places in self._saved.items() if each != reader}

    def _bound(self, count: int = 0, size: int = 0) -> Bound:
        readers = list(self._readers.values()) or [NOWHERE]
        read = tuple(min(places[each] for places in readers) for each in Priority)
        return Bound(count, size, read, self._held, self._readers)

    async def _trim(self) -> None:
        """Delete what is over a bound, in steps of a hundredth of it. The event that led here is stored whatever happens."""
        count, size = self._count - self._capacity, self.bytes - self.byte_limit
        if self._trimming.locked() or (count < max(1, self._capacity // 100) and size < max(1, self.byte_limit // 100)):
            return
        async with self._trimming:
            bound, readers = self._bound(count, size), self._readers

            def work(connection: sqlite3.Connection) -> Trimmed:
                journal.save_places(connection, readers)
                return journal.trim(connection, bound)

            try:
                self._gone(await self._store.write(work))
                self._saved = readers
            except StoreError as error:
                log.error("the journal is over its bound and could not be trimmed: %s", error.message)

    async def expire(self, before: float) -> int:
        """Give up what a reader missed and waits since before that moment; returns how many events. Raises StoreError."""
        async with self._trimming:
            bound = self._bound()
            trimmed = await self._store.write(lambda connection: journal.expire(connection, before, bound))
            self._gone(trimmed)
        return trimmed.events

    def _gone(self, trimmed: Trimmed) -> None:
        self._count -= trimmed.events
        self.bytes -= trimmed.bytes
        self.dropped += sum(trimmed.missed.values())
        self.dropped_by = {each: count + trimmed.missed[each] for each, count in self.dropped_by.items()}
        for reader, counts in trimmed.by_reader.items():
            before = self.dropped_of(reader)
            self._drops[reader] = {each: before[each] + count for each, count in counts.items()}

    async def shift(self, after: int, upto: int, seconds: float) -> None:
        """The wall clock was stepped: numbers above `after`, up to `upto`, wait since a moment with another name."""
        query = "UPDATE outbox SET since = since + ? WHERE seq > ? AND seq <= ?"
        await self._store.write(lambda connection: connection.execute(query, (seconds, after, upto)))

    async def backlog(self, reader: str) -> dict[Priority, Backlog]:
        """What waits for a reader, by class. Raises StoreError."""
        places = self.places(reader)
        return await self._store.read(lambda connection: journal.backlog(connection, places))

    async def stored(
        self,
        priority: Priority,
        after: int,
        limit: int,
        *,
        size: int = 2**62,
        between: tuple[float, float] | None = None,
        upto: int | None = None,
        types: Collection[str] = (),
    ) -> list[Stored]:
        """Up to `limit` rows of one class, and up to `size` bytes of envelopes, but at least one; by number.

        Args:
            priority: The class.
            after: Only numbers above it.
            limit: Most rows.
            size: Most bytes; rows behind them are not read.
            between: Only events of these times, the second one excluded.
            upto: Only numbers up to it.
            types: Only these types of events; all where none is named.

        Raises:
            StoreError: The journal could not be read.
        """
        since, until = between or (float("-inf"), float("inf"))
        marks = f" AND type IN ({', '.join('?' * len(types))})" if types else ""
        values = (int(priority), after, 2**62 if upto is None else upto, since, until, *types, limit)

        def read(connection: sqlite3.Connection) -> list[Stored]:
            with contextlib.closing(connection.execute(STORED.format(marks), values)) as rows:
                return journal.first_bytes(map(Stored._make, rows), size)

        return await self._store.read(read)

    async def count(self, priority: Priority, between: tuple[float, float], upto: int, types: Collection[str]) -> int:
        """How many rows of one class `stored` would find. Raises StoreError."""
        marks = ", ".join("?" * len(types))
        values = (int(priority), upto, *between, *types)
        return await self._store.read(lambda connection: int(connection.execute(COUNTED.format(marks), values).fetchone()[0]))

    def newest(self, priority: Priority) -> int:
        """The number of the newest event of a class."""
        return self._heads[priority]

    async def read(self, after: int, limit: int = 500) -> list[tuple[int, Event]]:
        """Up to `limit` events with a sequence number above `after`, oldest first; what cannot be read is set aside.

        Raises:
            StoreError: The journal could not be read, or what cannot be read could not be set aside.
        """
        while rows := await self._rows(after, limit):
            events, bad = _decoded(rows)
            if bad:
                await self.set_aside(bad)
            if events:
                return events
            after = rows[-1][0]
        return []

    async def _rows(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        def select(connection: sqlite3.Connection) -> list[tuple[int, bytes]]:
            return connection.execute(
                "SELECT seq, envelope FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit)
            ).fetchall()

        return await self._store.read(select)

    async def set_aside(self, bad: Mapping[int, str]) -> None:
        """Take events out of the journal that nobody can use, so that the others go on; they are kept apart and counted.

        Args:
            bad: Why, by the event's number.

        Raises:
            StoreError: They are where they were.
        """

        def move(connection: sqlite3.Connection) -> tuple[int, list[int]]:
            moved, sizes = 0, []
            for seq, reason in bad.items():
                moved += connection.execute(MOVE, (reason, seq)).rowcount
                gone = connection.execute("DELETE FROM outbox WHERE seq = ? RETURNING size", (seq,)).fetchall()
                sizes += [size for (size,) in gone]
            connection.execute(journal.COUNT, ("unreadable", moved))
            connection.execute(PRUNE, (ASIDE,))
            return moved, sizes

        moved, sizes = await self._store.write(move)
        self.unreadable += moved
        self._count, self.bytes = self._count - len(sizes), self.bytes - sum(sizes)
        for seq, reason in bad.items():
            log.error("event %d of the journal is set aside: %s", seq, reason)

    @property
    def head(self) -> int:
        """The number of the newest event."""
        return self._head

    async def wait_beyond(self, seq: int, epoch: int) -> None:
        """Return when an event with a number above `seq` is stored, or the journal is no more the one of `epoch`."""
        while self._head <= seq and self.epoch == epoch:
            self._appended.clear()
            await self._appended.wait()

    def status(self, cursor: int) -> QueueStatus:
        """The queue as one reader sees it."""
        return QueueStatus("outbox", max(0, self._head - cursor), self._capacity, cursor, self.dropped, "drop oldest")


def _decoded(rows: list[tuple[int, bytes]]) -> tuple[list[tuple[int, Event]], dict[int, str]]:
    """The events, and by number why others are none."""
    events, bad = [], {}
    for seq, body in rows:
        try:
            event = from_envelope(msgspec.json.decode(body))
            if isinstance(event, InferenceCompleted):
                event.to_result()
        except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
            bad[seq] = f"{type(error).__name__}: {error}"
        else:
            events.append((seq, event))
    return events, bad


STORED = (
    "SELECT seq, id, type, time, envelope FROM outbox INDEXED BY outbox_by_class "
    "WHERE priority = ? AND seq > ? AND seq <= ? AND time >= ? AND time < ?{} ORDER BY seq LIMIT ?"
)
COUNTED = "SELECT count(*) FROM outbox WHERE priority = ? AND seq <= ? AND time >= ? AND time < ? AND type IN ({})"
MOVE = (
    "INSERT OR IGNORE INTO outbox_unreadable (seq, id, type, envelope, reason) "
    "SELECT seq, id, type, envelope, ? FROM outbox WHERE seq = ?"
)
PRUNE = "DELETE FROM outbox_unreadable WHERE seq NOT IN (SELECT seq FROM outbox_unreadable ORDER BY seq DESC LIMIT ?)"

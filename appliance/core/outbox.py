"""The durable journal of events, and the readers that follow it by cursor."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Mapping

import msgspec

from appliance.core.events import Event, InferenceCompleted, envelope, from_envelope
from appliance.core.model import QueueStatus
from appliance.core.store import Store

log = logging.getLogger(__name__)

READER = "reader "
"""Before a reader's name in the counts: where it stood when the journal was last trimmed."""
ASIDE = 1000
"""Events set aside that are kept, the newest."""


class Outbox:
    """Durable events in SQLite, bounded; the oldest go first, and those that a reader missed are counted.

    Args:
        store: An open store.
        device_id: What the envelopes carry as device.
        capacity: Most events kept.
    """

    def __init__(self, store: Store, device_id: str, capacity: int = 100_000) -> None:
        self._store = store
        self._device_id = device_id
        self._capacity = capacity
        self._appended = asyncio.Event()
        self._head = 0
        self._floor = 0
        self._seen: dict[str, int] = {}
        self._encoder = msgspec.json.Encoder()
        self.dropped = 0
        """Events that were trimmed before every reader had them."""
        self.unreadable = 0
        """Events that were set aside because they could not be read or stored."""
        self.epoch = 0
        """Grows whenever the store was opened: what lies in it may be another journal, and readers `resume`."""

    async def load(self) -> None:
        """Learn where the journal ends; whenever the store was opened."""

        def read(connection: sqlite3.Connection) -> tuple[int, int, dict[str, int]]:
            head, floor = connection.execute("SELECT coalesce(max(seq), 0), coalesce(min(seq), 1) FROM outbox").fetchone()
            return head, floor - 1, dict(connection.execute("SELECT name, value FROM outbox_counts"))

        self._head, self._floor, counts = await self._store.read(read)
        self.dropped, self.unreadable = counts.get("dropped", 0), counts.get("unreadable", 0)
        self._seen = {name.removeprefix(READER): seq for name, seq in counts.items() if name.startswith(READER)}
        self.epoch += 1
        self._appended.set()

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

        def insert(connection: sqlite3.Connection) -> tuple[int, int]:
            connection.execute(
                "INSERT INTO outbox (id, type, envelope) VALUES (?, ?, ?) ON CONFLICT (id) DO NOTHING",
                (event.id, event.type, body),
            )
            seq = connection.execute("SELECT seq FROM outbox WHERE id = ?", (event.id,)).fetchone()[0]
            return seq, self._trim(connection, seq)

        seq, missed = await self._store.write(insert)
        self._head = max(self._head, seq)
        self.dropped += missed
        self._appended.set()
        return seq

    def seen(self, reader: str, seq: int) -> None:
        """A reader has everything up to number `seq`: what is trimmed of that is not lost."""
        self._seen = {**self._seen, reader: seq}  # a new one: the writer's thread reads it

    def _trim(self, connection: sqlite3.Connection, seq: int) -> int:
        """Delete what is over capacity, in steps of a hundredth of it; returns how many of these some reader missed."""
        excess = seq - self._floor - self._capacity
        if excess < max(1, self._capacity // 100):
            return 0
        floor, slowest = seq - self._capacity, min(self._seen.values(), default=0)
        missed = connection.execute("DELETE FROM outbox WHERE seq > ? AND seq <= ?", (slowest, floor)).rowcount
        connection.execute("DELETE FROM outbox WHERE seq <= ?", (floor,))
        connection.execute(COUNT, ("dropped", missed))
        connection.executemany(PLACE, [(READER + name, place) for name, place in self._seen.items()])
        self._floor = floor
        return missed

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

        def move(connection: sqlite3.Connection) -> int:
            moved = 0
            for seq, reason in bad.items():
                moved += connection.execute(MOVE, (reason, seq)).rowcount
                connection.execute("DELETE FROM outbox WHERE seq = ?", (seq,))
            connection.execute(COUNT, ("unreadable", moved))
            connection.execute(PRUNE, (ASIDE,))
            return moved

        self.unreadable += await self._store.write(move)
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


PLACE = "INSERT INTO outbox_counts VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2"
COUNT = "INSERT INTO outbox_counts VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = value + ?2"
MOVE = "INSERT OR IGNORE INTO outbox_unreadable SELECT seq, id, type, envelope, ? FROM outbox WHERE seq = ?"
PRUNE = "DELETE FROM outbox_unreadable WHERE seq NOT IN (SELECT seq FROM outbox_unreadable ORDER BY seq DESC LIMIT ?)"

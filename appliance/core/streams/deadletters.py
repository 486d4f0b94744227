"""Messages that could not be sent or used, kept with their reason until somebody decides."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from appliance.core.events import new_id
from appliance.core.store import Store
from appliance.core.streams.encode import PRIORITIES
from appliance.core.streams.model import DeadLetter, Message, Priority, Refused
from appliance.core.streams.spill import COUNT
from appliance.errors import NotFoundError, StreamError

AGAIN = frozenset({"outbox", "sink"})
"""Origins of what may be sent again; anything that came from the cloud would be a replay."""
DROPPED = "letters dropped"


class DeadLetters:
    """The letters in streams.sqlite; those of each origin are bounded, so that none takes another's room; the oldest go first.

    Args:
        store: Opened by the outbox.
        limit: Most letters kept of one origin.
        wake: Called when one is to be sent again.
    """

    takes_refused = True
    """As a source of the sender: its refused messages are letters already."""

    def __init__(self, store: Store, limit: int, wake: Callable[[], None]) -> None:
        self._store = store
        self._limit = limit
        self._wake = wake
        self._retrying = dict.fromkeys(Priority, 0)
        self._sending: list[int] = []
        self.count = 0
        """Letters that are kept."""
        self.dropped = 0
        """Letters given up because there were too many of their origin, since ever."""

    async def load(self) -> None:
        """Learn what is there; whenever the store was opened. Raises StoreError."""

        def read(connection: sqlite3.Connection) -> tuple[int, int, dict[int, int]]:
            count = connection.execute("SELECT count(*) FROM letters").fetchone()[0]
            lost = connection.execute("SELECT value FROM counts WHERE name = ?", (DROPPED,)).fetchone()
            query = "SELECT priority, count(*) FROM letters WHERE retry > 0 GROUP BY priority"
            return count, 0 if lost is None else lost[0], dict(connection.execute(query).fetchall())

        self.count, self.dropped, retrying = await self._store.read(read)
        self._retrying = {each: retrying.get(int(each), 0) for each in Priority}

    async def add(self, letter: DeadLetter, value: bytes) -> None:
        """Keep one; `letter.body` is not used. Raises StoreError."""
        priority = PRIORITIES.get(letter.topic, Priority.normal)
        key = letter.key.encode("utf-8", "surrogateescape")
        row = (
            letter.letter_id, letter.time, letter.origin, letter.topic, key, letter.reason, letter.size,
            letter.partition, letter.offset, letter.letter_id, letter.time, int(priority), value,
        )  # fmt: skip
        await self._insert([row])

    async def add_messages(self, origin: str, refused: Sequence[Refused], now: float) -> None:
        """Keep messages of ours with their reasons. Raises StoreError."""
        rows = [
            (new_id(), now, origin, m.topic, m.key, reason, len(m.value), None, None, m.id, m.time, int(m.priority), m.value)
            for m, reason in refused
        ]
        await self._insert(rows)

    async def _insert(self, rows: Sequence[tuple[object, ...]]) -> None:
        origins = {row[ORIGIN] for row in rows}

        def write(connection: sqlite3.Connection) -> tuple[int, int]:
            connection.executemany(INSERT, rows)
            lost = sum(connection.execute(PRUNE, (origin, self._limit)).rowcount for origin in origins)
            connection.execute(COUNT, (DROPPED, lost))
            return lost, int(connection.execute("SELECT count(*) FROM letters").fetchone()[0])

        lost, self.count = await self._store.write(write)
        self.dropped += lost
        if lost:
            await self.load()

    async def get(self, letter_id: str) -> DeadLetter:
        """One with its body. Raises NotFoundError, StoreError."""
        query = f"SELECT {COLUMNS}, value FROM letters WHERE letter_id = ?"  # noqa: S608 ours
        row = await self._store.read(lambda connection: connection.execute(query, (letter_id,)).fetchone())
        if row is None:
            raise _unknown(letter_id)
        return _letter(row)

    async def retry(self, letter_id: str) -> None:
        """Send it again, at the end of its class; it stays here until that succeeded.

        Raises:
            NotFoundError: There is no such letter.
            StreamError: It came from the cloud (origin "commands" or "updates"): sending it again would be a replay.
            StoreError: It is as before.
        """
        query = "SELECT origin FROM letters WHERE letter_id = ?"
        row = await self._store.read(lambda connection: connection.execute(query, (letter_id,)).fetchone())
        if row is None:
            raise _unknown(letter_id)
        if row[0] not in AGAIN:
            reason = f"The letter {letter_id} came from the cloud ({row[0]}); sending it again would be a replay."
            raise StreamError(reason, "have its issuer send a new one, and discard this one.")
        await self._store.write(lambda connection: connection.execute(AGAIN_LAST, (letter_id,)))
        await self.load()
        self._wake()

    async def retry_all(self) -> tuple[int, int]:
        """Send all again that may be, in their order; returns how many, and how many may not be. Raises StoreError."""

        def write(connection: sqlite3.Connection) -> tuple[int, int]:
            origins = tuple(AGAIN)
            marks = ", ".join("?" * len(origins))
            count = connection.execute(f"SELECT count(*) FROM letters WHERE origin IN ({marks})", origins).fetchone()[0]  # noqa: S608
            total = connection.execute("SELECT count(*) FROM letters").fetchone()[0]
            last = connection.execute("SELECT coalesce(max(retry), 0) FROM letters").fetchone()[0]
            query = f"UPDATE letters SET retry = ? + number WHERE retry = 0 AND origin IN ({marks})"  # noqa: S608 ours
            connection.execute(query, (last, *origins))
            return count, total - count

        outcome = await self._store.write(write)
        await self.load()
        self._wake()
        return outcome

    async def discard(self, letter_id: str) -> None:
        """Throw it away. Raises NotFoundError, StoreError."""
        query = "DELETE FROM letters WHERE letter_id = ?"
        if not await self._store.write(lambda connection: connection.execute(query, (letter_id,)).rowcount):
            raise _unknown(letter_id)
        await self.load()

    async def discard_all(self) -> int:
        """Throw all away; returns how many. Raises StoreError."""
        count = await self._store.write(lambda connection: connection.execute("DELETE FROM letters").rowcount)
        await self.load()
        return count

    async def ending(self, text: str, limit: int = 100) -> list[str]:
        """The ids that end with this text. Raises StoreError."""
        query = "SELECT letter_id FROM letters WHERE substr(letter_id, -length(?1)) = ?1 ORDER BY number DESC LIMIT ?2"
        rows = await self._store.read(lambda connection: connection.execute(query, (text, limit)).fetchall())
        return [letter_id for (letter_id,) in rows]

    def ready(self, priority: Priority) -> bool:
        """Whether letters of a class are to be sent again."""
        return self._retrying[priority] > 0

    async def peek(self, priority: Priority, limit: int, size: int) -> list[Message]:
        """The next letters of a class that are to be sent again. Raises StoreError."""

        def read(connection: sqlite3.Connection) -> list[tuple[int, Message]]:
            left = size
            chosen: list[tuple[int, Message]] = []
            with contextlib.closing(connection.execute(NEXT, (int(priority), limit))) as rows:
                for number, message_id, topic, key, value, time in rows:
                    left -= len(value)
                    if left < 0 and chosen:
                        break
                    chosen.append((number, Message(message_id, topic, key, value, priority, time)))
            return chosen

        chosen = await self._store.read(read)
        self._sending = [number for number, _ in chosen]
        return [message for _, message in chosen]

    def release(self, priority: Priority) -> None:
        """Nothing is held."""

    async def settle(self, messages: Sequence[Message], refused: Sequence[Refused]) -> None:
        """Those that `peek` showed are with Kafka, but for the refused ones. Raises StoreError."""
        reasons = {message.id: reason for message, reason in refused}
        again = [(reasons[each.id], number) for number, each in zip(self._sending, messages, strict=True) if each.id in reasons]
        gone = [(number,) for number, each in zip(self._sending, messages, strict=True) if each.id not in reasons]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM letters WHERE number = ?", gone)
            connection.executemany("UPDATE letters SET retry = 0, reason = ? WHERE number = ?", again)

        await self._store.write(write)
        await self.load()

    async def list(self, limit: int = 100, origin: str = "") -> list[DeadLetter]:
        """The newest ones, without their bodies. Raises StoreError."""
        query = f"SELECT {COLUMNS} FROM letters WHERE ?1 IN ('', origin) ORDER BY number DESC LIMIT ?2"  # noqa: S608 ours
        rows = await self._store.read(lambda connection: connection.execute(query, (origin, limit)).fetchall())
        return [_letter(row) for row in rows]


def _unknown(letter_id: str) -> NotFoundError:
    return NotFoundError(f"There is no dead letter {letter_id}.", "`prime-spark streams dead-letters` lists them.")


def _letter(row: tuple[Any, ...]) -> DeadLetter:
    """A row selected with COLUMNS, and the value behind them where the body is asked for."""
    letter_id, time, origin, topic, key, reason, size, part, place, *value = row
    body = value[0].decode("utf-8", "backslashreplace") if value else ""
    return DeadLetter(
        letter_id=letter_id, time=time, origin=origin, topic=topic, key=key.decode("utf-8", "backslashreplace"), reason=reason,
        size=size, partition=part, offset=place, body=body,
    )  # fmt: skip


COLUMNS = "letter_id, time, origin, topic, key, reason, size, part, place"
INSERT = (
    "INSERT INTO letters (letter_id, time, origin, topic, key, reason, size, part, place, message_id, event_time, "
    "priority, value) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (letter_id) DO NOTHING"
)
ORIGIN = 2
"""Its place in a row of INSERT."""
PRUNE = (
    "DELETE FROM letters WHERE origin = ?1 AND number <= "
    "(SELECT number FROM letters WHERE origin = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)"
)
AGAIN_LAST = "UPDATE letters SET retry = (SELECT coalesce(max(retry), 0) + 1 FROM letters) WHERE letter_id = ? AND retry = 0"
NEXT = (
    "SELECT number, message_id, topic, key, value, event_time FROM letters "
    "WHERE priority = ? AND retry > 0 ORDER BY retry LIMIT ?"
)

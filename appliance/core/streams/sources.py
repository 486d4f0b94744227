"""The journal as sources of the sender: what it has not sent, and what is to be sent again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

import msgspec

from appliance.core.events import EVENT_TYPES
from appliance.core.journal import Stored
from appliance.core.outbox import Outbox
from appliance.core.store import Store
from appliance.core.streams.encode import journal_message, size_of
from appliance.core.streams.model import Message, Priority, Refused
from appliance.errors import StreamError

KAFKA = "kafka"
"""The sender's name among the journal's readers."""
MOST_REPLAYS = 100
"""Most that wait, each for its class."""
REPLAYS = "SELECT number, priority, since, until, types, place, upto, waiting FROM replays ORDER BY number"


class Source(Protocol):
    """Something with messages that wait. Of each class, only one batch is under way at a time."""

    takes_refused: bool
    """Its refused messages need not be made dead letters."""

    def ready(self, priority: Priority) -> bool:
        """Whether something of a class seems to wait; cheap."""

    async def peek(self, priority: Priority, limit: int, size: int) -> list[Message]:
        """The next messages of a class, up to so many and so many bytes; the same again until `settle`. Raises StoreError."""

    def release(self, priority: Priority) -> None:
        """What `peek` showed last could not be sent: `peek` comes again, later."""

    async def settle(self, messages: Sequence[Message], refused: Sequence[Refused]) -> None:
        """What `peek` showed last is with Kafka, but for the refused ones. Raises StoreError: it comes again."""


class JournalSource:
    """Durable events, one cursor for each class, so that a high one overtakes.

    Args:
        journal: Loaded.
    """

    takes_refused = False

    def __init__(self, journal: Outbox) -> None:
        self._journal = journal
        self._under_way: tuple[int, Priority, list[int]] = (0, Priority.low, [])

    def ready(self, priority: Priority) -> bool:
        """Whether an event of a class is behind the cursor."""
        return self._journal.newest(priority) > self._journal.places(KAFKA)[priority]

    async def peek(self, priority: Priority, limit: int, size: int) -> list[Message]:
        """The next events of a class; those that cannot be read are set aside. Raises StoreError."""
        epoch, newest = self._journal.epoch, self._journal.newest(priority)
        await self._journal.reserve(priority)
        try:
            rows = await self._journal.stored(priority, self._journal.places(KAFKA)[priority], limit, size=size)
            chosen, bad = _messages(rows, size)
            if bad:
                await self._journal.set_aside(bad)
        except BaseException:
            self._journal.hold(priority, 0)
            raise
        if self._journal.epoch != epoch:
            return []
        self._journal.hold(priority, chosen[-1][0] if chosen else 0)
        if not rows:  # given up, or set aside by another reader
            self._journal.seen(KAFKA, newest, priority)
        self._under_way = (epoch, priority, [seq for seq, _ in chosen])
        return [message for _, message in chosen]

    def release(self, priority: Priority) -> None:
        """It may be given up again."""
        self._journal.hold(priority, 0)

    async def settle(self, messages: Sequence[Message], refused: Sequence[Refused]) -> None:
        """Move the cursor, unless the journal is another one now. It is written down now and then (`save_places`)."""
        epoch, priority, numbers = self._under_way
        if epoch == self._journal.epoch:
            self._journal.seen(KAFKA, numbers[len(messages) - 1], priority)
            self._journal.hold(priority, 0)


class Replay(NamedTuple):
    """Events of one class that are sent again."""

    number: int
    priority: Priority
    since: float
    until: float
    types: tuple[str, ...]
    place: int
    """Up to this number all are sent."""
    upto: int
    waiting: int


class Replays:
    """What is sent again, kept over restarts.

    Args:
        store: streams.sqlite, opened by its owner.
        journal: Where the events are.
    """

    takes_refused = False

    def __init__(self, store: Store, journal: Outbox) -> None:
        self._store = store
        self._journal = journal
        self._replays: list[Replay] = []
        self._under_way: tuple[int, list[int]] = (0, [])
        """Number of the replay, and of its events."""

    async def load(self) -> None:
        """Learn what is to be done; whenever the store was opened. Raises StoreError."""
        rows = await self._store.read(lambda connection: connection.execute(REPLAYS).fetchall())
        self._replays = [
            Replay(number, Priority(priority), since, until, tuple(msgspec.json.decode(types)), place, upto, waiting)
            for number, priority, since, until, types, place, upto, waiting in rows
        ]

    def waiting(self, priority: Priority) -> int:
        """Events of a class that are still to be sent again."""
        return sum(each.waiting for each in self._replays if each.priority is priority)

    def ready(self, priority: Priority) -> bool:
        """Whether there are such."""
        return any(each.priority is priority for each in self._replays)

    async def begin(self, since: float, until: float, topics: Collection[str]) -> int:
        """See StreamOutbox.replay."""
        known = {cls.topic for cls in EVENT_TYPES.values() if cls.durable}
        if unknown := set(topics) - known:
            reason = f"{', '.join(sorted(unknown))} has no durable events: nothing of it can be sent again."
            raise StreamError(reason, f"choose of {', '.join(sorted(known))}.")
        if len(self._replays) + len(Priority) > MOST_REPLAYS:
            raise StreamError(f"{len(self._replays)} replays wait for Kafka already.", "wait until they are sent.")
        rows = []
        for priority in Priority:
            chosen = topics or known
            types = [
                cls.type for cls in EVENT_TYPES.values() if cls.durable and cls.priority is priority and cls.topic in chosen
            ]
            upto = self._journal.places(KAFKA)[priority]  # what is behind that is sent anyway
            count = await self._journal.count(priority, (since, until), upto, types)
            if count:
                rows.append((int(priority), since, until, msgspec.json.encode(types).decode(), 0, upto, count))
        query = "INSERT INTO replays (priority, since, until, types, place, upto, waiting) VALUES (?, ?, ?, ?, ?, ?, ?)"
        await self._store.write(lambda connection: connection.executemany(query, rows))
        await self.load()
        return sum(row[-1] for row in rows)

    async def peek(self, priority: Priority, limit: int, size: int) -> list[Message]:
        """The next events of the first replay of a class. Raises StoreError."""
        for replay in [each for each in self._replays if each.priority is priority]:
            rows = await self._journal.stored(
                priority, replay.place, limit, size=size,
                between=(replay.since, replay.until), upto=replay.upto, types=replay.types,
            )  # fmt: skip
            chosen, _ = _messages(rows, size)
            if chosen:
                self._under_way = (replay.number, [seq for seq, _ in chosen])
                return [message for _, message in chosen]
            await self._end(replay)
        return []

    def release(self, priority: Priority) -> None:
        """Nothing is held."""

    async def settle(self, messages: Sequence[Message], refused: Sequence[Refused]) -> None:
        """Go on behind them, unless the file that had the replay is another one now. Raises StoreError: they come again."""
        number, events = self._under_way
        row = (events[len(messages) - 1], len(messages), number)
        query = "UPDATE replays SET place = ?, waiting = max(0, waiting - ?) WHERE number = ?"
        await self._store.write(lambda connection: connection.execute(query, row))
        await self.load()

    async def _end(self, replay: Replay) -> None:
        query = "DELETE FROM replays WHERE number = ?"
        await self._store.write(lambda connection: connection.execute(query, (replay.number,)))
        await self.load()


def _messages(rows: Sequence[Stored], size: int) -> tuple[list[tuple[int, Message]], dict[int, str]]:
    """Rows as numbered messages up to so many bytes, and by number why others are none."""
    chosen: list[tuple[int, Message]] = []
    bad: dict[int, str] = {}
    for row in rows:
        try:
            message = journal_message(row)
        except (msgspec.MsgspecError, KeyError) as error:
            bad[row.seq] = f"{type(error).__name__}: {error}"
            continue
        size -= size_of(message)
        if size < 0 and chosen:
            break
        chosen.append((row.seq, message))
    return chosen, bad

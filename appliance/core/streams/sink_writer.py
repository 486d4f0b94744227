"""Writes batches so that each event is stored exactly once: rows, roll-ups, dead letters and offsets in one transaction.

The offsets are the fence. A writer moves its rows of stream_offsets first, and goes on only where they were what it believed.
Whoever was overtaken (another member has the partition now, or an earlier commit arrived although its answer did not) reads
them anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from appliance.core.analytics import copying
from appliance.core.analytics.rows import Table
from appliance.core.analytics.timescale import COMMAND, Database, failures
from appliance.core.events import new_id
from appliance.core.streams import sink_sql as sql
from appliance.core.streams.kafka_consumer import Place
from appliance.core.streams.sink_batch import KEPT_BODY, Batch, Entry, Letter, Series, Sums
from appliance.errors import StreamError

if TYPE_CHECKING:
    from uuid import UUID

    from appliance.core.analytics.timescale import Connection

NO_PARTITION = "23514"
ROWS = ("22", "23", "54")
"""Classes of SQLSTATE that blame the rows: data exceptions, broken constraints, limits of the program."""


Store = Callable[["Connection", Batch, list[Letter]], Awaitable[dict[str, int]]]
"""Stores a batch's events; rows by table."""


class FencedError(Exception):
    """The database is not where this writer believes it to be."""


class NoPartitionError(Exception):
    """A partition is missing that was there before."""


class Written(NamedTuple):
    """What a batch came to.

    Attributes:
        rows: New rows by table.
        known: Rows that were there already.
        letters: Dead letters.
    """

    rows: dict[str, int]
    known: int
    letters: int


class Writer:
    """The sink's side of the database.

    Args:
        database: Opened.
        group: The consumer group.
        limit: Seconds for one batch.
    """

    def __init__(self, database: Database, group: str, limit: float = COMMAND) -> None:
        self._database = database
        self._group = group
        self.limit = limit

    @property
    def _rollups(self) -> bool:
        schema = self._database.schema
        return schema is None or not schema.timescale

    async def offsets(self) -> dict[Place, int]:
        """Where to read on. Raises DatabaseError."""
        rows = await self._database.run(lambda connection: connection.fetch(sql.READ, self._group), 15.0)
        return {Place(topic, partition): offset for topic, partition, offset in rows}

    async def begin(self, place: Place, offset: int) -> None:
        """Note a partition that was never read. Raises DatabaseError."""
        await self._database.run(lambda connection: connection.execute(sql.BEGIN, self._group, *place, offset), 15.0)

    async def move(self, place: Place, old: int, new: int) -> None:
        """Go on elsewhere, where nobody else has moved it meanwhile. Raises DatabaseError."""
        await self._database.run(lambda connection: connection.execute(sql.MOVE, self._group, *place, old, new), 15.0)

    async def write(self, batch: Batch) -> Written:
        """Store a batch: the quick way, and where one of its rows is not new or not good, the careful way.

        Raises:
            FencedError: It is not ours to write; nothing was stored.
            NoPartitionError: Make the partitions again; nothing was stored.
            DatabaseError: Whether it was stored is not known; writing it again stores nothing twice.
        """

        async def either(connection: Connection) -> Written:
            try:
                return await self._transact(connection, batch, self._copied)
            except failures() as error:
                self._blames_rows(error)
            return await self._transact(connection, batch, self._sifted)

        return await self._database.run(either, self.limit)

    async def again(self, forget: str, letter_id: UUID, entry: Entry) -> bool:
        """Store the event of a dead letter and remove the letter, in one transaction; False where the letter is gone.

        Args:
            forget: The statement that removes it, by its id.
            letter_id: Its id.
            entry: Its event, decoded anew.

        Raises:
            StreamError: The server does not take it; the letter stays.
            NoPartitionError: Make the partitions again; nothing was stored.
            DatabaseError: Whether it was stored is not known.
        """
        batch, letters = Batch(0, 1), list[Letter]()
        batch.events[entry.event.table] = [entry]

        async def work(connection: Connection) -> bool:
            async with connection.transaction():
                if await connection.execute(forget, letter_id) == "DELETE 0":
                    return False
                await self._sifted(connection, batch, letters)
                if letters:
                    raise StreamError(f"It still cannot be used: {letters[0].reason}.", "discard the letter.")
            return True

        return await self._database.run(work, self.limit)

    async def add(self, entries: Sequence[Entry]) -> str:
        """Store events that no message brought, all of them or none, in one transaction.

        Returns:
            Why the server does not take one of them; "" where they are stored.

        Raises:
            NoPartitionError: Make the partitions again; nothing was stored.
            DatabaseError: Whether they were stored is not known.
        """
        batch, letters = Batch(0, 1), list[Letter]()
        for entry in entries:
            batch.events.setdefault(entry.event.table, []).append(entry)

        async def work(connection: Connection) -> None:
            transaction = connection.transaction()
            await transaction.start()
            try:
                await self._sifted(connection, batch, letters)
            except BaseException:
                await transaction.rollback()
                raise
            await (transaction.rollback() if letters else transaction.commit())

        await self._database.run(work, self.limit)
        return letters[0].reason if letters else ""

    async def _transact(self, connection: Connection, batch: Batch, store: Store) -> Written:
        letters = list(batch.letters)
        async with connection.transaction():
            await self._advance(connection, batch)
            stored = await store(connection, batch, letters)
            if letters:
                await connection.execute(sql.LETTERS, self._group, *_columns_of(letters))
        return Written(stored, batch.rows - sum(stored.values()), len(letters))

    async def _advance(self, connection: Connection, batch: Batch) -> None:
        """Move the offsets, where they are what the batch began with; its transaction holds them from here on."""
        places = sorted(batch.ends)
        believed, ends = [batch.starts[place] for place in places], [batch.ends[place] for place in places]
        topics, partitions = [place.topic for place in places], [place.partition for place in places]
        said: str = await connection.execute(sql.ADVANCE, self._group, topics, partitions, believed, ends)
        if said != f"UPDATE {len(places)}":
            raise FencedError(
                f"of {len(places)} partitions, {said.removeprefix('UPDATE ')} were where they were believed to be"
            )

    async def _copied(self, connection: Connection, batch: Batch, _: list[Letter]) -> dict[str, int]:
        """All events straight into their tables; fails where one row is there already, or is refused."""
        stored = {table.name: await _copy(connection, table.name, table, events) for table, events in batch.events.items()}
        if batch.rollups and self._rollups:
            await connection.execute(sql.ROLLUP, *_columns(batch.rollups))
        return stored

    async def _sifted(self, connection: Connection, batch: Batch, letters: list[Letter]) -> dict[str, int]:
        """By way of staging tables, which let through what is new."""
        stored = {}
        for table, entries in batch.events.items():
            await connection.execute(sql.staging(table))
            stored[table.name] = await self._staged(connection, table, entries, letters)
        return stored

    async def _staged(self, connection: Connection, table: Table, entries: Sequence[Entry], letters: list[Letter]) -> int:
        """What is new of these; an event that the server cannot take goes to the dead letters, found by halving."""
        try:
            async with connection.transaction():
                await _copy(connection, f"staging_{table.name}", table, entries)
                count = int(await connection.fetchval(sql.unstage(table, rollups=self._rollups)))
                await connection.execute(f"DELETE FROM staging_{table.name}")  # noqa: S608
            return count
        except failures() as error:
            self._blames_rows(error)
            if len(entries) == 1:
                letters.append(Letter(entries[0].record, f"the database does not take it: {error}"[:500]))
                return 0
        half = len(entries) // 2
        first = await self._staged(connection, table, entries[:half], letters)
        return first + await self._staged(connection, table, entries[half:], letters)

    def _blames_rows(self, error: BaseException) -> None:
        """Raise what is not the rows' fault."""
        code = str(getattr(error, "sqlstate", None) or "")
        if code == NO_PARTITION and "no partition" in str(error):
            raise NoPartitionError(str(error)) from error
        if not code.startswith(ROWS):
            raise error


async def _copy(connection: Connection, target: str, table: Table, entries: Collection[Entry]) -> int:
    rows = chain.from_iterable(entry.event.rows for entry in entries)
    said: str = await connection.copy_to_table(target, source=copying.stream(rows), columns=table.columns, format="binary")
    return int(said.removeprefix("COPY "))


def _columns(groups: dict[Series, Sums]) -> list[list[Any]]:
    """Roll-ups as the arrays of the statement."""
    return [
        *([key[index] for key in groups] for index in range(3)),
        *([sums[index] for sums in groups.values()] for index in range(4)),
    ]


def _columns_of(letters: list[Letter]) -> list[list[Any]]:
    """Dead letters as the arrays of the statement."""
    records = [letter.record for letter in letters]
    return [
        [new_id() for _ in letters],
        [record.topic for record in records],
        [record.partition for record in records],
        [record.offset for record in records],
        [record.key for record in records],
        [letter.reason.replace("\0", "") for letter in letters],
        [len(record.value or b"") for record in records],
        [(record.value or b"")[:KEPT_BODY] for record in records],
    ]

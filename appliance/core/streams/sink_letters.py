"""The sink's dead letters in the analytics database: listed, read, tried again and thrown away from the appliance.

To try one again is to decode it as this version does, and to store its event and remove the letter in one transaction: the
event is stored once, whatever ends meanwhile, and Kafka is not asked. A letter that still cannot be used stays, and says why.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

from appliance.core.analytics.rows import TOPICS
from appliance.core.analytics.timescale import Database
from appliance.core.ports import Clock
from appliance.core.streams.model import DeadLetter
from appliance.core.streams.sink_batch import Entry
from appliance.core.streams.sink_decode import Brought, Decoder, Now, Unusable
from appliance.core.streams.sink_upkeep import Upkeep
from appliance.core.streams.sink_writer import NoPartitionError, Writer
from appliance.errors import DatabaseError, NotFoundError, StreamError

if TYPE_CHECKING:
    from appliance.core.analytics.timescale import Connection

ORIGIN = "sink"
LIMIT = 15.0
"""Seconds for one request."""
COLUMNS = "letter_id::text, extract(epoch FROM time)::float8, topic, coalesce(key, ''), reason, size, partition, record_offset"
LIST = f"SELECT {COLUMNS} FROM dead_letters ORDER BY time DESC, letter_id DESC LIMIT $1"  # noqa: S608 ours
GET = f"SELECT {COLUMNS}, body FROM dead_letters WHERE letter_id = $1"  # noqa: S608 ours
DISCARD = "DELETE FROM dead_letters WHERE letter_id = $1"


class SinkLetters:
    """The letters of all sinks that write into the analytics database.

    Args:
        database: The pool; opened where it is not yet.
        clock: Ours.
        prefix: What the names of the topics begin with.
    """

    def __init__(self, database: Database, clock: Clock, prefix: str = "") -> None:
        self._database = database
        self._clock = clock
        self._prefix = prefix
        self._upkeep = Upkeep(database)
        self._writer = Writer(database, ORIGIN)

    async def get(self, letter_id: str) -> DeadLetter:
        """One with its body, as far as that was kept. Raises NotFoundError, DatabaseError."""
        return _letter(await self._row(letter_id))

    async def retry(self, letter_id: str) -> None:
        """Decode it anew and store its event.

        Raises:
            StreamError: It still cannot be used; it stays.
            NotFoundError: It is gone.
            DatabaseError: Whether it was stored is not known; to try again stores nothing twice.
        """
        row = await self._row(letter_id)
        entry = await asyncio.to_thread(self._decode, row, Now(self._clock.wall(), self._clock.wall()))
        event = entry.event
        await self._upkeep.ensure({event.table: {event.moment // event.table.chunk * event.table.chunk}})
        try:
            there = await self._writer.again(DISCARD, _uuid(letter_id), entry)
        except NoPartitionError as error:
            self._upkeep.forget()
            raise DatabaseError(f"A partition was removed meanwhile ({error}).", "try it again.") from error
        if not there:
            raise _unknown(letter_id)

    async def discard(self, letter_id: str) -> None:
        """Throw it away. Raises NotFoundError, DatabaseError."""
        await self._database.open()
        said = await self._database.run(lambda connection: connection.execute(DISCARD, _uuid(letter_id)), LIMIT)
        if said == "DELETE 0":
            raise _unknown(letter_id)

    def _decode(self, row: Any, now: Now) -> Entry:
        _, _, topic, key, _, size, partition, offset, body = row
        if topic.removeprefix(self._prefix) not in TOPICS:
            raise StreamError(f"{topic} is no topic of the sink.", "discard the letter.")
        if len(body) < size:
            raise StreamError(
                f"Of this message's {size} bytes only {len(body)} were kept.",
                "have it sent again in parts, and discard this one.",
            )
        record = Brought(topic=topic, partition=partition, offset=offset, key=key or None, value=body)
        try:
            return Entry(record, Decoder(self._prefix).event(record, now))
        except Unusable as refused:
            raise StreamError(f"It still cannot be used: {refused}.", "mend what sends it, or discard the letter.") from refused

    async def _row(self, letter_id: str) -> Any:
        rows = await self._fetch(GET, _uuid(letter_id))
        if not rows:
            raise _unknown(letter_id)
        return rows[0]

    async def _fetch(self, query: str, *arguments: Any) -> list[Any]:
        await self._database.open()

        async def work(connection: Connection) -> list[Any]:
            return list(await connection.fetch(query, *arguments))

        return await self._database.run(work, LIMIT)

    async def list(self, limit: int = 100) -> list[DeadLetter]:
        """The newest ones, without their bodies. Raises DatabaseError."""
        return [_letter(row) for row in await self._fetch(LIST, limit)]


def _uuid(letter_id: str) -> uuid.UUID:
    try:
        return uuid.UUID(letter_id)
    except ValueError as error:
        raise _unknown(letter_id) from error


def _unknown(letter_id: str) -> NotFoundError:
    return NotFoundError(f"There is no dead letter {letter_id}.", "`prime-spark streams dead-letters` lists them.")


def _letter(row: Any) -> DeadLetter:
    """A row selected with COLUMNS, and the body behind them where it is asked for."""
    letter_id, time, topic, key, reason, size, partition, offset, *body = row
    return DeadLetter(
        letter_id=letter_id, time=time, origin=ORIGIN, topic=topic, key=key.decode("utf-8", "backslashreplace"), reason=reason,
        size=size, partition=partition, offset=offset, body=body[0].decode("utf-8", "backslashreplace") if body else "",
    )  # fmt: skip

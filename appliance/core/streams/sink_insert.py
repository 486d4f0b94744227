"""Readings straight into the analytics database, in the sink's own way: the same checks, roll-ups, and each event once."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from appliance.core.analytics.timescale import Database
from appliance.core.ports import Clock
from appliance.core.streams.sink_batch import Entry
from appliance.core.streams.sink_decode import Brought, Decoder, Now, Unusable
from appliance.core.streams.sink_upkeep import Upkeep
from appliance.core.streams.sink_writer import NoPartitionError, Writer
from appliance.errors import DatabaseError, InvalidArgumentsError

TOPIC = "edge.telemetry"
ORIGIN = "insert"


class Inserter:
    """Writes events of edge.telemetry.

    Args:
        database: The pool; opened where it is not yet.
        clock: Ours.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock
        self._upkeep = Upkeep(database)
        self._writer = Writer(database, ORIGIN)

    async def insert(self, envelopes: list[dict[str, Any]]) -> None:
        """All of them, or none.

        Args:
            envelopes: As contracts.md, section 2, has them.

        Raises:
            InvalidArgumentsError: One of them cannot be stored.
            DatabaseError: Whether they were stored is not known; to insert the same ids again stores nothing twice.
        """
        entries = await asyncio.to_thread(self._decode, envelopes, self._clock.wall())
        await self._database.open()
        for entry in entries:
            table = entry.event.table
            await self._upkeep.ensure({table: {entry.event.moment // table.chunk * table.chunk}})
        try:
            refused = await self._writer.add(entries)
        except NoPartitionError as error:
            self._upkeep.forget()
            raise DatabaseError(f"A partition was removed meanwhile ({error}).", "try it again.") from error
        if refused:
            raise InvalidArgumentsError(f"The database does not take it: {refused}.", "mend the reading.")

    def _decode(self, envelopes: list[dict[str, Any]], now: float) -> list[Entry]:
        decoder, entries = Decoder(""), []
        for number, envelope in enumerate(envelopes):
            record = Brought(TOPIC, 0, number, None, msgspec.json.encode(envelope))
            try:
                entries.append(Entry(record, decoder.event(record, Now(now, now))))
            except Unusable as error:
                raise InvalidArgumentsError(f"A reading cannot be stored: {error}.", "mend it.") from error
        return entries

"""All dead letters that the appliance can reach: the outbox's, and the sink's where an analytics database is configured."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from appliance.core.streams.model import DeadLetter
from appliance.errors import AbsentError, DatabaseError, InvalidArgumentsError, StreamError

if TYPE_CHECKING:
    from appliance.core.streams.deadletters import DeadLetters
    from appliance.core.streams.sink_letters import SinkLetters

log = logging.getLogger(__name__)

ALL = "all"
AT_ONCE = 10_000
"""Most of the sink's dead letters that one call works on."""
SINK = "sink"


class Shelf(Protocol):
    """Where letters are kept."""

    async def get(self, letter_id: str) -> DeadLetter:
        """One with its body. Raises NotFoundError."""

    async def retry(self, letter_id: str) -> None:
        """Try it again. Raises StreamError where that is of no use."""

    async def discard(self, letter_id: str) -> None:
        """Throw it away."""


class Place(NamedTuple):
    """A letter and who has it."""

    shelf: Shelf
    letter_id: str


class Letterbox:
    """Both kinds behind one list.

    Args:
        own: The outbox's letters; raises AbsentError where Kafka is not configured.
        sink: The sink's; None where no analytics database is configured.
    """

    def __init__(self, own: Callable[[], DeadLetters], sink: SinkLetters | None) -> None:
        self._own = own
        self._sink = sink

    async def find(self, wanted: str) -> Place:
        """The letter that is meant, by its id or the last characters of it.

        Raises:
            NotFoundError: There is none.
            InvalidArgumentsError: Several end so.
            DatabaseError: It may be one of the sink's, and the database does not answer.
        """
        ends = [Place(self._own(), each) for each in await self._own().ending(wanted)] if not self._without_own() else []
        ends += [Place(each.shelf, each.letter_id) for each in await self._sinks() if each.letter_id.endswith(wanted)]
        if len(ends) > 1:
            raise InvalidArgumentsError(f"{len(ends)} letters end with {wanted}.", "give more of the id.")
        if ends:
            return ends[0]
        shelf: Shelf = self._own() if self._sink is None else self._sink
        return Place(shelf, (await shelf.get(wanted)).letter_id)

    async def look_up(self, wanted: str) -> None:
        """Before a confirmation is asked for. Raises as `find`."""
        if wanted != ALL:
            await self.find(wanted)

    async def retry(self, wanted: str) -> tuple[int, int]:
        """Try one again, or all that may be; returns how many, and how many are kept as they are.

        Raises:
            StreamError: It is one, and to try it again is of no use.
            NotFoundError: There is none.
        """
        if wanted != ALL:
            place = await self.find(wanted)
            await place.shelf.retry(place.letter_id)
            return 1, 0
        retried, kept = (0, 0) if self._without_own() else await self._own().retry_all()
        for place in await self._sinks():
            try:
                await place.shelf.retry(place.letter_id)
                retried += 1
            except StreamError as error:
                log.debug("letter %s is kept: %s", place.letter_id, error)
                kept += 1
        return retried, kept

    async def discard(self, wanted: str) -> int:
        """Throw one away, or all; returns how many. Raises NotFoundError."""
        if wanted != ALL:
            place = await self.find(wanted)
            await place.shelf.discard(place.letter_id)
            return 1
        count = 0 if self._without_own() else await self._own().discard_all()
        places = await self._sinks()
        for place in places:
            await place.shelf.discard(place.letter_id)
        return count + len(places)

    async def _sinks(self) -> list[Place]:
        """The sink's letters; where its database does not answer none, and the log says why."""
        if self._sink is None:
            return []
        try:
            return [Place(self._sink, each.letter_id) for each in await self._sink.list(AT_ONCE)]
        except DatabaseError as error:
            log.warning("the sink's dead letters are not listed: %s", error)
            return []

    def _without_own(self) -> bool:
        """There are only the sink's. Raises AbsentError where there are none of either kind."""
        if self._sink is None:
            self._own()
        return self._absent()

    def _absent(self) -> bool:
        try:
            self._own()
        except AbsentError:
            return True
        return False

    async def list(self, limit: int, origin: str = "") -> list[DeadLetter]:
        """The newest ones of an origin, or of all.

        A database that does not answer takes only its own letters from the list of all, where there are others; the log
        says why.

        Raises:
            AbsentError: Neither is configured.
            DatabaseError: The database does not answer, and only the sink's were asked for, or there are no others.
            StoreError: The outbox's cannot be read.
        """
        found = [] if self._without_own() else await self._own().list(limit, origin)
        if self._sink is not None and origin in {"", SINK}:
            try:
                found += await self._sink.list(limit)
            except DatabaseError as error:
                if origin or not found:  # an empty list would say that there are none
                    raise
                log.warning("the sink's dead letters are not listed: %s", error)
        return sorted(found, key=lambda each: each.time, reverse=True)[:limit]

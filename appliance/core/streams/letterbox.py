"""All dead letters that the appliance can reach: the outbox's, and the sink's where an analytics database is configured."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from appliance.core.streams.model import DeadLetter
from appliance.errors import AbsentError, DatabaseError, InvalidArgumentsError, NotFoundError

if TYPE_CHECKING:
    from appliance.core.streams.deadletters import DeadLetters
    from appliance.core.streams.sink_letters import SinkLetters

log = logging.getLogger(__name__)

ALL = "all"
AT_ONCE = 10_000
"""Most dead letters that one call works on."""
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

    async def find(self, wanted: str) -> list[Place]:
        """The letters that are meant: by id, by the last characters of one, or all.

        Raises:
            NotFoundError: There is none.
            InvalidArgumentsError: Several end so.
            DatabaseError: It may be one of the sink's, and the database does not answer.
        """
        listed = await self.list(AT_ONCE)
        if wanted == ALL:
            return [self._place(each) for each in listed]
        ends = [self._place(each) for each in listed if each.letter_id.endswith(wanted)]
        if len(ends) > 1:
            raise InvalidArgumentsError(f"{len(ends)} letters end with {wanted}.", "give more of the id.")
        return ends or [await self._exact(wanted)]

    async def _exact(self, wanted: str) -> Place:
        """One that is older than those that are listed."""
        if self._sink is None:
            return Place(self._own(), (await self._own().get(wanted)).letter_id)
        if not self._absent():
            try:
                return Place(self._own(), (await self._own().get(wanted)).letter_id)
            except NotFoundError as error:
                log.debug("not one of the outbox's: %s", error)
        return Place(self._sink, (await self._sink.get(wanted)).letter_id)

    def _place(self, letter: DeadLetter) -> Place:
        if letter.origin == SINK and self._sink is not None:
            return Place(self._sink, letter.letter_id)
        return Place(self._own(), letter.letter_id)

    def _absent(self) -> bool:
        try:
            self._own()
        except AbsentError:
            return True
        return False

    async def list(self, limit: int, origin: str = "") -> list[DeadLetter]:
        """The newest ones of an origin, or of all.

        A database that does not answer takes only its own letters from the list of all; the log says why.

        Raises:
            AbsentError: Neither is configured.
            DatabaseError: Only the sink's were asked for, and the database does not answer.
            StoreError: The outbox's cannot be read.
        """
        found = [] if self._sink is not None and self._absent() else await self._own().list(limit, origin)
        if self._sink is not None and origin in {"", SINK}:
            try:
                found += await self._sink.list(limit)
            except DatabaseError as error:
                if origin:
                    raise
                log.warning("the sink's dead letters are not listed: %s", error)
        return sorted(found, key=lambda each: each.time, reverse=True)[:limit]

"""The names that a store knows, remembered for a while, so that a misspelt one is told with the nearest."""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable, Iterable

from appliance.core.ports import Clock
from appliance.errors import QueryError

FRESH = 300.0
"""Seconds that the names are taken for all there are."""
AGAIN = 1.0
"""Seconds between looks for a name that was not among them."""


class Names:
    """One kind of names.

    Args:
        kind: What they name, in the singular.
        look: Reads them from the store.
        clock: For their age.
        where: How to list them.
    """

    def __init__(self, kind: str, look: Callable[[], Awaitable[list[str]]], clock: Clock, where: str) -> None:
        self._kind = kind
        self._look = look
        self._clock = clock
        self._where = where
        self._known: frozenset[str] = frozenset()
        self._looked = float("-inf")

    async def all(self) -> list[str]:
        """All of them, as of now."""
        self._known, self._looked = frozenset(await self._look()), self._clock.monotonic()
        return sorted(self._known)

    async def check(self, wanted: Iterable[str]) -> None:
        """Refuse names that the store does not know. Raises QueryError, and where the store fails."""
        names = set(wanted)
        age = self._clock.monotonic() - self._looked
        if age > FRESH or (age > AGAIN and not names <= self._known):
            await self.all()
        if missing := sorted(names - self._known):
            raise unknown(self._kind, missing[0], self._known, self._where)


def unknown(kind: str, name: str, known: Iterable[str], where: str) -> QueryError:
    """The error for a name that is not there."""
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {near[0]}?" if near else where
    return QueryError(f"No {kind} is called {name!r}.", hint)

"""One check at a time for each address and each account: whoever asks often at once gains no further guesses by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from appliance.core.access.errors import TooManyError

WAITING = 4
"""Most that wait for their turn under one key."""


@dataclass
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class Turns:
    """Locks by key; one that nobody wants is forgotten."""

    def __init__(self) -> None:
        self._turns: dict[str, _Turn] = {}

    @asynccontextmanager
    async def of(self, *keys: str) -> AsyncIterator[None]:
        """Have the turn of all of these keys. Raises TooManyError where enough others wait for one of them."""
        wanted = sorted(set(keys))  # in one order everywhere: two never wait for each other
        if any(key in self._turns and self._turns[key].users > WAITING for key in wanted):
            raise TooManyError("Too many logins are under way.", "try again in a moment.", 2.0)
        for key in wanted:
            self._turns.setdefault(key, _Turn()).users += 1
        try:
            async with AsyncExitStack() as held:
                for key in wanted:
                    await held.enter_async_context(self._turns[key].lock)
                yield
        finally:
            for key in wanted:
                self._turns[key].users -= 1
                if not self._turns[key].users:
                    del self._turns[key]

    def __len__(self) -> int:
        return len(self._turns)

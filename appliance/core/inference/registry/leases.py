"""Who uses which version now, so that one that serves no more is freed when its last request has ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator


class Leases:
    """Counts the requests of each version. For one event loop."""

    def __init__(self) -> None:
        self._used: Counter[str] = Counter()
        self._ended = asyncio.Event()

    @contextlib.contextmanager
    def use(self, key: str) -> Iterator[None]:
        """A request of this version is under way."""
        self._used[key] += 1
        try:
            yield
        finally:
            self._used[key] -= 1
            if not self._used[key]:
                del self._used[key]
                ended, self._ended = self._ended, asyncio.Event()
                ended.set()

    def count(self, key: str) -> int:
        """Requests that are under way."""
        return self._used[key]

    async def idle(self, key: str) -> None:
        """Return when none is under way."""
        while self._used[key]:
            await self._ended.wait()

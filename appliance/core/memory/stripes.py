"""Locks by name, without one for each: names share stripes. And generations, which tell a reader that a writer was there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable

STRIPES = 256


class Stripes:
    """Writers of one name come one after the other; a reader's late copy never overtakes them."""

    def __init__(self) -> None:
        self._locks = [asyncio.Lock() for _ in range(STRIPES)]
        self._generations = [0] * STRIPES

    def generation(self, name: str) -> int:
        """Changes whenever a writer of this name (or one that shares its stripe) begins and ends."""
        return self._generations[hash(name) % STRIPES]

    @contextlib.asynccontextmanager
    async def writing(self, names: Iterable[str]) -> AsyncIterator[None]:
        """Hold the names, and mark them as written."""
        wanted = sorted({hash(name) % STRIPES for name in names})
        async with contextlib.AsyncExitStack() as stack:
            for stripe in wanted:
                await stack.enter_async_context(self._locks[stripe])
            try:
                for stripe in wanted:
                    self._generations[stripe] += 1
                yield
            finally:
                for stripe in wanted:
                    self._generations[stripe] += 1

    @contextlib.asynccontextmanager
    async def unchanged(self, name: str, generation: int) -> AsyncIterator[bool]:
        """Hold a name without marking it; yields whether nobody has written since `generation`."""
        stripe = hash(name) % STRIPES
        async with self._locks[stripe]:
            yield self._generations[stripe] == generation

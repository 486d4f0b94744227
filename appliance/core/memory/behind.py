"""Values on their way from tier 1 to the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import repeat
from typing import NamedTuple

from appliance.errors import ApplianceError, TierFullError


class Shared(NamedTuple):
    """What all values of one write have in common."""

    namespace: str
    tags: tuple[str, ...]
    modified: float
    expires: float | None


class Behind:
    """Values that were acknowledged by tier 1 and are not on disk yet. They lie here too: tier 1 may let go of them.

    Args:
        limit: Bytes; a writer waits where there are more.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self.waiting: dict[str, tuple[bytes, Shared]] = {}
        self.arrived = asyncio.Event()
        self.eased = asyncio.Event()
        self.changes = 0
        """Counts values that left, or were replaced."""
        self.error: ApplianceError | None = None

    def add(self, names: Sequence[str], framed: Sequence[bytes], shared: Shared) -> None:
        """Remember values; the newest of each name counts."""
        self.size += sum(map(len, framed))
        if not self.waiting.keys().isdisjoint(names):
            self.size -= sum(len(self.waiting[name][0]) for name in set(names) & self.waiting.keys())
            self.changes += 1
        self.waiting.update(zip(names, zip(framed, repeat(shared)), strict=False))
        self.arrived.set()

    def drop(self, name: str) -> None:
        """It is on disk, or overtaken."""
        found = self.waiting.pop(name, None)
        if found is not None:
            self.size -= len(found[0])
            self.changes += 1
        if self.size <= self.limit:
            self.eased.set()

    async def room(self) -> None:
        """Wait until there is room. Raises TierFullError where the disk takes nothing."""
        while self.size > self.limit:
            if self.error is not None:
                raise TierFullError(f"The disk behind tier 1 takes nothing: {self.error.message}", self.error.next_step)
            self.eased.clear()
            await self.eased.wait()

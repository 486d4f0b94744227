"""Room on the local disk: values go that a lower tier holds as well, least useful first, and never a last copy."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass

from appliance.core.memory import rows
from appliance.core.memory.edge import EdgeStore, Totals
from appliance.core.memory.rows import Row
from appliance.errors import TierFullError

log = logging.getLogger(__name__)

ORDERS = {"lru": "used", "lfu": "hits, used", "ttl": "expires IS NULL, expires, used"}
"""What goes first, by policy."""
AT_ONCE = 200
VICTIMS = (
    "WHERE place <> '' AND pinned = 0 AND deleted = 0 "
    "AND EXISTS (SELECT 1 FROM copies c WHERE c.entry = entries.entry AND c.version = entries.version) "
    "AND NOT EXISTS (SELECT 1 FROM owed o WHERE o.entry = entries.entry) ORDER BY {order} LIMIT ?"
)


@dataclass(frozen=True)
class Room:
    """How much the local disk may hold.

    Attributes:
        limit: Bytes.
        high: Share of the limit from which on values go.
        low: Share of the limit down to which they go then.
        policy: "lru", "lfu" or "ttl".
    """

    limit: int
    high: float = 0.95
    low: float = 0.85
    policy: str = "lru"


class Evictor:
    """Keeps the local disk below its limit.

    Args:
        edge: The local disk.
        room: Its bounds.
    """

    def __init__(self, edge: EdgeStore, room: Room) -> None:
        self._edge = edge
        self.room = room
        self.totals = Totals(0, 0, 0)
        self._reserved = 0
        self._one = asyncio.Lock()

    async def refresh(self) -> Totals:
        """Read how much there is. Raises StoreError."""
        self.totals = await self._edge.totals()
        return self.totals

    def fits(self, size: int) -> bool:
        """Whether there is room without anything having to go."""
        return self.totals.stored + self._reserved + size <= self.room.high * self.room.limit

    @contextlib.asynccontextmanager
    async def room_for(self, size: int) -> AsyncIterator[None]:
        """Hold room for so many bytes while they are written; evicts where there is none.

        Raises:
            TierFullError: What is there may not go: it is pinned, or no other tier holds it.
        """
        if size and not self.fits(size):  # a deletion needs none, and makes some
            async with self._one:
                await self._make_room(size)
        self._reserved += size
        try:
            yield
            self.totals = self.totals._replace(stored=self.totals.stored + size)  # until the next look: rather too much
        finally:
            self._reserved -= size

    async def _make_room(self, size: int) -> None:
        await self.refresh()
        if not self.fits(size):
            await self._evict(int(self.room.low * self.room.limit) - size - self._reserved)
        if self.totals.stored + self._reserved + size > self.room.limit:
            raise TierFullError(
                f"The memory's {self.room.limit // 1048576} MiB on the local disk are full, and nothing in them may go: "
                "no lower tier holds it.",
                "delete keys, raise memory.disk_max_mib, or configure a NAS or cloud tier.",
            )

    async def _evict(self, target: int) -> None:
        """Until no more than `target` bytes are there, or nothing may go."""
        sql = VICTIMS.format(order=ORDERS[self.room.policy])

        def choose(connection: sqlite3.Connection) -> list[Row]:
            return rows.select(connection, sql, (AT_ONCE,))

        while self.totals.stored > target:
            victims = await self._edge.store.read(choose)
            if not victims:
                return
            over = self.totals.stored - target
            for victim in victims:
                if over <= 0:
                    break
                await self._edge.drop_value(victim, evicted=True)
                over -= victim.stored
            before, after = self.totals.stored, (await self.refresh()).stored
            log.info("%d KiB of the memory left the local disk", (before - after) // 1024)
            if after >= before:
                return

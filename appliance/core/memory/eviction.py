"""Room on the local disk: values go that a lower tier holds as well, least useful first, and never a last copy.

What a lower tier holds is read there before the local copy goes: a copy that nobody has looked at may be none.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import dataclass

from appliance.core.memory import rows
from appliance.core.memory.edge import EdgeStore, Totals
from appliance.core.memory.replicas import Replicas
from appliance.core.memory.rows import Row
from appliance.core.memory.tier import Replica
from appliance.errors import CorruptRecordError, MemoryTierError, TierFullError

log = logging.getLogger(__name__)

ORDERS = {"lru": "used", "lfu": "hits, used", "ttl": "expires IS NULL, expires, used"}
"""What goes first, by policy."""
AT_ONCE = 200
CHECKED = 8
"""Copies in lower tiers that are checked at the same time."""
PATIENCE, SLOWEST = 3.0, 1024 * 1024
"""A copy is checked within so many seconds, and one more for so many bytes."""


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
        replicas: The tiers below it: only what one of them gives may go.
        room: The disk's bounds.
    """

    def __init__(self, edge: EdgeStore, replicas: Replicas, room: Room) -> None:
        self._edge = edge
        self._replicas = replicas
        self._witness = Witness(edge, replicas)
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
        kept: set[int] = set()
        silent: set[str] = set()
        while self.totals.stored > target:
            victims = await self._victims(self._answering(silent), kept)
            if not victims:
                return
            before, over, gone = self.totals.stored, self.totals.stored - target, 0
            for some in _parts(victims, over):
                dropped = await asyncio.gather(*(self._let_go(victim, silent) for victim in some))
                kept |= {victim.entry for victim, went in zip(some, dropped, strict=True) if not went}
                gone += sum(victim.stored for victim, went in zip(some, dropped, strict=True) if went)
                if gone >= over:
                    break
            log.info("%d KiB of the memory left the local disk", (before - (await self.refresh()).stored) // 1024)

    async def _victims(self, tiers: list[str], kept: Collection[int]) -> list[Row]:
        """What may go, first what is to go first, without what was looked at already."""
        condition, values = rows.may_go(tiers)
        sql = f"WHERE {condition} ORDER BY {ORDERS[self.room.policy]} LIMIT ?"
        limit = AT_ONCE + len(kept)
        found = await self._edge.store.read(lambda connection: rows.select(connection, sql, (*values, limit)))
        return [row for row in found if row.entry not in kept]

    def _answering(self, silent: Collection[str]) -> list[str]:
        return [name for name in self._replicas.tiers if self._replicas.answers(name) and name not in silent]

    async def let_go(self, row: Row) -> bool:
        """Take one value off the local disk; False where it may not go: it is pinned or owed, or no tier gives it now."""
        return await self._let_go(row, set())

    async def _let_go(self, row: Row, silent: set[str]) -> bool:
        """As `let_go`; notes in `silent` which tiers do not answer."""
        tiers = await self._witness.who_gives(row, self._answering(silent), silent)
        return bool(tiers) and await self._edge.drop_value(row, tiers)


class Witness:
    """Asks the tiers that should hold a value whether they do.

    Args:
        edge: The local disk, with the index.
        replicas: The tiers below it.
    """

    def __init__(self, edge: EdgeStore, replicas: Replicas) -> None:
        self._edge = edge
        self._replicas = replicas

    async def who_gives(self, row: Row, among: Collection[str], silent: set[str]) -> list[str]:
        """The fastest tier that gives a value whole now; none where none does. Notes in `silent` who does not answer."""
        held, _ = await self._edge.ledger.copies(row.entry)
        for replica in self._replicas.ordered([tier for tier, version in held.items() if version == row.meta.version]):
            if replica.name in among and replica.name not in silent and await self._gives(replica, row, silent):
                return [replica.name]
        return []

    async def _gives(self, replica: Replica, row: Row, silent: set[str]) -> bool:
        """Whether a tier gives a value whole; where what it should hold is damaged or gone, it is owed it again."""
        meta = row.meta
        try:
            async with asyncio.timeout(PATIENCE + meta.size / SLOWEST):
                record = await replica.get(meta.namespace, meta.key)  # no use of it: nothing is counted
        except CorruptRecordError as error:
            log.error("%s: %s", replica.name, error.message)
            await self._edge.lost(row, replica.name)
            return False
        except (MemoryTierError, TimeoutError) as error:
            log.warning("%s cannot be asked what it holds: %s", replica.name, error)
            silent.add(replica.name)
            return False
        if record is not None and record.meta.checksum == meta.checksum:
            return True
        if record is None or not replica.shared:  # else another appliance has replaced it: the next sync brings that
            log.error("%s has lost %s:%s", replica.name, meta.namespace, meta.key)
            await self._edge.lost(row, replica.name)
        return False


def _parts(victims: list[Row], over: int) -> Iterator[list[Row]]:
    """So many at a time, and no more of the last ones than are needed, if all of them go."""
    some: list[Row] = []
    for victim in victims:
        some.append(victim)
        over -= victim.stored
        if len(some) == CHECKED or over <= 0:
            yield some
            some = []
    if some:
        yield some

"""Room in a tier below the local disk (the NAS): values go from it that are held elsewhere as well, and never a last copy.

Where the other copy lies is read before this one goes, as with the local disk (see eviction).
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Protocol, runtime_checkable

from appliance.core.memory import rows
from appliance.core.memory.edge import EdgeStore
from appliance.core.memory.eviction import AT_ONCE, ORDERS, Room, Witness
from appliance.core.memory.release import release
from appliance.core.memory.replicas import Replicas
from appliance.core.memory.rows import Row
from appliance.core.memory.tier import Replica
from appliance.errors import CorruptRecordError, TierFullError

log = logging.getLogger(__name__)

HEADER = 4096
"""Most bytes that a record is larger than its value."""


@runtime_checkable
class Counting(Replica, Protocol):
    """A tier that only this appliance writes to, and that keeps count of its bytes."""

    held: int | None
    """Bytes of its values; None before they were counted."""


class Quota:
    """Keeps one tier below its limit. Its methods are called by whoever holds Replicas.alone of the tier.

    Args:
        edge: The local disk, with the index.
        replicas: All tiers below it.
        replica: The one that is bounded.
        room: Its bounds.
    """

    def __init__(self, edge: EdgeStore, replicas: Replicas, replica: Counting, room: Room) -> None:
        self._edge = edge
        self._replicas = replicas
        self._replica = replica
        self._witness = Witness(edge, replicas)
        self.room = room

    async def make_room(self, size: int) -> None:
        """Before so many bytes are written there.

        Raises:
            TierFullError: What is there may not go: it is pinned, or nobody else holds it.
            MemoryTierError: As Replica.usage.
        """
        size += HEADER
        if await self._held() + size > self.room.high * self.room.limit:
            await self._release(int(self.room.low * self.room.limit) - size)
        if await self._held() + size > self.room.limit:
            raise TierFullError(
                f"The memory's {self.room.limit // 1048576} MiB on {self._replica.name} are full, and nothing in them may go: "
                "nobody else holds it.",
                f"delete keys, raise {self._replica.name}.max_mib, or configure a cloud tier.",
            )

    async def _held(self) -> int:
        if self._replica.held is None:
            await self._replica.usage()
        return self._replica.held or 0

    async def _release(self, target: int) -> None:
        """Until no more than `target` bytes are there, or nothing may go."""
        kept: set[int] = set()
        silent: set[str] = set()
        before = await self._held()
        while await self._held() > target:
            victims = await self._victims(silent, kept)
            if not victims:
                break
            for victim in victims:
                if await self._held() <= target:
                    break
                if not await self._let_go(victim, silent):
                    kept.add(victim.entry)
        log.info("%d KiB of the memory left %s", (before - await self._held()) // 1024, self._replica.name)

    async def _victims(self, silent: Collection[str], kept: Collection[int]) -> list[Row]:
        condition, values = rows.may_leave(self._replica.name, self._others(silent))
        sql = f"WHERE {condition} ORDER BY {ORDERS[self.room.policy]} LIMIT ?"
        limit = AT_ONCE + len(kept)
        found = await self._edge.store.read(lambda connection: rows.select(connection, sql, (*values, limit)))
        return [row for row in found if row.entry not in kept]

    def _others(self, silent: Collection[str]) -> list[str]:
        names = (name for name in self._replicas.tiers if name != self._replica.name)
        return [name for name in names if self._replicas.answers(name) and name not in silent]

    async def _let_go(self, row: Row, silent: set[str]) -> bool:
        """Take one value off the tier, if another place gives it whole; False where it stays."""
        name, meta = self._replica.name, row.meta
        here = await self._here(row)
        others = [] if here else await self._witness.who_gives(row, self._others(silent), silent)
        if (here or others) and await release(self._edge.store, name, row, others):
            await self._replica.purge(meta.namespace, meta.key, meta.version)
            await self._edge.ledger.purged(name, meta.namespace, meta.key, meta.version)
            return True
        return False

    async def _here(self, row: Row) -> bool:
        """Whether the local disk gives it whole."""
        if not row.place:
            return False
        try:
            found = await self._edge.record(row.entry)
        except CorruptRecordError as error:
            log.error("%s", error.message)
            return False
        return found is not None and found[1] is not None and found[0].meta.version == row.meta.version

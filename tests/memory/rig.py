"""A memory as the appliance wires it, on a directory of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from appliance.core.memory.absent import Absent
from appliance.core.memory.behind import Behind
from appliance.core.memory.edge import EdgeStore
from appliance.core.memory.eviction import Room
from appliance.core.memory.front import Front
from appliance.core.memory.hot import HotTier, LocalLru
from appliance.core.memory.machinery import SyncPlan, assemble
from appliance.core.memory.memory import Limits, Memory
from appliance.core.memory.model import TierStatus
from appliance.core.memory.parts import Parts
from appliance.core.memory.replicas import Replicas
from appliance.core.memory.service import MemoryService
from appliance.core.memory.tier import Replica
from appliance.core.state import LiveState, Section
from tests.support import ManualClock, wait_for

MIB = 1024 * 1024


class Rig:
    """One memory.

    Args:
        home: Of the local disk.
        replicas: The tiers below it.
        hot: Tier 1; an LRU in this process for None.
        device: Of the appliance.
    """

    def __init__(
        self, home: Path, replicas: Iterable[Replica] = (), hot: HotTier | None = None, device: str = "pc",
        room: Room | None = None, plan: SyncPlan | None = None, absent_for: float = 5.0, clock: ManualClock | None = None,
        nas_room: Room | None = None,
    ) -> None:  # fmt: skip
        self.clock = clock or ManualClock()
        self.hot = hot or LocalLru(16 * MIB)
        replicas = list(replicas)
        edge = EdgeStore(home, self.clock, [tier.name for tier in replicas if tier.shared])
        self.parts = Parts(
            Front(self.hot, 8 * MIB), edge, Replicas(replicas), self.clock, device, Absent(absent_for), Behind(32 * MIB)
        )
        self.notes: list[tuple[str, dict[str, object]]] = []
        self.machinery = assemble(
            self.parts, room or Room(256 * MIB), Limits(64 * MIB), plan or SyncPlan(interval=3600), self._note, nas_room
        )
        self.state = LiveState(self.clock)
        self.service = MemoryService(self.parts, self.machinery, self.state)
        self.memory: Memory = self.machinery.memory
        self._run: asyncio.Task[None] | None = None

    async def _note(self, event: str, attributes: dict[str, object]) -> None:
        self.notes.append((event, attributes))

    async def start(self) -> None:
        """As the supervisor does it."""
        await self.service.start()
        self._run = asyncio.create_task(self.service.run())

    async def stop(self) -> None:
        """An orderly stop."""
        await self.halt()
        await self.service.stop()

    async def halt(self) -> None:
        """Stop all work, without flushing anything."""
        if self._run is not None:
            self._run.cancel()
            await asyncio.wait({self._run})
            self._run = None

    async def crash(self) -> None:
        """As after kill -9: nothing is flushed; what was acknowledged by the disk is there."""
        await self.halt()
        self.parts.behind.waiting.clear()
        for replica in self.parts.replicas.tiers.values():
            await replica.close()
        await self.parts.front.close()
        await self.parts.edge.close()

    def shown(self, tier: str) -> TierStatus:
        """What the live state tells of a tier."""
        status = self.state.get(Section.memory).value
        return next(each for each in status.tiers if each.name == tier)

    async def delivered(self) -> None:
        """Wait until nothing is owed."""

        async def nothing() -> bool:
            return not await self.parts.ledger.counts() and not self.parts.behind.waiting

        await wait_for(nothing, 20)


@asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[Rig]:
    """Started and stopped."""
    await rig.start()
    try:
        yield rig
    finally:
        await rig.stop()

"""Assembles the memory: what works on the tiers, wired together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from appliance.core.memory.bandwidth import limiter
from appliance.core.memory.conflicts import Note, Settler, Strategies
from appliance.core.memory.deliver import Deliverer
from appliance.core.memory.diskwatch import DiskWatch
from appliance.core.memory.eviction import Evictor, Room
from appliance.core.memory.memory import Limits, Memory
from appliance.core.memory.parts import Parts
from appliance.core.memory.quota import Counting, Quota
from appliance.core.memory.reading import Reader
from appliance.core.memory.strategy import Strategy
from appliance.core.memory.sync import Synchroniser
from appliance.core.memory.writing import Writer


@dataclass(frozen=True)
class SyncPlan:
    """How the cloud is kept the same.

    Attributes:
        interval: Seconds between two runs.
        batch: Deliveries in a row.
        kib_per_second: Bound on the bandwidth; 0 for none.
        strategy: Settles conflicts.
        by_namespace: Strategies of single namespaces.
    """

    interval: float = 300.0
    batch: int = 100
    kib_per_second: int = 0
    strategy: Strategy = Strategy.latest_wins
    by_namespace: Mapping[str, Strategy] | None = None


@dataclass(frozen=True)
class Machinery:
    """Everything that works on the tiers."""

    memory: Memory
    reader: Reader
    writer: Writer
    evictor: Evictor
    disk: DiskWatch
    settler: Settler
    deliverers: dict[str, Deliverer]
    synchroniser: Synchroniser


def assemble(parts: Parts, room: Room, limits: Limits, plan: SyncPlan, note: Note, nas_room: Room | None = None) -> Machinery:
    """Wire the memory.

    Args:
        parts: The tiers.
        room: Of the local disk.
        limits: Of values.
        plan: How the cloud is kept the same.
        note: Told of conflicts.
        nas_room: Of the NAS; None for as much as it has.
    """
    evictor = Evictor(parts.edge, parts.replicas, room)
    deliverers: dict[str, Deliverer] = {}

    def owed() -> None:
        for deliverer in deliverers.values():
            deliverer.wake()

    reader = Reader(parts, evictor.room_for)
    disk = DiskWatch(evictor, parts.edge.store)
    writer = Writer(parts, reader, disk.room_for, owed)
    settler = Settler(parts, writer, Strategies(plan.strategy, plan.by_namespace or {}), note)
    pay, free = limiter(plan.kib_per_second), limiter(0)
    for name, replica in parts.replicas.tiers.items():
        quota = None
        if nas_room is not None and isinstance(replica, Counting):
            quota = Quota(parts.edge, parts.replicas, replica, nas_room)
        deliverers[name] = Deliverer(parts, replica, settler, pay if replica.shared else free, plan.batch, quota)

    async def deliver(namespace: str, key: str) -> bool:
        row = await parts.edge.row(namespace, key)
        home = parts.replicas.cloud_home(row.meta) if row is not None else ""
        return await deliverers[home].deliver_now(namespace, key) if home else True

    memory = Memory(parts, reader, writer, evictor, limits, deliver)
    synchroniser = Synchroniser(parts, writer, settler, deliverers, pay, plan.interval)
    return Machinery(memory, reader, writer, evictor, disk, settler, deliverers, synchroniser)

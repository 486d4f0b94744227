"""Random programs for the memory: what hypothesis draws, and who carries it out and compares with the model."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st

from appliance.core.memory.eviction import Room
from appliance.core.memory.model import Durability
from appliance.core.memory.nas import MARKER, NasReplica
from appliance.core.memory.tier import Replica
from appliance.errors import (
    ConflictError,
    MemoryTierError,
    NotFoundError,
    TierAbsentError,
    TierFullError,
    TierUnavailableError,
)
from tests.memory.model import NOTHING, Model, Write
from tests.memory.rig import MIB, Rig
from tests.support import ManualClock

KEYS = ("a", "../b", "ключ", "d:e")
SIZES = (1, 40, 5000, 64_900, 65_200, 65_536, 66_000, 90_000)
"""Around what lies in a row, and what in a file."""
TTLS = (None, None, None, 5.0, 60.0)


class Step(NamedTuple):
    """One operation."""

    name: str
    device: int = 0
    keys: tuple[str, ...] = ()
    size: int = 0
    kind: str = "bytes"
    durability: Durability = Durability.edge
    ttl: float | None = None
    number: int = 0


def _writes(name: str, devices: int, kinds: tuple[str, ...], most: int) -> st.SearchStrategy[Step]:
    keys = st.lists(st.sampled_from(KEYS), min_size=1, max_size=most, unique=True).map(tuple)
    return st.builds(
        Step, st.just(name), st.integers(0, devices - 1), keys, st.sampled_from(SIZES), st.sampled_from(kinds),
        st.sampled_from(Durability), st.sampled_from(TTLS), st.integers(0, 12),
    )  # fmt: skip


def _plain(names: Iterable[str], devices: int) -> st.SearchStrategy[Step]:
    keys = st.sampled_from(KEYS).map(lambda key: (key,))
    return st.builds(Step, st.sampled_from(tuple(names)), st.integers(0, devices - 1), keys, number=st.integers(1, 100))


def programs(devices: int, faults: tuple[str, ...], kinds: tuple[str, ...]) -> st.SearchStrategy[list[Step]]:
    """Programs for some appliances."""
    step = st.one_of(
        _writes("set", devices, kinds, 1), _writes("set_many", devices, kinds, 4), _writes("burst", devices, kinds, 1),
        _writes("cut", devices, kinds, 1), _plain(("get", "get_many", "delete", "forget"), devices),
        _plain(("promote", "pin", "unpin", "evict1", "evict2", "sweep", "stat", "scan", "flush"), devices),
        _plain(faults, devices),
    )  # fmt: skip
    return st.lists(step, min_size=4, max_size=30)


class World:
    """Appliances on directories of their own, with a NAS each and perhaps a cloud.

    Args:
        directory: Empty.
        cloud: Makes the shared tiers of an appliance.
        names: Of the appliances.
        room: Bytes of each local disk.
        nas_room: Bytes of each NAS; 0 for no limit.
    """

    def __init__(
        self, directory: Path, cloud: Any = None, names: tuple[str, ...] = ("pc",), room: int = 300_000, nas_room: int = 0
    ) -> None:
        self.directory = directory
        self.clock = ManualClock()
        self.model = Model()
        self.names = names
        self.rigs: list[Rig] = []
        self._cloud = cloud
        self._room = room
        self._nas_room = Room(nas_room, 0.9, 0.6) if nas_room else None
        self.proxy: Any = None
        self.cloud_down = False
        self.nas_gone = dict.fromkeys(names, False)

    def _make(self, name: str) -> Rig:
        nas = self.directory / f"nas-{name}"
        nas.mkdir(exist_ok=True)
        if not self.nas_gone[name]:
            (nas / MARKER).touch()
        tiers: list[Replica] = [NasReplica(nas, name, 64 * MIB)]
        if self._cloud is not None:
            tiers += self._cloud(name)
        return Rig(self.directory / name, tiers, device=name, room=Room(self._room), clock=self.clock, nas_room=self._nas_room)

    async def start(self) -> None:
        """Start all."""
        for name in self.names:
            rig = self._make(name)
            await rig.start()
            self.rigs.append(rig)
            await self._look(rig)

    async def stop(self) -> None:
        """Stop all."""
        for rig in self.rigs:
            await rig.stop()

    async def _look(self, rig: Rig) -> None:
        for name, tier in rig.parts.replicas.tiers.items():
            if not self.cloud_down and name not in rig.service._opened:
                await self._open(tier)
            rig.parts.replicas.reports[name] = await tier.health()

    async def _open(self, tier: Replica) -> None:
        try:
            await tier.open()
        except TierAbsentError:
            assert tier.name == "nas"

    async def run(self, steps: Iterable[Step]) -> None:
        """Carry a program out, and look at everything at the end."""
        for step in steps:
            self.clock.move(1.0)
            self.model.tick(self.clock.wall())
            await getattr(self, f"_{step.name}")(step)
        await self.look_at_all()

    async def look_at_all(self) -> None:
        """Everything twice: from tier 1, and from below."""
        for index in range(len(self.rigs)):
            for key in KEYS:
                await self._read(index, key)
            self.rigs[index].hot.forget_all()
            for key in KEYS:
                await self._read(index, key)

    def _value(self, write_number: int, step: Step) -> Any:
        filler = random.Random(write_number).randbytes(step.size)
        if step.kind == "bytes":
            return write_number.to_bytes(4, "big") + filler
        return {"n": write_number, "filler": filler[: step.size // 2].hex()}

    def _begin(self, step: Step, keys: Iterable[str]) -> tuple[dict[str, Any], dict[str, Write]]:
        values, writes = {}, {}
        for key in keys:
            values[key] = self._value(self.model.number + 1, step)
            writes[key] = self.model.begin(
                key, values[key], self.names[step.device], self.clock.wall(), self.clock.monotonic(), step.ttl
            )
        return values, writes

    async def _past_cuts(self) -> None:
        """Wait for cancelled writers that are still on their way: nobody promised them a place before what comes next."""
        under_way = {task for task in asyncio.all_tasks() if getattr(task.get_coro(), "__qualname__", "") == "Writer._keep"}
        if under_way:
            await asyncio.wait(under_way)

    async def _write(self, step: Step, values: Mapping[str, Any], writes: Mapping[str, Write]) -> bool:
        memory = self.rigs[step.device].memory
        try:
            await memory.set_many(values, ttl=step.ttl, durability=step.durability, tags=["x"])
        except (TierFullError, TierAbsentError):
            for key, write in writes.items():
                self.model.refused(key, write)
            return False
        except (TierUnavailableError, ConflictError):
            assert step.durability is Durability.cloud
            self._known(writes, durable=True)
            return True
        self._known(writes, durable=step.durability is not Durability.memory, cloud=step.durability is Durability.cloud)
        return True

    def _known(self, writes: Mapping[str, Write], *, durable: bool, cloud: bool = False) -> None:
        for key, write in writes.items():
            self.model.acknowledge(key, write, durable, cloud)

    async def _set_many(self, step: Step) -> None:
        await self._past_cuts()
        values, writes = self._begin(step, step.keys)
        await self._write(step, values, writes)

    _set = _set_many

    async def _burst(self, step: Step) -> None:
        """Several writers of one key at once: one of them wins, for tier 1 and disk alike."""
        await self._past_cuts()
        each = []
        for durability in (step.durability, Durability.memory, Durability.edge):
            one = step._replace(durability=durability, ttl=None)
            each.append((one, *self._begin(one, step.keys)))
        durable = self.model.at(self.names[step.device], step.keys[0]).durable
        kept = await asyncio.gather(*(self._write(*one) for one in each))
        key = step.keys[0]
        numbers = [writes[key].number for (_, _, writes), done in zip(each, kept, strict=True) if done]
        if not numbers:
            return
        known = self.model.at(self.names[step.device], key)
        known.floor, known.durable = min(numbers), durable
        await self._read(step.device, key)
        winner = known.floor
        for _, _, writes in each:
            if writes[key].number != winner:
                writes[key].overtaken.add(self.names[step.device])
        await self._can_flush(step.device)
        self.rigs[step.device].hot.forget_all()
        await self._read(step.device, key)

    async def _cut(self, step: Step) -> None:
        """A writer that is cancelled somewhere on its way: its value may be there or not, now or a little later."""
        await self._past_cuts()
        values, _ = self._begin(step, step.keys)
        memory = self.rigs[step.device].memory
        task = asyncio.create_task(memory.set_many(values, ttl=step.ttl, durability=step.durability))
        for _ in range(step.number):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()

    async def _read(self, device: int, key: str) -> None:
        rig, name = self.rigs[device], self.names[device]
        try:
            found = await rig.memory.get(key, default=NOTHING)
        except TierUnavailableError:
            assert self.cloud_down or self.nas_gone[name], f"{key} at {name} is told to be out of reach, and all tiers answer"
            return
        self.model.see(name, key, found, self.clock.wall(), self.clock.monotonic())

    async def _get(self, step: Step) -> None:
        await self._read(step.device, step.keys[0])

    async def _get_many(self, step: Step) -> None:
        try:
            found = await self.rigs[step.device].memory.get_many(KEYS)
        except TierUnavailableError:
            assert self.cloud_down or self.nas_gone[self.names[step.device]]
            return
        for key in KEYS:
            self.model.see(self.names[step.device], key, found.get(key, NOTHING), self.clock.wall(), self.clock.monotonic())

    async def _delete(self, step: Step) -> None:
        await self._past_cuts()
        (key,), device = step.keys, self.names[step.device]
        write = self.model.begin(key, NOTHING, device, self.clock.wall(), self.clock.monotonic())
        try:
            existed = await self.rigs[step.device].memory.delete(key)
        except TierFullError:
            self.model.refused(key, write)
            return
        if existed:
            self.model.acknowledge(key, write, durable=True)
            await self._read(step.device, key)

    async def _forget(self, step: Step) -> None:
        self.rigs[step.device].hot.forget_all()

    async def _known_key(self, step: Step, work: Any) -> None:
        try:
            await work
        except (NotFoundError, ConflictError, TierFullError):
            return
        except TierUnavailableError:
            assert self.cloud_down or self.nas_gone[self.names[step.device]]

    async def _promote(self, step: Step) -> None:
        await self._known_key(step, self.rigs[step.device].memory.promote(step.keys[0]))

    async def _pin(self, step: Step) -> None:
        await self._known_key(step, self.rigs[step.device].memory.pin(step.keys[0]))

    async def _unpin(self, step: Step) -> None:
        await self._known_key(step, self.rigs[step.device].memory.pin(step.keys[0], pinned=False))

    async def _evict1(self, step: Step) -> None:
        await self._known_key(step, self.rigs[step.device].memory.evict(step.keys[0]))

    async def _evict2(self, step: Step) -> None:
        await self._known_key(step, self.rigs[step.device].memory.evict(step.keys[0], tier=2))

    async def _stat(self, step: Step) -> None:
        await self._known_key(step, self.rigs[step.device].memory.stat(step.keys[0]))

    async def _scan(self, step: Step) -> None:
        from appliance.core.memory.listing import Query

        await self._known_key(step, self.rigs[step.device].memory.scan(Query()))

    async def _sweep(self, step: Step) -> None:
        await self.rigs[step.device].service.sweep()

    async def _can_flush(self, device: int) -> bool:
        try:
            await self.rigs[device].memory.flush()
        except TierFullError:
            return False
        return True

    async def _flush(self, step: Step) -> None:
        if await self._can_flush(step.device):
            self.model.flushed(self.names[step.device])

    async def _later(self, step: Step) -> None:
        self.clock.move(float(step.number))
        self.model.tick(self.clock.wall())

    async def _clock_back(self, step: Step) -> None:
        self.clock.wall_now -= 3.0 * step.number

    async def _clock_on(self, step: Step) -> None:
        self.clock.wall_now += float(step.number)
        self.model.tick(self.clock.wall())

    async def _crash(self, step: Step) -> None:
        name = self.names[step.device]
        await self.rigs[step.device].crash()
        self.model.crashed(name)
        await self._again(step.device)

    async def _restart(self, step: Step) -> None:
        name = self.names[step.device]
        if await self._can_flush(step.device):
            self.model.flushed(name)
        else:
            self.model.crashed(name)
        await self.rigs[step.device].stop()
        await self._again(step.device)

    async def _again(self, device: int) -> None:
        self.rigs[device] = self._make(self.names[device])
        await self.rigs[device].start()
        await self._look(self.rigs[device])

    async def _hot_down(self, step: Step) -> None:
        front = self.rigs[step.device].parts.front
        front._failed(MemoryTierError("tier 1 does not answer", "wait"))

    async def _hot_up(self, step: Step) -> None:
        await self.rigs[step.device].parts.front.probe()

    async def _nas_away(self, step: Step) -> None:
        name = self.names[step.device]
        (self.directory / f"nas-{name}" / MARKER).unlink(missing_ok=True)
        self.nas_gone[name] = True

    async def _nas_back(self, step: Step) -> None:
        name = self.names[step.device]
        (self.directory / f"nas-{name}" / MARKER).touch()
        self.nas_gone[name] = False
        await self._look(self.rigs[step.device])

    async def _deliver(self, step: Step) -> None:
        for deliverer in self.rigs[step.device].machinery.deliverers.values():
            try:
                while await deliverer.deliver_some():
                    pass
            except TierUnavailableError:
                assert self.cloud_down or self.nas_gone[self.names[step.device]]
            except TierFullError:
                assert self._nas_room is not None
            await self._check_nas(step.device)

    async def _check_nas(self, device: int) -> None:
        """What is on the NAS is within its limit, and is what it is thought to be."""
        nas = self.rigs[device].parts.replicas.tiers["nas"]
        if self.nas_gone[self.names[device]] or not isinstance(nas, NasReplica):
            return
        async with self.rigs[device].parts.replicas.alone("nas"):  # the deliverer works on by itself
            known, usage = nas.held, await nas.usage()
        assert known in {None, usage.size}
        assert self._nas_room is None or usage.size <= self._nas_room.limit

    async def _cloud_away(self, step: Step) -> None:
        await asyncio.to_thread(self.proxy.refuse)
        self.cloud_down = True

    async def _cloud_back(self, step: Step) -> None:
        await asyncio.to_thread(self.proxy.heal)
        self.cloud_down = False
        for rig in self.rigs:
            await self._look(rig)

    async def _sync(self, step: Step) -> None:
        if not await self._can_flush(step.device):
            return
        self.model.flushed(self.names[step.device])
        runs = await self.rigs[step.device].machinery.synchroniser.run_all()
        if not any(run.error for run in runs):
            self.model.synchronised(self.names[step.device])
        else:
            assert self.cloud_down or any("full" in run.error for run in runs), runs

"""Writes: to the local disk before they are acknowledged, or to tier 1 with the disk behind it; the rest is owed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import islice

import msgspec

from appliance.core.events import new_id
from appliance.core.memory import codec
from appliance.core.memory.behind import Shared
from appliance.core.memory.beside import beside
from appliance.core.memory.edge import Put
from appliance.core.memory.model import Kind, Meta, Record
from appliance.core.memory.parts import Parts
from appliance.core.memory.reading import Reader
from appliance.core.memory.uncut import heed, uncut
from appliance.core.memory.values import frame, split
from appliance.errors import ApplianceError, DiskFullError, StoreError, TierFullError

log = logging.getLogger(__name__)

NO_ROOM = (TierFullError, DiskFullError)
AT_ONCE = 500
"""Values that go to disk in one transaction."""
REST = 0.05
"""Seconds that write-behind gathers values, so that many share a sync."""


class Writer:
    """Keeps values.

    Args:
        parts: The tiers.
        reader: Told of writes.
        room: Holds so many bytes of the local disk free while they are written. Raises TierFullError.
        owed: Called when a tier is owed something.
    """

    def __init__(
        self,
        parts: Parts,
        reader: Reader,
        room: Callable[[int], AbstractAsyncContextManager[None]],
        owed: Callable[[], None],
    ) -> None:
        self._front = parts.front
        self._edge = parts.edge
        self._replicas = parts.replicas
        self._stripes = parts.stripes
        self._absent = parts.absent
        self._clock = parts.clock
        self._trust = parts.trust
        self._device = parts.device_id
        self._reader = reader
        self._behind = parts.behind
        self.room = room
        self._owed = owed

    def meta(self, shared: Shared, key: str, kind: Kind, value: bytes, *, deleted: bool = False) -> Meta:
        """A new version's."""
        return Meta(
            namespace=shared.namespace, key=key, kind=kind, version=new_id().replace("-", ""), size=len(value),
            checksum=codec.checksum(kind, value, deleted=deleted), modified=shared.modified, expires=shared.expires,
            tags=shared.tags, device=self._device, deleted=deleted,
        )  # fmt: skip

    async def records(self, values: Sequence[tuple[Shared, str, Kind, bytes]]) -> list[Record]:
        """New versions; large values are hashed in a thread."""

        def work() -> list[Record]:
            return [Record(self.meta(shared, key, kind, value), value) for shared, key, kind, value in values]

        return await beside(sum(len(value) for *_, value in values), work)

    async def remember(self, shared: Shared, values: Mapping[str, bytes], ttl: float | None) -> None:
        """Durability "memory": framed values by key into tier 1, and on their way to the disk."""
        ends = self._ends(ttl)
        await self._behind.room()
        prefix = shared.namespace + ":"
        names = [prefix + key for key in values]
        framed = list(values.values())
        self._behind.add(names, framed, shared)
        for name in names if self._reader.busy() or len(self._absent) else ():
            self._reader.forget(name)
            self._absent.discard(name)
        changes = self._behind.changes
        try:
            await self._show(dict(zip(names, framed, strict=True)), ends)
        except asyncio.CancelledError:
            await uncut(self._front.remove(names))  # it may have the old ones still
            raise
        if self._behind.changes != changes:
            await self._overtaken(names, framed)

    async def _overtaken(self, names: Sequence[str], framed: Sequence[bytes]) -> None:
        """Another writer was there meanwhile: tier 1 may have got its value before ours, and the disk after it."""
        waiting = self._behind.waiting
        lost = [name for name, value in zip(names, framed, strict=True) if name not in waiting or waiting[name][0] is not value]
        if lost:
            await self._front.remove(lost)

    async def keep(self, records: Sequence[Record], ttl: float | None) -> None:
        """Durability "edge": on the local disk, in tier 1, and owed to the tiers below.

        A caller that is cancelled does not stop it: tier 1 would keep a value that the disk has replaced.

        Raises:
            DiskFullError, TierFullError, StoreError: Nothing of it is kept.
        """
        await uncut(self._keep(records, self._ends(ttl)))

    def _ends(self, ttl: float | None) -> float | None:
        """When a value that is written now is gone, on the monotonic clock; waiting makes it live no longer."""
        return None if ttl is None else self._clock.monotonic() + ttl

    async def _show(self, framed: dict[str, bytes], ends: float | None) -> None:
        """Put values into tier 1, unless their time is over by now."""
        left = None if ends is None else ends - self._clock.monotonic()
        if left is None or left > 0:
            await self._front.set_many(framed, left)
        else:
            await self._front.remove(framed)

    async def _keep(self, records: Sequence[Record], ends: float | None) -> None:
        names = {f"{record.meta.namespace}:{record.meta.key}": record for record in records}
        async with self.room(sum(record.meta.size for record in records)), self._stripes.writing(names):
            names = {name: _newest(record) for name, record in names.items()}
            waited = {name: self._behind.waiting.get(name) for name in names}
            await self._to_disk(list(names.values()))
            for name in names:
                if self._behind.waiting.get(name) is waited[name]:
                    self._behind.drop(name)  # what came later than this write began is newer
                self._reader.forget(name)
                self._absent.discard(name)
            await self._to_front({name: record for name, record in names.items() if name not in self._behind.waiting}, ends)
        self._owed()

    async def _to_front(self, names: Mapping[str, Record], ends: float | None) -> None:
        gone = [name for name, record in names.items() if record.meta.deleted]
        kept = {name: frame(r.meta.kind, r.value) for name, r in names.items() if not r.meta.deleted}
        if kept:
            await self._show(kept, ends)
        gone += [name for name in kept if name in self._behind.waiting]  # of two at once, tier 1 may have taken either last
        if gone:
            await self._front.remove(gone)

    async def _to_disk(self, records: Sequence[Record]) -> None:
        puts = [Put(record, owed_to=self._replicas.homes(record.meta), leave=True) for record in records]
        await self._edge.put(*puts)

    async def end(self, name: str, held: tuple[bytes, Shared]) -> bool:
        """A value that waits has expired: the disk, which may have an older one, hears that it came, and went.

        Nothing but its end goes there, so that room for others that wait is no matter, unless the clock is in doubt.
        Returns False where it still waits: the disk takes nothing.
        """
        framed, shared = held
        if self._behind.waiting.get(name) is held and self._trust.believed():
            self._behind.add([name], [framed[:1]], shared._replace(expires=0.0))
        try:
            await self.flush()
        except (StoreError, *NO_ROOM) as error:
            log.warning("%d values wait for the disk: %s", len(self._behind.waiting), error.message)
        return name not in self._behind.waiting

    async def flush(self) -> None:
        """Bring everything that waits to the disk.

        Raises:
            StoreError: The disk fails; what is not there goes on waiting.
            TierFullError, DiskFullError: There is no room for what goes on waiting.
        """
        try:
            while self._behind.waiting:
                await self._flush_some(list(islice(self._behind.waiting, AT_ONCE)))
        except NO_ROOM as error:
            log.debug("the smallest values go first: %s", error.message)
            await self._flush_smallest()

    async def _flush_smallest(self) -> None:
        """Bring what fits to the disk: what is refused alone is smaller than the rest. Raises as `flush`."""
        waiting = self._behind.waiting
        names = sorted(waiting, key=lambda name: len(waiting[name][0]))
        count = AT_ONCE
        while names:
            some = names[:count]
            try:
                await self._flush_some(some)
            except NO_ROOM:
                if len(some) == 1:
                    raise
                count = len(some) // 2
            else:
                names = names[count:]

    async def _flush_some(self, names: Sequence[str]) -> None:
        async with self._stripes.writing(names):
            taken = {name: self._behind.waiting[name] for name in names if name in self._behind.waiting}
            records = await self.records(
                [(shared, name[len(shared.namespace) + 1 :], *split(framed)) for name, (framed, shared) in taken.items()]
            )
            async with self.room(sum(record.meta.size for record in records)):
                await self._to_disk(records)
            for name, held in taken.items():
                if self._behind.waiting.get(name) is held:
                    self._behind.drop(name)
        self._owed()

    async def run_behind(self) -> None:
        """Flush what arrives, until cancelled; what cannot be written waits."""
        while True:
            await self._behind.arrived.wait()
            self._behind.arrived.clear()
            await asyncio.sleep(REST)
            try:
                await self.flush()
                heed()
                self._behind.error = None
            except ApplianceError as error:
                log.warning("%d values wait for the disk: %s", len(self._behind.waiting), error.message)
                self._behind.error = error
                self._behind.eased.set()
                self._behind.arrived.set()
                await asyncio.sleep(1.0)

    async def adopt(self, record: Record, tier: str, known: str) -> bool:
        """Take over what another appliance wrote; False where this one has written meanwhile.

        A caller that is cancelled does not stop it: tier 1 would keep what the disk has replaced.
        """
        return await uncut(self._adopt(record, tier, known))

    async def _adopt(self, record: Record, tier: str, known: str) -> bool:
        meta = record.meta
        name = f"{meta.namespace}:{meta.key}"
        async with self.room(meta.size), self._stripes.writing([name]):
            if name in self._behind.waiting:
                return False
            homes = tuple(home for home in self._replicas.homes(meta) if home != tier)
            put = Put(record, owed_to=homes, common=((tier, meta.version),), only_if=known, leave=True)
            (kept,) = await self._edge.put(put)
            if kept:
                self._reader.forget(name)
                self._absent.discard(name)
                await self._front.remove([name])
        return kept


def _newest(record: Record) -> Record:
    """With a version from when it is this key's turn: of two writers at once the later on disk has the later version."""
    return Record(msgspec.structs.replace(record.meta, version=new_id().replace("-", "")), record.value)

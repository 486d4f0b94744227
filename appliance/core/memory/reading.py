"""Look-ups below tier 1: one at a time for each key, from the fastest tier that has it, filling the faster ones."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

from appliance.core.memory.edge import Put
from appliance.core.memory.expiry import expire
from appliance.core.memory.model import Record
from appliance.core.memory.parts import Parts
from appliance.core.memory.rows import Row
from appliance.core.memory.stats import TierStats
from appliance.core.memory.tier import Replica
from appliance.core.memory.values import frame
from appliance.errors import CorruptRecordError, MemoryTierError, StoreError, TierUnavailableError

log = logging.getLogger(__name__)


class Looked(NamedTuple):
    """The outcome of a look-up."""

    record: Record | None
    unasked: tuple[str, ...] = ()
    """Tiers that might have it and could not be asked."""


class Reader:
    """Finds values below tier 1.

    Args:
        parts: The tiers.
        room: Holds so many bytes of the local disk free while they are written. Raises TierFullError.
    """

    def __init__(self, parts: Parts, room: Callable[[int], AbstractAsyncContextManager[None]]) -> None:
        self._front = parts.front
        self._edge = parts.edge
        self._ledger = parts.ledger
        self._replicas = parts.replicas
        self._stripes = parts.stripes
        self._absent = parts.absent
        self._behind = parts.behind
        self._clock = parts.clock
        self._parts = parts
        self._room = room
        self._flights: dict[str, asyncio.Task[Looked]] = {}
        self.stats = TierStats()
        """Of the local disk."""
        self.fetches = 0
        self.coalesced = 0
        self.corrupt = 0
        self._touched: dict[int, int] = {}

    async def find(self, namespace: str, key: str) -> Looked:
        """A key's newest version.

        Raises:
            TierUnavailableError: It is known to lie only in tiers that cannot be asked now.
            CorruptRecordError: Every copy is damaged or lost.
            StoreError: The local disk fails, and no other tier has it.
        """
        name = f"{namespace}:{key}"
        if self._absent.has(name):
            return Looked(None)
        flight = self._flights.get(name)
        if flight is None:
            flight = asyncio.create_task(self._fetch(namespace, key, name))
            self._flights[name] = flight
            flight.add_done_callback(lambda done: self._landed(name, done))
            self.fetches += 1
        else:
            self.coalesced += 1
        return await asyncio.shield(flight)

    def _landed(self, name: str, done: asyncio.Task[Looked]) -> None:
        if self._flights.get(name) is done:
            del self._flights[name]
        if not done.cancelled():
            done.exception()  # whoever waits gets it; if nobody does any more, nothing is lost

    def take_touched(self) -> dict[int, int]:
        """Entry → reads since the last call."""
        touched, self._touched = self._touched, {}
        return touched

    def busy(self) -> bool:
        """Whether a look-up is under way."""
        return bool(self._flights)

    def forget(self, name: str) -> None:
        """A writer is there: a later look-up shall not share an earlier one's answer."""
        self._flights.pop(name, None)

    async def _fetch(self, namespace: str, key: str, name: str) -> Looked:
        generation = self._stripes.generation(name)
        looked = await self._below(namespace, key)
        async with self._stripes.unchanged(name, generation) as unchanged:
            if unchanged and name not in self._behind.waiting:
                await self._remember(name, looked)
        return looked

    async def _remember(self, name: str, looked: Looked) -> None:
        """Fill tier 1, or note that there is nothing."""
        if looked.record is None:
            if not looked.unasked:
                self._absent.add(name)
            return
        meta = looked.record.meta
        ttl = None if meta.expires is None else meta.expires - self._clock.wall()
        if ttl is not None and ttl <= 0:
            return
        await self._front.set_many({name: frame(meta.kind, looked.record.value)}, ttl)
        if name in self._behind.waiting:  # written to tier 1 meanwhile, perhaps before this older value arrived there
            await self._front.remove([name])

    async def _below(self, namespace: str, key: str) -> Looked:
        try:
            row, record = await self._on_disk(namespace, key)
        except StoreError as error:
            return await self._despite(namespace, key, error)
        if row is None:
            return await self._unknown(namespace, key)
        return await self._newest(row, record)

    async def _newest(self, row: Row, record: Record | None) -> Looked:
        """What a row stands for."""
        if row.meta.deleted:
            return Looked(None)
        if row.meta.expired(self._clock.wall()):
            await expire(self._parts, row)
            return Looked(None)
        return Looked(record) if record is not None else await self._elsewhere(row)

    async def _despite(self, namespace: str, key: str, error: StoreError) -> Looked:
        """A value that this disk cannot give, from below; only the version of the row, as any other may be an older one.

        Raises:
            StoreError: There is none, or the row cannot be read either.
        """
        row = await self._edge.row(namespace, key)
        if row is None:
            raise error
        try:
            looked = await self._newest(row, None)
        except CorruptRecordError:
            raise error from None
        log.warning("the local disk fails, %s:%s came from below: %s", namespace, key, error.message)
        return looked

    async def _on_disk(self, namespace: str, key: str) -> tuple[Row | None, Record | None]:
        began = time.perf_counter()
        try:
            found = await self._edge.get(namespace, key)
        except CorruptRecordError as error:
            self.corrupt += 1
            self.stats.errors += 1
            log.error("%s", error.message)
            return await self._edge.row(namespace, key), None  # a copy from below takes the damaged one's place
        self.stats.times.append(time.perf_counter() - began)
        if found is None:
            self.stats.misses += 1
            return None, None
        if found[1] is None or found[0].meta.deleted or found[0].meta.expired(self._clock.wall()):
            self.stats.misses += 1
            return found
        self.stats.hits += 1
        self._touched[found[0].entry] = self._touched.get(found[0].entry, 0) + 1
        return found

    async def _holders(self, row: Row) -> list[Replica]:
        """The tiers that have this very version (or, where others write there, what has replaced it)."""
        held, _ = await self._ledger.copies(row.entry)
        return self._replicas.ordered([tier for tier, version in held.items() if version == row.meta.version])

    async def _elsewhere(self, row: Row) -> Looked:
        """A value that this disk has given up, from a tier that has it; an older version is no substitute."""
        unasked: list[str] = []
        bad: list[str] = []
        for replica in await self._holders(row):
            try:
                record = await self._replicas.get(replica, row.meta.namespace, row.meta.key)
            except TierUnavailableError:
                unasked.append(replica.name)
                continue
            except CorruptRecordError as error:
                self.corrupt += 1
                log.error("%s: %s", replica.name, error.message)
                bad.append(replica.name)
                continue
            if record is not None and (replica.shared or record.meta.version == row.meta.version):
                await self._heal(row, bad)
                return await self._taken(record, (replica.name,), row)
            log.error("%s has lost %s:%s", replica.name, row.meta.namespace, row.meta.key)
            bad.append(replica.name)
        if unasked:
            raise TierUnavailableError(
                f"{row.meta.namespace}:{row.meta.key} lies on {', '.join(unasked)}, which cannot be reached now.",
                "it is read as soon as that answers; `prime-spark memory status` shows the tiers.",
            )
        raise CorruptRecordError(
            f"{row.meta.namespace}:{row.meta.key} is lost: no tier gives what was written.", "set it again, or delete it."
        )

    async def _heal(self, row: Row, tiers: Sequence[str]) -> None:
        """Owe tiers the good copy that another one gave; while there is none, a damaged one may still be read some day."""
        try:
            for tier in tiers:
                await self._edge.lost(row, tier)
        except StoreError as error:
            log.warning("it is not written down that %s has no good copy: %s", ", ".join(tiers), error.message)

    async def _unknown(self, namespace: str, key: str) -> Looked:
        """A key that this disk has never seen: another appliance may have written it, or an earlier disk of this one.

        What an earlier disk left on the NAS may be older than what the cloud has, so that is asked in any case.

        Raises:
            CorruptRecordError: It is there, but damaged wherever it is.
        """
        unasked: list[str] = []
        damage: CorruptRecordError | None = None
        found: dict[str, Record] = {}
        for replica in self._replicas.ordered(None):
            if any(self._replicas.is_shared(tier) for tier in found):
                break
            try:
                record = await self._given(replica, namespace, key)
            except CorruptRecordError as error:
                self.corrupt += 1
                log.error("%s: %s", replica.name, error.message)
                damage = error
                continue
            except TierUnavailableError as error:
                log.debug("%s was not asked for %s:%s: %s", replica.name, namespace, key, error.message)
                unasked.append(replica.name)
                continue
            if record is not None:
                found[replica.name] = record
        if not found and damage is not None:
            raise damage
        if not found:
            return Looked(None, tuple(unasked))
        newest = max(found.values(), key=lambda record: (record.meta.modified, record.meta.version))
        tiers = tuple(tier for tier, record in found.items() if record.meta.version == newest.meta.version)
        return await self._taken(newest, tiers, None)

    async def _given(self, replica: Replica, namespace: str, key: str) -> Record | None:
        """What a tier has, but for what waits to be removed there. Raises as Replica.get."""
        record = await self._replicas.get(replica, namespace, key)
        if record is None:
            return None
        try:
            doomed = await self._ledger.doomed(replica.name, namespace, key)
        except StoreError as error:
            log.debug("it is not known what %s has yet to remove: %s", replica.name, error.message)
            return record
        return None if record.meta.version in doomed else record

    async def _taken(self, record: Record, tiers: tuple[str, ...], row: Row | None) -> Looked:
        """Keep on this disk what tiers gave, unless somebody has written meanwhile."""
        meta = record.meta
        known = row.meta.version if row is not None else ""
        gone = meta.expired(self._clock.wall())
        new = meta.version != known
        homes = tuple(home for home in self._replicas.homes(meta) if new and home not in tiers)
        common = tuple((tier, meta.version) for tier in tiers)
        try:
            async with self._room(0 if gone or meta.deleted else meta.size):
                await self._edge.put(Put(record, owed_to=homes, common=common, only_if=known, leave=new))
            kept = await self._edge.row(meta.namespace, meta.key) if gone else None
            if kept is not None and kept.meta.version == meta.version:
                await expire(self._parts, kept)  # written down, so that it stays gone whatever the clock does
        except (StoreError, MemoryTierError) as error:
            log.warning("%s:%s is not kept on the local disk: %s", meta.namespace, meta.key, error.message)
        return Looked(None if meta.deleted or gone else record)

"""Both directions between this disk and the cloud: what others wrote comes here, what was owed goes there."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from appliance.core.memory.conflicts import Settler
from appliance.core.memory.deliver import Deliverer, Pay
from appliance.core.memory.model import Head, Record
from appliance.core.memory.parts import Parts
from appliance.core.memory.rows import Row
from appliance.core.memory.tier import Replica
from appliance.core.memory.uncut import heed
from appliance.core.memory.writing import Writer
from appliance.errors import (
    ApplianceError,
    CorruptRecordError,
    DiskFullError,
    InvalidArgumentsError,
    TierFullError,
    TierUnavailableError,
)

log = logging.getLogger(__name__)

TOMBSTONES_KEPT = 30 * 86400.0
"""Seconds after which every appliance is taken to know of a deletion."""
PAUSES = (0.5, 2.0)
"""Seconds between the tries of one run at a tier that breaks off."""
LOOK = 0.5
"""Seconds between two looks whether a tier is back."""


class SyncRun(msgspec.Struct, frozen=True, kw_only=True):
    """One synchronisation with one tier."""

    tier: str
    started: float
    """Wall clock."""
    ended: float | None = None
    pushed: int = 0
    pulled: int = 0
    conflicts: int = 0
    """Found in this run, settled ones included."""
    waiting: int = 0
    """Conflicts that wait for the operator."""
    sent_bytes: int = 0
    received_bytes: int = 0
    error: str = ""
    next_step: str = ""


class SyncTotals(msgspec.Struct, frozen=True, kw_only=True):
    """Since the start."""

    operations: int = 0
    detected: int = 0
    """Conflicts."""
    resolved: int = 0
    """Conflicts, by strategy or by hand."""
    transferred: int = 0
    """Bytes of values, both ways, before compression: what goes over the wire is mostly less."""


@dataclass
class Counters:
    """What one run has done so far."""

    pulled: int = 0
    received: int = 0
    refused: list[ApplianceError] = field(default_factory=list)
    """What is wrong with single values: they are left out, until the next run."""
    seen: set[str] = field(default_factory=set)
    """Key ids."""
    kept: dict[str, int] = field(default_factory=dict)
    """Key id → entry, where a conflict that waits has their version already."""


class Synchroniser:
    """Keeps this disk and the shared tiers the same.

    Args:
        parts: The tiers.
        writer: Takes over what others wrote.
        settler: For what both sides changed.
        deliverers: By tier.
        pay: Bounds the bandwidth.
        interval: Seconds between two runs.
    """

    def __init__(
        self, parts: Parts, writer: Writer, settler: Settler, deliverers: dict[str, Deliverer], pay: Pay, interval: float
    ) -> None:
        self._parts = parts
        self._writer = writer
        self._settler = settler
        self._deliverers = deliverers
        self._pay = pay
        self.interval = interval
        self._one = asyncio.Lock()
        self.runs: dict[str, SyncRun] = {}
        """The newest run of each tier."""
        self.received_bytes = 0
        self.operations = 0

    def totals(self) -> SyncTotals:
        """What has been done since the start."""
        sent = sum(deliverer.bytes_sent for deliverer in self._deliverers.values() if deliverer.replica.shared)
        return SyncTotals(
            operations=self.operations, detected=self._settler.detected, resolved=self._settler.resolved,
            transferred=sent + self.received_bytes,
        )  # fmt: skip

    async def run(self) -> None:
        """Synchronise at an interval until cancelled."""
        while True:
            await self.run_all()
            heed()
            await self._rest()

    async def _rest(self) -> None:
        """Until the next run is due, or a tier that was away is back."""
        ends, away = time.monotonic() + self.interval, self._away()
        while time.monotonic() < ends:
            await asyncio.sleep(min(LOOK, self.interval))
            still = self._away()
            if away - still:
                return
            away = still

    def _away(self) -> set[str]:
        """Shared tiers that do not answer."""
        replicas = self._parts.replicas
        return {name for name, tier in replicas.tiers.items() if tier.shared and not replicas.answers(name)}

    async def run_all(self) -> list[SyncRun]:
        """One run with every shared tier; a failing one is told in its result."""
        async with self._one:
            return [await self._with(tier) for tier in self._parts.replicas.tiers.values() if tier.shared]

    async def _with(self, replica: Replica) -> SyncRun:
        started = self._parts.clock.wall()
        deliverer, done = self._deliverers[replica.name], Counters()
        before = (deliverer.delivered, deliverer.bytes_sent, self._settler.detected)
        error, next_step = "", ""
        try:
            await self._writer.flush()
            await self._pull_with_patience(replica, done)
            if done.refused:
                error, next_step = _told(done.refused), done.refused[0].next_step
            while await deliverer.deliver_some():
                pass
        except ApplianceError as caught:
            error, next_step = caught.message, caught.next_step
            log.warning("synchronisation with %s failed: %s", replica.name, error)
        self.operations += 1
        self.received_bytes += done.received
        waiting = len(await self._parts.ledger.disputed(replica.name))
        run = SyncRun(
            tier=replica.name, started=started, ended=self._parts.clock.wall(), pushed=deliverer.delivered - before[0],
            sent_bytes=deliverer.bytes_sent - before[1], conflicts=self._settler.detected - before[2], pulled=done.pulled,
            received_bytes=done.received, waiting=waiting, error=error, next_step=next_step,
        )  # fmt: skip
        self.runs[replica.name] = run
        return run

    async def _pull_with_patience(self, replica: Replica, done: Counters) -> None:
        """Three tries; what one has brought, the next one does not fetch again. Raises as Replica.heads."""
        for pause in PAUSES:
            try:
                await self._pull(replica, done)
            except TierUnavailableError as error:
                if not self._parts.replicas.answers(replica.name):
                    raise
                log.info("%s broke off, it is asked again: %s", replica.name, error.message)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 no secret
            else:
                return
        await self._pull(replica, done)

    async def _pull(self, replica: Replica, done: Counters) -> None:
        done.seen.clear()
        done.refused.clear()
        known, disputed = await self._parts.ledger.known(replica.name), await self._parts.ledger.disputed(replica.name)
        changed = []
        async for head in replica.heads():
            done.seen.add(head.key_id)
            entry, version, common = known.get(head.key_id, (0, "", ""))
            if common == head.version:
                continue
            if entry and version == head.version:
                await self._parts.ledger.delivered(replica.name, [(entry, version)])
                continue
            if disputed.get(entry) == head.version:
                done.kept[head.key_id] = entry
            changed.append(head)
        for head in newest_first(changed):
            await self._guarded(replica, head, done)
        for key_id, (entry, _, common) in known.items():
            if (common or entry in disputed) and key_id not in done.seen:
                await self._missing(replica, entry, common)
        self._parts.absent.clear()

    async def _guarded(self, replica: Replica, head: Head, done: Counters) -> None:
        """Take one over; what is wrong with it alone, or with its size, holds up no other one."""
        try:
            # A delivery meanwhile would make what was read from the tier older than what it holds.
            async with self._deliverers[replica.name].alone:
                await self._take(replica, head, done)
        except (CorruptRecordError, TierFullError, DiskFullError, InvalidArgumentsError) as error:
            log.error("%s: a value is left out: %s", replica.name, error.message)
            done.refused.append(error)

    async def _take(self, replica: Replica, head: Head, done: Counters) -> None:
        record = await self._kept(replica, head, done)
        if record is None:
            await self._pay(head.size)
            record = await replica.read_id(head.key_id)
            done.received += 0 if record is None else record.meta.size
        if record is None:
            return
        if await self._is_old(replica, record):
            return
        if await self._merge_in(replica, record):
            done.pulled += 1

    async def _kept(self, replica: Replica, head: Head, done: Counters) -> Record | None:
        """Their version from the conflict that waits for a decision; None where there is none that can be read."""
        entry = done.kept.get(head.key_id)
        try:
            record = None if entry is None else await self._parts.ledger.theirs(replica.name, entry)
        except CorruptRecordError as error:
            log.error("%s It is fetched again.", error.message)
            return None
        return record if record is not None and record.meta.version == head.version else None

    async def _is_old(self, replica: Replica, record: Record) -> bool:
        """Whether it waits to be removed there, or everybody knows that it is gone: then it goes for good."""
        meta = record.meta
        if meta.version in await self._parts.ledger.doomed(replica.name, meta.namespace, meta.key):
            return True
        before = self._parts.clock.wall() - TOMBSTONES_KEPT
        over = meta.expired(before) or (meta.deleted and meta.modified < before)
        if over and self._parts.trust.believed():
            await replica.purge(meta.namespace, meta.key, meta.version)
            return True
        return False

    async def _merge_in(self, replica: Replica, theirs: Record) -> bool:
        meta = theirs.meta
        row = await self._parts.edge.row(meta.namespace, meta.key)
        if row is None:
            return await self._writer.adopt(theirs, replica.name, "")
        common = await self._parts.ledger.common(replica.name, row.entry)
        if meta.version in {common, row.meta.version}:
            return False
        if row.meta.version == common:
            return await self._writer.adopt(theirs, replica.name, common)
        mine = await self._mine(row)
        if mine is None:
            return await self._writer.adopt(theirs, replica.name, row.meta.version)
        return await self._settler.settle(row, mine, theirs, replica)

    async def _mine(self, row: Row) -> Record | None:
        """This disk's value of that version; None where there is none that can be read, or another version by now."""
        try:
            found = await self._parts.edge.record(row.entry)
        except CorruptRecordError as error:
            log.error("%s", error.message)
            return None
        return found[1] if found is not None and found[0].meta.version == row.meta.version else None

    async def _missing(self, replica: Replica, entry: int, common: str) -> None:
        """The tier does not have what it had: it has lost it and gets it again, unless it is gone here or lies elsewhere."""
        row = await self._parts.edge.by_number(entry)
        if row is None or row.meta.expired(self._parts.clock.wall()):
            return
        if row.meta.deleted:
            if not common:  # what the deletion was in conflict with
                await self._parts.ledger.lost(replica.name, entry)
            return
        meta = row.meta
        try:
            elsewhere = await self._in_another(replica, row)
        except (TierUnavailableError, CorruptRecordError) as error:
            log.warning("%s has lost %s:%s; that waits: %s", replica.name, meta.namespace, meta.key, error.message)
            return
        if elsewhere is not None:
            await self._parts.ledger.moved(replica.name, entry)
            if meta.version == common:
                await self._writer.adopt(elsewhere[1], elsewhere[0].name, common)
            return
        if await self._mine(row) is None:
            log.error("%s has lost %s:%s, and the local disk has no copy of it", replica.name, meta.namespace, meta.key)
            return
        log.warning("%s has lost %s:%s; it gets it again", replica.name, meta.namespace, meta.key)
        await self._parts.ledger.lost(replica.name, entry)

    async def _in_another(self, replica: Replica, row: Row) -> tuple[Replica, Record] | None:
        """Another shared tier that has another version: a value of another kind moves there. Raises as Replica.get."""
        meta, replicas = row.meta, self._parts.replicas
        for other in replicas.tiers.values():
            if other.shared and other is not replica:
                record = await replicas.get(other, meta.namespace, meta.key)
                if record is not None and record.meta.version != meta.version:
                    return other, record
        return None


def _told(refused: Sequence[ApplianceError]) -> str:
    """What was left out."""
    many = "one value was" if len(refused) == 1 else f"{len(refused)} values were"
    return f"{many} left out: {refused[0].message}"


def newest_first(heads: Iterable[Head]) -> list[Head]:
    """What changed last is wanted first."""
    return sorted(heads, key=lambda head: -head.modified)

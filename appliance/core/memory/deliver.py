"""Write-behind to one tier: what it is owed goes there, soonest first, and is tried again from the first success on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import msgspec

from appliance.core.backoff import backoff
from appliance.core.memory.conflicts import Settler
from appliance.core.memory.expiry import expire
from appliance.core.memory.keys import key_id
from appliance.core.memory.ledger import Debt
from appliance.core.memory.model import Record
from appliance.core.memory.parts import Parts
from appliance.core.memory.priority import order
from appliance.core.memory.quota import Quota
from appliance.core.memory.rows import Row
from appliance.core.memory.tier import Diverged, Replica
from appliance.core.memory.uncut import heed
from appliance.errors import (
    ApplianceError,
    CorruptRecordError,
    InvalidArgumentsError,
    MemoryTierError,
    TierFullError,
    TierUnavailableError,
)

log = logging.getLogger(__name__)

LOOKED_AT = 2000
"""Debts among which the most urgent ones are chosen."""
FIRST_REST, LONGEST_REST = 1.0, 60.0
"""Seconds between two tries at a tier that fails."""
Pay = Callable[[int], Awaitable[None]]
"""Waits until so many bytes may be sent."""


class WaitsForAnotherError(MemoryTierError):
    """The value lies in a tier only that cannot be asked now."""


class ValueLostError(MemoryTierError):
    """The disk's copy is damaged, and no other tier has one."""


class Deliverer:
    """Brings one tier what it is owed.

    Args:
        parts: The tiers.
        replica: This one.
        settler: For versions that diverged.
        pay: Bounds the bandwidth.
        batch: Deliveries in a row.
        quota: Keeps the tier below a limit; None for no limit.
    """

    def __init__(
        self, parts: Parts, replica: Replica, settler: Settler, pay: Pay, batch: int, quota: Quota | None = None
    ) -> None:
        self._parts = parts
        self._edge = parts.edge
        self._ledger = parts.ledger
        self.replica = replica
        self._settler = settler
        self._pay = pay
        self._batch = batch
        self.quota = quota
        self._wake = asyncio.Event()
        self.alone = parts.replicas.alone(replica.name)
        self.delivered = 0
        self.bytes_sent = 0
        self.failures = 0
        """In a row."""

    def wake(self) -> None:
        """Something is owed, or the tier is back."""
        self._wake.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            self._wake.clear()
            try:
                while await self.deliver_some():
                    self.failures = 0
                    heed()
                heed()
                await self._wake.wait()
            except ApplianceError as error:
                self.failures += 1
                rest = backoff(self.failures, FIRST_REST, LONGEST_REST)
                log.log(
                    logging.WARNING if self.failures == 1 else logging.DEBUG, "%s waits: %s", self.replica.name, error.message
                )
                await self._pause(rest)

    async def _pause(self, seconds: float) -> None:
        """Until the time is up, or a probe has found the tier well again."""
        heed()
        ends = time.monotonic() + seconds
        well_before = self._parts.replicas.answers(self.replica.name)
        while time.monotonic() < ends:
            await asyncio.sleep(min(0.2, seconds))
            well = self._parts.replicas.answers(self.replica.name)
            if well and not well_before:
                return
            well_before = well

    async def deliver_some(self) -> bool:
        """Deliver one batch; False where nothing waited. Raises as Replica.put."""
        async with self.alone:
            name = self.replica.name
            debts = await self._ledger.debts(name, LOOKED_AT)
            purges = await self._ledger.purges(name, self._batch)
            if not debts and not purges:
                return False
            if not self._parts.replicas.answers(name):
                report = self._parts.replicas.reports[name]
                raise TierUnavailableError(f"{name}: {report.reason}", report.next_step)
            for namespace, key, version in purges:
                await self.replica.purge(namespace, key, version)
                await self._ledger.purged(name, namespace, key, version)
            urgent = order(debts, self._parts.clock.wall())[: self._batch]
            refused = None
            for debt in dict.fromkeys([*debts[:1], *urgent]):  # the oldest goes with each batch: nothing waits for ever
                refused = await self._guarded(debt) or refused
            if refused is not None:
                raise refused
            return True

    async def _guarded(self, debt: Debt) -> MemoryTierError | None:
        """One delivery; what is wrong with the value alone holds up no other one, nor does one that finds no room.

        Raises as Replica.put, where the tier is to be tried again later as a whole.
        """
        try:
            await self._deliver(debt.entry)
        except (TierFullError, WaitsForAnotherError, CorruptRecordError) as error:
            await self._ledger.failed(self.replica.name, debt.entry, error.message)
            return error  # a smaller one may fit, a deletion makes room, and what is damaged is another key's
        except (ValueLostError, InvalidArgumentsError) as error:
            log.error("%s gets no copy of a value of %s: %s", self.replica.name, debt.namespace, error.message)
            await self._ledger.settle(self.replica.name, debt.entry)
        except MemoryTierError as error:
            await self._ledger.failed(self.replica.name, debt.entry, error.message)
            raise
        return None

    async def deliver_now(self, namespace: str, key: str) -> bool:
        """One key at once, for a writer that waits; False where a conflict waits for the operator. Raises as Replica.put."""
        row = await self._edge.row(namespace, key)
        if row is None:
            return True
        async with self.alone:
            return await self._deliver(row.entry)

    async def _deliver(self, entry: int) -> bool:
        found = await self._ours(entry)
        name = self.replica.name
        if found is None:
            return True
        row, record = found
        if row.meta.expired(self._parts.clock.wall()) and self._parts.trust.believed():
            await expire(self._parts, row)
            return True
        if record is None or not self.replica.accepts(row.meta):
            await self._ledger.settle(name, entry)
            return True
        if self.quota is not None and not row.meta.deleted:
            await self.quota.make_room(row.meta.size)
        await self._pay(row.meta.size)
        diverged = await self._put(record, await self._ledger.common(name, entry))
        if diverged is not None:
            return await self._settler.settle(row, record, diverged.theirs, self.replica)
        self.delivered += 1
        self.bytes_sent += row.meta.size
        if not await self._ledger.delivered(name, [(entry, row.meta.version)]):  # it has expired while it was under way
            await self.replica.purge(row.meta.namespace, row.meta.key, row.meta.version)
        return True

    async def _ours(self, entry: int) -> tuple[Row, Record | None] | None:
        """The row with its value, from another tier where the disk has none that can be read.

        Raises:
            ValueLostError: The disk's copy is damaged, and no other tier has one.
            WaitsForAnotherError: A tier that has it cannot be asked.
        """
        damage = ""
        try:
            found = await self._edge.record(entry)
        except CorruptRecordError as error:
            damage = error.message
            row = await self._edge.by_number(entry)
            found = None if row is None else (row, None)
        if found is None or found[1] is not None or found[0].meta.expired(self._parts.clock.wall()):
            return found
        record = await self._held_elsewhere(found[0])
        if record is None and damage:
            raise ValueLostError(damage, "write it again; check the disk.")
        return found[0], record

    async def _put(self, record: Record, parent: str) -> Diverged | None:
        """Write a version, with what it replaced: others tell by it whether it contradicts theirs.

        Another version there that is damaged is no rival: ours takes its place. Raises as Replica.put.
        """
        record = Record(msgspec.structs.replace(record.meta, parent=parent), record.value)
        try:
            return await self.replica.put(record, parent)
        except CorruptRecordError as error:
            log.error("%s; ours takes its place", error.message.rstrip("."))
        identifier = key_id(record.meta.namespace, record.meta.key)
        async for head in self.replica.heads():
            if head.key_id == identifier:
                return await self.replica.replace(record, (head.version,))
        return await self.replica.put(record, "")

    async def _held_elsewhere(self, row: Row) -> Record | None:
        """A value that the disk has given up: another tier has it; None where none has. Raises WaitsForAnotherError."""
        held, _ = await self._ledger.copies(row.entry)
        same = [tier for tier, version in held.items() if version == row.meta.version and tier != self.replica.name]
        for replica in self._parts.replicas.ordered(same):
            try:
                record = await self._parts.replicas.get(replica, row.meta.namespace, row.meta.key)
            except TierUnavailableError as error:
                raise WaitsForAnotherError(error.message, error.next_step) from error
            except CorruptRecordError as error:
                log.error("%s", error.message)
                continue
            if record is not None and record.meta.version == row.meta.version:
                return record
        return None

"""The memory as a service: opens the tiers, keeps watch over them, and shows how they are."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from appliance.core.memory.expiry import expire
from appliance.core.memory.ledger import Debts
from appliance.core.memory.machinery import Machinery
from appliance.core.memory.model import MemoryStatus, TierStatus
from appliance.core.memory.parts import Parts
from appliance.core.memory.release import evictions
from appliance.core.memory.stats import TierStats
from appliance.core.memory.sync import TOMBSTONES_KEPT
from appliance.core.memory.tier import Replica, Usage
from appliance.core.memory.uncut import heed
from appliance.core.model import Health, HealthReport
from appliance.core.state import LiveState, Section
from appliance.errors import ApplianceError, CorruptRecordError, MemoryTierError, StoreError, TierFullError

log = logging.getLogger(__name__)

PROBE = 1.0
"""Seconds between two looks at every tier."""
SWEEP = 15.0
"""Seconds between two sweeps of what has expired."""
AGAIN = 3.0
"""Seconds between two trials of a disk that failed."""
BELIEVED_EVERY = 600.0
"""Seconds between two notes of the time, against which the clock is checked at the next start."""
COUNT = 300.0
"""Seconds between two counts of what the lower tiers hold, where nothing was brought there."""
RECOUNT = 20.0
"""Seconds between two counts where something was."""
ANSWER = 3.0
"""Seconds that a probe may take."""
WORST = {Health.healthy: 0, Health.absent: 1, Health.degraded: 2, Health.unhealthy: 3}


class MemoryService:
    """Runs everything behind the memory (implements ports.Service).

    Args:
        parts: The tiers.
        machinery: What works on them.
        state: Shown there.
        depends: Services that must run before.
    """

    name = "memory"
    summary = "Keeps values in Redis, on the local disk, on the NAS and in the cloud"

    def __init__(self, parts: Parts, machinery: Machinery, state: LiveState, depends: tuple[str, ...] = ()) -> None:
        self.parts = parts
        self.depends = depends
        self.memory = machinery.memory
        self.settler = machinery.settler
        self.synchroniser = machinery.synchroniser
        self._reader = machinery.reader
        self._writer = machinery.writer
        self._evictor = machinery.evictor
        self._deliverers = machinery.deliverers
        self._state = state
        self._opened: set[str] = set()
        self._met: dict[str, str] = {}
        """Identities of the stores that were met in this life."""
        self._unseeded: set[str] = set()
        self._asked = {name: asyncio.Event() for name in parts.replicas.tiers}
        self._usage: dict[str, Usage | None] = {}
        self._disk = machinery.disk
        self._disk_error: StoreError | None = None
        """From the newest look at it."""
        self._owed: dict[str, Debts] = {}
        self._evictions: dict[str, int] = {}
        self._conflicts = 0
        self._damaged: list[str] = []
        self._believed_at = 0.0

    async def start(self) -> None:
        """Open the local disk; the other tiers open when they answer. Raises StoreError."""
        await self.parts.edge.open()
        self._believed_at = await self.parts.ledger.believed()
        self.parts.trust.recall(self._believed_at)
        await self._evictor.refresh()
        await self.parts.front.open()
        self._disk_error = None
        self._opened.clear()
        self._met.clear()
        await self.show()

    async def run(self) -> None:
        """Watch, deliver and sweep until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._writer.run_behind(), name="memory write-behind")
            group.create_task(self._every(PROBE, self.show), name="memory front")
            group.create_task(self._every(SWEEP, self.sweep), name="memory sweep")
            group.create_task(self._every(AGAIN, self._disk.try_again), name="memory disk")
            for name, replica in self.parts.replicas.tiers.items():
                group.create_task(self._watch(replica), name=f"memory watch {name}")
                group.create_task(self._counts(replica), name=f"memory count {name}")
                group.create_task(self._deliver(name), name=f"memory deliver {name}")
            group.create_task(self._synchronise(), name="memory sync")

    async def _deliver(self, name: str) -> None:
        """From the first probe on: before, nobody knows which store it is."""
        await self._asked[name].wait()
        await self._deliverers[name].run()

    async def _synchronise(self) -> None:
        """From the first answers of the shared tiers on."""
        if any(tier.shared for tier in self.parts.replicas.tiers.values()):
            await asyncio.sleep(PROBE)
            await self.synchroniser.run()

    async def stop(self) -> None:
        """Bring what only tier 1 has to the disk, and close everything."""
        try:
            async with asyncio.timeout(3.0):
                await self.memory.flush()
        except (ApplianceError, TimeoutError) as error:
            log.error("%d values that were kept in tier 1 alone are lost: %s", len(self.parts.behind.waiting), error)
        for replica in self.parts.replicas.tiers.values():
            await replica.close()
        await self.parts.front.close()
        await self.parts.edge.close()

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except StoreError as error:
                self._disk.failed(error)
            except ApplianceError as error:  # of one tier or value: no reason to look after the others no more
                log.error("the memory: %s", error.message)
            heed()
            await asyncio.sleep(seconds)

    async def _watch(self, replica: Replica) -> None:
        """Probe a tier, open it when it first answers, and wake its deliverer when it is back."""
        replicas, name = self.parts.replicas, replica.name
        while True:
            answered = replicas.answers(name)
            report = await self._probed(replica)
            if name in self._unseeded and name in self._opened:
                await self._seed(name)  # takes its time with a large index: no part of a probe
                report = await self._probed(replica)
            replicas.reports[name] = report
            self._asked[name].set()
            if replicas.answers(name) and not answered:
                log.info("%s is there", name)
                self.parts.absent.clear()
                self._deliverers[name].wake()
            heed()
            await asyncio.sleep(PROBE)

    async def _probed(self, replica: Replica) -> HealthReport:
        try:
            async with asyncio.timeout(ANSWER):
                if replica.name not in self._opened:
                    await self._open(replica)
                report = await replica.health()
                if report.health in {Health.unhealthy, Health.absent}:
                    self._opened.discard(replica.name)  # its bucket, tables or disk may be gone: open looks again
                return report
        except TimeoutError:
            self._opened.discard(replica.name)
            return HealthReport(Health.unhealthy, f"no answer within {ANSWER:g} s", "check the network and the server.")
        except MemoryTierError as error:
            absent = error.code == "tier_absent"
            return HealthReport(Health.absent if absent else Health.unhealthy, error.message, error.next_step)
        except StoreError as error:
            return HealthReport(Health.unhealthy, error.message, error.next_step)

    async def _open(self, replica: Replica) -> None:
        """Make it ready; a store that was not met yet is to be seeded."""
        name, identity = replica.name, await replica.open()
        if self._met.get(name) != identity:
            if await self.parts.ledger.met(name, identity):
                log.warning("%s is another store than before: it gets what it does not have", name)
            self._met[name] = identity
            self._unseeded.add(name)
        self._opened.add(name)

    async def _seed(self, name: str) -> None:
        """Owe a tier what it should have."""
        try:
            owed = await self.parts.ledger.seed(name, lambda meta: name in self.parts.replicas.homes(meta))
        except StoreError as error:
            self._disk.failed(error)
            return
        self._unseeded.discard(name)
        if owed:
            log.info("%s gets %d values that it does not have", name, owed)

    async def _counts(self, replica: Replica) -> None:
        """Count from the first probe on, and sooner again where something was delivered, or the tier went or came."""
        await self._asked[replica.name].wait()
        while True:
            before, began = self._state_of(replica), time.monotonic()
            await self._count(replica)
            heed()
            while time.monotonic() - began < COUNT:
                await asyncio.sleep(PROBE)
                answered, delivered = self._state_of(replica)
                if answered != before[0] or (delivered != before[1] and time.monotonic() - began >= RECOUNT):
                    break

    def _state_of(self, replica: Replica) -> tuple[bool, int]:
        return self.parts.replicas.answers(replica.name), self._deliverers[replica.name].delivered

    async def _count(self, replica: Replica) -> None:
        usage = None
        with contextlib.suppress(MemoryTierError):  # its probe tells why
            usage = await replica.usage() if self.parts.replicas.answers(replica.name) else None
        self._usage[replica.name] = usage

    async def sweep(self) -> None:
        """Remove what has expired, write down what was used, keep the disk below its limit. Raises StoreError."""
        if self.parts.trust.believed():
            await self._remove_what_is_over()
        for deliverer in self._deliverers.values():
            deliverer.wake()
        await self.parts.edge.used(self._reader.take_touched())

    async def _remove_what_is_over(self) -> None:
        now = self.parts.clock.wall()
        while self.parts.trust.believed() and (expired := await self.parts.ledger.expired(now, 500)):
            for row in expired:
                await expire(self.parts, row)
        for row in await self.parts.ledger.old_tombstones(now - TOMBSTONES_KEPT, 500):
            await self.parts.edge.drop_tombstone(row)
        if abs(now - self._believed_at) > BELIEVED_EVERY:
            await self.parts.ledger.believe(now)
            self._believed_at = now

    async def health(self) -> HealthReport:
        """As bad as its worst tier; an absent one is told."""
        if (error := self._disk_error or self._disk.error) is not None:
            return HealthReport(Health.unhealthy, error.message, error.next_step)
        tiers = self._tiers()
        worst = max(tiers, key=lambda tier: WORST[tier.health])
        owed = sum(tier.owed for tier in tiers)
        told = ", ".join(f"{tier.name} {tier.health.value}" for tier in tiers)
        health = Health.degraded if worst.health in {Health.degraded, Health.unhealthy} else Health.healthy
        if health is Health.healthy:
            return HealthReport(health, told, details={"owed": owed})
        return HealthReport(health, f"{worst.name}: {worst.reason} ({told}; {owed} owed)", worst.next_step, {"owed": owed})

    async def show(self) -> None:
        """Probe tier 1 and the local disk, and put everything into the live state."""
        await self.parts.front.probe()
        await self._look_at_disk()
        stats = self.memory.stats
        status = MemoryStatus(
            tiers=self._tiers(), hits=stats.hits, misses=stats.misses, fetches=self._reader.fetches,
            coalesced=self._reader.coalesced, corrupt=self._reader.corrupt, conflicts=self._conflicts,
            p50_ms=stats.milliseconds(0.5), p99_ms=stats.milliseconds(0.99),
        )  # fmt: skip
        self._state.put(Section.memory, status)
        self._state.put(Section.sync, tuple(self.synchroniser.runs.values()))
        self._state.put(Section.sync_totals, self.synchroniser.totals())

    async def _look_at_disk(self) -> None:
        """A failing one is shown, with the numbers of before."""
        try:
            await self.parts.edge.store.probe(ANSWER)
            await self._evictor.refresh()
            self._owed = await self.parts.ledger.counts()
            self._evictions = await evictions(self.parts.edge.store)
            self._conflicts = await self.parts.ledger.count_conflicts()
            self._damaged = await self.parts.edge.damage.still(self.parts.edge.row)
            self._disk_error = None
        except StoreError as error:
            if self._disk_error is None:
                log.error("the memory's disk fails: %s", error.message)
            self._disk_error = error

    def _tiers(self) -> tuple[TierStatus, ...]:
        owed = self._owed
        tiers = [self._front_status(), self._disk_status()]
        now = self.parts.clock.wall()
        for name, replica in self.parts.replicas.tiers.items():
            report, usage, debts = self.parts.replicas.reports[name], self._usage.get(name), owed.get(name)
            oldest, quota = debts.oldest if debts else None, self._deliverers[name].quota
            tiers.append(TierStatus(
                name=name, level=replica.level, health=report.health, reason=report.reason, next_step=report.next_step,
                entries=usage.entries if usage else None, size=usage.size if usage else None,
                limit=quota.room.limit if quota else None, evictions=self._evictions.get(name, 0),
                owed=debts.waiting if debts else 0, oldest_owed_s=None if oldest is None else max(0.0, now - oldest),
                **counted(self.parts.replicas.stats[name]),
            ))  # fmt: skip
        return tuple(tiers)

    def _front_status(self) -> TierStatus:
        front = self.parts.front
        report = front.report()
        details = report.details
        return TierStatus(
            name=front.tier.name, level=1, health=report.health, reason=report.reason, next_step=report.next_step,
            size=details.get("used_memory"), limit=details.get("maxmemory") or None, evictions=front.tier.evictions(),
            owed=0, **counted(front.stats),
        )  # fmt: skip

    def _disk_status(self) -> TierStatus:
        totals, room, behind = self._evictor.totals, self._evictor.room, self.parts.behind
        error = self._disk_error or self._disk.error or behind.error or self._disk.refused
        if error is None and self._damaged:
            error = _damage(self._damaged)
        full = isinstance(error, (TierFullError, CorruptRecordError))
        health = Health.healthy if error is None else Health.degraded if full else Health.unhealthy
        reason = (
            error.message
            if error
            else f"{100 * totals.stored / room.limit:.0f} % of {room.limit // 1048576} MiB, {room.policy}"
        )
        return TierStatus(
            name="disk", level=2, health=health, reason=reason, next_step=error.next_step if error else "",
            entries=totals.entries, size=totals.stored, limit=room.limit, evictions=totals.evictions,
            owed=len(behind.waiting), **counted(self._reader.stats),
        )  # fmt: skip


def _damage(keys: Sequence[str]) -> CorruptRecordError:
    """What is wrong where copies cannot be read."""
    what = f"The disk's copy of {keys[0]} is" if len(keys) == 1 else f"{len(keys)} copies on the disk, {keys[0]} first, are"
    return CorruptRecordError(f"{what} damaged.", "write it again, or delete it; check the disk.")


def counted(stats: TierStats) -> dict[str, Any]:
    """Counters for a TierStatus."""
    return {
        "hits": stats.hits, "misses": stats.misses, "errors": stats.errors,
        "p50_ms": stats.milliseconds(0.5), "p99_ms": stats.milliseconds(0.99),
    }  # fmt: skip

"""Keeps the outbox within its bounds: what goes to disk and when, what is given up, and what is told of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, NamedTuple, TypeVar

from appliance.core.figures import counted
from appliance.core.model import Health, HealthReport
from appliance.core.outbox import Outbox
from appliance.core.ports import Clock
from appliance.core.streams.ages import AgeClock
from appliance.core.streams.model import Priority
from appliance.core.streams.ring import BLOCK, Ring
from appliance.core.streams.sender import Sender
from appliance.core.streams.sources import KAFKA
from appliance.core.streams.spill import Spill
from appliance.errors import StoreError
from appliance.settings import OutboxSettings

log = logging.getLogger(__name__)

Upto = TypeVar("Upto")

TICK = 0.5
"""Seconds between looks."""
HIGH, LOW = 0.75, 0.5
"""Parts of the ring: above the one it goes to disk whatever the link says, until it is below the other."""
LINGER = 60.0
"""Seconds for which something stays in memory alone while Kafka does not answer: one write a minute wears no card."""
AGAIN = 5.0
"""Seconds until a disk is tried again that failed."""
SAVE = 5.0
"""Seconds between writings of the cursors, where they moved."""
CLEAN = 60.0
"""Seconds between looks at ages and bounds."""
RECENT = 600.0
"""Seconds for which a drop is told."""


class Behind(NamedTuple, Generic[Upto]):
    """Steps of the clock that are not written down in a file.

    Attributes:
        seconds: All of them together.
        upto: What came up to this number carries the clock of before.
    """

    seconds: float
    upto: Upto


class Recent:
    """Whether a count grew a short time ago.

    Args:
        clock: For the monotonic clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.begin(0)

    def begin(self, count: int) -> None:
        """This much is nothing new."""
        self._count, self._grew = count, float("-inf")

    def look(self, count: int) -> bool:
        """Whether it grew within the last RECENT seconds, as far as it was looked at."""
        if count > self._count:
            self._count, self._grew = count, self._clock.monotonic()
        return self._clock.monotonic() - self._grew < RECENT


class Keeper:
    """The housekeeping.

    Args:
        journal: The durable part.
        spill: The part on disk.
        ring: The part that is not durable.
        sender: Says whether Kafka takes messages.
        clock: Both clocks.
        settings: Bounds.
        damaged: Called with every error of the disk.
    """

    def __init__(
        self, journal: Outbox, spill: Spill, ring: Ring, sender: Sender, clock: Clock, settings: OutboxSettings,
        damaged: Callable[[StoreError], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._journal = journal
        self._spill = spill
        self._ring = ring
        self._sender = sender
        self._clock = clock
        self._byte_limit = settings.disk_mib * 1024 * 1024
        self._age_limit = settings.max_age_hours * 3600
        self._damaged = damaged
        self._kick = asyncio.Event()
        self._rounds = asyncio.Condition()
        self._lock = asyncio.Lock()
        self._ages = AgeClock(clock, None)
        self._first = (0, dict.fromkeys(Priority, 0))
        self._journal_behind: Behind[int] = Behind(0.0, 0)
        self._spill_behind: Behind[Mapping[Priority, int]] = Behind(0.0, {})
        self._running = False
        self._saved_at = self._cleaned_at = self._retry_at = 0.0
        self.tick = TICK
        self._losing = Recent(clock)
        self.link_down = False
        """As the link says; the sender knows for itself after its next try."""
        self.error: StoreError | None = None
        """Why the disk does not take what waits; None again after it did."""

    async def begin(self) -> None:
        """After the file was opened. Raises StoreError."""
        backlog = await self._journal.backlog(KAFKA)
        known = [each.since for each in backlog.values()] + [each.until for each in self._spill.totals.values()]
        self._ages = AgeClock(self._clock, max((since for since in known if since is not None), default=None))
        self._first = (self._journal.head, {each: total.last for each, total in self._spill.totals.items()})
        self._cleaned_at = self._clock.monotonic()
        self._losing.begin(self._all_dropped())

    async def run(self) -> None:
        """Until cancelled."""
        self._running = True
        try:
            while True:
                self._kick.clear()
                await self.round()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.tick):
                        await self._kick.wait()
        finally:
            self._running = False
            await self._told()

    async def room(self) -> None:
        """See StreamOutbox.room."""
        while self._running and self._ring.bytes > HIGH * self._ring.limit and self.error is None:
            self._kick.set()
            async with self._rounds:
                await self._rounds.wait()

    async def _told(self) -> None:
        async with self._rounds:
            self._rounds.notify_all()

    async def round(self) -> None:
        """Look once at everything."""
        async with self._lock:
            if self.error is not None and self._clock.monotonic() < self._retry_at:
                await self._told()
                return
            try:
                await self._to_disk()
                await self._clean()
                self.error = None
            except StoreError as error:
                if self.error is None:
                    log.error("what waits for Kafka cannot go to disk: %s", error.message)
                self.error = error
                self._retry_at = self._clock.monotonic() + AGAIN
                await self._damaged(error)
        await self._told()

    async def _to_disk(self) -> None:
        if self._ring.bytes > HIGH * self._ring.limit:
            for priority in reversed(Priority):
                while self._ring.bytes > LOW * self._ring.limit and self._ring.in_memory(priority):
                    await self._ring.spill(priority)
        if self.error is None and not (self.link_down or self._sender.down or self._sender.paused):
            return
        for priority in Priority:
            age = self._ring.oldest(priority)
            if age is not None and (age >= LINGER or self._ring.bytes_of(priority) >= BLOCK):
                await self._ring.spill(priority)

    async def _clean(self) -> None:
        now = self._clock.monotonic()
        if now - self._saved_at >= SAVE:
            self._saved_at = now
            await self._journal.save_places()
        if self._spill.bytes:
            await self._bound()
        if now - self._cleaned_at >= CLEAN:
            self._cleaned_at = now
            await self._by_age()
            await self._ring.tidy()
            await self._spill.save_counts()

    async def _bound(self) -> None:
        """The journal has a bound of its own; what it leaves is for the others."""
        if self._spill.bytes + self._journal.bytes <= self._byte_limit:
            return
        waiting = sum(each.bytes for each in (await self._journal.backlog(KAFKA)).values())
        excess = self._spill.bytes + waiting - self._byte_limit
        if excess > 0:
            async with self._ring.steady() as held:
                await self._spill.trim(excess, held)

    async def _by_age(self) -> None:
        await self._date_anew()
        await self._ring.expire(self._age_limit)
        if self._ages.trusted:
            before = self._clock.wall() - self._age_limit
            backlog = await self._journal.backlog(KAFKA)
            if any(each.since is not None and each.since < before for each in backlog.values()):
                await self._journal.expire(before)
            async with self._ring.steady() as held:
                await self._spill.expire(before, held)

    async def _date_anew(self) -> None:
        """Where the clock was stepped; what a failing disk does not take is done later, and nothing expires before."""
        if step := self._ages.look():
            log.warning("the clock was stepped by %.0f s: what waits is dated anew", step)
            self._journal_behind = Behind(self._journal_behind.seconds + step, self._journal.head)
            lasts = {each: total.last for each, total in self._spill.totals.items()}
            self._spill_behind = Behind(self._spill_behind.seconds + step, lasts)
        if self._journal_behind.seconds:
            await self._journal.shift(self._first[0], self._journal_behind.upto, self._journal_behind.seconds)
            self._journal_behind = Behind(0.0, 0)
        if self._spill_behind.seconds:
            await self._spill.shift(self._first[1], self._spill_behind.upto, self._spill_behind.seconds)
            self._spill_behind = Behind(0.0, {})

    def _all_dropped(self) -> int:
        return sum(self._journal.dropped_of(KAFKA).values()) + sum(self._spill.dropped.values())

    def health(self, lost: str, lost_at: float) -> HealthReport:
        """See StreamOutbox.health."""
        dropped = self._all_dropped()
        losing = self._losing.look(dropped)
        details = {"dropped": dropped, "quarantined": self._spill.quarantined}
        if self.error is not None:
            reason = f"what waits for Kafka stays in memory: {self.error.message} {counted(dropped, 'event')} given up"
            return HealthReport(Health.degraded, reason, self.error.next_step, details)
        if lost and self._clock.monotonic() - lost_at < RECENT:
            return HealthReport(Health.degraded, lost, "check the disk; nothing has to be done for the outbox.", details)
        if losing:
            reason = f"a bound of the outbox is reached: {counted(dropped, 'event')} given up, the lowest class first"
            return HealthReport(Health.degraded, reason, "bring Kafka back, or raise outbox.disk_mib.", details)
        where = "on disk" if self._spill.bytes else "in memory"
        return HealthReport(Health.healthy, f"what is not durable waits {where}", details=details)

"""What goes through the balancer: which replicas get which share, and what was really counted of each version."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field

from appliance.core.deploy.balancer import Balancer
from appliance.core.deploy.haproxy import Front, Stat, replica_of
from appliance.core.deploy.policy import Counted
from appliance.core.ports import Clock
from appliance.errors import ApplianceError

log = logging.getLogger(__name__)

WINDOW = 15.0
"""Seconds over which rates are reckoned."""
LOOKS = 240
"""Looks that are kept for that."""
OLD = 30.0
"""Seconds after which a look says nothing of now."""


@dataclass
class Count:
    """What was counted of one service.

    Attributes:
        totals: Revision → counted since the service is known in this life of the appliance.
        origin: The same when the newest rollout began.
        base: The same at the last change of the shares.
        looks: (monotonic instant, requests of all versions).
        by_revision: Revision → (monotonic instant, requests).
    """

    totals: dict[int, Counted] = field(default_factory=dict)
    origin: dict[int, Counted] = field(default_factory=dict)
    base: dict[int, Counted] = field(default_factory=dict)
    looks: deque[tuple[float, dict[int, int]]] = field(default_factory=lambda: deque(maxlen=LOOKS))


def revision_of(server: str) -> int:
    """Of a server by its name; 0 where it is none of ours."""
    head = server.partition(".")[0].removeprefix("r")
    return int(head) if head.isdigit() else 0


def _more(now: dict[int, Counted], before: dict[int, Counted]) -> dict[int, Counted]:
    """What came since."""
    return {
        revision: Counted(each.requests - old.requests, each.errors - old.errors)
        for revision, each in now.items()
        for old in [before.get(revision, Counted())]
    }


class Traffic:
    """Directs and counts.

    Args:
        balancer: Does it.
        clock: For rates.
    """

    def __init__(self, balancer: Balancer, clock: Clock) -> None:
        self.balancer = balancer
        self._clock = clock
        self._lock = asyncio.Lock()
        self._fronts: dict[str, Front] = {}
        self._applied: dict[str, Front] | None = None
        self._counts: dict[str, Count] = {}
        self._last: dict[tuple[str, str], Stat] = {}
        self._refused: dict[str, ApplianceError] = {}
        self._seen: float | None = None
        """Monotonic instant of the last look; None while nothing is told."""

    def set(self, service: str, front: Front | None) -> None:
        """What a service wants from now on; `sync` makes it so."""
        if front is None:
            self._fronts.pop(service, None)
        else:
            self._fronts[service] = front

    def unsettled(self) -> bool:
        """Whether something was set that is not so yet."""
        return self._applied != self._fronts

    async def sync(self) -> None:
        """Make it so, as far as `problem` has nothing against it. Raises AbsentError, DeployError."""
        async with self._lock:
            if not self.unsettled():
                return
            await self._look()  # what goes is counted before it is gone
            wanted = dict(self._fronts)
            self._applied = None
            self._refused = await self.balancer.apply(list(wanted.values()))
            self._applied = {name: front for name, front in wanted.items() if name not in self._refused}

    def problem(self, service: str) -> ApplianceError | None:
        """Why one service is not served as it is set, since the last `sync`; None where it is."""
        return self._refused.get(service)

    async def stop(self) -> None:
        """End the balancer; whoever begins anew begins with nothing."""
        async with self._lock:
            await self.balancer.stop()
            self._fronts, self._applied, self._last, self._refused = {}, None, {}, {}
            self._blind()

    async def look(self) -> None:
        """Count; one that does not answer is started anew with what it had."""
        async with self._lock:
            if self._fronts and not await self._look():
                self._applied = None

    async def _look(self) -> bool:
        try:
            stats = await self.balancer.stats()
        except ApplianceError as error:
            log.warning("the balancer's counts are not known: %s", error.message)
            self._blind()
            return False
        now = self._clock.monotonic()
        for (service, server), stat in stats.items():
            self._add(service, server, stat)
        self._last, self._seen = stats, now
        for service in {service for service, _ in stats}:
            count = self._counts.setdefault(service, Count())
            count.looks.append((now, {revision: each.requests for revision, each in count.totals.items()}))
        return True

    def _blind(self) -> None:
        """Nothing is told: rates and latency are not known, and begin anew."""
        self._seen = None
        for count in self._counts.values():
            count.looks.clear()

    def _add(self, service: str, server: str, stat: Stat) -> None:
        """Count what came since the last look; a worker that was started anew counts from 0."""
        revision = revision_of(server)
        before = self._last.get((service, server))
        fresh = before is None or stat.requests < before.requests
        requests = stat.requests - (0 if fresh or before is None else before.requests)
        errors = max(0, stat.errors - (0 if fresh or before is None else before.errors))
        totals = self._counts.setdefault(service, Count()).totals
        known = totals.get(revision, Counted())
        totals[revision] = Counted(known.requests + requests, known.errors + errors)

    # -- what was counted

    def begin(self, service: str) -> None:
        """A rollout begins: `meanwhile` and `since` count from here."""
        count = self._counts.setdefault(service, Count())
        count.origin = count.base = dict(count.totals)

    def mark(self, service: str) -> None:
        """The shares change now: `since` counts from here."""
        count = self._counts.setdefault(service, Count())
        count.base = dict(count.totals)

    def meanwhile(self, service: str) -> dict[int, Counted]:
        """Revision → what was counted since the newest rollout began, or since the appliance was started."""
        count = self._counts.get(service)
        return _more(count.totals, count.origin) if count is not None else {}

    def since(self, service: str) -> dict[int, Counted]:
        """Revision → what was counted since the last `mark`."""
        count = self._counts.get(service)
        return _more(count.totals, count.base) if count is not None else {}

    def rates(self, service: str, window: float = WINDOW) -> dict[int, float]:
        """Revision → requests a second over the last seconds; empty where nothing was counted for long enough.

        Args:
            service: Its name.
            window: So many seconds.
        """
        count = self._counts.get(service)
        if count is None or len(count.looks) < 2:
            return {}
        newest, counted = count.looks[-1]
        if self._clock.monotonic() - newest > OLD:
            return {}
        oldest, before = next(look for look in count.looks if newest - look[0] <= window)
        if newest - oldest < 0.5:
            return {}
        return {revision: (now - before.get(revision, 0)) / (newest - oldest) for revision, now in counted.items()}

    def rate(self, service: str, window: float = WINDOW) -> float | None:
        """Requests a second over so many seconds, all versions; None where it is not known."""
        rates = self.rates(service, window)
        return sum(rates.values()) if rates else None

    def sessions(self, service: str, server: str) -> int | None:
        """Requests that are open at a replica's servers; None where nobody knows."""
        known = [stat for (name, each), stat in self._last.items() if name == service and replica_of(each) == server]
        return sum(stat.sessions for stat in known) if known else None

    def latency(self, service: str) -> float | None:
        """Mean milliseconds of an answer; None where nobody knows."""
        if self._seen is None or self._clock.monotonic() - self._seen > OLD:
            return None
        known = [stat.latency_ms for (name, _), stat in self._last.items() if name == service and stat.latency_ms is not None]
        return sum(known) / len(known) if known else None

    def shares(self, service: str) -> dict[str, float]:
        """Server, by its replica → percent that it is given now."""
        front, found = (self._applied or {}).get(service), dict[str, float]()
        for each in front.servers if front is not None else ():
            name = replica_of(each.name)
            found[name] = found.get(name, 0.0) + (0.0 if each.draining else each.share)
        return found

    def forget(self, service: str) -> None:
        """A service is gone."""
        self._fronts.pop(service, None)
        self._counts.pop(service, None)

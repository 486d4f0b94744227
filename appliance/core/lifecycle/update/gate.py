"""Whether a system on trial is found healthy: a policy without a clock of its own, a device or a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec

from appliance.core.lifecycle.update.model import Waiting
from appliance.core.model import Health, Phase, ServiceStatus

OURSELVES = "update"
"""The service that looks: it is not well while a trial runs, which must not hold the trial."""
RANK = {Health.healthy: 2, Health.degraded: 1, Health.absent: 0, Health.unhealthy: 0}
PATIENCE = 180.0
"""Seconds that a service which became only degraded holds a trial: peers, brokers and lines out there need a while to come back
after a start, and may have gone for reasons of their own. WireGuard's sessions last as long."""
UNSETTLED = {Phase.waiting, Phase.starting, Phase.retrying, Phase.stopping}


class Verdict(StrEnum):
    """What is to be done now."""

    wait = "wait"
    commit = "commit"
    give_up = "give_up"


class Look(msgspec.Struct, frozen=True):
    """One look at all services."""

    verdict: Verdict
    steady: float
    """Seconds that all has been well without a break."""
    left: float
    """Seconds until it is given up."""
    holds: tuple[Waiting, ...]
    """What is not well now; where it is given up, what was not."""
    lacking: tuple[Waiting, ...] = ()
    """What is degraded, was healthy before, and holds nothing any more."""


def baseline(services: Iterable[ServiceStatus]) -> dict[str, str]:
    """How each service is before an update, to be kept until its trial."""
    return {each.name: each.health.value for each in services if each.name != OURSELVES}


def network(connected: bool) -> ServiceStatus:
    """The network as one more service: a new system that has no driver for it must not be kept where the former one had."""
    if connected:
        return ServiceStatus("network", "Network", Phase.running, Health.healthy, "connected")
    step = "look at the cable, then at: networkctl"
    return ServiceStatus("network", "Network", Phase.running, Health.absent, "no interface has an address", step)


def holds(services: Iterable[ServiceStatus], before: Mapping[str, str], worst: Health = Health.healthy) -> tuple[Waiting, ...]:
    """What keeps a trial from being committed.

    A service must be at least as well as it was before the update: what was absent, degraded or unhealthy then may be so now.
    One that is new must be up and not unhealthy. One that is not there any more holds nothing.

    Args:
        services: As they are.
        before: Health of each by its name, as `baseline` had it.
        worst: What is asked of those that were healthy: to be so, or to be no worse than degraded.
    """
    return tuple(
        Waiting(each.name, each.reason, each.next_step)
        for each in services
        if each.name != OURSELVES and not _well(each, before.get(each.name), worst)
    )


def _well(now: ServiceStatus, before: str | None, worst: Health) -> bool:
    if before is None or before not in set(Health):
        return now.health is not Health.unhealthy and now.phase not in UNSETTLED
    if RANK[now.health] < min(RANK[Health(before)], RANK[worst]):
        return False
    return now.phase not in UNSETTLED or Health(before) in {Health.absent, Health.unhealthy}


class Gate:
    """Looks until all was well for long enough, or the time is over.

    Args:
        before: Health of each service before the update.
        needed: Seconds that all must be well without a break.
        limit: Seconds after which it is given up.
        begun: When it began. All times are of one clock that never jumps (CLOCK_MONOTONIC), so that setting the wall clock
            neither commits nor ends a trial.
    """

    def __init__(self, before: Mapping[str, str], needed: float, limit: float, begun: float) -> None:
        self._before = before
        self._needed = needed
        self._ends = begun + limit
        self._patient_until = begun + min(PATIENCE, limit / 2)
        self._well_since: float | None = None
        self._last: tuple[Waiting, ...] = ()

    def look(self, services: Iterable[ServiceStatus], now: float) -> Look:
        """Judge what is seen at this moment."""
        found = tuple(services)
        lacking = holds(found, self._before)
        bad = lacking if now < self._patient_until else holds(found, self._before, Health.degraded)
        if not found:
            bad = (Waiting("services", "none of them has told anything yet"),)
        if bad:
            self._well_since, self._last = None, bad
        elif self._well_since is None:
            self._well_since = now
        steady = 0.0 if self._well_since is None else now - self._well_since
        left = max(0.0, self._ends - now)
        if not bad and steady >= self._needed:
            return Look(Verdict.commit, steady, left, (), lacking)
        if left <= 0:
            return Look(Verdict.give_up, steady, left, bad or self._last)
        return Look(Verdict.wait, steady, left, bad, () if bad else lacking)


def told(look: Look, minutes: float) -> str:
    """Why a trial was given up, in a sentence."""
    if not look.holds:
        return f"it was not well long enough within {minutes:g} min"
    return _few(look.holds)


def kept(slot: str, lacking: tuple[Waiting, ...]) -> str:
    """Why a trial was kept, with what is not as well as before, in a sentence."""
    return f"slot {slot} was found healthy" + (f", although degraded: {_few(lacking)}" if lacking else "")


def _few(waiting: tuple[Waiting, ...]) -> str:
    rest = f" and {len(waiting) - 3} more" if len(waiting) > 3 else ""
    return "; ".join(f"{each.service}: {each.reason}" for each in waiting[:3]) + rest

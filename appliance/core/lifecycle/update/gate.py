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


def baseline(services: Iterable[ServiceStatus]) -> dict[str, str]:
    """How each service is before an update, to be kept until its trial."""
    return {each.name: each.health.value for each in services if each.name != OURSELVES}


def holds(services: Iterable[ServiceStatus], before: Mapping[str, str]) -> tuple[Waiting, ...]:
    """What keeps a trial from being committed.

    A service must be at least as well as it was before the update: what was absent, degraded or unhealthy then may be so now.
    One that is new must not be unhealthy. One that is not there any more holds nothing.

    Args:
        services: As they are.
        before: Health of each by its name, as `baseline` had it.
    """
    return tuple(
        Waiting(each.name, each.reason, each.next_step)
        for each in services
        if each.name != OURSELVES and not _well(each, before.get(each.name))
    )


def _well(now: ServiceStatus, before: str | None) -> bool:
    if before is None or before not in set(Health):
        return now.health is not Health.unhealthy
    if RANK[now.health] < RANK[Health(before)]:
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
        self._well_since: float | None = None
        self._last: tuple[Waiting, ...] = ()

    def look(self, services: Iterable[ServiceStatus], now: float) -> Look:
        """Judge what is seen at this moment."""
        found = tuple(services)
        bad = holds(found, self._before) if found else (Waiting("services", "none of them has told anything yet"),)
        if bad:
            self._well_since, self._last = None, bad
        elif self._well_since is None:
            self._well_since = now
        steady = 0.0 if self._well_since is None else now - self._well_since
        left = max(0.0, self._ends - now)
        if not bad and steady >= self._needed:
            return Look(Verdict.commit, steady, left, ())
        if left <= 0:
            return Look(Verdict.give_up, steady, left, bad or self._last)
        return Look(Verdict.wait, steady, left, bad)


def told(look: Look, minutes: float) -> str:
    """Why a trial was given up, in a sentence."""
    if not look.holds:
        return f"it was not well long enough within {minutes:g} min"
    rest = f" and {len(look.holds) - 3} more" if len(look.holds) > 3 else ""
    return "; ".join(f"{each.service}: {each.reason}" for each in look.holds[:3]) + rest

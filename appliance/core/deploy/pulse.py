"""Whether a replica is healthy, from single checks: with hysteresis, so that one failure and one success mean little."""

from __future__ import annotations

import msgspec

from appliance.core.deploy.model import Fitness
from appliance.core.deploy.spec import Health

WINDOW = 600.0
"""Seconds over which changes are counted."""
RECENT = 10
"""Checks over which the share of failures counts, in a row or not."""


class Pulse(msgspec.Struct, frozen=True):
    """What the checks of one replica said so far."""

    fitness: Fitness = Fitness.unknown
    since: float = 0.0
    """Monotonic instant from which it has been so."""
    began: float | None = None
    """Monotonic instant of its start; None where it runs from before: then nothing is forgiven."""
    good: int = 0
    bad: int = 0
    """In a row."""
    recent: tuple[bool, ...] = ()
    changes: tuple[float, ...] = ()
    """Monotonic instants of changes between healthy and unhealthy."""
    reason: str = ""

    def flaps(self, now: float) -> int:
        """Changes of the last ten minutes."""
        return sum(now - at <= WINDOW for at in self.changes)


def started(now: float) -> Pulse:
    """Of a replica that was started just now."""
    return Pulse(Fitness.starting, now, now)


def beat(pulse: Pulse, fault: str, now: float, health: Health) -> Pulse:
    """Take a check into account.

    Args:
        pulse: So far.
        fault: What was wrong; empty where all was well.
        now: Monotonic.
        health: The rules.

    Returns:
        The pulse with this check.
    """
    young = pulse.fitness is Fitness.starting and pulse.began is not None and now - pulse.began < health.start_period
    if fault and young:
        return msgspec.structs.replace(pulse, good=0, reason=fault)
    recent = (*pulse.recent, not fault)[-RECENT:]
    counts = {"recent": recent, "good": 0 if fault else pulse.good + 1, "bad": pulse.bad + 1 if fault else 0}
    changes = tuple(at for at in pulse.changes if now - at <= WINDOW)
    noted = msgspec.structs.replace(pulse, **counts, changes=changes, reason=fault)
    fitness, reason = _judged(noted, now, health)
    if fitness is pulse.fitness:
        return msgspec.structs.replace(noted, reason=reason)
    crossed = {fitness, pulse.fitness} == {Fitness.healthy, Fitness.unhealthy}
    return msgspec.structs.replace(
        noted, fitness=fitness, since=now, reason=reason, changes=(*changes, now)[-1000:] if crossed else changes
    )


def _judged(pulse: Pulse, now: float, health: Health) -> tuple[Fitness, str]:
    failed = pulse.recent.count(False)
    often = len(pulse.recent) == RECENT and failed * 2 >= RECENT
    if pulse.fitness is Fitness.unhealthy:
        if pulse.flaps(now) >= health.flaps:
            return Fitness.unhealthy, f"it flaps: {pulse.flaps(now)} changes within ten minutes"
        if pulse.good >= health.rise and not often:
            return Fitness.healthy, ""
        return Fitness.unhealthy, pulse.reason or f"{pulse.good} of {health.rise} checks went well again"
    if pulse.bad >= health.retries:
        return Fitness.unhealthy, f"{pulse.bad} checks in a row failed: {pulse.reason}"
    if often:
        return Fitness.unhealthy, f"{failed} of the last {RECENT} checks failed{f': {pulse.reason}' if pulse.reason else ''}"
    if pulse.good:
        return Fitness.healthy, ""
    return pulse.fitness, pulse.reason

"""How many replicas, by load and by the clock. Pure: readings in, a number with its reason out."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping

import msgspec

from appliance.core.deploy.spec import DAYS, Scaling, Schedule


class Memory(msgspec.Struct, frozen=True):
    """What is remembered between two decisions."""

    changed: float | None = None
    """Monotonic instant of the last change; None before the first."""
    lower: tuple[tuple[float, int], ...] = ()
    """(monotonic instant, wish) of the looks since the load has been low without a break."""


PER_SERVICE = frozenset({"requests_per_second"})
"""Metrics of all replicas together: a target for them is meant for each replica."""


class Verdict(msgspec.Struct, frozen=True):
    """The decision."""

    replicas: int
    reason: str
    memory: Memory
    held_s: float | None = None
    """Seconds until a cooldown lets more happen."""


def bounds(scaling: Scaling, moment: dt.datetime) -> tuple[int, int, str]:
    """Least and most replicas at a moment, and which schedule says so; schedules that overlap give the larger of each."""
    holding = [each for each in scaling.schedule if _holds(each, moment)]
    if not holding:
        return scaling.least, scaling.most, ""
    least = max(each.least for each in holding)
    most = max(least, *(each.most if each.most is not None else scaling.most for each in holding))
    return least, most, f"schedule {holding[0].start:%H:%M} to {holding[0].end:%H:%M}"


def _holds(schedule: Schedule, moment: dt.datetime) -> bool:
    """A schedule whose end is before its start goes over midnight, and belongs to the day on which it begins."""
    now = moment.time().replace(tzinfo=None)
    today, before = DAYS[moment.weekday()], DAYS[moment.weekday() - 1]
    if schedule.start <= schedule.end:
        return today in schedule.days and schedule.start <= now < schedule.end
    return (today in schedule.days and now >= schedule.start) or (before in schedule.days and now < schedule.end)


def decide(
    scaling: Scaling,
    readings: Mapping[str, float | None],
    current: int,
    memory: Memory,
    now: float,
    moment: dt.datetime,
    serving: int | None = None,
) -> Verdict:
    """How many replicas there should be.

    Args:
        scaling: The rules.
        readings: Metric → value, averaged over the replicas; None where nobody told it.
        current: Replicas that are wanted now.
        memory: Of the decision before.
        now: Monotonic.
        moment: The same instant on the wall, in the appliance's time zone: for schedules alone.
        serving: Replicas that the readings are of, which may be fewer than are wanted; `current` where it is not given.

    Returns:
        The number, always within the bounds that hold, and why. Bounds count at once; load counts within cooldowns, and
        downwards only after it has been low for the whole cooldown, by the highest wish of that time.
    """
    least, most, because = bounds(scaling, moment)
    if not least <= current <= most:
        wanted = max(least, min(most, current))
        return Verdict(wanted, f"{because or 'the bounds'}: {least} to {most}", Memory(now))
    wish, reason, blind = _wish(scaling, readings, current, current if serving is None else serving)
    wish = max(least, min(most, wish))
    waited = math.inf if memory.changed is None else now - memory.changed
    if wish > current:
        memory = Memory(memory.changed)
        if waited < scaling.up_cooldown:
            return Verdict(current, f"{reason}; cooling down", memory, scaling.up_cooldown - waited)
        return Verdict(wish, reason, Memory(now))
    if wish == current or blind:
        told = f"{blind} is not known: nothing is taken away" if blind else reason
        return Verdict(current, told, Memory(memory.changed))
    return _down(scaling, current, wish, reason, memory, now, waited)


def _down(scaling: Scaling, current: int, wish: int, reason: str, memory: Memory, now: float, waited: float) -> Verdict:
    lower = (*((at, each) for at, each in memory.lower), (now, wish))[-2000:]
    low_for = now - lower[0][0]
    left = max(scaling.down_cooldown - low_for, scaling.down_cooldown - waited)
    if left > 0:
        return Verdict(current, f"{reason}; low for {low_for:.0f} s", Memory(memory.changed, lower), left)
    highest = max(each for _, each in lower)
    return Verdict(highest, reason, Memory(now))


def _wish(scaling: Scaling, readings: Mapping[str, float | None], current: int, serving: int) -> tuple[int, str, str]:
    """(replicas, why, a metric that is not known); the rule that wants most decides."""
    wishes: list[tuple[int, str]] = []
    blind = ""
    for target in scaling.target:
        value = readings.get(target.metric)
        if value is None or not serving:
            blind = blind or target.metric
            continue
        each = value / serving if target.metric in PER_SERVICE else value
        ratio = each / target.value
        near = abs(ratio - 1.0) <= target.tolerance
        told = f"{target.metric} {value:.4g}, target {target.value:g}"
        told += f" for each of {serving}" if target.metric in PER_SERVICE else ""
        wishes.append((current if near else math.ceil(round(serving * ratio, 6)), told))
    stepped, told, unknown = _steps(scaling, readings, current)
    blind = blind or unknown
    if told and (stepped != current or not wishes):
        wishes.append((stepped, told))
    if not wishes:
        return current, f"{blind} is not known" if blind else "the schedule alone decides", blind
    best = max(wishes, key=lambda each: each[0])
    return best[0], best[1], blind


def _steps(scaling: Scaling, readings: Mapping[str, float | None], current: int) -> tuple[int, str, str]:
    """The step that adds most; else the one that takes most away."""
    ups: list[tuple[int, str]] = []
    downs: list[tuple[int, str]] = []
    blind = told = ""
    for step in scaling.step:
        value = readings.get(step.metric)
        if value is None:
            blind = blind or step.metric
            continue
        told = f"{step.metric} {value:.4g}"
        if step.above is not None and value > step.above:
            ups.append((step.change, f"{told} is above {step.above:g}"))
        elif step.below is not None and value < step.below:
            downs.append((step.change, f"{told} is below {step.below:g}"))
    if ups:
        change, told = max(ups)
        return current + change, told, blind
    if downs:
        change, told = min(downs)
        return max(0, current + change), told, blind
    return current, told, blind

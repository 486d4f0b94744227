"""Which stages of the plan are due, why, and what would come next. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from appliance.core.power.model import Coming, Phase
from appliance.core.power.plan import ORDER, Plan, Stage
from appliance.core.power.policy import Limits

UNLOADED = frozenset({Phase.battery, Phase.low, Phase.critical, Phase.shutdown})
"""Phases in which the plan is carried out."""


class Figures(msgspec.Struct, frozen=True):
    """What conditions are held against. None is not known, and holds nothing."""

    phase: Phase
    percent: float | None = None
    left: float | None = None
    """Seconds, by the UPS or the trend."""
    on_battery: float = 0.0
    """Seconds."""


def due(plan: Plan, figures: Figures, needs: Sequence[float]) -> tuple[int, str]:
    """How many stages from the first on are due, and why the last of them is.

    Args:
        plan: The stages.
        figures: As they are now.
        needs: Seconds that each stage is expected to take.
    """
    if figures.phase not in UNLOADED:
        return 0, ""
    for index in range(len(plan.stages) - 1, -1, -1):
        if why := holds(plan.stages[index], figures) or early(plan, index, figures, needs):
            return index + 1, why
    return 0, ""


def holds(stage: Stage, figures: Figures) -> str:
    """Which of a stage's conditions holds, in words; empty for none."""
    if stage.phase is not None and figures.phase in ORDER and ORDER.index(figures.phase) >= ORDER.index(stage.phase):
        return f"the phase is {figures.phase}"
    if _below(figures.percent, stage.percent_below):
        return f"the charge is {figures.percent:.1f} %, below {stage.percent_below:g} %"
    if figures.left is not None and _below(figures.left / 60, stage.minutes_left_below):
        return f"{figures.left / 60:.1f} min are left, less than {stage.minutes_left_below:g}"
    if stage.on_battery_minutes is not None and figures.on_battery >= stage.on_battery_minutes * 60:
        return f"on battery for {stage.on_battery_minutes:g} min"
    return ""


def _below(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value < limit


def early(plan: Plan, index: int, figures: Figures, needs: Sequence[float]) -> str:
    """Why a stage begins before its condition holds: what is left is less than the plan needs from it on."""
    if figures.left is None or plan.stages[index].final:
        return ""
    needed = sum(needs[index:]) + plan.margin_seconds
    if figures.left >= needed:
        return ""
    return f"early: {figures.left:.0f} s are left, and the plan needs {needed:.0f} s from here on"


def coming(
    plan: Plan, done: int, figures: Figures, needs: Sequence[float], limits: Limits, slope: float | None
) -> list[Coming]:
    """What would happen next, and when.

    Args:
        plan: The stages.
        done: Stages that were begun.
        figures: As they are now.
        needs: Seconds that each stage is expected to take.
        limits: Of the policy.
        slope: Percent points that the charge falls by in a second; None where it is not known.
    """
    found = []
    for index in range(done, len(plan.stages)):
        stage = plan.stages[index]
        told = "; ".join(f"{step.do} {step.target}".strip() for step in stage.steps)
        needed = sum(needs[index:]) + plan.margin_seconds
        sooner = "" if stage.final else f", or less than {needed / 60:.1f} min are left"
        when = f"{stage.condition}{sooner}"
        at = _seconds_until(stage, index, figures, needed, limits, slope) if figures.phase in UNLOADED else None
        found.append(Coming(f"{stage.name}: {told}", when, at))
    return found


def _seconds_until(
    stage: Stage, index: int, figures: Figures, needed: float, limits: Limits, slope: float | None
) -> float | None:
    """The soonest that one of its conditions holds at the present rate; None where nothing says it."""
    at: list[float] = []
    thresholds = {Phase.low: limits.low, Phase.critical: limits.critical, Phase.shutdown: limits.critical}
    charge = [stage.percent_below] if stage.percent_below is not None else []
    if stage.phase in thresholds:
        charge.append(thresholds[stage.phase])
    if slope and figures.percent is not None:
        extra = limits.grace if stage.phase is Phase.shutdown else 0.0
        at += [max(0.0, (figures.percent - limit) / slope) + extra for limit in charge]
    if figures.left is not None:
        if stage.minutes_left_below is not None:
            at.append(max(0.0, figures.left - 60 * stage.minutes_left_below))
        if not stage.final:
            at.append(max(0.0, figures.left - needed))
    if stage.on_battery_minutes is not None:
        at.append(max(0.0, 60 * stage.on_battery_minutes - figures.on_battery))
    return min(at, default=None)

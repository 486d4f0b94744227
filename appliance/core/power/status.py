"""Puts together what screens and fronts see of the power."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from appliance.core.model import Health, HealthReport
from appliance.core.power.combine import Combined
from appliance.core.power.model import Phase, PowerStatus, RunState, Setting, Supply, UpsStatus
from appliance.core.power.policy import ON_BATTERY, Limits, PolicyState

EDGE_ONLY = frozenset({Phase.low, Phase.critical, Phase.shutdown})
MODES = {Phase.battery: "edge-first", **dict.fromkeys(EDGE_ONLY, "edge-only")}
"""Phase → how requests should be routed (contracts, section 4); mains leaves it as it is configured."""
HOW = {Setting.on_grid: "on-grid", Setting.off_grid: "off-grid"}


def edge_only(phase: Phase) -> bool | None:
    """Whether nothing may leave the edge; None where nobody knows."""
    return None if phase is Phase.unknown else phase in EDGE_ONLY


def routing(phase: Phase) -> str | None:
    """What the power asks of routing; None for nothing."""
    return MODES.get(phase)


def on_battery_seconds(state: PolicyState) -> float | None:
    """None while it is not on battery."""
    return state.on_battery if state.phase in ON_BATTERY else None


class Condition(msgspec.Struct, frozen=True):
    """What the health is judged by."""

    status: PowerStatus
    combined: Combined
    limits: Limits
    told: str = ""
    """Why events are not kept."""
    halt: str = ""
    """Why this machine cannot be halted."""
    sought: bool = True
    """UPSes were looked for at least once."""


def health(now: Condition) -> HealthReport:
    """Absent without a UPS; degraded on battery, or where something is to be mended; unhealthy below the limits or blind."""
    status = now.status
    if not status.upses:
        return _without(now)
    ours = [each for each in status.upses if each.feeds_us]
    lost = [each for each in ours if each.health is Health.unhealthy]
    if status.phase in {Phase.critical, Phase.shutdown}:
        return HealthReport(Health.unhealthy, f"{status.phase}: {status.reason}", "bring mains back; see the power plan.")
    if ours and len(lost) == len(ours):
        return HealthReport(Health.unhealthy, f"{lost[0].name}: {lost[0].reason}", lost[0].next_step)
    for fault, step in _faults(now, ours):
        if fault:
            return HealthReport(Health.degraded, fault, step)
    return HealthReport(Health.healthy, f"{status.phase}: {_charge(status)}{status.feeds}")


def _without(now: Condition) -> HealthReport:
    step = "connect a UPS, or say in [ups] where it is; `prime-spark doctor` looks for one."
    if now.combined.problem:
        return HealthReport(Health.unhealthy, now.combined.problem, now.combined.next_step)
    if now.status.setting is not Setting.auto:
        return HealthReport(Health.degraded, f"no UPS; the setting {now.status.setting} says how it is taken", step)
    if not now.sought:
        return HealthReport(Health.absent, "looking for a UPS", "wait a moment.")
    return HealthReport(Health.absent, "no UPS answers: on mains or not is unknown", step)


def _faults(now: Condition, ours: Sequence[UpsStatus]) -> Sequence[tuple[str, str]]:
    """What is wrong, the gravest first; empty texts for what is not."""
    status, plan = now.status, now.status.plan
    ill = next((each for each in ours if each.health is not Health.healthy), None)
    against = status.setting is Setting.on_grid and status.supply is Supply.battery
    battery = f"{status.phase}: {_charge(status)}{status.reason}" if status.phase in ON_BATTERY else ""
    return (
        ("the setting is on-grid, and the UPS feeds from its battery: nothing is done about it" * against,
         "prime-spark power mode auto"),
        (battery, "see what comes next: prime-spark power plan show"),
        (f"{ill.name}: {ill.reason}" if ill is not None else "", ill.next_step if ill is not None else ""),
        (now.combined.problem, now.combined.next_step),
        (plan.problem if plan is not None else "", "mend the plan: prime-spark power plan check"),
        (f"{status.phase}: {status.reason}" if status.phase is Phase.unknown else "", "see `prime-spark power status`."),
        (now.told, "look at the service store."),
        ("the Raspberry Pi tells of under-voltage" * (status.pi is not None and "under-voltage" in (status.pi.flags or ())),
         "use its own supply and a short cable; see the rails in `prime-spark power status`."),
        (now.halt, ""),
        (f"left over of the last outage: {'; '.join(plan.notes)}" if plan is not None and plan.notes and
         plan.state is RunState.ready else "", "see to it, then: prime-spark power acknowledge"),
    )  # fmt: skip


def _charge(status: PowerStatus) -> str:
    return "" if status.percent is None else f"{status.percent:.0f} %, "

"""What an outage would do: the real policy and the real plan, walked through looks that are made up. Nothing is done."""

from __future__ import annotations

import msgspec

from appliance.core.power import policy
from appliance.core.power.due import Figures, due
from appliance.core.power.model import Phase, Setting, Supply
from appliance.core.power.plan import Plan
from appliance.core.power.policy import Limits, PolicyState, Seen

LONGEST = 48 * 3600.0
"""Seconds that are looked ahead, at most."""
STEPS = 20_000
"""Looks that are made up, at most."""


class Assumed(msgspec.Struct, frozen=True):
    """Where the outage begins."""

    percent: float
    runtime: float
    """Seconds until the charge is at nothing."""
    percent_from: str
    """Where the figure comes from: "the UPS", "given"."""
    runtime_from: str


class Happening(msgspec.Struct, frozen=True):
    """Something that would happen."""

    at: float
    """Seconds after mains went."""
    what: str
    why: str
    percent: float
    minutes_left: float
    done_at: float | None = None
    """When it would have ended, by how long it takes."""


class Simulation(msgspec.Struct, frozen=True):
    """What an outage would do."""

    assumed: Assumed
    happenings: tuple[Happening, ...]
    verdict: str
    """In a sentence."""
    enough: bool | None = None
    """Whether the plan would be through before the charge is at nothing; None where it would not come to its end."""


def simulate(plan: Plan, needs: tuple[float, ...], limits: Limits, setting: Setting, assumed: Assumed) -> Simulation:
    """Walk an outage through; takes some hundred milliseconds, so it belongs in a thread.

    Args:
        plan: That would be carried out.
        needs: Seconds that each stage is expected to take.
        limits: Of the policy.
        setting: The operator's.
        assumed: Where the outage begins.
    """
    happenings: list[Happening] = []
    state, begun, busy = PolicyState(phase=Phase.grid, now=0.0), 0, 0.0
    ends = min(LONGEST, assumed.runtime)
    every = max(0.25, ends / STEPS)
    now = 0.0
    while now < ends:
        now += every
        percent = max(0.0, assumed.percent * (1 - now / assumed.runtime))
        left = assumed.runtime - now
        seen = Seen(Supply.battery, percent, left if assumed.runtime_from == "the UPS" else None)
        state, moved = policy.step(state, seen, setting, limits, now)
        happenings += [Happening(now, f"phase {each.after}", each.reason, percent, left / 60) for each in moved]
        count, why = due(plan, Figures(state.phase, percent, left, state.on_battery), needs)
        for index in range(begun, count):
            starts = max(now, busy)
            busy = starts + needs[index]
            happenings.append(Happening(starts, f"stage {plan.stages[index].name}", why, percent, left / 60, busy))
        begun = max(begun, count)
        if state.phase is Phase.shutdown and begun == len(plan.stages):
            break
    return Simulation(assumed, tuple(happenings), *_verdict(plan, begun, busy, setting, assumed))


def _verdict(plan: Plan, begun: int, busy: float, setting: Setting, assumed: Assumed) -> tuple[str, bool | None]:
    whole = f"{assumed.runtime / 60:.0f} min"
    if setting is Setting.on_grid:
        return "the setting is on-grid: nothing would be done, and the machine would lose its power", None
    if begun < len(plan.stages):
        return f"of {len(plan.stages)} stages {begun} would be begun before the charge is at nothing ({whole})", None
    spare = assumed.runtime - busy
    if spare < 0:
        short = f"the plan would be through {-spare:.0f} s after the charge is at nothing ({whole})"
        return f"{short}: raise critical_percent, or shorten the plan", False
    return f"the plan would be through after {busy / 60:.1f} min, {spare / 60:.1f} min before the charge is at nothing", True

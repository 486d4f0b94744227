"""The power policy: what was seen, and for how long, says which phase holds. A pure function; no timer, no clock of its own.

Time is evidence. An aim, that is the phase which the newest look asks for, must be held for its own time before it becomes the
phase; any look that asks for another one begins anew. Between two steps at most `GAP` seconds are credited, so a clock that
jumps, or a machine that slept, triggers nothing: somebody must have looked.

What happens where the UPS does not answer:

- from grid: unknown, after `unknown_after`; nobody says "on mains" any more.
- from battery or low: the phase is kept for `lost_after`, then unknown. Nothing is shut down by ignorance.
- from critical, where the last look was below the limits: it stays armed. The charge can only have fallen, and mains would
  show itself by a look; the shutdown follows after the grace.
- from shutdown: it goes on.
"""

from __future__ import annotations

import msgspec

from appliance.core.power.model import Level, Phase, Setting, Supply

GAP = 5.0
"""Most seconds between two steps that count as evidence."""
DEPTHS = (Phase.battery, Phase.low, Phase.critical)
ON_BATTERY = frozenset({Phase.battery, Phase.low, Phase.critical, Phase.shutdown})

SET = {Setting.on_grid: "the setting is on-grid", Setting.off_grid: "the setting is off-grid"}
SAYS = {Phase.grid: "the UPS says that mains is there", Phase.battery: "the UPS says that it feeds from its battery"}
"""Reasons of a phase: by the operator, and by the UPS."""


class Limits(msgspec.Struct, frozen=True):
    """When a phase becomes another one. Percent of the charge, and seconds."""

    low: float = 20.0
    critical: float = 10.0
    hysteresis: float = 3.0
    """So much above its limit the charge must be before low or critical is left without mains."""
    low_runtime: float = 300.0
    """Low where the UPS itself tells less; 0 takes no notice of it."""
    critical_runtime: float = 120.0
    longest: float = 0.0
    """Critical after so long on battery, whatever the charge; 0 for no such limit."""
    battery_after: float = 0.3
    """From mains, or unknown, to what the UPS says."""
    mains_after: float = 10.0
    """From battery back to grid."""
    level_after: float = 5.0
    """Between battery, low and critical."""
    unknown_after: float = 2.0
    lost_after: float = 30.0
    grace: float = 60.0
    """In critical, until the orderly shutdown."""


class Seen(msgspec.Struct, frozen=True):
    """What is believed of what feeds this machine."""

    supply: Supply = Supply.unknown
    """Unknown where nothing answers."""
    percent: float | None = None
    runtime: float | None = None
    """Seconds left, by the UPS's own word."""
    low: bool | None = None
    forced: bool = False


class PolicyState(msgspec.Struct, frozen=True):
    """Where the policy stands. Times are seconds of evidence, not moments."""

    phase: Phase = Phase.unknown
    now: float | None = None
    """The monotonic moment of the step that made it."""
    aim: Phase | None = None
    """What is being asked for, if it is not the phase."""
    aim_for: float = 0.0
    due: float | None = None
    """Seconds from `now` after which another step could change the phase, with nothing new seen."""
    on_battery: float = 0.0
    critical: float = 0.0
    """In the phase critical."""
    armed: bool = False
    """The last look that told something was below the limits of critical."""
    reason: str = "no UPS has told anything yet"
    """Of the phase."""


class Transition(msgspec.Struct, frozen=True):
    """The phase became another one."""

    before: Phase
    after: Phase
    reason: str


class Aim(msgspec.Struct, frozen=True):
    """What a look asks for."""

    phase: Phase
    after: float = 0.0
    """Seconds that it must be asked for."""
    reason: str = ""


def level_of(percent: float | None, limits: Limits) -> Level:
    """How full a battery is (contracts, section 4)."""
    if percent is None:
        return Level.unknown
    steps = ((95.0, Level.full), (70.0, Level.high), (limits.low, Level.normal), (limits.critical, Level.low))
    return next((level for least, level in steps if percent >= least), Level.critical)


def step(
    state: PolicyState, seen: Seen, setting: Setting, limits: Limits, now: float
) -> tuple[PolicyState, tuple[Transition, ...]]:
    """One step.

    Args:
        state: Where the policy stood.
        seen: The newest look.
        setting: What the operator wants.
        limits: When a phase becomes another one.
        now: Monotonic moment, seconds.

    Returns:
        Where it stands now, and the transition, if there was one.
    """
    elapsed = 0.0 if state.now is None else min(GAP, max(0.0, now - state.now))
    seen = off_grid(seen) if setting is Setting.off_grid else seen
    battery = state.on_battery + elapsed if state.phase in ON_BATTERY else 0.0
    critical = state.critical + elapsed if state.phase is Phase.critical else 0.0
    state = msgspec.structs.replace(state, now=now, on_battery=battery, critical=critical, armed=_armed(state, seen, limits))
    aim = Aim(Phase.grid, 0.0, SET[setting]) if setting is Setting.on_grid else _aim(state, seen, limits)
    if setting is Setting.off_grid and aim.phase is Phase.battery and state.phase in {Phase.grid, Phase.unknown}:
        aim = Aim(Phase.battery, 0.0, SET[setting])
    if seen.forced:
        aim = Aim(Phase.shutdown, 0.0, "the UPS's manager orders a shutdown (FSD)")
    if aim.phase is state.phase:
        told = aim.reason if state.phase is Phase.unknown or setting is Setting.on_grid else ""  # else how it came about stays
        if not told and state.reason in SET.values() and state.reason != SET.get(setting):
            told = SAYS.get(state.phase, "")
        return msgspec.structs.replace(state, aim=None, aim_for=0.0, due=None, reason=told or state.reason), ()
    aim, asked = _together(state, aim)
    held = state.aim_for + elapsed if asked is aim.phase else 0.0
    if held < aim.after:
        return msgspec.structs.replace(state, aim=aim.phase, aim_for=held, due=aim.after - held), ()
    return _entered(state, aim), (Transition(state.phase, aim.phase, aim.reason),)


def _together(state: PolicyState, aim: Aim) -> tuple[Aim, Phase | None]:
    """A look that asks for critical is evidence for low too: a charge that is about a limit must not hold up both.

    Returns:
        What is asked for, and what was asked for up to now.
    """
    both = {state.aim, aim.phase}
    if state.phase is Phase.battery and both == {Phase.low, Phase.critical}:
        return msgspec.structs.replace(aim, phase=Phase.low), Phase.low
    return aim, state.aim


def off_grid(seen: Seen) -> Seen:
    """As the setting off-grid has it: whatever the UPS says of mains, it is the battery that counts."""
    return msgspec.structs.replace(seen, supply=Supply.battery)


def _entered(state: PolicyState, aim: Aim) -> PolicyState:
    fresh = aim.phase is Phase.battery and state.phase not in ON_BATTERY
    return msgspec.structs.replace(
        state, phase=aim.phase, aim=None, aim_for=0.0, due=0.0, critical=0.0, reason=aim.reason,
        on_battery=0.0 if fresh else state.on_battery,
    )  # fmt: skip


def _armed(state: PolicyState, seen: Seen, limits: Limits) -> bool:
    """A look that tells nothing leaves it as it was."""
    if seen.supply is Supply.unknown:
        return state.armed
    told = seen.percent is not None or seen.runtime is not None or seen.low is not None or limits.longest > 0
    if not told and seen.supply is Supply.battery:
        return state.armed
    return seen.supply is Supply.battery and bool(_below(state, seen, limits, Phase.critical, 0.0))


def _aim(state: PolicyState, seen: Seen, limits: Limits) -> Aim:
    if seen.supply is Supply.mains:
        return _mains(state, limits)
    if state.phase is Phase.shutdown:
        return Aim(Phase.shutdown)
    if seen.supply is Supply.unknown:
        return _lost(state, limits)
    if state.phase in {Phase.grid, Phase.unknown}:
        return Aim(Phase.battery, limits.battery_after, SAYS[Phase.battery])
    return _battery(state, seen, limits)


def _mains(state: PolicyState, limits: Limits) -> Aim:
    reasons = {Phase.shutdown: "mains came back during the shutdown", Phase.unknown: SAYS[Phase.grid]}
    if state.reason == SET[Setting.off_grid]:
        reasons[state.phase] = SAYS[Phase.grid]
    after = limits.battery_after if state.phase is Phase.unknown else limits.mains_after
    return Aim(Phase.grid, after, reasons.get(state.phase, "mains came back"))


def _lost(state: PolicyState, limits: Limits) -> Aim:
    if state.phase is Phase.critical and state.armed:
        return _shutdown(state, limits, "the UPS does not answer any more, and was below the limits when it last did")
    seen_once = state.phase in ON_BATTERY and state.reason != SET[Setting.off_grid]  # else the phase was only ordered
    after = limits.lost_after if seen_once else limits.unknown_after
    return Aim(Phase.unknown, after, "no UPS answers; on mains or not is unknown")


def _battery(state: PolicyState, seen: Seen, limits: Limits) -> Aim:
    at = DEPTHS.index(state.phase)
    for depth in (2, 1):
        phase = DEPTHS[depth]
        if reason := _below(state, seen, limits, phase, limits.hysteresis if at >= depth else 0.0):
            if phase is Phase.critical and at == 2 and state.armed:
                return _shutdown(state, limits, reason)
            return Aim(phase, limits.level_after, reason) if depth != at else Aim(phase)
    if at == 0:
        return Aim(Phase.battery)
    if seen.percent is not None or seen.runtime is not None:
        return Aim(Phase.battery, limits.level_after, f"the charge is back at {_told(seen)}")
    return _untold(state, seen, limits)


def _untold(state: PolicyState, seen: Seen, limits: Limits) -> Aim:
    """On battery in low or critical, and nothing is told of the charge: it has not grown."""
    if state.phase is Phase.critical and state.armed:
        return _shutdown(state, limits, "the charge is not told any more, and was below the limits when it last was")
    if state.phase is Phase.critical and seen.low is False:
        return Aim(Phase.low, limits.level_after, "the UPS does not say any more that its battery is low")
    return Aim(state.phase)


def _below(state: PolicyState, seen: Seen, limits: Limits, phase: Phase, more: float) -> str:
    """Why the battery is low or critical, with limits that are `more` percent points higher; empty where it is not."""
    percent, runtime = (limits.low, limits.low_runtime) if phase is Phase.low else (limits.critical, limits.critical_runtime)
    if seen.percent is not None and seen.percent < percent + more:
        return f"the charge is {seen.percent:.1f} %, {'below' if seen.percent < percent else 'near'} {percent:g} %"
    if seen.runtime is not None and seen.runtime < runtime * (1.25 if more else 1.0):
        return f"the UPS says {seen.runtime / 60:.1f} min are left, less than {runtime / 60:g} min"
    if phase is Phase.critical and seen.low:
        return "the UPS itself says that its battery is low"
    if phase is Phase.critical and limits.longest and state.on_battery >= limits.longest:
        return f"on battery for more than {limits.longest / 60:g} min"
    return ""


def _shutdown(state: PolicyState, limits: Limits, reason: str) -> Aim:
    """After the grace, which goes on while mains flaps."""
    left = limits.grace - state.critical
    if left <= 0:
        return Aim(Phase.shutdown, 0.0, f"{reason}, for longer than {limits.grace:g} s")
    return Aim(Phase.critical)


def _told(seen: Seen) -> str:
    return f"{seen.percent:.0f} %" if seen.percent is not None else f"{(seen.runtime or 0) / 60:.0f} min"


def grace_left(state: PolicyState, limits: Limits) -> float | None:
    """Seconds until the shutdown; None where it is not near."""
    return max(0.0, limits.grace - state.critical) if state.phase is Phase.critical and state.armed else None

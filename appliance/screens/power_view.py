"""The power as lines and rows: phase, flow, battery, plan, what comes next, events."""

from __future__ import annotations

import time
from collections.abc import Sequence

from appliance.core.model import Health
from appliance.core.power.model import (
    Coming,
    Level,
    Phase,
    PiPower,
    PlanStatus,
    PowerEvent,
    PowerStatus,
    RunState,
    StageState,
    Supply,
    UpsStatus,
)
from appliance.screens import format as f
from appliance.screens.glyphs import Glyphs
from appliance.screens.themes import Role
from appliance.screens.units import Unit
from appliance.screens.widgets.charts import meter
from appliance.screens.widgets.grid import Cell, Column, Row
from appliance.screens.widgets.lines import Line, Piece
from appliance.screens.widgets.plot import Plotted, draw, frame_of

UPSES = (
    Column("ups", 24), Column("state", 11), Column("supply", 8), Column("charge", 6, "right"), Column("left", 9, "right"),
    Column("volts", 6, "right", 90), Column("load", 6, "right", 90), Column("refused", 7, "right", 90),
    Column("failed", 6, "right", 90), Column("why"),
)  # fmt: skip
STAGES = (
    Column("stage", 12), Column("state", 11), Column("needs", 9, "right"), Column("took", 7, "right", 70),
    Column("when, or why"),
)  # fmt: skip
EVENTS = (Column("when", 11), Column("charge", 6, "right", 60), Column("what"))
SEVERITY: dict[str, Role] = {"critical": "bad", "warning": "warn"}
PHASES: dict[Phase, Role] = {
    Phase.grid: "ok", Phase.battery: "warn", Phase.low: "warn", Phase.critical: "bad", Phase.shutdown: "bad",
    Phase.unknown: "muted",
}  # fmt: skip
STATES: dict[StageState, Role] = {
    StageState.waiting: "muted", StageState.running: "accent", StageState.done: "ok", StageState.skipped: "muted",
    StageState.reversed: "muted",
}  # fmt: skip
STEP = 30.0
"""Seconds from one point of the charge's history to the next."""
METER = 20
LEAD = 9


def badge(phase: Phase, glyphs: Glyphs) -> Piece:
    """A phase as sign and word."""
    role = PHASES[phase]
    signs: dict[Role, str] = {"ok": glyphs.ok, "warn": glyphs.warn, "bad": glyphs.bad}
    return f"{signs.get(role, glyphs.none)} {phase.value}", role


def _line(name: str, text: str, role: Role = "text") -> Line:
    return ((f" {name:<{LEAD}}", "muted"), (text, role))


def flow_line(status: PowerStatus, glyphs: Glyphs) -> Line:
    """Mains → UPS → battery → load, each as far as it is known."""
    on = {Supply.mains: "ok", Supply.battery: "bad", Supply.unknown: "muted"}
    mains: Role = on[status.supply]  # type: ignore[assignment]
    arrow = {Supply.mains: "──▶", Supply.battery: f"─{glyphs.bad}─▶", Supply.unknown: "─?─▶"}[status.supply]
    inside = {True: " ◀── charging", False: ""}.get(status.charging, "") if status.charging is not None else ""
    battery = "─▶" if status.supply is Supply.battery else "──" if status.supply is Supply.mains else "─?"
    load = f.NONE if status.load_w is None else f"{status.load_w:.0f} W"
    ours = next((each.name for each in status.upses if each.feeds_us), "no UPS")
    return (
        (" mains ", mains), (f"{arrow} ", mains), (f"[{ours}]", "text" if status.upses else "muted"),
        (f" {battery} ", "accent" if status.supply is Supply.battery else "muted"),
        (f"load {load}", "text"), (f"   battery {f.percent(status.percent)}{inside}", _charge_role(status.level)),
    )  # fmt: skip


def _charge_role(level: Level) -> Role:
    return {Level.low: "warn", Level.critical: "bad", Level.unknown: "muted"}.get(level, "ok")  # type: ignore[return-value]


def fact_lines(status: PowerStatus, glyphs: Glyphs) -> list[Line]:
    """Phase, setting, battery, time left."""
    share = None if status.percent is None else status.percent / 100
    by = {"ups": "by the UPS's own word", "trend": "by how the charge falls"}.get(status.runtime_by, "")
    old = "" if status.percent_age is None or status.percent_age < 2 else f", {f.age(status.percent_age)} old"
    gauge = meter(share, METER, glyphs, warn=2.0, bad=2.0)
    left = "" if not status.grace_s else f"in {f.span(float(round(status.grace_s)))}, unless mains comes back"
    grace = [_line("shutdown", left, "bad")] if left else []
    volts = f.NONE if status.voltage is None else f"{status.voltage:.2f} V"
    role: Role = _charge_role(status.level)
    lines: list[Line] = [
        ((f" {'phase':<{LEAD}}", "muted"), badge(status.phase, glyphs), (f" for {f.since(status.since)}", "muted")),
        _line("because", status.reason),
        *grace,
        (
            (f" {'battery':<{LEAD}}", "muted"), *((text, role if at == 0 else "track") for at, (text, _) in enumerate(gauge)),
            (f" {f.percent(status.percent)} {'' if status.level is Level.unknown else status.level.value}{old}", role),
        ),
        _line("left", f"{f.span(status.runtime)} {by}".rstrip()),
        _line("voltage", volts),
        _line("on it", f"for {f.span(float(int(status.on_battery_s)))}" if status.on_battery_s is not None else f.NONE),
        _line("mode", status.setting.value + (f", set by {status.setting_by}" if status.setting_by else "")),
        _line("routing", (status.routing or "as configured") + (", load is shed" if status.shed else "")),
        _line("decided", f"by {status.feeds}" if status.feeds else f.NONE, "text"),
    ]  # fmt: skip
    return [*lines, *_pi_lines(status.pi)]


def _pi_lines(pi: PiPower | None) -> list[Line]:
    """The Pi's own supply, where it is one."""
    if pi is None or (pi.flags is None and not pi.rails and pi.halt_wakes is None):
        return []
    past = f"; since the start: {', '.join(pi.flags_since_boot)}" if pi.flags_since_boot else ""
    volts = "" if pi.input_volts is None else f", {pi.input_volts:.2f} V"
    watts = f", {sum(pi.rails.values()):.1f} W on its rails" if pi.rails else ""
    wakes = {True: "; wakes after a halt", False: "; does not wake after a halt", None: ""}[pi.halt_wakes]
    flags = f.NONE if pi.flags is None else ", ".join(pi.flags) or "well"
    return [_line("pi", f"{flags}{volts}{watts}{past}{wakes}", "warn" if pi.flags else "text")]


def trouble(status: PowerStatus) -> list[Piece]:
    """What is wrong, and what to do; nothing where all is well."""
    pieces: list[Piece] = []
    for ups in status.upses:
        if ups.health is not Health.healthy and ups.reason:
            pieces.append((f" {ups.name}: {ups.reason}", "warn"))
            pieces.append((f" Next: {ups.next_step}" if ups.next_step else "", "accent"))
    if not status.upses:
        pieces.append((" no UPS answers: on mains or not is unknown.", "muted"))
        pieces.append((" Next: connect one, or say in [ups] where it is", "accent"))
    plan = status.plan
    if plan is not None and plan.problem:
        pieces.append((f" the plan: {plan.problem}", "warn"))
    if plan is not None and plan.state is RunState.ready:
        pieces += [(f" left over: {note}; d when that is done", "warn") for note in plan.notes]
    return pieces


def ups_rows(upses: Sequence[UpsStatus], glyphs: Glyphs) -> list[Row]:
    """A row a UPS; those that feed this machine are marked."""
    return [Row(ups.name, _ups_cells(ups, glyphs)) for ups in upses]


def _ups_cells(ups: UpsStatus, glyphs: Glyphs) -> tuple[Cell, ...]:
    signs: dict[Health, tuple[str, Role]] = {
        Health.healthy: (glyphs.ok, "ok"), Health.degraded: (glyphs.warn, "warn"), Health.unhealthy: (glyphs.bad, "bad"),
        Health.absent: (glyphs.none, "muted"),
    }  # fmt: skip
    sign, role = signs[ups.health]
    told = ups.reading if ups.health is not Health.unhealthy else None
    volts = f.NONE if told is None or told.voltage is None else f"{told.voltage:.2f}"
    load = f.NONE if told is None or told.power is None else f"{told.power:.0f} W"
    return (
        (f"{'▶' if ups.feeds_us else ' '} {ups.name}{' SIM' if ups.simulated else ''}", "accent" if ups.feeds_us else "text"),
        (f"{sign} {ups.health.value}", role),
        f.NONE if told is None else told.supply.value,
        f.NONE if told is None else f.percent(told.percent),
        f.NONE if told is None else f.span(ups.runtime),
        volts,
        load,
        (str(ups.refused), "warn" if ups.refused else "muted"),
        (str(ups.failed), "warn" if ups.failed else "muted"),
        (ups.reason, "text" if ups.health is Health.healthy else role),
    )


def stage_rows(plan: PlanStatus | None, coming: Sequence[Coming]) -> list[Row]:
    """A row a stage: how far it is, or when it would begin."""
    stages = plan.stages if plan is not None else ()
    ahead = coming[-len(stages) :] if coming else ()
    first = len(stages) - len(ahead)
    rows = []
    for at, stage in enumerate(stages):
        role: Role = STATES.get(stage.state, "warn")
        faults = "; ".join(step.detail for step in stage.steps if step.state in {StageState.failed, StageState.overdue})
        held = stage.state is StageState.waiting and plan is not None and plan.state is RunState.aborted
        when = _when(ahead[at - first]) if at >= first else "not begun: the plan is aborted" if held else stage.why
        needs = f"{f.span(round(stage.needs, 1))}{'' if stage.needs_by == 'measured' else ' ?'}"
        rows.append(Row(stage.name, (
            stage.name, (stage.state.value, role), (needs, "muted"), (_took(stage.seconds), "muted"),
            (f"{stage.why}: {faults}", "warn") if faults else (when, "text" if at == first else "muted"),
        )))  # fmt: skip
    return rows


def _took(seconds: float | None) -> str:
    return f.NONE if seconds is None else f.span(round(seconds, 1))


def _when(coming: Coming) -> str:
    return coming.when if coming.in_seconds is None else f"in {f.span(coming.in_seconds)}: {coming.when}"


def plan_note(plan: PlanStatus | None) -> str:
    """Which plan, and how it is."""
    if plan is None:
        return ""
    which = f"version {plan.version}" if plan.version else "the default plan"
    return f"{which}, {plan.state.value}, needs {f.span(round(plan.needs, 1))}"


def event_rows(events: Sequence[PowerEvent]) -> list[Row]:
    """A row an event, newest first."""
    return [Row(f"{event.time}-{at}", _event_cells(event)) for at, event in enumerate(events)]


def _event_cells(event: PowerEvent) -> tuple[Cell, ...]:
    role = SEVERITY.get(event.severity, "text")
    return (f.clock(event.time), "muted"), (f.percent(event.percent), "muted"), (event.text, role)


def plot_lines(status: PowerStatus, width: int, height: int, *, fine: bool, now: float | None = None) -> list[Line]:
    """The charge over the last hours.

    Args:
        status: Has the points.
        width: Cells.
        height: Lines.
        fine: With the glyphs that a plain console lacks.
        now: The end of the axis of time; this moment where it is not given.
    """
    until = time.time() if now is None else now
    points = [point for point in status.history if point[0] <= until]
    if not any(value is not None for _, value in points):
        return [((" no charge was told since the start", "muted"),)]
    since = min(points[0][0], until - 600.0)
    step = max(STEP, (until - since) / max(1, width) * 1.5)
    line = Plotted("", "accent", points, max(STEP * 2, step))
    frame = frame_of([line], since, until, width, height, Unit("%"))
    if frame is None:
        return [((" no room for a plot", "muted"),)]
    return draw([line], frame, Unit("%"), fine=fine)

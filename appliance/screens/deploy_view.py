"""Deployments as rows and lines: services, replicas, and a rollout with the traffic of each version."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.core.deploy.model import (
    ENDED,
    BalancerStatus,
    Deployed,
    DeployEvent,
    DeployStatus,
    Fitness,
    ReplicaState,
    ReplicaStatus,
    Rollout,
    RolloutStatus,
    Stage,
    Strategy,
    TrafficShare,
)
from appliance.screens import format as f
from appliance.screens.glyphs import Glyphs
from appliance.screens.themes import Role
from appliance.screens.widgets.charts import meter
from appliance.screens.widgets.grid import Cell, Column, Row
from appliance.screens.widgets.lines import Line, Piece

SERVICES = (
    Column("service", 14), Column("health", 11), Column("version", 10), Column("ready", 6, "right"),
    Column("strategy", 10, least=104), Column("req/s", 7, "right"), Column("listens", 17, least=120), Column("state"),
)  # fmt: skip
REPLICAS = (
    Column("where", 20), Column("version", 9), Column("state", 9), Column("health", 11), Column("share", 6, "right"),
    Column("open", 5, "right"), Column("check", 8, "right", 130), Column("reason"),
)  # fmt: skip
EVENTS = (Column("time", 9), Column("kind", 9), Column("what"))
STEPS = {
    Strategy.rolling: (Stage.starting, Stage.soaking, Stage.completed),
    Strategy.recreate: (Stage.starting, Stage.soaking, Stage.completed),
    Strategy.blue_green: (Stage.starting, Stage.soaking, Stage.retiring, Stage.completed),
    Strategy.canary: (Stage.starting, Stage.shifting, Stage.soaking, Stage.retiring, Stage.completed),
}
LEAD = 10


def sign(health: str, glyphs: Glyphs) -> Piece:
    """A health as sign and word."""
    known: dict[str, tuple[str, Role]] = {
        "healthy": (glyphs.ok, "ok"), "degraded": (glyphs.warn, "warn"), "unhealthy": (glyphs.bad, "bad"),
    }  # fmt: skip
    mark, role = known.get(health, (glyphs.none, "muted"))
    return f"{mark} {health}", role


def rate(value: float | None) -> str:
    """Requests a second."""
    return f.NONE if value is None else f"{value:.1f}"


def head_line(status: DeployStatus | None, glyphs: Glyphs) -> Line:
    """All services and the balancer, in one line."""
    if status is None:
        return ((" not read yet", "muted"),)
    rolling = sum(moving(each) for each in status.services)
    ill = sum(each.health != "healthy" for each in status.services)
    told: list[Piece] = [(f" {f.counted(len(status.services), 'service')}", "title")]
    told += [(f"   {rolling} being rolled out", "accent")] if rolling else []
    told += [(f"   {ill} not well", "warn")] if ill else []
    return (*told, *balancer(status.balancer, glyphs))


def balancer(found: BalancerStatus | None, glyphs: Glyphs) -> Line:
    """HAProxy, in a few words."""
    if found is None:
        return ()
    mark, role = sign(found.health, glyphs)
    known = f" {found.version}" if found.version else ""
    told = "" if found.health == "healthy" and found.pid else f", {found.reason}"
    return (("   HAProxy", "muted"), (f"{known} ", "muted"), (mark, role), (told, "muted"))


def moving(service: Deployed) -> bool:
    """Whether it is being rolled out."""
    return service.rollout is not None and service.rollout.rollout.stage not in ENDED


def trouble(service: Deployed | None, status: DeployStatus | None) -> list[Piece]:
    """What is wrong with the chosen service, or with the balancer, and what to do."""
    if service is not None and service.health != "healthy":
        told: list[Piece] = [(f" {service.name}: {service.reason}.", "warn")]
        return [*told, (f" Next: {service.next_step}", "accent")] if service.next_step else told
    found = status.balancer if status is not None else None
    if found is not None and found.health not in {"healthy", "absent"}:
        return [(f" HAProxy: {found.reason}.", "bad"), (f" Next: {found.next_step}", "accent")]
    return []


def service_rows(status: DeployStatus | None, glyphs: Glyphs) -> list[Row]:
    """A row a service, by name."""
    return [Row(each.name, _service(each, glyphs)) for each in (status.services if status is not None else ())]


def _service(each: Deployed, glyphs: Glyphs) -> tuple[Cell, ...]:
    rollout = each.rollout
    version = each.label or f.NONE
    state: Cell = (each.reason, "muted")
    if rollout is not None and moving(each):
        back = rollout.rollout.stage is Stage.rolling_back
        state = (f"to {rollout.to_label}: {rollout.rollout.stage}", "bad" if back else "accent")
    return (
        each.name, sign(each.health, glyphs), version, (f"{each.ready}/{each.wanted}", "text" if each.ready else "warn"),
        (each.strategy.value, "muted"), (rate(each.rate), "accent"), (each.listen or f.NONE, "muted"), state,
    )  # fmt: skip


def replica_rows(service: Deployed | None, glyphs: Glyphs) -> list[Row]:
    """A row a replica."""
    return [Row(each.replica.replica_id, _replica(each, glyphs)) for each in (service.replicas if service is not None else ())]


def _replica(each: ReplicaStatus, glyphs: Glyphs) -> tuple[Cell, ...]:
    kept, runs = each.replica, each.replica.state is ReplicaState.running
    roles: dict[ReplicaState, Role] = {ReplicaState.failed: "bad", ReplicaState.lost: "warn", ReplicaState.running: "text"}
    marks: dict[Fitness, tuple[str, Role]] = {
        Fitness.healthy: (f"{glyphs.ok} healthy", "ok"), Fitness.unhealthy: (f"{glyphs.bad} unhealthy", "bad"),
        Fitness.starting: (f"{glyphs.none} starting", "muted"), Fitness.unknown: (f"{glyphs.none} unknown", "muted"),
    }  # fmt: skip
    return (
        f"{kept.node}:{kept.port}", (kept.label, "accent"), (kept.state.value, roles.get(kept.state, "muted")),
        marks[each.fitness] if runs else (f.NONE, "muted"), (f.percent(each.share), "accent" if each.share else "muted"),
        f.NONE if each.sessions is None else str(each.sessions), f.milliseconds(each.check_ms),
        (each.reason or (f"{each.flaps} changes in 10 min" if each.flaps else f.NONE), "warn" if each.reason else "muted"),
    )  # fmt: skip


def _line(name: str, text: str, role: Role = "text") -> Line:
    return ((f" {name:<{LEAD}}", "muted"), (text, role))


def rollout_lines(service: Deployed | None, width: int, glyphs: Glyphs) -> list[Line]:
    """The rollout that is under way, or the last one, with the traffic of each version."""
    if service is None:
        return []
    if service.rollout is None:
        return [_line("", "no rollout yet", "muted")]
    told, kept = service.rollout, service.rollout.rollout
    before = f"{told.from_label} to " if told.from_label else ""
    lines = [
        _line("version", f"{before}{told.to_label} (revision {kept.to_revision}), {kept.strategy}, by {kept.owner}", "title"),
        _stages(kept),
        _line("replicas", f"{told.ready} of {told.wanted} new ones are ready"),
    ]
    lines += [_line("step", steps(told), "accent")] if told.steps and kept.ended is None else []
    lines += [_line("next", f"in {f.duration(told.wait_s)}", "accent")] if told.wait_s is not None else []
    lines += [_line("paused", f"by {kept.paused_by}", "warn")] if kept.paused_by else []
    lines += [_line("resumed", f"after {f.counted(kept.resumed, 'restart')} of the appliance", "warn")] if kept.resumed else []
    bad = kept.stage in {Stage.rolling_back, Stage.rolled_back, Stage.failed}
    lines.append(_line("why", kept.reason or f.NONE, "bad" if bad else "muted"))
    for each in told.traffic:
        lines += share_lines(each, width, glyphs)
    if kept.ended is not None:
        lines.append(_line("ended", f"{f.since(kept.ended)} ago, after {f.duration(kept.ended - kept.created)}", "muted"))
    return [*lines, *scaling_lines(service)]


def _stages(kept: Rollout) -> Line:
    """Its stages, the present one marked."""
    if kept.stage in {Stage.rolling_back, Stage.rolled_back, Stage.failed}:
        return _line("stage", kept.stage.value, "bad")
    pieces: list[Piece] = [(f" {'stage':<{LEAD}}", "muted")]
    for at, each in enumerate(STEPS[kept.strategy]):
        now = each is kept.stage
        pieces += [(" > ", "muted")] if at else []
        pieces.append((f"[{each}]" if now else each.value, "accent" if now else "muted"))
    return tuple(pieces)


def steps(told: RolloutStatus) -> str:
    """A canary's percents, the present one marked."""
    marks = [f"[{each:g} %]" if at == told.rollout.step else f"{each:g} %" for at, each in enumerate(told.steps)]
    return "  ".join([*marks, "[100 %]" if told.rollout.step >= len(told.steps) else "100 %"])


def share_lines(each: TrafficShare, width: int, glyphs: Glyphs) -> list[Line]:
    """One version's traffic: a bar of what was measured, and the figures."""
    room = max(6, min(40, width - LEAD - 32))
    shown = each.measured if each.measured is not None else None
    bar = meter(None if shown is None else shown / 100, room, glyphs, warn=2.0, bad=2.0)
    measured = f"{f.percent(shown)} measured" if shown is not None else "nothing measured"
    errors: Piece = (f.counted(each.errors, "error"), "bad" if each.errors else "muted")
    return [
        ((f" {each.label[:LEAD]:<{LEAD}}", "title"), *bar, (f" {measured}, {each.wanted:g} % wanted", "text")),
        ((f" {'':<{LEAD}}", "muted"), (f"{rate(each.rate)} req/s, {f.counted(each.requests, 'request')}, ", "muted"), errors),
    ]


def scaling_lines(service: Deployed) -> list[Line]:
    """How it scales itself; nothing where it does not."""
    told = service.scaling
    if told is None:
        return []
    read = ", ".join(f"{name} {f.NONE if value is None else f'{value:.4g}'}" for name, value in told.readings.items())
    held = f", cooldown {f.duration(told.held_s)}" if told.held_s else ""
    return [
        _line("scaling", f"{told.wanted} of {told.least} to {told.most}{held}: {told.reason}", "accent"),
        _line("", read, "muted"),
    ]


def event_rows(events: Sequence[DeployEvent]) -> list[Row]:
    """What happened, newest first."""
    roles: dict[str, Role] = {"warning": "warn", "error": "bad"}
    return [
        Row(
            str(each.seq), ((f.clock(each.time), "muted"), (each.kind, "accent"), (each.text, roles.get(each.severity, "text")))
        )
        for each in events
    ]

"""The strategies as a pure state machine: from what is seen and the time to what is to be done. It acts on nothing.

Every decision follows from evidence alone, so a rollout that is found on disk after a crash goes on, or back, as if nobody
had been away; only what was watched over time (settling, soaking, the shares of a canary) is watched anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

from appliance.core.deploy.model import ENDED, Fitness, ReplicaState, Rollout, Stage, Strategy
from appliance.core.deploy.spec import Plan

DIRECTED = frozenset({Strategy.blue_green, Strategy.canary})
"""Strategies that give each version a share of the traffic."""

HELD = "held"
"""Begins the reason of a step that waits in vain."""


class Sight(msgspec.Struct, frozen=True):
    """A replica as it is seen now."""

    replica_id: str
    revision: int
    node: str
    state: ReplicaState
    fitness: Fitness
    port: int = 0
    healthy_s: float = 0.0
    """Seconds without a break that it has been healthy."""
    bad_s: float = 0.0
    """Seconds that it has been unhealthy or failed."""
    silent_s: float = 0.0
    """Seconds that its node has not answered."""
    reason: str = ""

    @property
    def fit(self) -> bool:
        """It may have traffic."""
        return self.state is ReplicaState.running and self.fitness is Fitness.healthy

    @property
    def unseen(self) -> bool:
        """It runs from before the appliance was started, and was not looked at yet: it may well serve."""
        return self.state is ReplicaState.running and self.fitness is Fitness.unknown

    @property
    def bad(self) -> bool:
        """It does not work."""
        return self.state is ReplicaState.failed or (self.state is ReplicaState.running and self.fitness is Fitness.unhealthy)


class Counted(msgspec.Struct, frozen=True):
    """Requests to one revision since the last change of the shares."""

    requests: int = 0
    errors: int = 0

    @property
    def percent(self) -> float:
        """Of them, that failed."""
        return 100.0 * self.errors / self.requests if self.requests else 0.0


class View(msgspec.Struct, frozen=True):
    """Everything that a decision looks at."""

    now: float
    """Monotonic."""
    wanted: int
    """Replicas of the new version."""
    plan: Plan
    sights: tuple[Sight, ...]
    room: int
    """Places that are free on nodes that answer."""
    counted: dict[int, Counted] = {}
    blocked: str = ""
    """Why the traffic is not directed as it is set; empty where it is."""

    def of(self, revision: int) -> list[Sight]:
        """Those that take a place; what is on a silent node is not counted on."""
        return [each for each in self.sights if each.revision == revision and each.state is not ReplicaState.lost]

    def fit(self, revision: int) -> list[Sight]:
        """Those that may have traffic."""
        return [each for each in self.of(revision) if each.fit]

    def settled(self, revision: int) -> list[Sight]:
        """Those that have been healthy for long enough to be counted on."""
        return [each for each in self.fit(revision) if each.healthy_s >= self.plan.settle]


class Position(msgspec.Struct, frozen=True):
    """Where a rollout stands; only `rollout` is kept on disk."""

    rollout: Rollout
    since: float | None = None
    """Monotonic instant of the last progress."""
    held: float | None = None
    """Monotonic instant from which the present share or soak is held."""
    mark: tuple[object, ...] = ()


class Decision(msgspec.Struct, frozen=True):
    """What is to be done now."""

    position: Position
    start: tuple[tuple[int, int], ...] = ()
    """(revision, how many)."""
    stop: tuple[str, ...] = ()
    """Replicas, by id."""
    until: float | None = None
    """Monotonic instant of the next step, where only time is waited for."""


def begin(rollout: Rollout) -> Position:
    """A rollout that was just ordered, with the shares that it begins with."""
    if rollout.strategy in DIRECTED and rollout.from_revision:
        shares = {rollout.from_revision: 100.0, rollout.to_revision: 0.0}
        rollout = msgspec.structs.replace(rollout, shares=shares)
    return Position(rollout)


def fallback(position: Position | None) -> tuple[int, int]:
    """(Revision that requests leave at once where it cannot be connected to, revision that they go to then); 0 for none."""
    if position is None or not position.rollout.shares or position.rollout.strategy not in DIRECTED:
        return 0, 0
    rollout = position.rollout
    return rollout.to_revision, rollout.from_revision if rollout.stage is Stage.soaking else 0


def decide(position: Position, view: View) -> Decision:
    """The next step.

    Args:
        position: Where it stands.
        view: What is seen.

    Returns:
        What to do; the same question again gives the same answer.
    """
    if position.rollout.stage in ENDED:
        return Decision(position)
    position = _noted(position, view)
    if position.rollout.stage is Stage.rolling_back:
        return _back(position, view)
    if trouble := _trouble(position, view):
        return _back(turn(position, trouble, view.now), view)
    if position.rollout.paused_by:
        return Decision(_at(position, reason=f"paused by {position.rollout.paused_by}"))
    if position.rollout.from_revision == 0:
        return _first(position, view)
    if view.blocked:  # whoever is stopped now might be the one who has the traffic
        return Decision(_at(position, held=None, reason=f"the balancer does not do its part: {view.blocked}"))
    return FORWARD[position.rollout.strategy](position, view)


def turn(position: Position, trouble: str, now: float) -> Position:
    """Begin the way back.

    Args:
        position: Where it stands.
        trouble: Why.
        now: Monotonic.
    """
    rollout = msgspec.structs.replace(position.rollout, stage=Stage.rolling_back, trouble=trouble, reason=trouble, paused_by="")
    return msgspec.structs.replace(position, rollout=rollout, since=now, held=None)


def _at(position: Position, *, held: float | type | None = type, **changes: object) -> Position:
    """The position with changes to its rollout."""
    rollout = msgspec.structs.replace(position.rollout, **changes)
    if held is type:
        return msgspec.structs.replace(position, rollout=rollout)
    return msgspec.structs.replace(position, rollout=rollout, held=held)


def _noted(position: Position, view: View) -> Position:
    """Note whether something moved since the last look; a stage that only waits for time is no standstill."""
    rollout = position.rollout
    mark = (
        rollout.stage, rollout.step, len(view.settled(rollout.to_revision)), len(view.of(rollout.to_revision)),
        len(view.of(rollout.from_revision)), len(view.fit(rollout.from_revision)),
    )  # fmt: skip
    waits = bool(rollout.paused_by) or (
        position.held is not None and len(view.settled(rollout.to_revision)) >= _need(rollout, view)
    )
    if position.since is None or waits or mark != position.mark:
        return msgspec.structs.replace(position, since=view.now, mark=mark)
    return position


def _need(rollout: Rollout, view: View) -> int:
    """Replicas of the new version that the present stage has to have."""
    steps = view.plan.steps
    early = rollout.strategy is Strategy.canary and rollout.from_revision and rollout.stage in {Stage.starting, Stage.shifting}
    if early and rollout.step < len(steps):
        return min(view.wanted, max(1, math.ceil(view.wanted * steps[rollout.step] / 100)))
    return view.wanted


def _trouble(position: Position, view: View) -> str:
    """Why the new version is to be given up; empty where it is not."""
    rollout, plan = position.rollout, view.plan
    bad = [each for each in view.of(rollout.to_revision) if each.bad]
    if bad:
        how = "failed" if bad[0].state is ReplicaState.failed else "is unhealthy"
        return f"{bad[0].node}:{bad[0].port} {how}: {bad[0].reason}"
    new, old = (view.counted.get(each, Counted()) for each in (rollout.to_revision, rollout.from_revision))
    if new.requests >= plan.min_requests and new.percent > plan.max_error_percent and new.percent > old.percent:
        return f"{new.errors} of {new.requests} requests to it failed ({new.percent:.0f} %; bound {plan.max_error_percent:g} %)"
    if position.since is not None and view.now - position.since > plan.deadline:
        return f"no progress for {plan.deadline:g} s: {view.blocked or _missing(rollout, view)}"
    return ""


def _missing(rollout: Rollout, view: View) -> str:
    ready, need = len(view.settled(rollout.to_revision)), _need(rollout, view)
    waiting = [
        f"{each.node}:{each.port} {each.reason or each.fitness}" for each in view.of(rollout.to_revision) if not each.fit
    ]
    told = f"{ready} of {need} new replicas have been healthy for {view.plan.settle:g} s"
    if waiting:
        return f"{told} ({'; '.join(waiting[:3])})"
    return told if len(view.of(rollout.to_revision)) >= need else f"{told}, and there is no room for more"


def _wanting(view: View, revision: int, need: int) -> tuple[tuple[int, int], ...]:
    """Starts that lack, as far as there is room."""
    count = min(need - len(view.of(revision)), view.room)
    return ((revision, count),) if count > 0 else ()


def _soak(position: Position, view: View, then: Stage) -> Decision:
    """Watch the new version under all traffic."""
    if position.rollout.stage is not Stage.soaking or position.held is None:
        position = _at(position, stage=Stage.soaking, held=view.now)
    held = position.held if isinstance(position.held, float) else view.now
    until = held + view.plan.soak
    if view.now < until:
        return Decision(_at(position, reason=f"watching the new version for {view.plan.soak:g} s"), until=until)
    if len(view.settled(position.rollout.to_revision)) < view.wanted:
        return Decision(_at(position, reason=_missing(position.rollout, view)))
    return Decision(
        _at(position, stage=then, reason="all replicas are healthy" if then is Stage.completed else "stopping the old ones")
    )


def _first(position: Position, view: View) -> Decision:
    """Nothing was there before: start all, watch them, done."""
    new = position.rollout.to_revision
    start = _wanting(view, new, view.wanted)
    if start or len(view.settled(new)) < view.wanted:
        return Decision(_at(position, reason=_missing(position.rollout, view)), start)
    return _soak(position, view, Stage.completed)


def _rolling(position: Position, view: View) -> Decision:
    rollout, plan = position.rollout, view.plan
    new, old = view.of(rollout.to_revision), view.of(rollout.from_revision)
    settled = len(view.settled(rollout.to_revision))
    if not old and settled >= view.wanted:
        return _soak(position, view, Stage.completed)
    beyond = view.wanted + plan.surge - len(new) - len(old)
    count = min(beyond, view.wanted - len(new), plan.batch - (len(new) - settled), view.room)
    stop = _spare(old, settled + len(view.fit(rollout.from_revision)) - (view.wanted - plan.unavailable))
    start = ((rollout.to_revision, count),) if count > 0 else ()
    return Decision(_at(position, stage=Stage.starting, reason=_missing(rollout, view)), start, stop)


def _spare(sights: Sequence[Sight], spare: int) -> tuple[str, ...]:
    """Replicas that may be stopped: those that serve nobody, and `spare` of those that do."""
    going = [each for each in sights if each.state is not ReplicaState.stopping]
    useless = [each.replica_id for each in going if not each.fit and not each.unseen]
    return (*useless, *[each.replica_id for each in going if each.fit][: max(0, spare)])


def _blue_green(position: Position, view: View) -> Decision:
    rollout = position.rollout
    new, old = rollout.to_revision, rollout.from_revision
    start = _wanting(view, new, view.wanted)
    if rollout.stage is Stage.starting:
        if start or len(view.settled(new)) < view.wanted:
            return Decision(_at(position, reason=_missing(rollout, view)), start)
        return _soak(_at(position, shares={new: 100.0, old: 0.0}), view, Stage.retiring)
    return _end(position, view, start)


def _canary(position: Position, view: View) -> Decision:
    rollout, plan = position.rollout, view.plan
    new, old = rollout.to_revision, rollout.from_revision
    start = _wanting(view, new, _need(rollout, view))
    if rollout.stage not in {Stage.starting, Stage.shifting}:
        return _end(position, view, start)
    if start or len(view.settled(new)) < _need(rollout, view):
        return Decision(_at(position, reason=_missing(rollout, view)), start)
    if rollout.step >= len(plan.steps):
        return _soak(_at(position, shares={new: 100.0, old: 0.0}), view, Stage.retiring)
    percent = plan.steps[rollout.step]
    if rollout.shares.get(new) != percent or position.held is None:
        shares, reason = {new: percent, old: 100.0 - percent}, f"holding {percent:g} % of the traffic"
        position = _at(position, stage=Stage.shifting, shares=shares, reason=reason, held=view.now)
        return Decision(position, until=view.now + plan.step_seconds)
    until = position.held + plan.step_seconds
    if view.now < until:
        return Decision(position, until=until)
    if view.counted.get(new, Counted()).requests < plan.min_requests:
        return Decision(_at(position, reason=_too_few(percent, view.now - until, plan)))
    position = _at(position, step=rollout.step + 1, held=None, reason=f"{percent:g} % went well")
    return Decision(position, _wanting(view, new, _need(position.rollout, view)))


def vain(rollout: Rollout) -> bool:
    """Whether a step waits for requests that do not come."""
    return rollout.reason.startswith(HELD)


def _too_few(percent: float, waited: float, plan: Plan) -> str:
    """A step that nearly nobody has seen says nothing of the version, however long it took."""
    if waited < plan.deadline:
        return f"{percent:g} %: waiting for {plan.min_requests} requests to the new version"
    told = f"{HELD} at {percent:g} %: fewer than {plan.min_requests} requests to the new version"
    return f"{told} in {plan.step_seconds + plan.deadline:g} s; it goes on when they have come, or give it up"


def _end(position: Position, view: View, start: tuple[tuple[int, int], ...]) -> Decision:
    """Blue-green and canary after the last shift: soak, then give the old version up."""
    rollout = position.rollout
    if rollout.stage is Stage.soaking:
        decision = _soak(position, view, Stage.retiring)
        return msgspec.structs.replace(decision, start=start)
    old = view.of(rollout.from_revision)
    if old:
        stop = tuple(each.replica_id for each in old if each.state is not ReplicaState.stopping)
        return Decision(_at(position, reason=f"{len(old)} replicas of the old version are to stop"), start, stop)
    return Decision(_at(position, stage=Stage.completed, reason="all replicas are healthy"))


def _recreate(position: Position, view: View) -> Decision:
    rollout = position.rollout
    old = view.of(rollout.from_revision)
    if old:
        stop = tuple(each.replica_id for each in old if each.state is not ReplicaState.stopping)
        return Decision(_at(position, reason=f"stopping {len(old)} replicas of the old version"), stop=stop)
    return _first(position, view)


FORWARD: dict[Strategy, Callable[[Position, View], Decision]] = {
    Strategy.rolling: _rolling, Strategy.blue_green: _blue_green, Strategy.canary: _canary, Strategy.recreate: _recreate,
}  # fmt: skip


def _back(position: Position, view: View) -> Decision:
    """To the old version, whatever of it is left."""
    rollout = position.rollout
    new, old = view.of(rollout.to_revision), view.of(rollout.from_revision)
    fit = len(view.fit(rollout.from_revision))
    if rollout.from_revision == 0:
        if not new:
            return Decision(_ended(position, Stage.failed, f"{rollout.trouble}; there is no version before it to go back to"))
        return Decision(position, stop=_stoppable(new))
    if not new and fit >= rollout.from_replicas:
        return Decision(_ended(position, Stage.rolled_back, rollout.trouble))
    if position.since is not None and view.now - position.since > view.plan.deadline:
        told = f"{rollout.trouble}; and the way back is stuck: {fit} of {rollout.from_replicas} old replicas are healthy"
        return Decision(_ended(position, Stage.failed, told))
    lacking = min(rollout.from_replicas - len(old), view.room)
    if rollout.strategy is Strategy.recreate and new:
        return Decision(position, stop=_stoppable(new))
    if rollout.strategy is Strategy.rolling:
        surge = max(view.plan.surge, 0 if view.plan.unavailable else 1)
        lacking = min(lacking, rollout.from_replicas + surge - len(new) - len(old))
    shares = {rollout.from_revision: 100.0, rollout.to_revision: 0.0} if fit else {}
    spare = fit + len(view.fit(rollout.to_revision)) - rollout.from_replicas + view.plan.unavailable
    start = ((rollout.from_revision, lacking),) if lacking > 0 else ()
    return Decision(_at(position, shares=shares), start, _spare(new, spare))


def _stoppable(sights: Sequence[Sight]) -> tuple[str, ...]:
    return tuple(each.replica_id for each in sights if each.state is not ReplicaState.stopping)


def _ended(position: Position, stage: Stage, reason: str) -> Position:
    return _at(position, stage=stage, reason=reason, shares={})

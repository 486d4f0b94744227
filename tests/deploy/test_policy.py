"""The strategies without any node: a world in which replicas come up, fall ill and go, and time that the test moves."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.core.deploy import policy
from appliance.core.deploy.model import ENDED, Fitness, ReplicaState, Rollout, Stage, Strategy
from appliance.core.deploy.policy import Counted, Position, Sight, View
from appliance.core.deploy.spec import Plan
from appliance.core.deploy.upkeep import steady

TURN = 1.0


@dataclass
class World:
    """Replicas that obey: what is started is healthy two turns later, what is stopped is gone one turn later."""

    plan: Plan
    old: int
    new: int
    room: int
    bad_after: int | None = None
    """Turns after its start at which a replica of the new version falls ill."""
    now: float = 1000.0
    turns: int = 0
    replicas: dict[str, list[object]] = field(default_factory=dict)
    trace: list[tuple[Stage, int, int, dict[int, float]]] = field(default_factory=list)
    counted: dict[int, Counted] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for each in range(self.old):
            self.replicas[f"o{each}"] = [1, -100, False]

    def sight(self, name: str) -> Sight:
        revision, born, stopping = self.replicas[name]
        age = self.turns - int(str(born))
        state = ReplicaState.stopping if stopping else ReplicaState.running if age >= 1 else ReplicaState.starting
        ill = revision == 2 and self.bad_after is not None and age >= self.bad_after
        fitness = Fitness.unhealthy if ill else Fitness.healthy if age >= 2 else Fitness.starting
        healthy_s = max(0.0, (age - 2) * TURN) if fitness is Fitness.healthy else 0.0
        return Sight(name, int(str(revision)), "n", state, fitness, healthy_s=healthy_s, reason="ill" if ill else "")

    def requests(self) -> dict[int, Counted]:
        """What the shares bring: plenty."""
        return self.counted or {1: Counted(1000), 2: Counted(1000)}

    def view(self) -> View:
        sights = tuple(self.sight(name) for name in self.replicas)
        return View(self.now, self.new, self.plan, sights, self.room - len(sights), self.requests())

    def fit(self, revision: int) -> int:
        return sum(each.fit for each in self.view().sights if each.revision == revision)

    def run(self, position: Position, most: int = 2000) -> Rollout:
        for _ in range(most):
            self.replicas = {name: each for name, each in self.replicas.items() if not each[2]}
            decision = policy.decide(position, self.view())
            assert policy.decide(position, self.view()) == decision  # the same question, the same answer
            position = decision.position
            rollout = position.rollout
            self.trace.append((rollout.stage, self.fit(1), self.fit(2), rollout.shares))
            if rollout.stage in ENDED:
                return rollout
            for name in decision.stop:
                self.replicas[name][2] = True
            for revision, count in decision.start:
                assert count > 0
                for _ in range(count):
                    self.replicas[f"r{revision}-{self.turns}-{len(self.replicas)}"] = [revision, self.turns, False]
            assert len(self.replicas) <= self.room
            self.turns, self.now = self.turns + 1, self.now + TURN
        raise AssertionError(f"no end: {self.trace[-3:]}")


def begin(strategy: Strategy, old: int, new: int) -> Position:
    return policy.begin(Rollout("x", "web", 1 if old else 0, 2, strategy, "alice", 0.0, from_replicas=old, to_replicas=new))


def plan_of(strategy: Strategy, **more: object) -> Plan:
    values = {"strategy": strategy, "settle": 1.0, "soak": 5.0, "step_seconds": 3.0, "deadline": 60.0, **more}
    return msgspec.convert(values, Plan)


PLANS = st.builds(
    lambda batch, surge, unavailable: {"batch": batch, "surge": surge, "unavailable": max(unavailable, 0 if surge else 1)},
    st.integers(1, 4), st.integers(0, 3), st.integers(0, 3),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(strategy=st.sampled_from(Strategy), old=st.integers(0, 6), new=st.integers(1, 6), more=PLANS)
def test_a_good_version_always_arrives(strategy: Strategy, old: int, new: int, more: dict[str, int]) -> None:
    world = World(plan_of(strategy, **more), old, new, room=40)
    ended = world.run(begin(strategy, old, new))
    assert ended.stage is Stage.completed, ended.reason
    assert (world.fit(1), world.fit(2)) == (0, new)
    assert len(world.replicas) == new


@settings(max_examples=60, deadline=None)
@given(strategy=st.sampled_from(Strategy), old=st.integers(1, 6), new=st.integers(1, 6), bad=st.integers(1, 30), more=PLANS)
def test_a_version_that_falls_ill_at_any_time_leaves_the_old_one(
    strategy: Strategy, old: int, new: int, bad: int, more: dict[str, int]
) -> None:
    world = World(plan_of(strategy, **more, soak=100.0), old, new, room=40, bad_after=bad)
    ended = world.run(begin(strategy, old, new))
    assert ended.stage is Stage.rolled_back
    assert "ill" in ended.trouble
    assert (world.fit(1), len(world.replicas)) == (old, old)


@settings(max_examples=60, deadline=None)
@given(replicas=st.integers(1, 8), more=PLANS)
def test_rolling_keeps_its_bounds(replicas: int, more: dict[str, int]) -> None:
    plan = plan_of(Strategy.rolling, **more)
    world = World(plan, replicas, replicas, room=replicas + plan.surge)
    world.run(begin(Strategy.rolling, replicas, replicas))
    assert min(old + new for _, old, new, _ in world.trace) >= replicas - plan.unavailable


@settings(max_examples=40, deadline=None)
@given(replicas=st.integers(1, 8), bad=st.one_of(st.none(), st.integers(3, 30)))
def test_blue_green_gives_all_or_nothing(replicas: int, bad: int | None) -> None:
    world = World(plan_of(Strategy.blue_green, soak=20.0), replicas, replicas, room=2 * replicas, bad_after=bad)
    world.run(begin(Strategy.blue_green, replicas, replicas))
    assert {share for _, _, _, shares in world.trace for share in shares.values()} <= {0.0, 100.0}
    for _, old, new, shares in world.trace:
        if shares.get(2) == 100.0 and bad is None:
            assert new == replicas
        if shares.get(1) == 100.0:
            assert old == replicas


@settings(max_examples=40, deadline=None)
@given(replicas=st.integers(1, 12), steps=st.lists(st.integers(1, 99), min_size=1, max_size=5, unique=True).map(sorted))
def test_a_canary_rises_step_by_step_and_holds_each(replicas: int, steps: list[int]) -> None:
    world = World(plan_of(Strategy.canary, steps=steps), replicas, replicas, room=2 * replicas)
    world.run(begin(Strategy.canary, replicas, replicas))
    given_ = [shares[2] for _, _, _, shares in world.trace if shares]
    assert given_ == sorted(given_)
    assert set(given_) == {0.0, *map(float, steps), 100.0}
    assert all(given_.count(float(step)) >= 3 for step in steps)
    for _, old, new, shares in world.trace:
        if shares and shares[2] < 100:
            assert old == replicas
            assert new >= shares[2] * replicas / 100 or shares[2] == 0


def test_a_canary_that_nobody_asks_waits_and_says_so() -> None:
    world = World(plan_of(Strategy.canary, steps=[10.0]), 1, 1, room=2, counted={2: Counted(19)})
    position, told = begin(Strategy.canary, 1, 1), []
    for _ in range(200):
        decision = policy.decide(position, world.view())
        position = decision.position
        told.append(position.rollout.reason)
        for revision, _count in decision.start:
            world.replicas["new"] = [revision, world.turns, False]
        assert not decision.stop
        world.turns, world.now = world.turns + 1, world.now + TURN
    assert "10 %: waiting for 20 requests to the new version" in told
    assert told[-1].startswith("held at 10 %: fewer than 20 requests to the new version in 63 s")
    assert (position.rollout.stage, position.rollout.step) == (Stage.shifting, 0)
    world.counted = {2: Counted(20)}
    assert world.run(position).stage is Stage.completed


def test_recreate_never_has_both() -> None:
    world = World(plan_of(Strategy.recreate), 3, 3, room=3)
    world.run(begin(Strategy.recreate, 3, 3))
    assert not any(old and new for _, old, new, _ in world.trace)


def test_errors_count_only_beyond_the_old_versions_and_the_bound() -> None:
    base = World(plan_of(Strategy.canary), 2, 2, room=4).view()
    position = begin(Strategy.canary, 2, 2)
    for old, new, stage in (
        (Counted(100, 0), Counted(19, 19), Stage.starting),  # too few to judge
        (Counted(100, 0), Counted(100, 5), Stage.starting),  # at the bound
        (Counted(100, 50), Counted(100, 40), Stage.starting),  # the old one is worse
        (Counted(100, 0), Counted(100, 6), Stage.rolled_back),  # nothing of it is there: at once
    ):
        view = msgspec.structs.replace(base, counted={1: old, 2: new})
        assert policy.decide(position, view).position.rollout.stage is stage


def test_what_does_not_come_up_is_given_up_after_the_deadline() -> None:
    world = World(plan_of(Strategy.rolling), 2, 2, room=2)  # no room for the surge
    ended = world.run(begin(Strategy.rolling, 2, 2))
    assert ended.stage is Stage.rolled_back
    assert "no progress for 60 s" in ended.trouble
    assert "no room for more" in ended.trouble


def test_paused_holds_and_still_goes_back() -> None:
    world = World(plan_of(Strategy.canary), 2, 2, room=4)
    position = begin(Strategy.canary, 2, 2)
    held = msgspec.structs.replace(position, rollout=msgspec.structs.replace(position.rollout, paused_by="bob"))
    decision = policy.decide(held, world.view())
    assert (decision.start, decision.stop) == ((), ())
    late = msgspec.structs.replace(world.view(), now=9999.0)
    assert policy.decide(decision.position, late).position.rollout.stage is Stage.starting  # its deadline does not run
    broken = msgspec.structs.replace(world.view(), counted={2: Counted(100, 100)})
    assert policy.decide(held, broken).position.rollout.stage is Stage.rolled_back


@pytest.mark.parametrize("strategy", Strategy)
def test_nobody_is_stopped_while_the_balancer_does_not_do_its_part(strategy: Strategy) -> None:
    world = World(plan_of(strategy), 2, 2, room=8)
    position = begin(strategy, 2, 2)
    view = msgspec.structs.replace(world.view(), blocked="its port is taken")
    decision = policy.decide(position, view)
    assert (decision.start, decision.stop) == ((), ())
    assert "its port is taken" in decision.position.rollout.reason
    late = policy.decide(decision.position, msgspec.structs.replace(view, now=view.now + 61))
    assert "no progress for 60 s: its port is taken" in late.position.rollout.trouble
    assert policy.decide(begin(strategy, 0, 2), view).start  # where nothing is served yet nothing is lost


def test_a_replica_on_a_lost_node_is_replaced_and_not_blamed() -> None:
    lost = Sight("a", 2, "n", ReplicaState.lost, Fitness.healthy)
    view = View(1.0, 2, plan_of(Strategy.blue_green), (lost,), 5)
    decision = policy.decide(begin(Strategy.blue_green, 2, 2), view)
    assert decision.start == ((2, 2),)
    assert decision.position.rollout.stage is Stage.starting


@pytest.mark.parametrize("stage", [Stage.starting, Stage.rolling_back])
def test_after_a_restart_nobody_is_stopped_before_he_was_looked_at(stage: Stage) -> None:
    running = [Sight(f"r{number}", 1 + number % 2, "n", ReplicaState.running, Fitness.unknown) for number in range(4)]
    position = begin(Strategy.rolling, 2, 2)
    rollout = msgspec.structs.replace(position.rollout, stage=stage, trouble="ill" if stage is Stage.rolling_back else "")
    decision = policy.decide(Position(rollout), View(1.0, 2, plan_of(Strategy.rolling), tuple(running), 9))
    assert decision.stop == ()


def seen(name: str, node: str, *, revision: int = 1, state: ReplicaState = ReplicaState.running, **more: object) -> Sight:
    fitness = Fitness.healthy if not more.get("bad_s") else Fitness.unhealthy
    return Sight(name, revision, node, state, fitness, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sights", "start", "stop"),
    [
        ([seen("a", "x"), seen("b", "y")], 0, ()),
        ([seen("a", "x")], 1, ()),
        ([seen("a", "x"), seen("b", "x"), seen("c", "y")], 0, ("b",)),  # the most crowded node gives one up
        ([seen("a", "x"), seen("b", "y"), seen("old", "z", revision=0)], 0, ("old",)),
        ([seen("a", "x"), seen("b", "y", bad_s=50.0)], 0, ()),
        ([seen("a", "x"), seen("b", "y", bad_s=61.0)], 0, ("b",)),
        ([seen("a", "x"), seen("b", "y", state=ReplicaState.lost, silent_s=10.0)], 0, ()),
        ([seen("a", "x"), seen("b", "y", state=ReplicaState.lost, silent_s=301.0)], 1, ()),
    ],
)
def test_upkeep(sights: list[Sight], start: int, stop: tuple[str, ...]) -> None:
    for number, sight in enumerate(sights):
        sights[number] = msgspec.structs.replace(sight, port=8000 + number)
    need = steady(sights, 1, 2, replace_after=300.0, restart_after=60.0)
    assert (need.start, need.stop) == (start, stop)

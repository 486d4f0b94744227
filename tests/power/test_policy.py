"""The power policy: each way from phase to phase, and random histories."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.core.power.model import Level, Phase, Setting, Supply
from appliance.core.power.policy import Limits, PolicyState, Seen, Transition, grace_left, level_of, step

LIMITS = Limits()
OL, OB, GONE = Seen(Supply.mains, 90), Seen(Supply.battery, 90), Seen()


class Walk:
    """A policy that is led through looks, each a quarter of a second after the one before."""

    def __init__(self, limits: Limits = LIMITS, setting: Setting = Setting.auto) -> None:
        self.limits, self.setting, self.now = limits, setting, 100.0
        self.state = PolicyState()
        self.told: list[tuple[float, Transition]] = []

    def look(self, seen: Seen, seconds: float = 0.25, every: float = 0.25) -> Walk:
        ends = self.now + seconds
        while self.now < ends - 1e-9:
            self.now += every
            self.state, moved = step(self.state, seen, self.setting, self.limits, self.now)
            self.told += [(self.now, each) for each in moved]
        return self

    @property
    def phases(self) -> list[Phase]:
        return [each.after for _, each in self.told]


def on(percent: float | None, **more: Any) -> Seen:
    return Seen(Supply.battery, percent, **more)


def test_an_outage_goes_through_every_phase_and_back() -> None:
    walk = Walk().look(OL, 2)
    assert walk.state.phase is Phase.grid
    walk.look(OB, 2).look(on(19), 10).look(on(9), 10)
    assert walk.phases == [Phase.grid, Phase.battery, Phase.low, Phase.critical]
    walk.look(on(9), 60)
    assert walk.phases[-1] is Phase.shutdown
    walk.look(OL, 11)
    assert walk.phases[-1] is Phase.grid
    assert walk.told[-1][1].reason == "mains came back during the shutdown"


def test_nothing_that_answers_is_unknown_and_never_mains() -> None:
    assert Walk().look(GONE, 3600, 1).state.phase is Phase.unknown
    walk = Walk().look(OL, 2).look(GONE, 3)
    assert walk.state.phase is Phase.unknown
    assert "unknown" in walk.state.reason


def test_battery_is_told_within_a_second_and_mains_must_hold() -> None:
    walk = Walk().look(OL, 2)
    began = walk.now
    walk.look(OB, 1)
    assert walk.told[-1][0] - began <= LIMITS.battery_after + 0.5
    walk.look(OL, 9).look(OB, 1).look(OL, 9)
    assert walk.state.phase is Phase.battery, "mains that flaps is no mains"
    assert walk.look(OL, 2).state.phase is Phase.grid


def test_one_look_alone_changes_nothing() -> None:
    walk = Walk().look(OL, 2)
    assert walk.look(OB, 0.25).look(OL, 5).phases == [Phase.grid]


def test_a_ups_that_vanishes_on_battery_is_waited_for_then_unknown_and_shuts_nothing_down() -> None:
    for percent in (90, 15):
        walk = Walk().look(OL, 2).look(on(percent), 20)
        before = walk.state.phase
        assert walk.look(GONE, 29).state.phase is before
        assert walk.look(GONE, 2).state.phase is Phase.unknown
        assert walk.look(GONE, 3600, 1).state.phase is Phase.unknown


def test_a_ups_that_vanishes_when_it_was_critical_leaves_the_shutdown_armed() -> None:
    walk = Walk().look(OL, 2).look(on(9), 10)
    assert walk.state.phase is Phase.critical
    left = grace_left(walk.state, LIMITS)
    assert left is not None
    walk.look(GONE, left + 1)
    assert walk.phases[-1] is Phase.shutdown
    assert "does not answer" in walk.told[-1][1].reason


def test_the_grace_goes_on_while_mains_flaps() -> None:
    walk = Walk().look(OL, 2).look(on(5), 10)
    for _ in range(20):
        walk.look(OL, 3).look(on(5), 3)
    assert walk.phases[-1] is Phase.shutdown


def test_no_shutdown_begins_at_the_very_moment_that_mains_is_there() -> None:
    walk = Walk().look(OL, 2).look(on(5), 60)
    assert walk.state.phase is Phase.critical
    walk.look(OL, 9)
    assert walk.state.phase is Phase.critical
    assert walk.look(OL, 2).state.phase is Phase.grid


def test_the_ups_own_word_for_low_is_critical() -> None:
    assert Walk().look(OL, 2).look(on(80, low=True), 10).phases[-1] is Phase.critical
    walk = Walk().look(OL, 2).look(on(None, low=True), 10)
    assert walk.phases[-1] is Phase.critical
    assert walk.look(on(None, low=False), 10).phases[-1] is Phase.low
    assert walk.look(on(None, low=False), 100).phases[-1] is Phase.low, "it does not say that it is well"


def test_a_forced_shutdown_is_obeyed_at_once_and_left_only_with_mains_and_without_the_order() -> None:
    walk = Walk().look(OL, 2).look(Seen(Supply.mains, 90, forced=True), 0.25)
    assert walk.phases[-1] is Phase.shutdown
    assert "FSD" in walk.state.reason
    assert walk.look(Seen(Supply.mains, 90, forced=True), 60).state.phase is Phase.shutdown
    assert walk.look(OL, 11).state.phase is Phase.grid


def test_minutes_left_by_the_ups_count() -> None:
    assert Walk().look(OL, 2).look(on(80, runtime=290), 10).phases[-1] is Phase.low
    assert Walk().look(OL, 2).look(on(80, runtime=100), 10).phases[-1] is Phase.critical
    quiet = Limits(low_runtime=0, critical_runtime=0)
    assert Walk(quiet).look(OL, 2).look(on(80, runtime=1), 10).phases[-1] is Phase.battery


def test_the_longest_time_on_battery_counts() -> None:
    walk = Walk(Limits(longest=120)).look(OL, 2).look(OB, 119)
    assert walk.state.phase is Phase.battery
    assert walk.look(OB, 10).state.phase is Phase.critical
    assert walk.look(OB, 60).state.phase is Phase.shutdown


def test_a_charge_that_hovers_at_a_limit_does_not_oscillate() -> None:
    walk = Walk().look(OL, 2).look(OB, 2)
    for _ in range(50):
        walk.look(on(19.5), 6).look(on(20.5), 6)
    assert walk.phases == [Phase.grid, Phase.battery, Phase.low]
    assert walk.look(on(24), 6).phases[-1] is Phase.battery


def test_above_the_limit_critical_waits_and_does_not_shut_down() -> None:
    walk = Walk().look(OL, 2).look(on(9), 10).look(on(11), 300)
    assert walk.state.phase is Phase.critical
    assert walk.look(on(9), 1).state.phase is Phase.shutdown


def test_silence_above_the_limit_is_ignorance_even_in_critical() -> None:
    walk = Walk().look(OL, 2).look(on(9), 10).look(on(11), 100).look(GONE, 29)
    assert walk.state.phase is Phase.critical
    walk.look(GONE, 600)
    assert walk.state.phase is Phase.unknown
    assert Phase.shutdown not in walk.phases


def test_a_charge_that_is_not_told_any_more_has_not_grown() -> None:
    assert Walk().look(OL, 2).look(on(9), 10).look(on(None), 70).phases[-1] is Phase.shutdown
    assert Walk().look(OL, 2).look(on(15), 10).look(on(None), 600).phases[-1] is Phase.low
    assert Walk().look(OL, 2).look(on(9), 10).look(on(11), 10).look(on(None), 600).phases[-1] is Phase.critical


def test_another_aim_begins_anew() -> None:
    walk = Walk().look(OL, 2).look(OB, 2).look(OL, 9)
    assert walk.look(on(15), 1).state.phase is Phase.battery, "nine seconds of mains are none of a low charge"
    assert walk.look(on(15), 5).state.phase is Phase.low


def test_on_grid_is_grid_whatever_the_ups_says_but_an_order() -> None:
    walk = Walk(setting=Setting.on_grid).look(on(3), 300)
    assert walk.phases == [Phase.grid]
    assert walk.look(on(3, forced=True)).phases[-1] is Phase.shutdown


def test_off_grid_is_battery_even_with_mains_or_without_a_ups() -> None:
    assert Walk(setting=Setting.off_grid).look(OL, 60).phases == [Phase.battery]
    assert Walk(setting=Setting.off_grid).look(GONE, 3600, 1).phases == [Phase.battery]
    assert Walk(setting=Setting.off_grid).look(Seen(Supply.mains, 5), 80).phases[-1] is Phase.shutdown


@pytest.mark.parametrize("jump", [3600.0, 1e9, -3600.0])
def test_a_clock_that_jumps_triggers_nothing(jump: float) -> None:
    walk = Walk().look(OL, 2).look(on(5), 20)
    assert walk.state.phase is Phase.critical
    walk.now += jump
    assert walk.look(on(5)).state.phase is Phase.critical
    other = Walk().look(OL, 2).look(OB, 2)
    other.now += jump
    assert other.look(OL).state.phase is Phase.battery


def test_levels_are_those_of_the_contract() -> None:
    told = {percent: level_of(percent, LIMITS) for percent in (100, 95, 94.9, 70, 69, 20, 19.9, 10, 9.9, 0)}
    assert list(told.values()) == [
        Level.full, Level.full, Level.high, Level.high, Level.normal, Level.normal, Level.low, Level.low, Level.critical,
        Level.critical,
    ]  # fmt: skip
    assert level_of(None, LIMITS) is Level.unknown


LOOKS = st.builds(
    Seen,
    st.sampled_from(Supply),
    st.one_of(st.none(), st.floats(0, 100), st.sampled_from([9.9, 10.0, 10.1, 12.9, 13.0, 19.9, 20.0, 23.0])),
    st.one_of(st.none(), st.floats(0, 7200)),
    st.one_of(st.none(), st.booleans()),
    st.booleans().map(lambda _: False),
)
HISTORIES = st.lists(st.tuples(LOOKS, st.floats(0.05, 120), st.floats(0.05, 8)), max_size=40)


def below(seen: Seen) -> bool:
    """Below a limit of critical, by what it tells."""
    charge = seen.percent is not None and seen.percent < LIMITS.critical
    left = seen.runtime is not None and seen.runtime < LIMITS.critical_runtime
    return seen.supply is Supply.battery and (charge or left or bool(seen.low))


def told_anything(seen: Seen) -> bool:
    return seen.percent is not None or seen.runtime is not None or seen.low is not None


def looks(history: Iterable[tuple[Seen, float, float]]) -> Iterable[tuple[Seen, float]]:
    """A history as looks with the seconds before each."""
    for seen, seconds, every in history:
        for _ in range(max(1, int(seconds / every))):
            yield seen, every


@settings(max_examples=200, deadline=None)
@given(HISTORIES)
def test_random_histories(history: list[tuple[Seen, float, float]]) -> None:
    """No oscillation; never a shutdown above the limits, always one below; what does not answer is never mains."""
    state, now, moves = PolicyState(), 0.0, []
    last_below = False
    low_for = silent = 0.0
    for seen, every in looks(history):
        now += every
        before = state
        state, moved = step(state, seen, Setting.auto, LIMITS, now)
        if (told_anything(seen) and seen.supply is not Supply.unknown) or seen.supply is Supply.mains:
            last_below = below(seen)
        low_for = low_for + min(every, 5.0) if below(seen) else 0.0
        silent = silent + min(every, 5.0) if seen.supply is Supply.unknown else 0.0
        moves += [now for _ in moved]
        for each in moved:
            assert each.before is before.phase
            assert each.after is state.phase
            if each.after is Phase.shutdown:
                assert each.before is Phase.critical
                assert last_below, "shut down above the limits"
                assert seen.supply is not Supply.mains
            if each.after is Phase.grid:
                assert seen.supply is Supply.mains, "said to be on mains by ignorance"
        if silent > LIMITS.unknown_after + 2 * 5.0:
            assert state.phase is not Phase.grid
        if low_for > LIMITS.battery_after + LIMITS.level_after + LIMITS.grace + 6 * 5.0:
            assert state.phase is Phase.shutdown, "never shut down below the limits"
    shortest = min(LIMITS.battery_after, LIMITS.level_after, LIMITS.unknown_after, LIMITS.mains_after)
    gaps = [later - earlier for earlier, later in pairwise(moves)]
    assert all(gap >= min(shortest, 0.05) for gap in gaps)
    assert len(moves) <= 2 + now / shortest


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([OL, OB]), st.floats(0.2, 15)), max_size=60))
def test_flapping_mains_changes_the_phase_no_more_often_than_mains_holds(flaps: list[tuple[Seen, float]]) -> None:
    walk = Walk().look(OL, 2)
    began = walk.now
    for seen, seconds in flaps:
        walk.look(seen, seconds, 0.2)
    back = sum(each is Phase.grid for each in walk.phases[1:])
    assert back <= (walk.now - began) / LIMITS.mains_after
    assert len(walk.phases) <= 2 * back + 2


def after(percents: Iterable[float]) -> Phase:
    """The phase after looks that come every half second, from battery on."""
    state = PolicyState(phase=Phase.battery, now=0.0)
    for at, percent in enumerate(percents, 1):
        state, _ = step(state, Seen(Supply.battery, percent), Setting.auto, Limits(), at / 2)
    return state.phase


def test_a_charge_about_a_limit_holds_up_neither_of_two_phases() -> None:
    assert after([9.9, 10.1] * 10) is Phase.low
    assert after([9.9] * 20) is Phase.critical
    assert after([10.1, *[9.9] * 30]) is Phase.critical


@pytest.mark.parametrize(("setting", "supply"), [(Setting.on_grid, Supply.mains), (Setting.off_grid, Supply.battery)])
def test_the_reason_of_a_setting_goes_with_it(setting: Setting, supply: Supply) -> None:
    state = PolicyState(phase=Phase.grid, now=0.0)
    for at in range(1, 40):
        state, _ = step(state, Seen(supply, 80.0), setting, Limits(), float(at))
    assert state.reason == f"the setting is {setting}" or state.phase is Phase.grid
    for at in range(40, 80):
        state, _ = step(state, Seen(supply, 80.0), Setting.auto, Limits(), float(at))
    assert state.reason.startswith("the UPS says")


def test_an_order_that_ended_leaves_nothing_to_wait_for() -> None:
    """Where no UPS answers, battery was only the operator's word; it goes with it."""
    walk = Walk(setting=Setting.off_grid).look(GONE, 60)
    walk.setting = Setting.auto
    assert walk.look(GONE, 3).phases == [Phase.battery, Phase.unknown]


def test_mains_that_never_went_did_not_come_back() -> None:
    state, _ = step(PolicyState(phase=Phase.grid, now=0.0), Seen(Supply.mains), Setting.off_grid, Limits(), 1.0)
    assert state.phase is Phase.battery
    for at in range(2, 20):
        state, _ = step(state, Seen(Supply.mains), Setting.auto, Limits(), float(at))
    assert (state.phase, state.reason) == (Phase.grid, "the UPS says that mains is there")

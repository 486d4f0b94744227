"""The policy as pure functions: what must hold whatever is known."""

from __future__ import annotations

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.core.llm.model import HOUSE, Decision, Kind, ModelInfo, Operation, Place, Privacy, Strategy, Wishes
from appliance.core.llm.policy import (
    Ask,
    Ground,
    View,
    cost,
    decide,
    expected_ms,
    house_only,
    model_missing,
    same,
    strategy_of,
)

NAMES = st.sampled_from(["llama3.2:latest", "qwen3:4b", "chat", ""])
MODELS = st.builds(
    ModelInfo, name=st.sampled_from(["llama3.2:latest", "qwen3:4b", "large"]),
    context=st.none() | st.integers(1, 200_000),
    capabilities=st.none() | st.lists(st.sampled_from(["completion", "tools", "vision", "embedding"])).map(tuple),
)  # fmt: skip
NUMBER = st.none() | st.floats(0, 1e6)
VIEWS = st.lists(
    st.builds(
        View, name=st.text("abcdefgh", min_size=3, max_size=3), place=st.sampled_from(Place), kind=st.sampled_from(Kind),
        models=st.none() | st.lists(MODELS, max_size=3).map(tuple), well=st.booleans(), trouble=st.just("why"),
        switch=st.sampled_from(["", "", "draining", "halted"]), in_flight=st.integers(0, 5), limit=st.integers(1, 5),
        queue=st.integers(0, 5), queue_limit=st.integers(0, 5), first_token_ms=NUMBER, tokens_per_s=NUMBER,
        error_rate=st.none() | st.floats(0, 1), price_in=st.none() | st.floats(0, 100), price_out=st.none() | st.floats(0, 100),
    ), max_size=4, unique_by=lambda view: view.name,
)  # fmt: skip
WISHES = st.builds(
    Wishes, privacy=st.sampled_from(Privacy), strategy=st.none() | st.sampled_from(Strategy),
    place=st.none() | st.sampled_from(Place), max_cost=st.none() | st.floats(0, 1),
)  # fmt: skip
ASKS = st.builds(
    Ask, model=NAMES, operation=st.sampled_from(Operation), wishes=WISHES, bytes_in=st.integers(0, 10**7),
    tokens_out=st.none() | st.integers(1, 10**5), tools=st.booleans(), vision=st.booleans(), raw=st.booleans(),
)  # fmt: skip
GROUNDS = st.builds(
    Ground, strategy=st.sampled_from(Strategy), cloud_fallback=st.booleans(),
    power=st.sampled_from([None, "edge-first", "edge-only"]),
    aliases=st.sampled_from([{}, {"chat": {Place.edge: "llama3.2", Place.cloud: "large"}}]),
    capped=st.sampled_from(["", "the cap is reached"]),
)  # fmt: skip


ENOUGH = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
RANKS = {
    Strategy.edge_first: (Place.edge, Place.agent, Place.cloud), Strategy.edge_only: (Place.edge, Place.agent),
    Strategy.cloud_first: (Place.cloud, Place.edge, Place.agent),
}  # fmt: skip


@ENOUGH
@given(ASKS, VIEWS, GROUNDS)
def test_what_must_hold_whatever_is_known(ask: Ask, views: list[View], ground: Ground) -> None:
    decision = decide(ask, views, ground)
    each_is_chosen_or_passed_with_a_reason(decision, views)
    assert decision == decide(ask, views, ground), "the same facts, the same decision"
    off = {view.name for view in views if view.switch}
    assert off.isdisjoint(each.endpoint for each in decision.choices), "whoever is switched off is not asked"
    the_order_is_kept(decision)
    what_must_stay_in_the_house_stays(ask, views, ground)
    failures_leave_nobody_out(ask, views, ground)
    who_is_asked_for_by_name_alone_is_asked(ask, views, ground)


def each_is_chosen_or_passed_with_a_reason(decision: Decision, views: list[View]) -> None:
    names = [each.endpoint for each in decision.choices] + [each.endpoint for each in decision.passed]
    assert sorted(names) == sorted(view.name for view in views)
    assert all(each.why for each in decision.passed)
    assert all(each.why and each.model for each in decision.choices)


def the_order_is_kept(decision: Decision) -> None:
    marks = [each.last_resort for each in decision.choices]
    assert marks == sorted(marks), "the last resort comes last"
    for mark in (False, True):
        alike = [each for each in decision.choices if each.last_resort is mark]
        if decision.strategy in RANKS:
            places = [RANKS[decision.strategy].index(each.place) for each in alike]
            assert places == sorted(places)
        else:
            times = [each.expected_ms for each in alike if each.expected_ms is not None]
            assert times == sorted(times), "balanced takes the least expected time"


def what_must_stay_in_the_house_stays(ask: Ask, views: list[View], ground: Ground) -> None:
    private = msgspec.structs.replace(ask, wishes=msgspec.structs.replace(ask.wishes, privacy=Privacy.edge_only))
    assert house_only(decide(private, views, ground).choices)
    assert house_only(decide(ask, views, msgspec.structs.replace(ground, power="edge-only")).choices)
    assert house_only(decide(ask, views, msgspec.structs.replace(ground, capped="the cap is reached")).choices)


def failures_leave_nobody_out(ask: Ask, views: list[View], ground: Ground) -> None:
    sick = [msgspec.structs.replace(view, well=False, trouble="it rests", error_rate=1.0) for view in views]
    chosen = {each.endpoint for each in decide(ask, views, ground).choices}
    assert {each.endpoint for each in decide(ask, sick, ground).choices} == chosen
    assert all(each.last_resort for each in decide(ask, sick, ground).choices)


def who_is_asked_for_by_name_alone_is_asked(ask: Ask, views: list[View], ground: Ground) -> None:
    for view in views:
        wanted = msgspec.structs.replace(ask, wishes=msgspec.structs.replace(ask.wishes, endpoint=view.name))
        assert {each.endpoint for each in decide(wanted, views, ground).choices} <= {view.name}


@ENOUGH
@given(VIEWS.filter(bool), st.integers(1, 1000))
def test_load_and_failures_only_lengthen_the_expected_time(views: list[View], tokens: int) -> None:
    view = views[0]
    busier = msgspec.structs.replace(view, in_flight=view.in_flight + 1)
    worse = msgspec.structs.replace(view, error_rate=1.0)
    assert 0 <= expected_ms(view, tokens) <= min(expected_ms(busier, tokens), expected_ms(worse, tokens)) * (1 + 1e-9)


def test_the_power_goes_before_wishes_and_wishes_before_settings() -> None:
    plain = Ground(strategy=Strategy.balanced)
    battery, low = (Ground(strategy=Strategy.cloud_first, power=each) for each in ("edge-first", "edge-only"))
    assert strategy_of(None, plain)[0] is Strategy.balanced
    assert strategy_of(Strategy.cloud_first, plain)[0] is Strategy.cloud_first
    assert strategy_of(Strategy.cloud_first, battery)[0] is Strategy.edge_first
    assert strategy_of(Strategy.edge_only, battery)[0] is Strategy.edge_only
    assert strategy_of(Strategy.cloud_first, low)[0] is Strategy.edge_only


def test_a_price_is_not_made_up() -> None:
    view = View(name="far", place=Place.cloud, price_in=1.0, price_out=3.0)
    assert cost(view, 1_000_000, 1_000_000) == 4.0
    assert cost(view, 1_000_000, None) is None
    assert cost(View(name="home", place=Place.edge), 10, 10) is None


def test_what_does_not_fit_or_cannot_be_done_is_passed_with_why() -> None:
    small = ModelInfo("m", context=1000, capabilities=("completion",))
    view = View(name="home", place=Place.edge, models=(small,), queue_limit=1)
    reasons = {
        "takes 1000": Ask(model="m", bytes_in=60_000), "cannot do tools": Ask(model="m", tools=True),
        "cannot do vision": Ask(model="m", vision=True), "cannot do embedding": Ask(model="m", operation=Operation.embed),
        "no model other": Ask(model="other"),
    }  # fmt: skip
    for words, ask in reasons.items():
        decision = decide(ask, [view], Ground(strategy=Strategy.edge_first))
        assert not decision.choices
        assert words in decision.passed[0].why
    priced = msgspec.structs.replace(view, price_in=10.0)
    dear = Ask(model="m", bytes_in=4000, wishes=Wishes(max_cost=0.001))
    assert "would cost" in decide(dear, [priced], Ground(strategy=Strategy.edge_first)).passed[0].why


def test_off_means_no_cloud_behind_the_edge_but_for_whom_asks_for_it() -> None:
    far = View(name="far", place=Place.cloud, queue_limit=1)
    ground = Ground(strategy=Strategy.edge_first, cloud_fallback=False)
    assert not decide(Ask(model="m"), [far], ground).choices
    assert decide(Ask(model="m", wishes=Wishes(place=Place.cloud)), [far], ground).choices


def test_names_without_a_tag_mean_the_latest() -> None:
    assert same("llama3.2", "llama3.2:latest")
    assert same("llama3.2:latest", "llama3.2")
    assert not same("llama3.2:1b", "llama3.2")


def test_a_missing_model_is_told_only_where_all_tell_what_they_have() -> None:
    knows = View(name="home", place=Place.edge, models=(ModelInfo("llama3.2:latest"),))
    silent = View(name="far", place=Place.cloud)
    ground = Ground(strategy=Strategy.edge_first)
    assert model_missing(Ask(model="llama3.1"), [knows], ground) == ("llama3.2:latest",)
    assert model_missing(Ask(model="llama3.1"), [knows, silent], ground) is None
    assert model_missing(Ask(model="llama3.2"), [knows], ground) is None


def test_the_house_is_what_is_not_the_cloud() -> None:
    assert set(Place) - HOUSE == {Place.cloud}

"""What is believed of a UPS, how long its charge lasts, and which of several counts."""

from __future__ import annotations

import math
from typing import Any

import pytest

from appliance.core.power.belief import AGREE, HOLD, STUCK, Belief, Believed
from appliance.core.power.combine import Look, combine, feeding
from appliance.core.power.model import Supply, UpsReading
from appliance.core.power.trend import Trend

NAN, INF = math.nan, math.inf


def at(moment: float, **more: Any) -> UpsReading:
    values: dict[str, Any] = {"supply": Supply.battery, "percent": 80.0, "voltage": 12.0}
    return UpsReading(time=moment, monotonic=moment, **{**values, **more})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("percent", NAN), ("percent", 101.0), ("percent", -1.0), ("percent", INF), ("voltage", 0.0), ("voltage", NAN),
        ("voltage", 1e6), ("current", -INF), ("power", -5.0), ("runtime", -1.0), ("runtime", NAN), ("temperature_c", 900.0),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_and_the_last_true_value_kept_with_its_age(field: str, value: float) -> None:
    belief = Belief()
    good = {"percent": 80.0, "voltage": 12.0, "current": -1.0, "power": 20.0, "runtime": 600.0, "temperature_c": 30.0}
    assert belief.judge(at(0, **good)).refused == ()
    judged = belief.judge(at(7, **{**good, field: value}))
    assert len(judged.refused) == 1
    assert field in judged.refused[0]
    assert getattr(judged.reading, field) == good[field]
    assert judged.reading.ages[field] == 7
    late = belief.judge(at(HOLD + 1, **{**good, field: value}))
    assert getattr(late.reading, field) is None


def test_a_first_look_that_cannot_be_leaves_the_field_unknown() -> None:
    assert Belief().judge(at(0, percent=NAN)).reading.percent is None


def jump(belief: Belief, moment: float, percent: float) -> Believed:
    return belief.judge(at(moment, percent=percent, voltage=12 + moment / 1000))


def test_a_jump_is_believed_when_looks_in_a_row_agree() -> None:
    belief = Belief()
    jump(belief, 0, 80)
    for index in range(AGREE - 1):
        judged = jump(belief, 1 + index, 30)
        assert judged.reading.percent == 80
        assert "jumps from 80 to 30" in judged.refused[0]
    assert jump(belief, AGREE, 30).refused == ()
    assert jump(belief, AGREE + 1, 30).reading.percent == 30


def test_glitches_that_do_not_agree_are_never_believed() -> None:
    belief = Belief()
    jump(belief, 0, 80)
    for index, percent in enumerate((3, 40, 5, 45, 0, 35) * 3):
        assert jump(belief, 1 + index * 0.5, percent).reading.percent == 80


def test_what_falls_in_time_is_no_jump() -> None:
    belief = Belief()
    jump(belief, 0, 80)
    assert jump(belief, 60, 20).refused == ()


def test_a_gauge_that_is_stuck_on_battery_is_not_believed_for_ever() -> None:
    belief = Belief()
    for moment in range(0, int(STUCK) + 1, 60):
        assert belief.judge(at(moment)).refused == ()
    judged = belief.judge(at(STUCK + 60))
    assert "has not moved for" in judged.refused[0]
    assert belief.judge(at(STUCK + HOLD + 200)).reading.percent is None
    assert belief.judge(at(STUCK + HOLD + 260, voltage=11.9)).refused == (), "another number moves: it lives"
    mains = Belief()
    for moment in range(0, 2 * int(STUCK), 60):
        assert mains.judge(at(moment, supply=Supply.mains, percent=100.0)).refused == ()


def test_the_trend_says_how_long_the_charge_lasts() -> None:
    trend = Trend()
    assert trend.runtime(80) is None
    for moment in range(0, 300, 5):
        trend.add(at(moment, percent=80 - moment / 60))
    left = trend.runtime(75)
    assert left is not None
    assert left == pytest.approx(75 * 60, rel=0.02)
    trend.add(at(301, supply=Supply.mains))
    assert trend.runtime(75) is None, "another outage is another load"


def test_a_charge_that_rises_or_stands_has_no_end() -> None:
    trend = Trend()
    for moment in range(0, 600, 5):
        trend.add(at(moment, percent=50 + moment / 100))
    assert trend.runtime(56) is None


def look(name: str, supply: Supply | None, percent: float | None = 80.0, **more: Any) -> Look:
    return Look(name, None if supply is None else at(0, supply=supply, percent=percent, **more))


def test_the_only_one_feeds_us() -> None:
    found = combine([look("sysfs:BAT0", Supply.mains)], ())
    assert (found.names, found.reason, found.problem) == (("sysfs:BAT0",), "sysfs:BAT0", "")
    assert combine([], ()).seen.supply is Supply.unknown


def test_others_are_only_watched() -> None:
    looks = [look("nut:rack@10.0.0.9", Supply.battery, 3), look("max17048@1-36", Supply.mains)]
    found = combine(looks, ("max17048",))
    assert found.names == ("max17048@1-36",)
    assert found.seen.supply is Supply.mains
    assert feeding(["nut:rack@10.0.0.9", "nut:racks@h"], ("nut:rack",))[0] == ("nut:rack@10.0.0.9",)


def test_two_that_disagree_give_the_worse_one_with_the_reason() -> None:
    looks = [look("a", Supply.mains, 90, runtime=900.0), look("b", Supply.battery, 40)]
    found = combine(looks, ("a", "b"))
    assert (found.seen.supply, found.seen.percent, found.seen.runtime) == (Supply.battery, 40, 900.0)
    assert "disagree (a: mains, b: battery)" in found.reason
    assert "worse" in found.reason


def test_mains_needs_all_that_feed_us_to_say_so() -> None:
    assert combine([look("a", Supply.mains), look("b", None)], ("a", "b")).seen.supply is Supply.unknown
    gone = combine([look("a", Supply.mains)], ("a", "b"))
    assert gone.seen.supply is Supply.unknown
    assert "b was not found" in gone.problem


def test_several_and_nobody_said_which_is_told() -> None:
    found = combine([look("a", Supply.mains), look("b", Supply.battery)], ())
    assert found.seen.supply is Supply.battery
    assert "nobody said which" in found.problem
    assert "power.feeds" in found.next_step

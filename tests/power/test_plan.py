"""Power plans as documents: what is refused and how, what is due when, and what an outage would do."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from appliance import config, paths
from appliance.core.power.due import Figures, coming, due
from appliance.core.power.model import Phase, Setting
from appliance.core.power.plan import DEFAULT, Plan, check, parse
from appliance.core.power.policy import Limits
from appliance.core.power.simulate import Assumed, simulate
from appliance.errors import ConfigError, PlanError

STAGE = '[[stages]]\nname = "a"\nphase = "low"\nsteps = [{ do = "drain-outbox" }]\n'
SERVICES = ("sources", "inference", "quality", "store", "power")


def test_the_plan_that_ships_is_one_and_fits() -> None:
    plan = parse(DEFAULT)
    check(plan, SERVICES, ())
    assert [stage.name for stage in plan.stages] == ["shed", "drain", "services", "halt"]


@pytest.mark.parametrize(
    ("text", "what", "step"),
    [
        ("[[stages]\n", "not valid TOML", ""),
        ("", "missing required field", ""),
        ("margin = 3\n" + STAGE, "margin is no key", "margin_seconds"),
        (STAGE.replace("phase", "phaze"), r"stages\[0\].phaze", "did you mean phase"),
        (STAGE.replace("drain-outbox", "drain-otbox"), "no step 'drain-otbox'", "did you mean drain-outbox"),
        (STAGE.replace('phase = "low"\n', ""), "no condition", "percent_below"),
        (STAGE.replace('"low"', '"grid"'), "no stage begins in the phase grid", "battery, low"),
        (STAGE.replace('"low"', '"lo"'), "does not fit", ""),
        (STAGE + STAGE, "Two stages are called 'a'", ""),
        (STAGE.replace('"a"', '"A b"'), "no name of a stage", ""),
        (STAGE + "limit_seconds = 0\n", "limit_seconds 0", ""),
        (STAGE + "percent_below = 140\n", "percent_below 140", ""),
        (STAGE.replace('do = "drain-outbox"', 'do = "stop-services"'), "needs names", ""),
        (STAGE.replace('do = "drain-outbox"', 'do = "power-down"'), "needs node", ""),
        (STAGE.replace('do = "drain-outbox"', 'do = "run"'), "needs command", ""),
        (STAGE.replace('"drain-outbox" }', '"drain-outbox", node = "x" }'), "takes no node", ""),
        (STAGE.replace('{ do = "drain-outbox" }', '{ do = "halt" }, { do = "drain-outbox" }'), "very last|nothing else", ""),
        (STAGE.replace("drain-outbox", "halt") + STAGE.replace('"a"', '"b"'), "nothing else is done", ""),
        ("margin_seconds = -1\n" + STAGE, "margin_seconds", ""),
        (STAGE.split("steps", maxsplit=1)[0], "steps", ""),
    ],
)
def test_what_cannot_be_carried_out_is_refused_with_the_reason(text: str, what: str, step: str) -> None:
    with pytest.raises(PlanError, match=what) as fault:
        parse(text)
    assert step in fault.value.next_step
    assert fault.value.next_step


def test_what_a_plan_names_must_be_there() -> None:
    plan = parse(STAGE.replace('do = "drain-outbox"', 'do = "stop-services", names = ["surces"]'))
    with pytest.raises(PlanError, match="no service 'surces'") as fault:
        check(plan, SERVICES, ())
    assert fault.value.next_step == "did you mean sources?"
    with pytest.raises(PlanError, match="power must run"):
        check(parse(STAGE.replace('do = "drain-outbox"', 'do = "stop-services", names = ["power"]')), SERVICES, ())
    node = parse(STAGE.replace('do = "drain-outbox"', 'do = "power-down", node = "spark-agnet"'))
    with pytest.raises(PlanError, match="no machine 'spark-agnet'") as fault:
        check(node, SERVICES, ("spark-agent", "nas"))
    assert fault.value.next_step == "did you mean spark-agent?"
    with pytest.raises(PlanError) as fault:
        check(node, SERVICES, ())
    assert "[fleet.nodes.NAME]" in fault.value.next_step


STAGED = parse("""
margin_seconds = 60
[[stages]]
name = "one"
percent_below = 50
steps = [{ do = "shed-inference" }]
[[stages]]
name = "two"
minutes_left_below = 10
on_battery_minutes = 30
steps = [{ do = "drain-outbox" }]
[[stages]]
name = "three"
phase = "critical"
steps = [{ do = "power-down", node = "x" }]
""")
NEEDS = (10.0, 20.0, 30.0)


@pytest.mark.parametrize(
    ("figures", "count"),
    [
        (Figures(Phase.battery), 0),
        (Figures(Phase.battery, 49), 1),
        (Figures(Phase.grid, 3, 10), 0),
        (Figures(Phase.unknown, 3, 10), 0),
        (Figures(Phase.battery, 90, 599), 2),
        (Figures(Phase.battery, 90, None, 1800), 2),
        (Figures(Phase.critical, 90), 3),
        (Figures(Phase.shutdown), 3),
        (Figures(Phase.low, 90), 0),
    ],
)
def test_stages_are_due_in_their_order(figures: Figures, count: int) -> None:
    assert due(STAGED, figures, NEEDS)[0] == count


def early_plan() -> Plan:
    stages = tuple(msgspec.structs.replace(each, minutes_left_below=None, on_battery_minutes=None) for each in STAGED.stages)
    return msgspec.structs.replace(STAGED, stages=(stages[0], msgspec.structs.replace(stages[1], phase=Phase.low), stages[2]))


def test_what_can_be_taken_back_begins_early_and_nothing_else_does() -> None:
    plan = early_plan()
    assert due(plan, Figures(Phase.battery, 90, 121), NEEDS)[0] == 0
    count, why = due(plan, Figures(Phase.battery, 90, 119), NEEDS)
    assert (count, why) == (1, "early: 119 s are left, and the plan needs 120 s from here on")
    assert due(plan, Figures(Phase.battery, 90, 109), NEEDS)[0] == 2
    assert due(plan, Figures(Phase.battery, 90, 1), NEEDS)[0] == 2, "a machine is not powered down by an estimate"


def test_what_comes_is_told_with_the_time_to_it() -> None:
    found = coming(STAGED, 0, Figures(Phase.battery, 60, 1200, 60), NEEDS, Limits(), 0.05)
    assert [each.in_seconds for each in found] == [pytest.approx(200), pytest.approx(600), pytest.approx(1000)]
    assert "or less than 2.0 min are left" in found[0].when
    assert "less than" not in found[2].when
    assert [each.in_seconds for each in coming(STAGED, 1, Figures(Phase.grid), NEEDS, Limits(), None)] == [None, None]


def test_a_simulated_outage_walks_policy_and_plan() -> None:
    plan, needs = parse(DEFAULT), (5.0, 10.0, 5.0, 10.0)
    done = simulate(plan, needs, Limits(), Setting.auto, Assumed(80, 3600, "the UPS", "given"))
    what = [each.what for each in done.happenings]
    assert what == [
        "phase battery", "phase low", "stage shed", "stage drain", "phase critical", "stage services", "phase shutdown",
        "stage halt",
    ]  # fmt: skip
    assert done.enough is True
    times = {each.what: each.at for each in done.happenings}
    assert times["phase low"] == pytest.approx(2700 + 5, abs=10)
    assert times["stage drain"] == pytest.approx(times["stage shed"] + 5)
    assert simulate(plan, needs, Limits(), Setting.on_grid, done.assumed).happenings == ()


def test_a_plan_that_is_too_long_is_told() -> None:
    slow = (600.0, 600.0, 600.0, 600.0)
    done = simulate(parse(DEFAULT), slow, Limits(), Setting.auto, Assumed(30, 600, "given", "given"))
    assert done.enough is False
    assert "after the charge is at nothing" in done.verdict


def test_what_the_documentation_shows_works(tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "power.md").read_text()
    settings, plan = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    check(parse(plan), SERVICES, ("spark-agent",))
    (tmp_path / "config.toml").write_text(settings)
    given = {"BATTERY_LOW_THRESHOLD": "30", "POWER_MODE": "off-grid"}
    loaded = config.load(paths.find({"PRIME_SPARK_HOME": str(tmp_path)}), given)
    assert (loaded.power.low_percent, loaded.power.mode, loaded.power.feeds) == (30.0, "off-grid", ("nut:rack",))
    assert loaded.ups.nut["rack"].upses == ("rack",)
    with pytest.raises(ConfigError, match="is not below low_percent") as fault:
        config.load(paths.find({"PRIME_SPARK_HOME": str(tmp_path)}), {"BATTERY_CRITICAL_THRESHOLD": "25"})
    assert "BATTERY_LOW_THRESHOLD" in fault.value.next_step

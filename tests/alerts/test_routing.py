"""Who is told what, and when not."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from appliance.core.alerts.channels.grouping import Planner
from appliance.core.alerts.channels.model import Notice
from appliance.core.alerts.channels.routing import Quiet, labels_of, routes_of, ways
from appliance.core.model import AlertState, AlertStatus, Severity
from appliance.settingalerts import AlertSettings
from tests.alerts.rig import alert, settings

HOOK = {"kind": "webhook", "url": "http://192.0.2.1/"}
MIN = 60.0


def made(**route: Any) -> AlertSettings:
    return settings(channels={"a": HOOK, "b": HOOK}, routes={"r": {"channels": ["a"], **route}})


class Plan:
    """A planner with its clocks."""

    def __init__(self, wanted: AlertSettings, tells_end: tuple[str, ...] = ("a", "b")) -> None:
        self.planner = Planner(routes_of(wanted), "pc", tells_end)
        self.quiet = Quiet(wanted.quiet)
        self.now, self.wall = 100.0, 1_700_000_000.0

    def at(self, seconds: float, *alerts: AlertStatus) -> list[Notice]:
        self.now += seconds
        self.wall += seconds
        found = self.planner.due(alerts, lambda name, how: self.quiet.holds(name, how, self.wall), self.now, self.wall)
        for notice in found:
            self.planner.done(notice, self.now)
        return found


@pytest.mark.parametrize(
    ("matcher", "taken"),
    [("node=nas", True), ("node!=nas", False), ("alertname=~node.*", True), ("alertname=~ode", False), ('subject="nas"', True),
     ("alertname!~cpu|disk", True), ("severity=critical", False), ("device=pc", True)],
)  # fmt: skip
def test_matchers_hold_as_alertmanager_has_them(matcher: str, taken: bool) -> None:
    labels = labels_of(alert("node-cpu", "nas"), "pc")
    assert bool(ways(routes_of(made(match=[matcher])), labels, Severity.warning)) is taken


def test_an_alert_takes_every_route_up_to_one_that_is_the_last() -> None:
    wanted = settings(
        channels={"a": HOOK, "b": HOOK, "c": HOOK},
        routes={
            "all": {"channels": ["a"]}, "disk": {"channels": ["b"], "match": ["alertname=disk"], "last": True},
            "bad": {"channels": ["c"], "severity": "warning"},
        },
    )  # fmt: skip
    names = {
        each.rule: [route.name for route in ways(routes_of(wanted), labels_of(each, "pc"), each.severity)]
        for each in (alert("disk"), alert("cpu"), alert("memory", severity="info"))
    }
    assert names == {"disk": ["all", "disk"], "cpu": ["all", "bad"], "memory": ["all"]}


def test_the_node_of_each_rule_is_known() -> None:
    found = [
        labels_of(alert(*each), "pc")["node"] for each in (("cpu",), ("node", "nas"), ("node-service", "nas smbd.service"))
    ]
    assert found == ["pc", "nas", "nas"]


@pytest.mark.parametrize(
    "wrong",
    [{"match": ["colour=red"]}, {"match": ["node=~("]}, {"channels": ["nobody"]}, {"escalate_minutes": 5}, {"group_by": ["x"]}],
)
def test_wrong_routes_are_refused_with_the_next_step(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        made(**wrong)


def test_a_group_waits_and_goes_out_as_one() -> None:
    plan = Plan(made(group_wait_seconds=10))
    assert plan.at(0, alert("node", "x")) == []
    assert plan.at(5, alert("node", "x"), alert("node", "y")) == []
    (notice,) = plan.at(5, alert("node", "x"), alert("node", "y"), alert("cpu"))
    assert [note.alert_id for note in notice.notes] == ["node:x", "node:y"]
    assert (notice.why, notice.group, notice.status) == ("new", {"alertname": "node"}, "firing")
    (other,) = plan.at(10, alert("node", "x"), alert("node", "y"), alert("cpu"))
    assert [note.alert_id for note in other.notes] == ["cpu:host"]


def test_news_keeps_to_the_interval_and_repeats_to_theirs() -> None:
    plan = Plan(made(group_wait_seconds=0, group_interval_seconds=120, repeat_seconds=3600))
    assert len(plan.at(0, alert("node", "x"))) == 1
    assert plan.at(60, alert("node", "x"), alert("node", "y")) == []
    (news,) = plan.at(60, alert("node", "x"), alert("node", "y"))
    assert (news.why, len(news.notes)) == ("changed", 2)
    assert plan.at(3599, alert("node", "x"), alert("node", "y")) == []
    (again,) = plan.at(1, alert("node", "x"), alert("node", "y"))
    assert again.why == "repeated"


def test_what_is_over_is_told_once_with_its_end() -> None:
    plan = Plan(made(group_wait_seconds=0, group_interval_seconds=1))
    plan.at(0, alert("node", "x"), alert("node", "y"))
    over = alert("node", "x", AlertState.resolved, resolved_at=plan.wall + 5, changed=plan.wall)
    (notice,) = plan.at(10, over, alert("node", "y"))
    assert [(note.alert_id, note.firing) for note in notice.notes] == [("node:y", True), ("node:x", False)]
    assert notice.resolved[0].ends == over.resolved_at
    (last,) = plan.at(10)  # y is not known any more
    assert (last.status, last.resolved[0].alert_id) == ("resolved", "node:y")
    assert plan.at(10) == []


def test_what_was_over_before_anybody_heard_of_it_is_not_told() -> None:
    plan = Plan(made(group_wait_seconds=30))
    assert plan.at(0, alert()) == []
    assert plan.at(10, alert(state=AlertState.resolved)) == []
    assert plan.at(60, alert(state=AlertState.resolved)) == []


def test_a_channel_that_does_not_tell_the_end_is_told_of_the_next_beginning() -> None:
    plan = Plan(made(group_wait_seconds=0), tells_end=())
    assert len(plan.at(0, alert())) == 1
    assert plan.at(1000, alert(state=AlertState.resolved)) == []
    assert len(plan.at(1000, alert())) == 1


@pytest.mark.parametrize("state", [AlertState.acknowledged, AlertState.silenced])
def test_what_is_acknowledged_or_silenced_is_not_repeated_and_its_end_is_told(state: AlertState) -> None:
    plan = Plan(made(group_wait_seconds=0, repeat_seconds=60))
    plan.at(0, alert())
    assert plan.at(10_000, alert(state=state)) == []
    (end,) = plan.at(10, alert(state=AlertState.resolved, resolved_at=5.0))
    assert end.status == "resolved"


def test_nobody_is_told_first_of_what_is_silenced() -> None:
    assert Plan(made(group_wait_seconds=0)).at(0, alert(state=AlertState.silenced)) == []


def test_what_nobody_acknowledges_goes_further() -> None:
    plan = Plan(made(group_wait_seconds=0, escalate_minutes=30, escalate_to=["b"]))
    assert [each.channel for each in plan.at(0, alert(), alert("node", "x"))] == ["a", "a"]
    assert plan.at(29 * MIN, alert(), alert("node", "x")) == []
    seen = alert("node", "x", AlertState.acknowledged)
    (further,) = plan.at(MIN, alert(), seen)
    assert (further.channel, further.why, [note.alert_id for note in further.notes]) == ("b", "escalated", ["cpu:host"])
    over = plan.at(MIN * 10, alert(state=AlertState.resolved, resolved_at=9.0), seen)
    assert sorted((each.channel, each.status) for each in over) == [("a", "resolved"), ("b", "resolved")]


def test_a_channel_is_not_told_of_itself() -> None:
    plan = Plan(settings(channels={"a": HOOK, "b": HOOK}))
    plan.at(0, alert("alert-channel", "a"))
    assert [each.channel for each in plan.at(60, alert("alert-channel", "a"))] == ["b"]


def test_a_flood_has_a_bound_and_loses_nothing() -> None:
    plan = Plan(made(group_by=["subject"], group_wait_seconds=0))
    flood = [alert("node", f"n{index}") for index in range(700)]
    found = plan.at(0, *flood)
    assert len(found) == 501
    assert {note.alert_id for each in found for note in each.notes} == {each.alert_id for each in flood}
    assert plan.at(1, *flood) == []


def wall(text: str, zone: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


NIGHT = {"begin": "22:00", "end": "07:00", "time_zone": "Europe/Berlin", "days": ["fri", "sat"]}


@pytest.mark.parametrize(
    ("moment", "quiet"),
    [
        ("2026-03-27T21:59", False),  # Friday
        ("2026-03-27T22:00", True),
        ("2026-03-28T06:59", True),
        ("2026-03-28T07:00", False),
        ("2026-03-29T01:59", True),  # the clocks go forward in this night
        ("2026-03-29T03:01", True),
        ("2026-03-29T07:00", False),
        ("2026-03-29T22:30", False),  # Sunday
    ],
)
def test_quiet_hours_know_days_zones_and_summer_time(moment: str, quiet: bool) -> None:
    hours = Quiet(settings(quiet={"night": NIGHT}).quiet)
    assert hours.holds("a", Severity.warning, wall(moment, "Europe/Berlin")) is quiet
    assert not hours.holds("a", Severity.critical, wall(moment, "Europe/Berlin"))


def test_quiet_hours_hold_for_their_channels_and_may_let_nothing_pass() -> None:
    wanted = settings(channels={"a": HOOK, "b": HOOK}, quiet={"all": {
        "begin": "00:00", "end": "00:00", "time_zone": "UTC", "channels": ["a"], "passes": "nothing",
    }})  # fmt: skip
    hours = Quiet(wanted.quiet)
    assert hours.holds("a", Severity.critical, 0.0)
    assert not hours.holds("b", Severity.info, 0.0)


def test_what_still_fires_at_the_end_of_quiet_hours_is_told_then() -> None:
    wanted = settings(
        channels={"a": HOOK}, routes={"r": {"channels": ["a"], "group_wait_seconds": 0, "group_by": []}},
        quiet={"night": {"begin": "22:00", "end": "07:00", "time_zone": "UTC"}},
    )  # fmt: skip
    plan = Plan(wanted)
    plan.wall = wall("2026-03-27T23:00", "UTC")
    assert plan.at(0, alert(), alert("disk", severity="info")) == []
    (urgent,) = plan.at(60, alert(), alert("node", "x", severity="critical"))
    assert [note.alert_id for note in urgent.notes] == ["node:x"]
    (morning,) = plan.at(8 * 3600, alert(), alert("node", "x", severity="critical"))
    assert {note.alert_id for note in morning.notes} == {"node:x", "cpu:host"}


@pytest.mark.parametrize("wrong", [{"begin": "25:00"}, {"time_zone": "Europe/Atlantis"}, {"days": ["someday"]}])
def test_wrong_quiet_hours_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(quiet={"night": {**NIGHT, **wrong}})

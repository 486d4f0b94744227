"""How nodes are judged, and what silence makes of a link."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.core.fleet.health import expected, judge
from appliance.core.fleet.model import Container, Disk, LinkStatus, Node, NodeFacts, NodeMetrics, Reach, ServiceState, Unit
from appliance.core.fleet.status import Times, reach_of
from appliance.core.model import Health

LOOKS = 30
"""Five minutes at ten seconds."""
NODE = Node(name="nas", host="192.0.2.4")
UP = LinkStatus(Reach.up, answered=100.0)
UNITS = (
    Unit("redis-server.service", "loaded", "active", "running"),
    Unit("wg-quick@wg0.service", "loaded", "failed", "failed"),
)
CONTAINERS = (
    Container("web-1", "a", "running", "Up", project="web"),
    Container("web-2", "a", "exited", "Exited", project="web"),
    Container("db", "b", "running", "Up", project="db"),
)
FACTS = NodeFacts(time=0, monotonic=0, listening=(22, 6379), units=UNITS, containers=CONTAINERS)


def judged(link: LinkStatus = UP, silent: float | None = 1.0, trend: dict[str, Any] | None = None, **metrics: Any) -> Any:
    services = metrics.pop("services", ())
    numbers = NodeMetrics(time=0, monotonic=0, **metrics)
    return judge(NODE, link, silent, numbers, FACTS, services, trend or {})


@pytest.mark.parametrize(
    ("name", "ok", "state"),
    [
        ("redis-server.service", True, "active (running)"),
        ("redis-server", True, "active (running)"),
        ("wg-quick@wg0.service", False, "failed"),
        ("mosquitto.service", False, "no such unit"),
        ("mnt-nas.mount", False, "failed"),
        ("logrotate.timer", True, "active"),
        ("tcp:6379", True, "listening"),
        ("tcp:9092", False, "nothing listens"),
        ("compose:db", True, "running"),
        ("compose:web", False, "web-2 exited"),
        ("compose:none", False, "no container of that project"),
    ],
)
def test_an_expected_service_is_what_the_facts_say(name: str, ok: bool, state: str) -> None:
    node = Node(name="nas", host="x", services=(name,))
    others = {"mnt-nas.mount": "failed", "logrotate.timer": "active"}
    assert expected(node, FACTS, others) == (ServiceState(name, ok, state),)


def test_what_was_not_told_is_not_known() -> None:
    node = Node(name="nas", host="x", services=("a.service", "tcp:1", "compose:x"))
    nothing = NodeFacts(time=0, monotonic=0, missing={"units": "it has no systemd", "docker": "its engine does not run"})
    found = expected(node, nothing, {})
    assert [(each.ok, each.state) for each in found] == [
        (None, "it has no systemd"), (None, "not told"), (None, "its engine does not run"),
    ]  # fmt: skip
    assert judged(services=found).health is Health.degraded
    assert "not known" in judged(services=found).reason
    assert {each.ok for each in expected(node, None, {})} == {None}
    assert judged(services=expected(node, None, {})).health is Health.healthy


@pytest.mark.parametrize("reach", [Reach.unreachable, Reach.refused, Reach.untrusted, Reach.never, Reach.connecting, Reach.off])
def test_a_node_that_cannot_be_asked_is_not_called_ill(reach: Reach) -> None:
    down = (ServiceState("a.service", False, "failed"),)
    verdict = judged(LinkStatus(reach, reason="why", next_step="do"), services=down, memory=99.0)
    assert verdict.health is Health.absent
    assert "a.service" not in verdict.reason


def test_another_host_key_is_loud() -> None:
    verdict = judged(LinkStatus(Reach.changed, reason="SHA256:x instead of SHA256:y", next_step="find out why"))
    assert verdict.health is Health.unhealthy
    assert "ANOTHER HOST KEY" in verdict.reason
    assert verdict.next_step == "find out why"


@pytest.mark.parametrize(
    ("metrics", "word"),
    [
        ({"memory": 91.0}, "memory 91 %"),
        ({"disks": (Disk("/data", "/dev/sda", "ext4", 1000, 950),)}, "/data 95 % full"),
        ({"temperature_c": 81.0}, "81 °C"),
        ({"clock_offset": -7200.0}, "2 h behind ours"),
        ({"clock_offset": 6.0, "took_ms": 500.0}, "6.0 s ahead of ours"),
        ({"trend": {"cpu": (99.0,) * LOOKS}}, "CPU above 85 % for 5 min"),
        ({"silent": 90.0}, "no question for 90 s"),
    ],
)
def test_a_limit_that_is_passed_degrades(metrics: dict[str, Any], word: str) -> None:
    verdict = judged(**metrics)
    assert verdict.health is Health.degraded
    assert word in verdict.reason
    assert verdict.next_step


def test_one_that_is_looked_at_seldom_is_not_called_silent_between_two_looks() -> None:
    numbers = NodeMetrics(time=0, monotonic=0)
    told = {silent: judge(NODE, UP, silent, numbers, FACTS, (), {}, 300.0).health for silent in (310.0, 760.0)}
    assert told == {310.0: Health.healthy, 760.0: Health.degraded}


@pytest.mark.parametrize(("interval", "looks", "told"), [(60.0, 5, "5 min"), (2.0, 60, "2 min"), (900.0, 1, "15 min")])
def test_a_busy_processor_counts_by_time_and_not_by_looks(interval: float, looks: int, told: str) -> None:
    numbers = NodeMetrics(time=0, monotonic=0)
    for count, health in ((looks, Health.degraded), (looks - 1, Health.healthy)):
        verdict = judge(NODE, UP, 0.0, numbers, FACTS, (), {"cpu": (99.0,) * count}, interval)
        assert verdict.health is health
        assert (f"for {told}" in verdict.reason) is (health is Health.degraded)


@pytest.mark.parametrize(
    "metrics",
    [
        {"memory": 90.0, "disks": (Disk("/", "/dev/sda", "ext4", 1000, 900),), "temperature_c": 80.0},
        {"clock_offset": 6.0, "took_ms": 4000.0},
        {"trend": {"cpu": (99.0,) * (LOOKS - 1)}},
        {"trend": {"cpu": (99.0,) * LOOKS + (20.0,)}},
        {},
    ],
    ids=["limits", "a slow answer explains the clock", "too few looks", "a moment of rest", "nothing known"],
)
def test_what_is_within_the_limits_is_well(metrics: dict[str, Any]) -> None:
    assert judged(**metrics).health is Health.healthy


def test_a_service_that_is_down_comes_before_all_else() -> None:
    down = (ServiceState("a.service", False, "failed"), ServiceState("b.service", False, "inactive (dead)"))
    verdict = judged(services=down, memory=95.0)
    assert verdict.health is Health.unhealthy
    assert verdict.reason == "a.service: failed, and 1 more (and 1 other matter)"
    assert verdict.next_step == "prime-spark service logs a.service --node nas"


# -- silence ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("silent", "reach"), [(0, Reach.up), (24.9, Reach.up), (25, Reach.stale), (59.9, Reach.stale), (60, Reach.unreachable)]
)
def test_silence_makes_a_link_stale_and_then_unreachable(silent: float, reach: Reach) -> None:
    for link in (LinkStatus(Reach.up, since=3.0, answered=50.0), LinkStatus(Reach.stale, since=62.0, answered=50.0)):
        found = reach_of(link, 100.0, 100.0 + silent, Times.of(10.0))
        assert found.reach is reach
        if reach is not Reach.up:
            assert found.answered == 100.0
            assert found.since == 100.0 + (25 if reach is Reach.stale else 60)
            assert found.reason
            assert found == reach_of(link, 100.0, 100.05 + silent, Times.of(10.0)), "time alone repaints nothing"


def test_any_sign_of_life_counts() -> None:
    assert reach_of(LinkStatus(Reach.up, answered=190.0), 100.0, 200.0, Times()).reach is Reach.up
    assert reach_of(LinkStatus(Reach.up, since=190.0), None, 200.0, Times()).reach is Reach.up


def test_what_broke_with_evidence_stays_what_it_is() -> None:
    for reach in (Reach.unreachable, Reach.changed, Reach.off, Reach.refused, Reach.never):
        link = LinkStatus(reach, answered=199.0)
        assert reach_of(link, 199.0, 200.0, Times()) is link

"""What keeps a trial: everything at least as well as before, for long enough, whatever the wall clock does."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import psutil
import pytest

from appliance.core.lifecycle.update.gate import PATIENCE, Gate, Verdict, baseline, kept, network, told
from appliance.core.lifecycle.update.planning import within
from appliance.core.model import Health, Phase
from appliance.hw import host
from tests.update.raucrig import service

HEALTHY, DEGRADED, UNHEALTHY, ABSENT = Health.healthy, Health.degraded, Health.unhealthy, Health.absent
WELL = [service("voice"), service("kafka", ABSENT)]


def look(before: dict[str, str], now: Health, phase: Phase = Phase.running) -> bool:
    """Whether a service in this state is taken."""
    seen = Gate(before, 10, 100, 0).look([service("voice", now, "because", phase)], 0)
    assert [each.reason for each in seen.holds] in ([], ["because"])
    return not seen.holds


@pytest.mark.parametrize(
    ("before", "taken"),
    [
        (HEALTHY, {HEALTHY}), (DEGRADED, {HEALTHY, DEGRADED}), (ABSENT, set(Health)), (UNHEALTHY, set(Health)),
        (None, {HEALTHY, DEGRADED, ABSENT}),
    ],
    ids=["healthy", "degraded", "absent", "unhealthy", "new"],
)  # fmt: skip
def test_a_service_is_held_to_what_it_was(before: Health | None, taken: set[Health]) -> None:
    known = {} if before is None else {"voice": before.value}
    assert {now for now in Health if look(known, now)} == taken


@pytest.mark.parametrize("phase", [Phase.waiting, Phase.starting, Phase.retrying, Phase.stopping])
def test_what_is_not_up_yet_is_not_well_yet(phase: Phase) -> None:
    assert not look({"voice": "healthy"}, HEALTHY, phase)
    assert look({"voice": "absent"}, DEGRADED, phase)


def test_what_nobody_knew_before_must_be_up_too() -> None:
    gate, coming = Gate({}, 60, 600, 0), [service("store", DEGRADED, "starting", Phase.starting)]
    gate.look(coming, 0)
    assert gate.look(coming, 100).verdict is Verdict.wait


def test_it_must_be_well_without_a_break() -> None:
    gate = Gate(baseline(WELL), 60, 600, 1000)
    assert gate.look(WELL, 1000).verdict is Verdict.wait
    assert gate.look(WELL, 1059).steady == 59
    broken = gate.look([service("voice", DEGRADED, "no answer"), WELL[1]], 1060)
    assert (broken.verdict, broken.steady, broken.left) == (Verdict.wait, 0, 540)
    assert gate.look(WELL, 1061).steady == 0
    assert gate.look(WELL, 1120).verdict is Verdict.wait
    assert gate.look(WELL, 1121).verdict is Verdict.commit


def test_what_is_only_degraded_holds_for_a_while_and_is_told_when_it_is_kept() -> None:
    down, kept_out = service("vpn", DEGRADED, "laptop is down"), service("voice", UNHEALTHY, "no microphone")
    gate = Gate({"vpn": "healthy", "voice": "healthy"}, 60, 600, 0)
    seen = gate.look([down, WELL[0]], PATIENCE - 1)
    assert (seen.verdict, [each.service for each in seen.holds], seen.lacking) == (Verdict.wait, ["vpn"], ())
    seen = gate.look([down, WELL[0]], PATIENCE)
    assert (seen.verdict, seen.holds, [each.service for each in seen.lacking]) == (Verdict.wait, (), ["vpn"])
    assert [each.service for each in gate.look([down, kept_out], PATIENCE + 1).holds] == ["voice"]
    gate.look([down, WELL[0]], PATIENCE + 2)
    seen = gate.look([down, WELL[0]], PATIENCE + 62)
    assert seen.verdict is Verdict.commit
    assert kept("B", seen.lacking) == "slot B was found healthy, although degraded: vpn: laptop is down"
    assert kept("B", ()) == "slot B was found healthy"


def test_a_system_that_lost_the_network_is_not_kept() -> None:
    before = baseline([*WELL, network(True)])
    assert [each.service for each in Gate(before, 10, 600, 0).look([*WELL, network(False)], 400).holds] == ["network"]
    assert Gate(baseline([*WELL, network(False)]), 10, 600, 0).look([*WELL, network(False)], 0).holds == ()


def test_a_network_is_an_address_on_a_device(tmp_path: Path) -> None:
    stats = {name: SimpleNamespace(isup=name != "wlan0") for name in ("lo", "eth0", "wlan0", "wg0", "eth1")}
    for name in ("eth0", "wlan0", "eth1"):
        (tmp_path / name / "device").mkdir(parents=True)

    def seen(**addresses: str) -> bool:
        families = {name: socket.AF_INET6 if ":" in each else socket.AF_INET for name, each in addresses.items()}
        found = {name: [SimpleNamespace(family=families[name], address=each)] for name, each in addresses.items()}
        with patch.object(psutil, "net_if_addrs", lambda: found), patch.object(psutil, "net_if_stats", lambda: stats):
            return host.connected(tmp_path)

    assert seen(eth0="192.0.2.7")
    assert seen(eth0="169.254.3.4", eth1="2001:db8::7")
    assert not seen(eth0="fe80::1%eth0", wlan0="192.0.2.7", wg0="10.8.0.1", lo="127.0.0.1", eth9="192.0.2.7")


def test_it_is_given_up_when_the_time_is_over_and_says_why() -> None:
    gate = Gate({"voice": "healthy"}, 60, 600, 0)
    assert gate.look([service("voice", UNHEALTHY, "no microphone")], 599).verdict is Verdict.wait
    seen = gate.look([service("voice", UNHEALTHY, "no microphone")], 600)
    assert seen.verdict is Verdict.give_up
    assert told(seen, 10) == "voice: no microphone"
    late = Gate({}, 60, 600, 0)
    late.look([service("voice", UNHEALTHY, "slow")], 500)
    late.look([service("voice")], 590)
    seen = late.look([service("voice")], 601)
    assert (seen.verdict, told(seen, 10)) == (Verdict.give_up, "voice: slow")
    assert Gate({}, 60, 600, 0).look([service("voice")], 600).verdict is Verdict.give_up


def test_nothing_is_kept_before_anything_was_seen() -> None:
    seen = Gate({}, 0, 600, 0).look([], 1)
    assert (seen.verdict, seen.holds[0].service) == (Verdict.wait, "services")


def test_the_service_that_looks_does_not_hold_itself() -> None:
    seen = Gate({"update": "healthy"}, 10, 100, 0).look([service("update", DEGRADED), service("voice")], 0)
    assert seen.holds == ()
    assert baseline([service("update"), service("voice")]) == {"voice": "healthy"}


@pytest.mark.parametrize(
    ("window", "zone", "now", "inside"),
    [
        ("02:00-05:00", "UTC", 2 * 3600, True), ("02:00-05:00", "UTC", 5 * 3600, False), ("23:00-01:00", "UTC", 1800, True),
        ("23:00-01:00", "UTC", 12 * 3600, False), ("02:00-05:00", "Asia/Tokyo", 18 * 3600, True),
    ],
)  # fmt: skip
def test_a_restart_keeps_to_its_window(window: str, zone: str, now: float, inside: bool) -> None:
    assert within(window, zone, now) is inside

"""Deployments on the lab's nodes under a steady load: each strategy by who answered, bad versions, scaling, a dead node."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest

from tests.lab.client import Lab
from tests.lab.conftest import LONG
from tests.lab.deploying import Field, Traffic, counted
from tests.support import needs_program, wait_for_sync

pytestmark = [pytest.mark.timeout(400), LONG]
STRATEGIES = ("rolling", "blue-green", "canary", "recreate")
SCALED = """
[scaling]
least = 1
most = 3
interval = 0.5
up_cooldown = 1
down_cooldown = 2
[[scaling.target]]
metric = "requests_per_replica"
value = 20
"""
ROLLED = dict[str, tuple[dict[str, Any], Traffic]]


def at_once(work: Callable[[Any], Any], given: list[Any]) -> list[Any]:
    """The work for each, all at the same time: most of it is waiting."""
    with ThreadPoolExecutor(len(given)) as pool:
        return list(pool.map(work, given))


@pytest.fixture(scope="module")
def fields(whole_lab: Lab) -> Iterator[dict[str, Field]]:
    """A service for each strategy, in version 1 on two of three nodes; what is deployed goes at the end."""
    needs_program("haproxy")
    whole_lab.appliance()
    whole_lab.invoke("deploy.status")
    made = {name: Field(whole_lab, name, number) for number, name in enumerate(STRATEGIES)}
    at_once(Field.ready, list(made.values()))
    begun = at_once(lambda field: field.deployed(field.spec("1", "recreate", soak=0)), list(made.values()))
    assert [each["stage"] for each in begun] == ["completed"] * len(made), begun
    yield made
    at_once(Field.removed, list(made.values()))


@pytest.fixture(scope="module")
def rolled(fields: dict[str, Field]) -> ROLLED:
    """Version 2 of each, by its own strategy."""

    def roll(field: Field) -> tuple[dict[str, Any], Traffic]:
        with Traffic(field, 60 if field.name == "canary" else 30) as traffic:
            field.apply(field.spec("2", field.name))
            ended = traffic.through()
            traffic.after("2" if ended["stage"] == "completed" else "1")
        return ended, traffic

    return dict(zip(fields, at_once(roll, list(fields.values())), strict=True))


def late(traffic: Traffic) -> Counter[str]:
    """Who answered when the old version was given up."""
    return sum((traffic.stages.get(each, Counter()) for each in ("retiring", "after")), Counter[str]())


def test_rolling_mixes_the_versions_and_costs_nothing(rolled: ROLLED) -> None:
    ended, traffic = rolled["rolling"]
    told = counted(traffic)
    assert ended["stage"] == "completed", ended
    assert traffic.failed == [], told
    assert min(traffic.stages["starting"]["1"], traffic.stages["starting"]["2"]) >= 5, told
    assert traffic.stages["after"]["1"] == 0, told


def test_blue_green_turns_all_traffic_at_once(rolled: ROLLED) -> None:
    ended, traffic = rolled["blue-green"]
    told = counted(traffic)
    assert ended["stage"] == "completed", ended
    assert traffic.failed == [], told
    assert traffic.stages["starting"]["1"] >= 10, told
    assert traffic.stages["starting"]["2"] == 0, told
    assert (late(traffic)["1"], late(traffic)["2"] >= 20) == (0, True), told


def test_a_canary_gets_its_shares_in_steps(rolled: ROLLED) -> None:
    ended, traffic = rolled["canary"]
    told = counted(traffic)
    assert ended["stage"] == "completed", ended
    assert traffic.failed == [], told
    assert traffic.stages["starting"]["2"] == 0, told
    for percent in (10, 50):
        part = traffic.stages[f"shifting {percent} %"]
        assert part.total() >= 30, told
        assert abs(100 * part["2"] / part.total() - percent) <= 0.6 * percent, told
    assert (late(traffic)["1"], late(traffic)["2"] >= 20) == (0, True), told


def test_recreate_has_an_outage_and_never_two_versions(rolled: ROLLED) -> None:
    ended, traffic = rolled["recreate"]
    told = counted(traffic)
    assert ended["stage"] == "completed", ended
    assert set(traffic.failed) == {"HTTP/1.1 503 Service Unavailable"}, told
    assert traffic.order() == ["1", "2"], told


def spoilt(field: Field, mood: str) -> tuple[int | None, dict[str, Any], Traffic]:
    """A version that is bad from the start ("liar"), or under its traffic; the exit status of whoever waits for its end."""
    old, new = field.now, "9"
    if mood == "liar":
        field.mood(new, mood)
    file = field.lab.home / f"{field.name}.toml"
    file.write_text(field.spec(new, field.name, soak=60, start_period=0.5 if mood == "liar" else 30))
    words = ("deploy", "apply", "--file", f"/srv/prime-spark/{file.name}", "--wait")
    with Traffic(field) as traffic, subprocess.Popen(field.lab.cli(*words), stdout=subprocess.PIPE, text=True) as waits:
        if mood == "liar":
            wait_for_sync(lambda: field.rollout()["to_revision"] == 3, 120, "it is begun")
        else:
            traffic.answers(new, 3)  # it has been well, and has its share of the traffic
            field.worsen(new, mood)
        ended = traffic.through()
        traffic.after(old)
        said = waits.communicate(timeout=120)[0]
    assert f"{field.name}: rolled back after" in said, said
    return waits.returncode, ended, traffic


def test_a_bad_version_goes_back_by_itself_and_costs_no_request(fields: dict[str, Field], rolled: ROLLED) -> None:
    del rolled
    cases = [(fields["blue-green"], "dies"), (fields["canary"], "dies"), (fields["rolling"], "liar")]
    for (field, mood), (status, ended, traffic) in zip(cases, at_once(lambda case: spoilt(*case), cases), strict=True):
        told = f"{field.name}, {mood}: {counted(traffic)}"
        assert (status, ended["stage"]) == (1, "rolled back"), (told, ended)
        assert traffic.failed == [], told
        assert traffic.stages["after"]["9"] == 0, told
        assert (traffic.heard["9"] == 0) == (mood == "liar"), told
        assert field.versions() == {"2": 2}


def scaled(field: Field) -> Traffic:
    """A load that comes and goes, on one node that stays."""
    document = field.spec("3", "recreate", replicas=1, soak=0, nodes='["primecore4"]', more=SCALED)
    assert field.deployed(document)["stage"] == "completed"
    with Traffic(field, 55) as traffic:
        wait_for_sync(lambda: field.versions() == {"3": 3}, 60, "three replicas carry the load")
    wait_for_sync(lambda: field.web()["wanted"] == 1, 60, "it is one again without a load")
    return traffic


def bereft(field: Field) -> tuple[dict[str, Any], Traffic]:
    """A node dies while the new version comes up."""
    with Traffic(field) as traffic:
        field.apply(field.spec("4", field.name, timeout=1, nodes='["primecore2", "primecore3"]'))
        wait_for_sync(lambda: field.places("4"), 60, "the new version has its places")
        dead = field.places("4")[0]
        field.lab.kill(dead)
        try:
            ended = traffic.through()
            traffic.after("4")
        finally:
            field.lab.start(dead)
    return ended, traffic


@pytest.fixture(scope="module")
def stressed(fields: dict[str, Field], rolled: ROLLED) -> tuple[Traffic, dict[str, Any], Traffic]:
    """A load step on one service, and the death of a node under the rollout of another one, meanwhile."""
    del rolled
    step, (ended, traffic) = at_once(
        lambda work: work(), [lambda: scaled(fields["recreate"]), lambda: bereft(fields["blue-green"])]
    )
    return step, ended, traffic


def test_it_scales_up_and_down_with_the_load_and_does_not_flap(
    fields: dict[str, Field], stressed: tuple[Traffic, dict[str, Any], Traffic]
) -> None:
    assert stressed[0].failed == []
    found = [each for each in reversed(fields["recreate"].events()) if each["kind"] == "scale"]
    sizes = [1, *(int(each["text"].split()[2]) for each in found)]
    top = sizes.index(3)
    assert sizes[: top + 1] == sorted(set(sizes[: top + 1])), found
    assert sizes[top:] == sorted(set(sizes[top:]), reverse=True), found
    assert sizes[-1] == 1
    assert all("requests_per_replica" in each["text"] and "target 20" in each["text"] for each in found)
    for before, after in pairwise(found):
        upwards = int(after["text"].split()[2]) > int(after["text"].split()[0])
        assert after["time"] - before["time"] >= (1.0 if upwards else 2.0) - 0.1, (before, after)


def test_a_node_that_dies_in_the_midst_is_gone_around(
    fields: dict[str, Field], stressed: tuple[Traffic, dict[str, Any], Traffic]
) -> None:
    _, ended, traffic = stressed
    told = counted(traffic)
    assert ended["stage"] == "completed", ended
    assert traffic.failed == [], told
    assert traffic.stages["after"]["2"] == 0, told
    assert fields["blue-green"].versions() == {"4": 2}

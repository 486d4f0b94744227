"""A version that fails goes back by itself, whatever way it fails, and says why."""

from __future__ import annotations

import pytest

from appliance.core.deploy.model import Stage
from tests.deploy.rig import LONG, Load, Rig
from tests.support import wait_for

FAULTS = {
    "ill": "status 500 instead of 200",
    "liar": "status is 'down' instead of 'up'",
    "hangs": "no answer within 1 s",
    "crashes": "exit-code",
}


@pytest.mark.parametrize(
    ("mood", "strategy"),
    [("liar", "blue-green"), pytest.param("hangs", "canary", marks=LONG), ("crashes", "rolling")],
)
async def test_a_bad_version_never_gets_traffic(rig: Rig, mood: str, strategy: str) -> None:
    await rig.deployed(rig.spec("1"))
    rig.mood("2", mood)
    async with Load(rig.listen) as load:
        ended = await rig.deployed(rig.spec("2", strategy, timeout=1).replace("start_period = 5.0", "start_period = 0.5"))
        assert ended.stage is Stage.rolled_back
        assert FAULTS[mood] in ended.trouble
        load.taken()
        await wait_for(lambda: load.counts["1"] >= 20)
    assert load.failed == []
    assert rig.versions() == {"1": 2}
    assert rig.web().label == "1"
    assert ("deploy.rollout", "rolled back") in [(event, facts["outcome"]) for event, facts in rig.told]


@pytest.mark.parametrize("strategy", ["blue-green", pytest.param("rolling", marks=LONG)])
async def test_a_version_that_gets_ill_while_it_soaks_is_taken_back(rig: Rig, strategy: str) -> None:
    await rig.deployed(rig.spec("1"))
    async with Load(rig.listen) as load:
        await rig.desk.apply(rig.spec("2", strategy, soak=30), "alice")
        await wait_for(lambda: rig.keeper.last.stage is Stage.soaking, 20, every=0.05)
        rig.mood("2", "ill")
        assert (await rig.ended()).stage is Stage.rolled_back
        load.taken()
        await wait_for(lambda: load.counts["1"] >= 20)
        assert load.counts["2"] == 0
    assert [each for each in load.failed if strategy == "blue-green"] == []
    assert rig.versions() == {"1": 2}


@pytest.mark.parametrize("strategy", ["blue-green", pytest.param("canary", marks=LONG)])
async def test_a_version_that_dies_under_all_traffic_costs_no_request(rig: Rig, strategy: str) -> None:
    await rig.deployed(rig.spec("1"))
    async with Load(rig.listen, rate=100) as load:
        await rig.desk.apply(rig.spec("2", strategy, soak=60), "alice")
        await wait_for(lambda: rig.keeper.last.stage is Stage.soaking, 60, every=0.05)
        await wait_for(lambda: load.counts["2"] >= 20, 60)
        for node in rig.nodes.values():
            node.end_services("*-r2@*")  # both of them at once: nobody of the new version is left to ask
        assert (await rig.ended()).stage is Stage.rolled_back
        load.taken()
        await wait_for(lambda: load.counts["1"] >= 20, 60)
    assert load.failed == []
    assert rig.versions() == {"1": 2}


async def test_errors_under_a_healthy_face_are_seen_in_the_traffic(rig: Rig) -> None:
    await rig.deployed(rig.spec("1"))
    rig.mood("2", "broken")
    async with Load(rig.listen, rate=100) as load:
        ended = await rig.deployed(rig.spec("2", "canary"))
        assert ended.stage is Stage.rolled_back
        assert "requests to it failed" in ended.trouble
    counts = load.counts["1"]
    assert len(load.failed) < counts / 2  # it had a share of the traffic only
    assert rig.versions() == {"1": 2}


async def test_the_first_version_that_fails_leaves_nothing_behind(rig: Rig) -> None:
    rig.mood("1", "crashes")
    ended = await rig.deployed(rig.spec("1"))
    assert ended.stage is Stage.failed
    assert "no version before it" in ended.reason
    assert rig.web().health == "unhealthy"
    assert rig.web().replicas == ()


@LONG
async def test_an_operator_gives_a_rollout_up_and_goes_back_later(rig: Rig) -> None:
    await rig.deployed(rig.spec("1"))
    await rig.desk.apply(rig.spec("2", soak=30), "alice")
    await wait_for(lambda: rig.keeper.last.stage is Stage.soaking, 20, every=0.05)
    await rig.desk.rollback("web", "bob")
    ended = await rig.ended()
    assert (ended.stage, ended.trouble) == (Stage.rolled_back, "bob gave it up")
    await rig.deployed(rig.spec("3"))
    assert rig.versions() == {"3": 2}
    await rig.desk.rollback("web", "bob")
    assert (await rig.ended()).stage is Stage.completed
    assert rig.versions() == {"1": 2}

"""Each strategy does what its name says, shown by who answered a steady load."""

from __future__ import annotations

import msgspec

from appliance.core.deploy.model import Stage
from tests.deploy.rig import Load, Rig
from tests.support import wait_for


async def test_rolling_takes_one_at_a_time_and_nobody_notices(rig: Rig) -> None:
    first = await rig.deployed(rig.spec("1", replicas=3))
    assert first.stage == "completed", first.reason
    assert rig.versions() == {"1": 3}
    async with Load(rig.listen) as load:
        await wait_for(lambda: load.counts["1"] >= 20)
        await rig.desk.apply(rig.spec("2", replicas=3), "alice")
        seen: list[dict[str, int]] = []
        await wait_for(lambda: seen.append(dict(rig.versions())) or rig.keeper.position is None, 40, every=0.05)
        load.taken()
        await wait_for(lambda: load.counts["2"] >= 20)
        assert load.counts["1"] == 0
    assert load.failed == []
    assert any("1" in each and "2" in each for each in seen)
    assert all(3 <= sum(each.values()) <= 4 for each in seen), seen
    assert rig.versions() == {"2": 3}
    assert len({row.replica.node for row in rig.web().replicas}) == 3


async def test_blue_green_turns_all_traffic_at_once(rig: Rig) -> None:
    await rig.deployed(rig.spec("1"))
    async with Load(rig.listen) as load:
        await wait_for(lambda: load.counts["1"] >= 20)
        await rig.desk.apply(rig.spec("2", "blue-green"), "alice")
        await wait_for(lambda: rig.versions() == {"1": 2, "2": 2}, 20)
        assert load.counts["2"] == 0  # both sets run, and the new one has nothing yet
        await wait_for(lambda: rig.keeper.last and rig.keeper.last.stage is Stage.soaking, 20)
        await wait_for(lambda: load.counts["2"] > 0)
        load.taken()
        await wait_for(lambda: load.counts["2"] >= 20)
        assert load.counts["1"] <= 1  # one that was open when the traffic was turned
        assert (await rig.ended()).stage is Stage.completed
    assert load.failed == []
    assert rig.versions() == {"2": 2}


async def test_a_canary_gets_its_shares_step_by_step(rig: Rig) -> None:
    await rig.deployed(rig.spec("1"))
    async with Load(rig.listen, rate=150) as load:
        await wait_for(lambda: load.counts["1"] >= 20)
        await rig.desk.apply(rig.spec("2", "canary").replace("step_seconds = 1.0", "step_seconds = 3600"), "alice")
        measured = {}
        for step, percent in enumerate((10, 50)):
            await wait_for(lambda step=step: rig.keeper.last.stage is Stage.shifting and rig.keeper.last.step == step, 20)
            await wait_for(lambda percent=percent: rig.keeper.last.shares.get(2) == percent)
            load.taken()
            await wait_for(lambda: sum(load.counts.values()) >= 100, every=0.02)
            counts = load.taken()
            measured[percent] = 100 * counts["2"] / sum(counts.values())
            shown = {share.label: share for share in rig.web().rollout.traffic}
            assert shown["2"].wanted == percent
            assert shown["2"].measured is not None
            await step_is_over(rig)
        assert 5 <= measured[10] <= 15, measured
        assert 42 <= measured[50] <= 58, measured
        assert (await rig.ended()).stage is Stage.completed
        load.taken()
        await wait_for(lambda: load.counts["2"] >= 20)
        assert load.counts["1"] == 0
    assert load.failed == []


async def step_is_over(rig: Rig) -> None:
    """The time of the step that is held has passed."""
    async with rig.keeper.lock:
        position = rig.keeper.position
        assert position is not None
        assert position.held is not None
        rig.keeper.position = msgspec.structs.replace(position, held=position.held - 3600)


async def test_recreate_stops_all_before_it_starts_any(rig: Rig) -> None:
    await rig.deployed(rig.spec("1", "recreate"))
    await rig.desk.apply(rig.spec("2", "recreate"), "alice")
    seen: list[dict[str, int]] = []
    await wait_for(lambda: seen.append(dict(rig.versions())) or rig.keeper.position is None, 40, every=0.02)
    assert not any("1" in each and "2" in each for each in seen)
    assert {} in seen
    assert rig.versions() == {"2": 2}

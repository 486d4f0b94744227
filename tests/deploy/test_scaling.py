"""Auto-scaling over real nodes: it follows the load up and down, and keeps why."""

from __future__ import annotations

from tests.deploy.rig import LONG, Load, Rig
from tests.support import wait_for

BY_LOAD = """
[scaling]
least = 1
most = 3
interval = 0.3
up_cooldown = 0.5
down_cooldown = 2.0
[[scaling.target]]
metric = "{metric}"
value = {value}
"""


@LONG
async def test_it_follows_a_step_of_requests_up_and_down(rig: Rig) -> None:
    more = BY_LOAD.format(metric="requests_per_replica", value=20)
    await rig.deployed(rig.spec("1", replicas=1, more=more))
    async with Load(rig.listen, rate=55) as load:
        await wait_for(lambda: rig.versions() == {"1": 3}, 30)
    assert load.failed == []
    await wait_for(lambda: rig.versions() == {"1": 1} and len(rig.web().replicas) == 1, 45, every=0.1)
    scaled = [event.text for event in reversed(rig.keeper.events) if event.kind == "scale"]
    assert all("requests_per_replica" in text and "target 20" in text for text in scaled)
    sizes = [int(text.split()[2]) for text in scaled]
    assert sizes[-1] == 1
    assert max(sizes) == 3
    top = sizes.index(3)
    assert sizes[: top + 1] == sorted(sizes[: top + 1])  # up, then down, and no flapping
    assert sizes[top:] == sorted(sizes[top:], reverse=True)


async def test_it_follows_what_the_service_tells_of_itself(rig: Rig) -> None:
    (rig.moods / "load").write_text("10")
    more = BY_LOAD.format(metric="http:/metrics#load", value=10)
    await rig.deployed(rig.spec("1", replicas=1, more=more))
    assert rig.keeper.wanted.replicas == 1
    (rig.moods / "load").write_text("19")
    await wait_for(lambda: rig.keeper.wanted.replicas == 2, 20)
    assert rig.web().scaling.readings == {"http:/metrics#load": 19.0}


async def test_an_operator_scales_by_hand(rig: Rig) -> None:
    await rig.deployed(rig.spec("1", replicas=1, front=False))
    await rig.desk.scale("web", 3, "alice")
    await wait_for(lambda: rig.versions() == {"1": 3}, 60)
    assert len({row.replica.node for row in rig.web().replicas}) == 3
    await rig.desk.scale("web", 1, "alice")
    await wait_for(lambda: len(rig.web().replicas) == 1, 60)

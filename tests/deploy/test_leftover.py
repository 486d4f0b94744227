"""What a service that was removed left on a node is not taken for the one that has its name now."""

from __future__ import annotations

import subprocess

from appliance.core.deploy.model import Kind, Stage
from tests.deploy.rig import NodeRig, Rig
from tests.support import wait_for


def systemctl(node: NodeRig, *words: str) -> str:
    command = ["nsenter", "-t", str(node.child.pid), "-m", "systemctl", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


async def test_a_unit_that_was_left_running_is_replaced_and_is_nobody_elses(rig: Rig) -> None:
    """The book is lost, as by a removal that a node never heard of; its unit runs on under the same name."""
    document = rig.spec("1", replicas=1, front=False).replace('nodes = ["all"]', 'nodes = ["alpha"]')
    await rig.deployed(document)
    replica, node = rig.web().replicas[0].replica, rig.nodes["alpha"]
    before = node.pids()
    await rig.crash()
    for path in rig.base.glob("appliance.sqlite*"):
        path.unlink()
    await rig.start()
    carrier = rig.ground.carriers[Kind.unit]
    assert (await rig.deployed(document)).stage is Stage.completed
    again, spec = rig.web().replicas[0].replica, rig.keeper.specs[1]
    assert (again.revision, again.port) == (replica.revision, replica.port)
    assert len(before) == len(node.pids()) == 1
    assert node.pids() != before
    assert (await carrier.find(spec, again)).running
    found = await carrier.find(spec, replica)
    assert (found.running, found.there) == (False, False)
    assert "left over" in found.reason
    assert systemctl(node, "is-active", f"ps-web-r1@{again.port}.service") == "active"
    await carrier.start(spec, again)  # the same once more changes nothing
    pids = node.pids()
    await carrier.start(spec, again)
    assert node.pids() == pids


async def test_a_version_of_the_same_number_is_prepared_anew(rig: Rig) -> None:
    place = rig.base / "prepared"
    unit = f'prepare = "echo {{version}} >> {place}"\n'
    document = rig.spec("1", replicas=1, front=False).replace('nodes = ["all"]', 'nodes = ["alpha"]')
    document = document.replace("[health]", f"{unit}[health]", 1)
    for _ in range(2):
        assert (await rig.deployed(document)).stage is Stage.completed
        await rig.crash()
        for path in rig.base.glob("appliance.sqlite*"):
            path.unlink()
        await rig.start()
    assert place.read_text() == "1\n1\n"


async def test_a_removal_does_not_wait_for_a_silent_node_for_ever(rig: Rig) -> None:
    await rig.deployed(rig.spec("1", replicas=3, front=False, replace=2.0, restart=600))
    keeper, node = rig.keeper, rig.nodes["beta"]
    port = next(held.replica.port for held in keeper.helds.values() if held.replica.node == "beta")
    node.die()
    await rig.desk.remove("web", "alice")
    await wait_for(lambda: keeper.done, 60)
    told = [event.text for event in (await rig.desk.history("web", 50)).events]
    assert any(f"systemctl disable --now ps-web-r1@{port}.service" in text and "may run on" in text for text in told), told
    await wait_for(lambda: "web" not in rig.service.keepers, 20)
    assert await rig.ground.book.replicas("web") == []

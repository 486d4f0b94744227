"""What goes wrong around a deployment: nodes, ports, operators, crashes."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

import pytest

from appliance.core.deploy.model import Stage
from appliance.core.fleet.keys import OwnKey
from appliance.errors import ConflictError, InvalidArgumentsError, NotFoundError
from tests.deploy.rig import LONG, Load, NodeRig, Rig
from tests.support import wait_for


async def test_two_operators_cannot_deploy_the_same_service_at_once(rig: Rig) -> None:
    await rig.deployed(rig.spec("1"))
    await rig.desk.apply(rig.spec("2", soak=30), "alice")
    with pytest.raises(ConflictError, match="alice deploys web already: revision 2"):
        await rig.desk.apply(rig.spec("3"), "bob")
    assert (await rig.ground.book.versions("web"))[0].label == "2"
    await rig.desk.rollback("web", "bob")
    await rig.ended()


async def test_the_same_again_changes_nothing(rig: Rig) -> None:
    await rig.deployed(rig.spec("1"))
    assert await rig.desk.apply(rig.spec("1"), "alice") is None


async def test_a_port_that_is_taken_is_gone_around(rig: Rig) -> None:
    document = rig.spec("1", replicas=3)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", rig.first))
        other.listen()
        assert (await rig.deployed(document)).stage is Stage.completed
        assert rig.first not in {row.replica.port for row in rig.web().replicas}
        assert any("port is taken" in event.text for event in rig.keeper.events)
        with pytest.raises(ConflictError, match="needs 4 places"):
            await rig.desk.plan(document.replace("count = 40", "count = 1"))


@LONG
async def test_a_node_that_dies_in_the_middle_is_replaced(rig: Rig) -> None:
    await rig.deployed(rig.spec("1", replicas=3))
    async with Load(rig.listen) as load:
        await wait_for(lambda: load.counts["1"] >= 10)
        await rig.desk.apply(rig.spec("2", replicas=3, soak=1), "alice")
        await wait_for(lambda: rig.versions()["2"] >= 1, 20)
        dead = next(row.replica.node for row in rig.web().replicas if row.replica.label == "2")
        rig.nodes[dead].die()
        assert (await rig.ended()).stage is Stage.completed
        load.taken()
        await wait_for(lambda: load.counts["2"] >= 20)
    assert rig.versions() == {"2": 3}
    assert dead not in {row.replica.node for row in rig.web().replicas if row.replica.state == "running"}
    rig.nodes[dead].start()
    await wait_for(lambda: not any(row.replica.state == "lost" for row in rig.web().replicas), 30, every=0.1)
    assert rig.versions() == {"2": 3}


@LONG
@pytest.mark.parametrize("strategy", ["rolling", "blue-green"])
async def test_after_a_crash_in_the_middle_the_rollout_goes_on(rig: Rig, strategy: str) -> None:
    await rig.deployed(rig.spec("1"))
    async with Load(rig.listen) as load:
        await rig.desk.apply(rig.spec("2", strategy, soak=2), "alice")
        await wait_for(lambda: any(row.replica.label == "2" for row in rig.web().replicas), 20)
        await rig.crash()
        load.taken()
        await wait_for(lambda: sum(load.counts.values()) >= 5)  # HAProxy goes on without us
        await rig.start()
        assert rig.service.status().balancer.adopted
        ended = await rig.ended()
        assert (ended.stage, ended.resumed) == (Stage.completed, 1)
    assert load.failed == []
    assert rig.versions() == {"2": 2}
    running = [pid for node in rig.nodes.values() for pid in node.pids()]
    assert len(running) == 2  # nothing of the crash is left over on a node


@LONG
async def test_after_a_crash_a_version_that_got_ill_meanwhile_goes_back(rig: Rig) -> None:
    await rig.deployed(rig.spec("1"))
    await rig.desk.apply(rig.spec("2", "blue-green", soak=30), "alice")
    await wait_for(lambda: rig.keeper.last.stage is Stage.soaking, 20, every=0.05)
    await rig.crash()
    rig.mood("2", "ill")
    await rig.start()
    assert (await rig.ended()).stage is Stage.rolled_back
    assert rig.versions() == {"1": 2}


async def test_kill_9_costs_no_request_and_the_next_start_finishes(rig: Rig, nodes: tuple[dict[str, NodeRig], OwnKey]) -> None:
    made, own = nodes
    await rig.stop()
    first, second = rig.base / "first.toml", rig.base / "second.toml"
    first.write_text(rig.spec("1"))
    second.write_text(rig.spec("2", "blue-green", soak=3))
    places = [f"{node.here}={node.port},{node.user},{node.fingerprint}" for node in made.values()]
    command = [sys.executable, "-m", "tests.deploy.killed", str(rig.base), str(own._secrets._directory), *places]
    child = await asyncio.create_subprocess_exec(
        *command, "--", str(first), str(second), stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert child.stdout is not None
    assert await asyncio.wait_for(child.stdout.readline(), 60) == b"first\n"
    async with Load(rig.listen) as load:
        assert await asyncio.wait_for(child.stdout.readline(), 60) == b"shifted\n"
        child.kill()
        await child.wait()
        load.taken()
        await wait_for(
            lambda: sum(load.counts.values()) >= 20
        )  # by whichever version: it may have died before HAProxy was told
        await rig.start()
        ended = await rig.ended()
        assert (ended.stage, ended.resumed) == (Stage.completed, 1)
        assert rig.service.status().balancer.adopted
    assert load.failed == []
    assert rig.versions() == {"2": 2}


@LONG
async def test_replicas_that_end_or_get_ill_are_made_anew(rig: Rig) -> None:
    await rig.deployed(rig.spec("1", replicas=2))
    before = {row.replica.replica_id for row in rig.web().replicas}
    victim = rig.web().replicas[0].replica.node
    rig.nodes[victim].end_services()
    await wait_for(lambda: rig.versions() == {"1": 1}, 20)
    await wait_for(lambda: rig.versions() == {"1": 2}, 30)
    assert {row.replica.replica_id for row in rig.web().replicas} != before


async def test_the_service_serves_again_after_it_was_restarted(rig: Rig) -> None:
    await rig.deployed(rig.spec("1", replicas=1))
    await rig.restart()
    async with Load(rig.listen) as load:
        await wait_for(lambda: load.counts["1"] >= 5, 20)


async def test_a_balancer_that_is_killed_is_started_anew(rig: Rig) -> None:
    await rig.deployed(rig.spec("1"))
    pid = rig.service.status().balancer.pid
    await rig.traffic.balancer._end()
    async with Load(rig.listen) as load:
        await wait_for(lambda: load.counts["1"] >= 10, 60)
    assert rig.service.status().balancer.pid != pid


async def test_a_port_of_the_balancer_that_is_taken_is_said(rig: Rig) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", rig.listen))
        other.listen()
        await rig.deployed(rig.spec("1"))
        assert "cannot be listened on" in rig.web().reason
    async with Load(rig.listen) as load:
        await wait_for(lambda: load.counts["1"] >= 10, 60)


async def test_secrets_reach_the_program_and_nothing_else(rig: Rig) -> None:
    document = rig.spec("1", more='[secrets]\nTOKEN = "deploy.web.token"')
    with pytest.raises(NotFoundError, match=r"no secret deploy\.web\.token"):
        await rig.desk.apply(document, "alice")
    value = 's3cr€t "with" $signs `and` \\ more'
    rig.secrets.put("deploy.web.token", value.encode())
    assert (await rig.deployed(document)).stage is Stage.completed
    node = rig.nodes[rig.web().replicas[0].replica.node]
    keeper = node.pids()[0]
    child = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()[0]
    assert f"TOKEN={value}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
    assert b"s3cr" not in Path(f"/proc/{child}/cmdline").read_bytes()
    assert (node.own / "deploy/web/r1/env").stat().st_mode & 0o777 == 0o600
    assert "s3cr" not in str(await rig.desk.history("web", 50))
    with pytest.raises(InvalidArgumentsError, match="regex"):
        await rig.desk.plan(document.replace("deploy.web.token", "kafka.password"))


async def test_a_removed_service_leaves_nothing_behind(rig: Rig) -> None:
    await rig.deployed(rig.spec("1"))
    await rig.deployed(rig.spec("2"))
    for revision in range(3, 14):  # as of a service that was deployed often
        rig.keeper.specs[revision] = rig.keeper.specs[2]
        path = rig.nodes["alpha"].own / f"deploy/web/r{revision}/env"
        path.parent.mkdir()
        path.write_text("TOKEN=secret\n")
    await rig.desk.remove("web", "alice")
    await wait_for(lambda: not rig.service.keepers, 20)
    assert [pid for node in rig.nodes.values() for pid in node.pids()] == []
    assert [path.name for node in rig.nodes.values() for path in (node.own / "units").iterdir()] == []
    assert [path.name for node in rig.nodes.values() for path in (node.own / "deploy").glob("web/*")] == []
    assert rig.service.status().balancer.pid is None
    with pytest.raises(NotFoundError):
        rig.service.discovery.endpoints("web")


async def test_discovery_tells_only_who_answers(rig: Rig) -> None:
    await rig.deployed(rig.spec("1", replicas=2))
    assert len(rig.service.discovery.endpoints("web")) == 2
    assert rig.service.discovery.front("web") == f"127.0.0.1:{rig.listen}"
    rig.mood("1", "ill")
    await wait_for(lambda: rig.service.discovery.endpoints("web") == (), 20)
    with pytest.raises(NotFoundError, match="did you mean web"):
        rig.service.discovery.endpoints("wep")

"""Several services, and several operators: none of them pays for what another one asks for."""

from __future__ import annotations

import asyncio
import socket

import pytest

from appliance.core.deploy.model import Rollout, Stage
from appliance.core.deploy.spec import parse
from appliance.errors import ConflictError, NotFoundError
from tests.deploy.rig import Load, Rig, free_range
from tests.support import free_port, wait_for


def beside(rig: Rig, *, listen: int, first: int, version: str = "1") -> str:
    """A second service."""
    document = rig.spec(version, name="api", first=first, replicas=1)
    return document.replace(f"[front]\nlisten = {rig.listen}\n", f"[front]\nlisten = {listen}\n")


async def test_a_port_that_one_service_cannot_have_costs_no_other_service_a_request(rig: Rig) -> None:
    await rig.deployed(rig.spec("1"))
    listen = free_port()
    with socket.socket() as foreign:
        foreign.bind(("127.0.0.1", listen))
        foreign.listen()
        await rig.desk.apply(beside(rig, listen=listen, first=free_range()), "bob")
        await wait_for(lambda: rig.service.keepers["api"].traffic_problem is not None, 20)
        async with Load(rig.listen) as load:
            assert (await rig.deployed(rig.spec("2", "blue-green"))).stage is Stage.completed
            load.taken()
            await wait_for(lambda: load.counts["2"] >= 20)
        assert load.failed == []
        assert rig.keeper.traffic_problem is None
        assert rig.service.status().balancer.health == "unhealthy"
    async with Load(listen) as load:  # and it is tried again
        await wait_for(lambda: load.counts["1"] >= 5, 20)
    assert rig.service.keepers["api"].traffic_problem is None


async def test_nothing_is_called_deployed_already_while_it_changes(rig: Rig) -> None:
    await rig.deployed(rig.spec("1", replicas=1, front=False))
    await rig.desk.apply(rig.spec("2", replicas=1, front=False, soak=600), "alice")
    with pytest.raises(ConflictError, match="alice deploys web already"):
        await rig.desk.apply(rig.spec("1", replicas=1, front=False), "bob")
    await rig.desk.rollback("web", "alice")
    await rig.ended()
    await rig.desk.remove("web", "alice")
    with pytest.raises(ConflictError, match="web is being removed"):
        await rig.desk.apply(rig.spec("1", replicas=1, front=False), "bob")
    await wait_for(lambda: rig.keeper.done, 30, every=0.0)
    assert await rig.desk.apply(rig.spec("1", replicas=1, front=False), "bob") is not None  # it is not the old one's any more
    assert (await rig.ended()).stage is Stage.completed


async def test_two_services_that_want_one_port_at_once_do_not_both_get_it(rig: Rig) -> None:
    first = rig.spec("1", replicas=1)
    found = await asyncio.gather(
        rig.desk.apply(first, "alice"), rig.desk.apply(beside(rig, listen=rig.listen, first=rig.first), "bob"),
        return_exceptions=True,
    )  # fmt: skip
    assert [type(each) for each in found] == [Rollout, ConflictError]


async def test_nobody_goes_back_to_ports_that_another_service_has_by_now(rig: Rig) -> None:
    await rig.deployed(rig.spec("1", replicas=1, front=False, soak=0))
    mine = rig.first
    await rig.deployed(rig.spec("2", replicas=1, front=False, soak=0, first=free_range()))
    await rig.desk.apply(rig.spec("1", name="api", replicas=1, front=False, first=mine), "bob")
    with pytest.raises(ConflictError, match="api has ports"):
        await rig.desk.rollback("web", "alice")
    assert rig.keeper.position is None


async def test_a_machine_that_is_taken_out_of_the_inventory_leaves_the_others_to_a_service(rig: Rig) -> None:
    document = rig.spec("1", replicas=1, front=False).replace('["all"]', '["alpha", "beta", "!gamma"]')
    await rig.deployed(document)
    inventory = rig.ground.inventory
    inventory._nodes = {name: node for name, node in inventory._nodes.items() if name == "alpha"}
    await rig.desk.plan(rig.spec("1", name="api", front=False, first=free_range()))
    await rig.desk.scale("web", 2, "alice")
    await wait_for(lambda: [row.replica.node for row in rig.web().replicas if row.fitness == "healthy"] == ["alpha"] * 2, 30)
    with pytest.raises(NotFoundError, match="no machine beta"):
        await rig.desk.plan(document.replace('version = "1"', 'version = "2"'))
    assert rig.ground.present(parse(document.replace('"alpha", "beta"', '"beta"'))) == ()

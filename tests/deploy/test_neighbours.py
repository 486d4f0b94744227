"""Several services, and several operators: none of them pays for what another one asks for."""

from __future__ import annotations

import socket

from appliance.core.deploy.model import Stage
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

"""The fleet's state and facts, as fronts ask for them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from appliance.core.actions import Invocation
from appliance.core.catalog.fleet_facts import fact_actions
from appliance.core.clock import SystemClock
from appliance.core.fleet.inventory import FleetInventory
from appliance.core.fleet.keys import OwnKey
from appliance.core.fleet.links import Links
from appliance.core.fleet.rounds import Rhythm
from appliance.core.fleet.service import FleetService, Ground
from appliance.core.model import Actor, Role
from appliance.core.state import LiveState
from appliance.errors import NotFoundError
from tests.fleet.conftest import reach
from tests.servers.sshd import SshServer


async def nothing(*_: Any) -> None:
    """Nobody listens."""


async def test_status_facts_and_a_look_at_once(server: SshServer, own: OwnKey) -> None:
    clock = SystemClock()
    inventory = FleetInventory([reach(server, groups=("cloud",)), reach(server, "aside", enabled=False)])
    links, state = Links(inventory, own), LiveState(clock)
    service = FleetService(Ground(
        inventory=inventory, shell=links, state=state, clock=clock, note=nothing, publish=nothing,
        rhythm=Rhythm(metrics=60.0, updates=False),
    ))  # fmt: skip
    actions = {each.name: each for each in fact_actions(service, inventory, clock)}

    async def ask(name: str, **arguments: Any) -> Any:
        who = Invocation(Actor("test", Role.operator, "socket"), name, "1")
        result = await actions[name].handler(who, actions[name].params(**arguments))
        assert msgspec.json.decode(msgspec.json.encode(result)) is not None
        return result

    await service.start()
    try:
        assert [each["node"] for each in (await ask("fleet.status"))["nodes"]] == ["agent", "aside"]
        assert (await ask("fleet.facts", nodes=["aside"]))[0]["missing"] == {"all": "it is set aside (maintenance)"}
        looked = await ask("fleet.refresh", nodes=["group:cloud"])
        (row,) = looked["nodes"]
        assert (row["node"], row["link"]) == ("agent", "up")
        assert row["memory"] > 0
        assert 0 <= row["metrics_age_s"] < 60
        assert actions["fleet.refresh"].brief is not None
        assert actions["fleet.refresh"].brief(looked).startswith("1 of 1 nodes reached")
        (facts,) = await ask("fleet.facts", nodes=["agent"])
        assert facts["kernel"]
        assert 0 <= facts["age_s"] < 60
        with pytest.raises(NotFoundError, match="agnet"):
            await ask("fleet.status", nodes=["agnet"])
    finally:
        await service.stop()
        await links.close()

"""What is asked of the machines over SSH, as fronts ask it."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.core.actions import Invocation
from appliance.core.catalog.fleet import fleet_actions
from appliance.core.fleet.keys import OwnKey
from appliance.core.fleet.links import Links
from appliance.core.model import Actor, Role
from appliance.errors import UnreachableError
from tests.servers.sshd import SshServer


async def ask(shell: Links, own: OwnKey, name: str, **arguments: str) -> Any:
    action = next(each for each in fleet_actions(shell, own) if each.name == name)
    who = Invocation(Actor("test", Role.operator, "socket"), name, "1")
    return await action.handler(who, action.params(**arguments))


async def test_a_machine_that_lets_us_in_answers(shell: Links, own: OwnKey, server: SshServer) -> None:
    told = await ask(shell, own, "fleet.check", node="agent")
    assert (told["node"], told["port"], told["host_key"]) == ("agent", server.port, server.fingerprint)
    assert len(told["answer"].split()) == 3


async def test_a_machine_that_is_off_is_told_as_that(shell: Links, own: OwnKey, server: SshServer) -> None:
    server.stop()
    with pytest.raises(UnreachableError):
        await ask(shell, own, "fleet.check", node="agent")
    assert [each["node"] for each in await ask(shell, own, "fleet.nodes")] == ["agent"]


async def test_the_key_that_is_shown_is_the_public_one(shell: Links, own: OwnKey) -> None:
    told = await ask(shell, own, "fleet.key")
    assert told == {"public_key": own.public()}
    assert told["public_key"].startswith("ssh-ed25519 AAAA")

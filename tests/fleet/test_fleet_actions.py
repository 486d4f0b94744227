"""What is asked of the inventory and the machines, as fronts ask it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.core.actions import Invocation
from appliance.core.catalog.fleet import Desk, fleet_actions
from appliance.core.fleet.keys import OwnKey
from appliance.core.model import Actor, Role
from appliance.errors import ConflictError, InvalidArgumentsError, NotFoundError, UnreachableError
from tests.fleet.conftest import desk_of, reach
from tests.servers.sshd import SshServer


async def ask(desk: Desk, name: str, **arguments: Any) -> Any:
    action = next(each for each in fleet_actions(desk) if each.name == name)
    who = Invocation(Actor("test", Role.admin, "socket"), name, "1")
    return await action.handler(who, action.params(**arguments))


async def test_a_machine_that_lets_us_in_answers(desk: Desk, server: SshServer) -> None:
    told = await ask(desk, "fleet.check", node="agent")
    assert (told["node"], told["port"], told["host_key"], told["link"]) == ("agent", server.port, server.fingerprint, "up")
    assert len(told["answer"].split()) == 3


async def test_a_machine_that_is_off_is_told_as_that(desk: Desk, server: SshServer) -> None:
    server.stop()
    with pytest.raises(UnreachableError):
        await ask(desk, "fleet.check", node="agent")
    (row,) = await ask(desk, "fleet.nodes")
    assert (row["node"], row["link"]) == ("agent", "unreachable")


async def test_the_key_that_is_shown_is_the_public_one(desk: Desk, own: OwnKey) -> None:
    told = await ask(desk, "fleet.key")
    assert told == {"public_key": own.public()}
    assert told["public_key"].startswith("ssh-ed25519 AAAA")


async def test_a_machine_is_added_trusted_used_changed_and_forgotten(server: SshServer, own: OwnKey, tmp_path: Path) -> None:
    desk = desk_of(own, tmp_path)
    assert await ask(desk, "fleet.nodes") == []
    await ask(desk, "fleet.add", node="new", host="127.0.0.1", port=server.port, user=server.user, groups=["lab"], tags=["a=1"])
    with pytest.raises(UnreachableError, match="never confirmed"):
        await ask(desk, "fleet.check", node="new")
    (row,) = await ask(desk, "fleet.nodes", selector=["group:lab"])
    assert (row["link"], row["offered_key"]) == ("untrusted", server.fingerprint)
    shown = await ask(desk, "fleet.trust", node="new")
    assert (shown["shows"]["ssh-ed25519"], shown["trusted"], shown["confirmed"]) == (server.fingerprint, False, "")
    with pytest.raises(ConflictError, match="shows"):
        await ask(desk, "fleet.trust", node="new", fingerprint="SHA256:" + "a" * 43)
    assert (await ask(desk, "fleet.trust", node="new", fingerprint=server.fingerprint))["trusted"]
    assert (await ask(desk, "fleet.check", node="new"))["link"] == "up"
    assert (await ask(desk, "fleet.change", node="new", role="tests", groups=[]))["role"] == "tests"
    assert await ask(desk, "fleet.groups") == {}
    await ask(desk, "fleet.remove", node="new")
    assert await ask(desk, "fleet.nodes") == []
    await desk.links.close()


async def test_a_machine_in_maintenance_is_not_contacted(desk: Desk, server: SshServer) -> None:
    await ask(desk, "fleet.check", node="agent")
    assert (await ask(desk, "fleet.maintenance", node="agent"))["link"] == "off"
    before = server.child.log.read_text().count("Connection from")
    with pytest.raises(UnreachableError, match="set aside"):
        await ask(desk, "fleet.check", node="agent")
    assert server.child.log.read_text().count("Connection from") == before
    assert not desk.links.due("agent")
    assert (await ask(desk, "fleet.maintenance", node="agent", off=True))["link"] == "never"
    assert (await ask(desk, "fleet.check", node="agent"))["link"] == "up"


async def test_what_stands_in_the_configuration_is_changed_there(desk: Desk) -> None:
    for name, arguments in (("fleet.change", {"user": "ada"}), ("fleet.remove", {})):
        with pytest.raises(ConflictError, match="stands in the configuration"):
            await ask(desk, name, node="agent", **arguments)
    with pytest.raises(ConflictError, match="already"):
        await ask(desk, "fleet.add", node="agent", host="127.0.0.1")


async def test_wrong_input_is_named(desk: Desk) -> None:
    with pytest.raises(NotFoundError, match="There is no machine agnet"):
        await ask(desk, "fleet.check", node="agnet")
    with pytest.raises(InvalidArgumentsError, match="fingerprint"):
        await ask(desk, "fleet.trust", node="agent", fingerprint="MD5:12")
    with pytest.raises(InvalidArgumentsError, match="one line"):
        await ask(desk, "fleet.sudo-password", node="agent", password="a\nb")


async def test_a_password_for_sudo_is_stored_and_forgotten_and_never_told(desk: Desk, tmp_path: Path) -> None:
    told = await ask(desk, "fleet.sudo-password", node="agent", password="hush hush")
    assert told == {"node": "agent", "sudo": "auto", "stored": True}
    kept = tmp_path / "secrets/fleet.agent.sudo"
    assert (kept.read_text(), kept.stat().st_mode & 0o777) == ("hush hush", 0o600)
    await ask(desk, "fleet.sudo-password", node="agent", password="")
    assert not kept.exists()


async def test_a_host_key_in_the_configuration_is_replaced_there_alone(desk: Desk, server: SshServer) -> None:
    server.new_host_key()
    server.restart()
    with pytest.raises(UnreachableError, match="ANOTHER"):
        await ask(desk, "fleet.check", node="agent")
    with pytest.raises(ConflictError, match="Another host key was confirmed"):
        await ask(desk, "fleet.trust", node="agent", fingerprint=server.fingerprint)
    with pytest.raises(ConflictError, match="stands in the configuration"):
        await ask(desk, "fleet.trust", node="agent", fingerprint=server.fingerprint, replace=True)


async def test_a_pin_that_was_confirmed_here_is_replaced_on_request(server: SshServer, own: OwnKey, tmp_path: Path) -> None:
    desk = desk_of(own, tmp_path, reach(server, host_key=""))
    await ask(desk, "fleet.trust", node="agent", fingerprint=server.fingerprint)
    await ask(desk, "fleet.check", node="agent")
    server.new_host_key()
    server.kill()
    server.start()
    with pytest.raises(UnreachableError, match="ANOTHER"):
        await ask(desk, "fleet.check", node="agent")
    assert desk.links.link("agent").reach == "changed"
    await ask(desk, "fleet.trust", node="agent", fingerprint=server.fingerprint, replace=True)
    assert (await ask(desk, "fleet.check", node="agent"))["link"] == "up"
    assert f'agent = "{server.fingerprint}"' in (tmp_path / "inventory.toml").read_text()
    await desk.links.close()

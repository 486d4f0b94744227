"""Every kind of operation over a real sshd, whose dangerous programs are stand-ins."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.core.fleet.inventory import FleetInventory
from appliance.core.fleet.keys import OwnKey
from appliance.core.fleet.link_login import Logins
from appliance.core.fleet.link_pace import Pace
from appliance.core.fleet.links import Links
from appliance.core.fleet.model import Node
from appliance.core.fleet.operations import kinds
from appliance.core.fleet.operations.kinds.keys import entries, parse
from appliance.core.fleet.operations.kinds.packages import removals, upgrades
from appliance.core.fleet.operations.kinds.power import magic_packet
from appliance.core.fleet.operations.model import OperationStatus, Stage
from appliance.core.fleet.operations.operation import Way
from appliance.errors import UnreachableError
from tests.fleet.ops.rig import QUICK, Rig, states
from tests.fleet.ops.tools import ToolServer
from tests.support import wait_for


@pytest.fixture
def servers(own: OwnKey) -> Iterator[dict[str, ToolServer]]:
    with ExitStack() as stack:
        made = {}
        for name in ("a", "b"):
            made[name] = ToolServer(own, name)
            stack.callback(made[name].clean)
            stack.enter_context(made[name])
        yield made


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a machine is back is looked at more often than once a second."""
    monkeypatch.setattr("appliance.core.fleet.operations.kinds.service.ServiceKind.settle", 0.3)
    for module in ("reboot", "power"):
        monkeypatch.setattr(f"appliance.core.fleet.operations.kinds.{module}.EVERY", 0.1)


class Over(Rig):
    """Operations over links to these nodes."""

    def __init__(self, directory: Path, own: OwnKey, nodes: list[Node]) -> None:
        self.logins = Logins(own, Pace())
        self.inventory = FleetInventory(nodes, directory / "inventory.toml")
        self.links = Links(self.inventory, own, logins=self.logins)
        super().__init__(directory, self.links, self.inventory)
        self.ground = other(self.ground, fresh=self._fresh)
        self.service = type(self.service)(self.ground, self.state)

    async def _fresh(self, name: str) -> None:
        (await self.logins.open(self.inventory.get(name))).connection.close()

    async def stop(self) -> None:
        await super().stop()
        await self.links.close()


def other(ground: Any, **changes: Any) -> Any:
    """A ground with other parts."""
    return type(ground)(**{**vars(ground), **changes})


@pytest.fixture
async def rig(tmp_path: Path, own: OwnKey, servers: dict[str, ToolServer]) -> AsyncIterator[Over]:
    made = Over(tmp_path, own, [server.node(mac="02:00:00:00:00:01") for server in servers.values()])
    await made.start()
    yield made
    await made.stop()


async def undone(rig: Rig, status: OperationStatus) -> OperationStatus:
    await rig.service.undo(status.operation_id, "alice")
    return await rig.service.wait(status.operation_id)


def unit(server: ToolServer, state: str = "inactive disabled", name: str = "web") -> None:
    server.put(f"unit.{name}", state + "\n")


async def test_a_service_is_started_stopped_enabled_and_all_of_it_taken_back(rig: Over, servers: dict[str, ToolServer]) -> None:
    for kind, before, after in (
        ("service.start", "inactive disabled", "active disabled"), ("service.disable", "active enabled", "active disabled"),
    ):  # fmt: skip
        unit(servers["b"], before)
        ended = await rig.done(kind, ["b"], unit="web")
        assert (ended.stage, states(ended)) == (Stage.completed, {"b": "ok"}), ended
        assert servers["b"].state("unit.web").strip() == after
        assert (await undone(rig, ended)).stage is Stage.undone
        assert servers["b"].state("unit.web").strip() == before


async def test_a_service_that_does_not_come_up_stops_it_on_the_first_node(rig: Over, servers: dict[str, ToolServer]) -> None:
    for server in servers.values():
        unit(server, "active enabled")
    servers["a"].put("unit.web.broken", "")
    planned = await rig.service.plan("service.restart", {"unit": "web.service"}, ["all"], QUICK, "alice")
    assert not planned.undoable
    assert "cannot be taken back: a restart" in await rig.service.confirmation(planned.operation_id)
    await rig.service.apply(planned.operation_id, "alice")
    ended = await rig.service.wait(planned.operation_id)
    assert (ended.stage, states(ended)) == (Stage.failed, {"a": "failed", "b": "skipped"})
    assert "web.service is failed" in ended.runs[0].reason
    assert "nothing was taken back: a restart is not taken back" in ended.reason
    assert not servers["b"].state("calls")


async def test_an_expected_service_that_falls_takes_the_operation_back(
    tmp_path: Path, own: OwnKey, servers: dict[str, ToolServer]
) -> None:
    rig = Over(tmp_path, own, [servers["a"].node(services=("db.service",)), servers["b"].node()])
    await rig.start()
    unit(servers["a"], "active enabled", "db")
    for server in servers.values():
        unit(server)
    planned = await rig.service.plan("service.start", {"unit": "web"}, ["all"], QUICK, "alice")
    unit(servers["a"], "failed enabled", "db")
    await rig.service.apply(planned.operation_id, "alice")
    ended = await rig.service.wait(planned.operation_id)
    assert (ended.stage, states(ended)) == (Stage.undone, {"a": "undone", "b": "skipped"})
    assert "db.service ran before and does not now" in ended.reason
    assert servers["a"].state("unit.web").split()[0] == "inactive"
    await rig.stop()


async def test_what_is_not_there_and_what_lets_us_in_is_refused(rig: Over, servers: dict[str, ToolServer]) -> None:
    unit(servers["a"], "active enabled", "ssh")
    planned = await rig.service.plan("service.stop", {"unit": "ssh"}, ["all"], QUICK, "alice")
    assert planned.stage is Stage.failed
    assert "how we come in" in planned.runs[0].reason
    assert "there is no service ssh" in planned.runs[1].reason


async def test_a_log_is_followed_until_it_is_cancelled(rig: Over, servers: dict[str, ToolServer]) -> None:
    way = Way(canary=0, soak=0.0, undo=False, limit=60.0)
    planned = await rig.service.plan("service.logs", {"unit": "web", "follow": True, "lines": 5}, ["a"], way, "alice")
    await rig.service.apply(planned.operation_id, "alice")

    async def said() -> bool:
        return (await rig.service.output(planned.operation_id, "a")).text == "one line\n"

    await wait_for(said)
    assert rig.locks.holder("a") is None  # who only reads keeps nobody out
    ended = await rig.service.cancel(planned.operation_id, "alice")
    assert (ended.stage, states(ended)) == (Stage.cancelled, {"a": "ok"})
    assert servers["a"].state("calls").strip().endswith("-u web -n 5 -f")


async def test_packages_are_upgraded_as_planned_and_taken_back(rig: Over, servers: dict[str, ToolServer]) -> None:
    for server in servers.values():
        server.put("apt", "libc6 2.36-9 2.36-10\nvim 9.0 9.0\n")
        server.put("archive", "libc6 2.36-9\nlibc6 2.36-10\n")
    planned = await rig.service.plan("packages.upgrade", {}, ["all"], QUICK, "alice")
    assert planned.runs[0].diff == "- libc6 2.36-9\n+ libc6 2.36-10"
    assert planned.undoable
    assert servers["a"].state("calls") == "update\n"
    await rig.service.apply(planned.operation_id, "alice")
    ended = await rig.service.wait(planned.operation_id)
    assert (ended.stage, states(ended)) == (Stage.completed, {"a": "ok", "b": "ok"}), ended
    assert servers["b"].state("apt").startswith("libc6 2.36-10 ")
    assert "Setting up libc6 (2.36-10)" in (await rig.service.output(ended.operation_id, "b")).text
    assert (await undone(rig, ended)).stage is Stage.undone
    assert servers["b"].state("apt").startswith("libc6 2.36-9 ")
    assert "install libc6=2.36-9" in servers["b"].state("calls")


async def test_an_upgrade_that_was_stopped_is_taken_back_only_once_apt_has_ended(
    rig: Over, servers: dict[str, ToolServer]
) -> None:
    server = servers["a"]
    server.put("apt", "libc6 2.36-9 2.36-10\n")
    server.put("archive", "libc6 2.36-9\nlibc6 2.36-10\n")
    server.put("apt.slow", "")
    planned = await rig.service.plan("packages.upgrade", {"refresh": False}, ["a"], QUICK, "alice")
    await rig.service.apply(planned.operation_id, "alice")
    await wait_for(lambda: "upgrade" in server.state("calls"))
    cancelling = asyncio.create_task(rig.service.cancel(planned.operation_id, "alice"))
    await wait_for(lambda: rig.service.all()[0].stage is Stage.undoing)
    (server.home / "state/apt.slow").unlink()
    ended = await cancelling
    assert (ended.stage, states(ended)) == (Stage.undone, {"a": "undone"}), ended
    assert server.state("apt").startswith("libc6 2.36-9 ")
    assert "install libc6=2.36-9" in server.state("calls")


async def test_an_upgrade_that_breaks_is_said_and_one_that_cannot_be_undone_is_said_before(
    rig: Over, servers: dict[str, ToolServer]
) -> None:
    for server in servers.values():
        server.put("apt", "libc6 2.36-9 2.36-10\n")
        server.put("archive", "libc6 2.36-10\n")
    servers["a"].put("apt.broken", "")
    planned = await rig.service.plan("packages.upgrade", {"packages": ["libc6"]}, ["all"], QUICK, "alice")
    assert not planned.undoable
    assert planned.runs[0].cannot_undo == "the archive has no more: libc6 2.36-9"
    await rig.service.apply(planned.operation_id, "alice")
    ended = await rig.service.wait(planned.operation_id)
    assert (ended.stage, states(ended)) == (Stage.failed, {"a": "failed", "b": "skipped"})
    assert ended.runs[0].exit_status == 100
    assert "dpkg returned an error code" in ended.runs[0].reason
    assert "the archive has no more" in ended.reason


async def test_a_reboot_waits_until_the_machine_is_back(rig: Over, servers: dict[str, ToolServer]) -> None:
    server = servers["a"]
    planned = await rig.service.plan("reboot", {"wait": 60}, ["a"], QUICK, "alice")
    assert planned.stage is Stage.planned, planned
    await rig.service.apply(planned.operation_id, "alice")
    await wait_for(lambda: server.state("going") == "reboot\n")
    server.put("life", "")  # on its way down it tells nothing, which is no other start
    asked = server.state("asked")
    await wait_for(lambda: len(server.state("asked").splitlines()) >= len(asked.splitlines()) + 2)
    assert states(rig.service.all()[0]) == {"a": "running"}
    await asyncio.to_thread(server.go)
    await wait_for(lambda: states(rig.service.all()[0]) == {"a": "running"})
    server.put("life", "22222222\n")
    await asyncio.to_thread(server.start)
    ended = await rig.service.wait(planned.operation_id)
    assert (ended.stage, states(ended)) == (Stage.completed, {"a": "ok"}), ended
    assert ended.runs[0].reason.startswith("back after")


async def test_a_machine_that_does_not_come_back_is_unknown_and_one_that_stays_up_failed(
    rig: Over, servers: dict[str, ToolServer]
) -> None:
    planned = await rig.service.plan("reboot", {"wait": 2}, ["all"], Way(canary=0, soak=0.0, max_failures=2), "alice")
    await rig.service.apply(planned.operation_id, "alice")
    await wait_for(lambda: servers["a"].state("going") == "reboot\n")
    await asyncio.to_thread(servers["a"].go)
    ended = await rig.service.wait(planned.operation_id)
    assert states(ended) == {"a": "unknown", "b": "failed"}
    assert "has not come back within 2 s" in ended.runs[0].reason


async def test_a_cut_link_is_no_machine_that_is_off(
    rig: Over, servers: dict[str, ToolServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.core.fleet.operations.kinds.power.OFF_WITHIN", 1.5)
    server, reach, cuts = servers["a"], rig.links.run, list[str]()

    async def cut_once(node: str, *given: Any, **named: Any) -> Any:
        if server.state("going") and not cuts:
            cuts.append(node)
            raise UnreachableError(f"{node} does not answer.")
        return await reach(node, *given, **named)

    monkeypatch.setattr(rig.links, "run", cut_once)
    ended = await rig.done("power.off", ["a"], way=Way(canary=0, soak=0.0, undo=False))
    assert (cuts, states(ended)) == (["a"], {"a": "failed"})
    assert "it still answers" in ended.runs[0].reason


async def test_a_machine_is_switched_off_and_woken_by_a_packet(rig: Over, servers: dict[str, ToolServer]) -> None:
    server = servers["a"]
    planned = await rig.service.plan("power.off", {}, ["a"], QUICK, "alice")
    await rig.service.apply(planned.operation_id, "alice")
    await wait_for(lambda: server.state("going") == "poweroff\n")
    await asyncio.to_thread(server.go)
    ended = await rig.service.wait(planned.operation_id)
    assert (ended.stage, states(ended)) == (Stage.completed, {"a": "ok"}), ended
    assert ended.undoable
    assert rig.links.link("a").reach == "off"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as card:
        card.bind(("127.0.0.1", 0))
        card.setblocking(False)
        for through in ("", "b"):
            while select.select([card], [], [], 0)[0]:
                card.recv(200)  # of the try before
            arguments = {"address": "127.0.0.1", "port": card.getsockname()[1], "wait": 60, "through": through}
            planned = await rig.service.plan("power.on", arguments, ["a"], QUICK, "alice")
            await rig.service.apply(planned.operation_id, "alice")
            packet = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(card, 200), 20.0)
            assert packet == magic_packet("02:00:00:00:00:01") == b"\xff" * 6 + bytes.fromhex("020000000001") * 16
            await asyncio.to_thread(server.start)
            woken = await rig.service.wait(planned.operation_id)
            assert (woken.stage, states(woken)) == (Stage.completed, {"a": "ok"}), woken
            await asyncio.to_thread(server.go)


async def test_an_account_is_added_and_removed_and_put_back(rig: Over, servers: dict[str, ToolServer]) -> None:
    (servers["b"].home / "home/eve").mkdir()
    ended = await rig.done("users.add", ["all"], user="eve", groups=["sudo"])
    assert (ended.stage, states(ended)) == (Stage.completed, {"a": "ok", "b": "ok"}), ended
    assert "eve:x:1234" in servers["b"].state("passwd")
    assert (await undone(rig, ended)).stage is Stage.undone
    assert "eve" not in servers["b"].state("passwd")
    assert "userdel -r -- eve" in servers["a"].state("calls")
    assert "userdel -- eve" in servers["b"].state("calls")  # its home was there before
    servers["a"].put("passwd", servers["a"].state("passwd") + f"bob:x:1007:1007::{servers['a'].home}/home/bob:/bin/sh\n")
    servers["a"].put("groups.bob", "bob docker\n")
    ended = await rig.done("users.remove", ["a"], user="bob")
    assert ended.stage is Stage.completed
    back = await undone(rig, ended)
    assert (back.stage, back.runs[0].reason) == (Stage.undone, "its password is not put back: it is entered with its key again")
    assert "bob:x:1007:1007" in servers["a"].state("passwd")
    for user in (servers["a"].user, "daemon"):
        refused = await rig.service.plan("users.remove", {"user": user}, ["a"], QUICK, "alice")
        assert refused.stage is Stage.failed, refused


async def test_a_key_is_let_in_and_out_again(rig: Over, servers: dict[str, ToolServer], own: OwnKey) -> None:
    server = servers["a"]
    made = Ed25519PrivateKey.generate().public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH).decode()
    before = server.authorized.read_text()
    ended = await rig.done("keys.add", ["a"], user=server.user, key=f"{made} eve@laptop")
    assert (ended.stage, states(ended)) == (Stage.completed, {"a": "ok"}), ended
    assert server.authorized.read_text() == f"{before}{made} eve@laptop\n"
    assert server.authorized.stat().st_mode & 0o777 == 0o644
    mark = entries(server.authorized.read_text())[1]["fingerprint"]
    ended = await rig.done("keys.remove", ["a"], user=server.user, fingerprint=mark)
    assert ended.stage is Stage.completed
    assert server.authorized.read_text() == before
    assert "eve@laptop" in (await undone(rig, ended)).runs[0].diff
    assert "eve@laptop" in server.authorized.read_text()


async def test_a_file_of_keys_behind_a_link_or_in_another_encoding_is_left_alone(
    rig: Over, servers: dict[str, ToolServer]
) -> None:
    made = Ed25519PrivateKey.generate().public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH).decode()
    home, user = servers["a"].home / "home", servers["a"].user
    (home / ".ssh").rename(home / "ssh")
    (home / ".ssh").symlink_to(home / "ssh")
    before = servers["a"].authorized.read_bytes()
    ended = await rig.done("keys.add", ["a"], user=user, key=f"{made} eve")
    assert (states(ended), servers["a"].authorized.read_bytes()) == ({"a": "undone"}, before), ended
    assert "is reached by a link" in ended.reason
    servers["b"].authorized.write_bytes(servers["b"].authorized.read_bytes() + b"# caf\xe9\n")
    planned = await rig.service.plan("keys.add", {"user": user, "key": made}, ["b"], QUICK, "alice")
    assert "not all UTF-8" in planned.runs[0].reason, planned


async def test_our_own_key_cannot_be_locked_out(rig: Over, servers: dict[str, ToolServer], own: OwnKey) -> None:
    server = servers["a"]
    before = server.authorized.read_text()
    mark = entries(before)[0]["fingerprint"]
    ended = await rig.done("keys.remove", ["a"], user=server.user, fingerprint=mark)
    assert (ended.stage, states(ended)) == (Stage.undone, {"a": "undone"})
    assert "a new connection does not work any more" in ended.reason
    assert server.authorized.read_text() == before
    await rig._fresh("a")


async def test_a_compose_project_goes_up_and_down_and_back(rig: Over, servers: dict[str, ToolServer]) -> None:
    server = servers["a"]
    server.put("wanted", "web aa\ndb bb\n")
    server.put("compose", "web exited aa\ndb running bb\n")
    planned = await rig.service.plan("compose.up", {"project": "shop"}, ["a"], QUICK, "alice")
    assert planned.runs[0].diff == "- web: stopped\n+ web: running"
    await rig.service.apply(planned.operation_id, "alice")
    ended = await rig.service.wait(planned.operation_id)
    assert ended.stage is Stage.completed, ended
    assert (await undone(rig, ended)).stage is Stage.undone
    assert server.state("compose") == "web exited aa\ndb running bb\n"
    server.put("compose", "web running aa\ndb running bb\n")
    ended = await rig.done("compose.down", ["a"], project="shop")
    assert (ended.stage, server.state("compose")) == (Stage.completed, ""), ended
    assert (await undone(rig, ended)).stage is Stage.undone
    assert server.state("compose") == "web running aa\ndb running bb\n"
    server.put("wanted", "web cc\ndb bb\n")
    planned = await rig.service.plan("compose.up", {"project": "shop"}, ["a"], QUICK, "alice")
    assert planned.runs[0].diff == "- web\n+ web: made anew, its file changed"
    assert not planned.undoable


def test_every_kind_can_be_found_and_says_what_it_is() -> None:
    known = kinds.all_kinds()
    assert len(known) >= 22
    for name, kind in known.items():
        assert kinds.find(name) is kind
        assert kind.name.split(".")[0] in kinds.modules()
        assert kind.summary[0].isupper()
        assert kind.changes or kind.cannot_undo


def test_what_apt_says_is_read() -> None:
    text = (
        "Reading package lists...\nInst base-files [12.4+deb12u5] (12.4+deb12u6 Debian:12.6/stable [arm64])\n"
        "Conf base-files (12.4+deb12u6 Debian:12.6/stable [arm64])\nInst linux-image-new (6.1 Debian:12.6/stable [arm64])\n"
        "Inst libc6 [2.36-9] (2.36-10 Debian:12.6/stable [arm64]) [libc6:arm64 ]\nRemv old-thing [1.0]\n"
    )
    assert upgrades(text) == [
        ["base-files", "12.4+deb12u5", "12.4+deb12u6"], ["libc6", "2.36-9", "2.36-10"], ["linux-image-new", "", "6.1"],
    ]  # fmt: skip
    assert removals(text) == ["old-thing"]


@pytest.mark.parametrize("line", ["", "# ssh-ed25519 AAAA", "ssh-ed25519", "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIA==", "hello"])
def test_what_is_no_key_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="no public key"):
        parse(line)

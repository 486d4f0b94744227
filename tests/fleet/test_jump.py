"""Ways through other machines, and host keys of several kinds; on real sshds."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.core.fleet.inventory import FleetInventory
from appliance.core.fleet.keys import OwnKey
from appliance.core.fleet.link_login import Logins
from appliance.core.fleet.link_pace import Pace
from appliance.core.fleet.links import Links
from appliance.core.fleet.links_service import LinksService
from appliance.core.fleet.model import Reach
from appliance.core.fleet.sshconfig import SshFiles
from appliance.core.model import Health, Severity
from appliance.errors import ConflictError, StoreError, UnreachableError
from tests.fleet.conftest import desk_of, links_to, reach
from tests.servers.sshd import SshServer
from tests.support import wait_for

Serve = Callable[..., SshServer]


@pytest.fixture
def serve(own: OwnKey) -> Iterator[Serve]:
    """Starts sshds with settings of their own."""
    made: list[SshServer] = []

    def start(**how: Any) -> SshServer:
        made.append(SshServer(Path(tempfile.mkdtemp(prefix="sshd-")), own.public() + "\n", **how))
        made[-1].start()
        return made[-1]

    yield start
    for server in made:
        server.kill()
        shutil.rmtree(server.directory)


async def test_a_chain_of_jump_hosts(own: OwnKey, serve: Serve) -> None:
    first, second, third = serve(address="127.0.0.2"), serve(address="127.0.0.3"), serve(address="127.0.0.4")
    links = links_to(own, reach(first, "first", host="127.0.0.2"), reach(second, "second", host="127.0.0.3", jump="first"),
                     reach(third, "third", host="127.0.0.4", jump="second"))  # fmt: skip
    assert (await links.run("third", ["sh", "-c", "echo $SSH_CONNECTION"], limit=120.0)).stdout.split()[2] == b"127.0.0.4"
    assert links.link("third").address == "127.0.0.4 via second"
    assert [links.link(each).reach for each in ("first", "second", "third")] == [Reach.up] * 3
    assert first.child.log.read_text().count("Accepted publickey") == 1
    await links.close()


async def test_a_dead_jump_host_is_told_as_that(own: OwnKey, serve: Serve) -> None:
    gate, inner = serve(), serve()
    links = links_to(own, reach(gate, "gate"), reach(inner, "inner", jump="gate"))
    await links.run("inner", ["true"])
    gate.kill()
    await wait_for(lambda: links.link("inner").reach is Reach.unreachable)
    with pytest.raises(UnreachableError, match="its jump host does not work: gate"):
        await links.run("inner", ["true"])
    gate.start()
    assert (await links.run("inner", ["true"])).exit_status == 0
    inner.kill()
    await wait_for(lambda: links.link("inner").reach is Reach.unreachable)
    with pytest.raises(UnreachableError, match="gate does not reach it"):
        await links.run("inner", ["true"])
    assert links.link("gate").reach is Reach.up
    await links.close()


async def test_many_machines_behind_one_jump_host(own: OwnKey, serve: Serve) -> None:
    gate, inner = serve(), serve()
    names = [f"n{number}" for number in range(4)]
    nodes = [reach(gate, "gate"), *(reach(inner, name, jump="gate") for name in names)]
    links = Links(FleetInventory(nodes), own, pace=Pace(connects=2))  # fewer than those who wait for the jump host's own login
    answers = await asyncio.gather(*(links.run(name, ["echo", name], limit=120.0) for name in names))
    assert [each.stdout.decode().strip() for each in answers] == names
    await links.close()


async def test_a_key_of_another_kind_may_be_the_confirmed_one(own: OwnKey, serve: Serve) -> None:
    server = serve(kinds=("ed25519", "ecdsa", "rsa"))
    links = links_to(own, reach(server, "rsa", host_key=server.fingerprint_of("rsa")),
                     reach(server, "ecdsa", host_key=server.fingerprint_of("ecdsa")),
                     reach(server, "none", host_key="SHA256:" + "a" * 43))  # fmt: skip
    for name in ("rsa", "ecdsa"):
        assert (await links.run(name, ["true"])).exit_status == 0
    with pytest.raises(UnreachableError, match="ANOTHER"):
        await links.run("none", ["true"])
    assert links.link("none").reach is Reach.changed
    await links.close()


async def test_all_kinds_are_shown_and_any_of_them_is_confirmed(own: OwnKey, serve: Serve, tmp_path: Path) -> None:
    server = serve(kinds=("ed25519", "ecdsa", "rsa"))
    desk = desk_of(own, tmp_path, reach(server, host_key=""))
    shown = (await desk.trust.look("agent")).shown
    assert set(shown.values()) == {server.fingerprint_of(kind) for kind in ("ed25519", "ecdsa", "rsa")}
    await desk.trust.confirm("agent", server.fingerprint_of("rsa"))
    assert (await desk.links.run("agent", ["true"])).exit_status == 0
    with pytest.raises(ConflictError, match="Another host key was confirmed"):
        await desk.trust.confirm("agent", server.fingerprint_of("ecdsa"))
    await desk.links.close()


async def test_known_hosts_of_the_user_count_where_nothing_was_confirmed(own: OwnKey, serve: Serve, tmp_path: Path) -> None:
    server, other = serve(), serve()
    (tmp_path / "known_hosts").write_text(
        f"[127.0.0.1]:{server.port} {server.public_host_key()}\n[127.0.0.1]:{other.port} {server.public_host_key()}\n"
    )
    nodes = (reach(server, "known", host_key=""), reach(other, "another", host_key=""))
    desk = desk_of(own, tmp_path, *nodes, known=SshFiles(tmp_path))
    assert (await desk.links.run("known", ["true"])).exit_status == 0
    with pytest.raises(UnreachableError, match="ANOTHER"):
        await desk.links.run("another", ["true"])
    await desk.links.close()


async def test_the_known_hosts_file_of_this_process_is_not_read_behind_our_back(
    own: OwnKey, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{server.port} {server.public_host_key()}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    links = links_to(own, reach(server, "new", host_key=""))
    with pytest.raises(UnreachableError, match="never confirmed"):
        await links.run("new", ["true"])
    await links.close()


async def test_a_key_with_a_passphrase_is_told_and_never_asked_for(own: OwnKey, serve: Serve, tmp_path: Path) -> None:
    server = serve()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "hush", "-f", tmp_path / "locked"], check=True)
    (tmp_path / "nonsense").write_text("no key")
    links = links_to(own, *(reach(server, name, key_file=str(tmp_path / name)) for name in ("locked", "nonsense", "absent")))
    for name, problem in (("locked", "wants a passphrase"), ("nonsense", "no private key"), ("absent", "cannot be read")):
        with pytest.raises(UnreachableError, match=problem):
            await links.run(name, ["true"])
        assert links.link(name).reach is Reach.refused
    await links.close()


async def test_an_agent_is_asked_besides_our_own_key(own: OwnKey, serve: Serve, tmp_path: Path) -> None:
    server, socket = serve(), Path(tempfile.mkdtemp(prefix="agent-")) / "socket"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    server.authorized.write_text((tmp_path / "key.pub").read_text())
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        await wait_for(socket.exists)
        subprocess.run(["ssh-add", "-q", tmp_path / "key"], check=True, env={"SSH_AUTH_SOCK": str(socket)}, capture_output=True)
        desk = desk_of(own, tmp_path, reach(server))
        with pytest.raises(UnreachableError, match="does not let"):
            await desk.links.run("agent", ["true"])
        desk.trust.logins.agent = str(socket)
        assert (await desk.links.run("agent", ["true"])).exit_status == 0
        await desk.links.close()
    finally:
        agent.terminate()
        agent.wait()
        shutil.rmtree(socket.parent)


async def test_another_host_key_is_an_alert_once_and_so_is_its_end(own: OwnKey, serve: Serve, tmp_path: Path) -> None:
    server, told = serve(), []
    desk = desk_of(own, tmp_path)
    desk.inventory.add("agent", {"host": "127.0.0.1", "port": server.port, "user": server.user, "host_key": server.fingerprint})

    full = [True]

    async def tell(event: str, severity: Severity, attributes: dict[str, Any]) -> None:
        if full:
            full.clear()
            raise StoreError("the disk is full.", "free some space.")
        told.append((event, severity, attributes["node"]))

    service = LinksService(desk.inventory, desk.links, tell)
    await service.start()
    running = asyncio.create_task(service.run())
    assert (await service.health()).health is Health.healthy
    server.kill()
    server.new_host_key()
    server.start()
    for _ in range(3):
        with pytest.raises(UnreachableError, match="ANOTHER"):
            await desk.links.run("agent", ["true"])
    await wait_for(lambda: told)
    assert (await service.health()).health is Health.unhealthy
    await desk.trust.confirm("agent", server.fingerprint, replace=True)
    desk.links.refresh()
    assert (await service.health()).health is Health.healthy, "it was confirmed, whether or not it answers now"
    await desk.links.run("agent", ["true"])
    await wait_for(lambda: len(told) == 2)
    assert told == [("fleet.host-key-changed", Severity.critical, "agent"), ("fleet.host-key-accepted", Severity.info, "agent")]
    (tmp_path / "inventory.toml").write_text("[nodes.agent]\nhost = 1\n")
    await wait_for(lambda: desk.inventory.fault, every=0.1)
    health = await service.health()
    assert (health.health, "inventory.toml:2" in health.reason) == (Health.degraded, True)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await service.stop()


async def test_links_of_machines_that_are_gone_are_let_go(own: OwnKey, serve: Serve, tmp_path: Path) -> None:
    server = serve()
    desk = desk_of(own, tmp_path)
    desk.inventory.add("a", {"host": "127.0.0.1", "port": server.port, "user": server.user, "host_key": server.fingerprint})
    await desk.links.run("a", ["true"])
    desk.inventory.remove("a")
    desk.links.refresh()
    assert desk.links.nodes() == ()
    await wait_for(lambda: "Connection closed" in server.child.log.read_text() or "reset" in server.child.log.read_text())
    await desk.links.close()


async def test_an_agent_that_hangs_does_not_make_machines_seem_to_hang(
    own: OwnKey, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.core.fleet.keeper.AGENT_LIMIT", 0.2)
    server = serve()
    server.authorized.write_text("")
    hangs = await asyncio.start_unix_server(lambda reader, writer: reader.read(), str(tmp_path / "agent"))
    links = Links(FleetInventory([reach(server)]), own, logins=Logins(own, Pace(), agent=str(tmp_path / "agent")))
    with pytest.raises(UnreachableError, match=r"it does not let .* an agent that answers \(nothing within 0.2 s\)"):
        await links.run("agent", ["true"], limit=60.0)
    assert links.link("agent").reach is Reach.refused
    await links.close()
    hangs.close()


async def test_silence_behind_a_jump_host_is_seen_while_nothing_is_asked(own: OwnKey, serve: Serve) -> None:
    gate, inner = serve(), serve()
    nodes = (reach(gate, "gate"), reach(inner, "inner", jump="gate"))
    links = Links(FleetInventory(nodes), own, pace=Pace(keepalive=0.2, missed=10_000, stale=1.0))
    await links.run("inner", ["true"], limit=60.0)
    inner.pause()
    await wait_for(lambda: links.link("inner").reach is Reach.stale)
    assert links.link("inner").sessions == 0
    inner.resume()
    await wait_for(lambda: links.link("inner").reach is Reach.up)
    await links.close()

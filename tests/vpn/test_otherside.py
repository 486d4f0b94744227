"""Both ends of a peer: provisioned and rotated over a shell on its machine, with links that are cut at bad moments."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from appliance.core.vpn.book import Held
from appliance.core.vpn.desk import Wish
from appliance.core.vpn.status import PeerState
from appliance.errors import ConflictError, NotFoundError, ShellError, UnreachableError
from tests.servers.netns import Host, Net, Wire
from tests.support import wait_for
from tests.vpn.rig import PORT, Bench, NamespaceShell, ping, star


class Pair(Bench):
    """A hub and one node that is reached over a shell."""

    node: Host
    wire: Wire
    there: str

    def key(self) -> str:
        """The public key that the node's interface has now."""
        return self.node.run("wg", "show", self.there, "public-key").strip()

    def file(self) -> str:
        return (self.folder / f"{self.there}.conf").read_text()


@asynccontextmanager
async def pair(net: Net, tmp_path: Path, *, up: bool = True, **more: object) -> AsyncIterator[Pair]:
    hub, (node,), wires = star(net, 1)
    bench = Pair(hub, tmp_path, NamespaceShell({"box": node}), **{"endpoint": f"192.0.2.1:{PORT}", **more})
    bench.node, bench.wire, bench.there = node, wires[1], node.interface()
    try:
        async with bench.life():
            await bench.desk.add("box", Wish(node="box", node_interface=bench.there))
            if up:
                await bench.other.provision("box")
            yield bench
    finally:
        await bench.remove()


async def test_a_node_is_provisioned_over_its_shell(net: Net, tmp_path: Path) -> None:
    """Its file is there, private, its tunnel up, and the key is forgotten here; no secret was an argument."""
    async with pair(net, tmp_path) as bench:
        assert bench.peer("box").state is PeerState.connected
        assert await wait_for(lambda: ping(bench.node, "10.8.0.2"))
        path = bench.folder / f"{bench.there}.conf"
        assert path.stat().st_mode & 0o777 == 0o600
        assert await bench.book.secret("box", Held.private) == ""
        private = next(line for line in bench.file().splitlines() if line.startswith("PrivateKey")).split(" = ")[1]
        shared = await bench.book.secret("box", Held.preshared)
        assert bench.shell is not None
        arguments = " ".join(part for _, command, _ in bench.shell.ran for part in command)
        assert private not in arguments
        assert shared not in arguments


async def test_a_node_that_has_another_configuration_keeps_it(net: Net, tmp_path: Path) -> None:
    async with pair(net, tmp_path, up=False) as bench:
        path = bench.folder / f"{bench.there}.conf"
        path.write_text("[Interface]\n# somebody's own\n")
        with pytest.raises(ConflictError, match="was not made here"):
            await bench.other.provision("box")
        assert "somebody's own" in path.read_text()
        await bench.other.provision("box", replace=True)
        assert "somebody's own" in path.with_suffix(".conf.before").read_text()
        await bench.connected("box")


async def test_a_node_that_cannot_reach_the_hub_is_taken_back(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file has an endpoint that leads nowhere: no handshake, so neither file nor interface stay there."""
    monkeypatch.setattr("appliance.core.vpn.otherside.PROOF", 3.0)
    async with pair(net, tmp_path, up=False) as bench:
        with pytest.raises(ConflictError, match="no handshake followed"):
            await bench.other.provision("box", endpoint="192.0.2.77:51820")
        assert not (bench.folder / f"{bench.there}.conf").exists()
        assert bench.there not in bench.node.run("ip", "-br", "link")
        assert await bench.book.secret("box", Held.private) != ""
        await bench.other.provision("box")
        await bench.connected("box")


async def test_keys_rotate_under_a_running_ping(net: Net, tmp_path: Path) -> None:
    """100 requests a second for four seconds; less than half a second of them may be lost."""
    async with pair(net, tmp_path) as bench:
        before, file, shared = bench.key(), bench.file(), await bench.book.secret("box", Held.preshared)
        process = bench.node.spawn("ping", "-n", "-i", "0.01", "-c", "400", "-W", "1", "10.8.0.2", stdout=subprocess.PIPE)
        await bench.other.rotate("box")
        text = (await asyncio.to_thread(process.communicate))[0].decode()
        received = int(text.split(" received")[0].rsplit(" ", 1)[1])
        assert received >= 350, text[-300:]
        assert bench.key() != before
        assert bench.key() == bench.peer("box").public_key
        assert bench.file() != file
        assert await bench.book.secret("box", Held.preshared) != shared
        peers = bench.host.run("wg", "show", bench.interface, "peers").split()
        assert peers == [bench.key()]
        assert await wait_for(lambda: ping(bench.node, "10.8.0.2"))
        secrets = {path.name for path in (bench.home / "secrets").iterdir()}
        assert secrets == {"vpn.key", "vpn.peer.box.psk"}
        assert "vpn.keys-rotated" in [event for event, _ in bench.noted]


async def test_a_node_that_does_not_answer_changes_nothing(net: Net, tmp_path: Path) -> None:
    async with pair(net, tmp_path) as bench:
        before = bench.peer("box").public_key
        assert bench.shell is not None
        bench.shell.unreachable.add("box")
        with pytest.raises(UnreachableError):
            await bench.other.rotate("box")
        entry = await bench.book.one("box")
        assert entry.rotation is None
        assert entry.peer.public_key == before == bench.key()
        assert await wait_for(lambda: ping(bench.node, "10.8.0.2"))


async def test_a_node_goes_back_by_itself_where_the_new_keys_find_no_answer(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way between the two is cut while the node changes over; SSH, which takes another way, still hears the outcome."""
    monkeypatch.setattr("appliance.core.vpn.nodes.NODE", 2.0)
    async with pair(net, tmp_path) as bench:
        before, file = bench.key(), bench.file()
        bench.wire.swallow()
        with pytest.raises(ConflictError, match="keeps its old keys"):
            await bench.other.rotate("box")
        bench.wire.pass_again()
        assert bench.key() == before
        assert bench.file() == file
        assert (await bench.book.one("box")).rotation is None
        await wait_for(lambda: ping(bench.node, "10.8.0.2"), 20)
        assert bench.host.run("wg", "show", bench.interface, "peers").split() == [before]
        assert list(bench.folder.glob(".rotate*")) == []


async def test_a_shell_that_is_cut_in_the_middle_does_not_stop_a_rotation(net: Net, tmp_path: Path) -> None:
    """The caller loses the command at once; the node goes on, and the first handshake settles it."""
    async with pair(net, tmp_path) as bench:
        before = bench.key()
        assert bench.shell is not None
        bench.shell.cut_after, bench.shell.only_cut = 0.0, ".rotate."
        with pytest.raises(ShellError, match="was cut while it changed over"):
            await bench.other.rotate("box")
        await wait_for(lambda: bench.peer("box").public_key != before, 30)
        await wait_for(lambda: not bench.peer("box").rotation, 10)
        assert bench.key() == bench.peer("box").public_key
        await wait_for(lambda: bench.key() in bench.host.run("wg", "show", bench.interface, "peers"))
        assert await wait_for(lambda: ping(bench.node, "10.8.0.2"))
        for process in bench.shell.left:
            await process.wait()


async def test_a_rotation_goes_on_after_this_program_died(net: Net, tmp_path: Path) -> None:
    """The node changes over while nobody is here: the next life finds the handshake, and settles it."""
    hub, (node,), _ = star(net, 1)
    shell = NamespaceShell({"box": node})
    bench = Bench(hub, tmp_path, shell, endpoint=f"192.0.2.1:{PORT}")
    there = node.interface()
    async with bench.life():
        await bench.desk.add("box", Wish(node="box", node_interface=there))
        await bench.other.provision("box")
        before = bench.peer("box").public_key
        bench.service.rotator.tend = _blind  # type: ignore[method-assign]
        shell.cut_after, shell.only_cut = 0.0, ".rotate."
        with pytest.raises(ShellError):
            await bench.other.rotate("box")
    for process in shell.left:
        await asyncio.wait_for(process.wait(), 40)
    key = node.run("wg", "show", there, "public-key").strip()
    assert key != before
    bench.renew()
    async with bench.life():
        await wait_for(lambda: bench.peer("box").public_key == key, 20)
        assert await wait_for(lambda: ping(node, "10.8.0.2"))
        await wait_for(lambda: not any("next" in path.name for path in (tmp_path / "secrets").iterdir()))
    await bench.remove()


async def _blind(_: object) -> bool:
    return False


async def test_new_keys_of_a_telephone_wait_for_their_export(net: Net, tmp_path: Path) -> None:
    """Without a node: the old keys hold until somebody comes with the new ones; given up, they are forgotten."""
    from tests.vpn.rig import Spoke

    hub, (phone, other), _ = star(net, 2)
    bench = Bench(hub, tmp_path, endpoint=f"192.0.2.1:{PORT}")
    async with bench.life():
        await bench.desk.add("phone", Wish())
        first = Spoke(phone, tmp_path / "first")
        await first.up((await bench.desk.export("phone"))["text"])
        await bench.connected("phone")
        with pytest.raises(ConflictError, match="exported already"):
            await bench.desk.export("phone")
        await bench.other.rotate("phone")
        await bench.other.rotate("phone", undo=True)
        assert (await bench.book.one("phone")).rotation is None
        await bench.other.rotate("phone")
        text = (await bench.desk.export("phone"))["text"]
        assert await wait_for(lambda: ping(phone, "10.8.0.2"))
        await asyncio.to_thread(phone.run, "wg-quick", "down", str(first.file))
        second = Spoke(other, tmp_path / "second")
        await second.up(text)
        await wait_for(lambda: bench.peer("phone").public_key == second.show("public-key").strip(), 20)
        assert await wait_for(lambda: ping(other, "10.8.0.2"))
    await bench.remove()


async def test_a_node_without_a_configuration_cannot_rotate(net: Net, tmp_path: Path) -> None:
    async with pair(net, tmp_path, up=False) as bench:
        with pytest.raises(NotFoundError, match="has no configuration"):
            await bench.other.rotate("box")
        assert (await bench.book.one("box")).rotation is None

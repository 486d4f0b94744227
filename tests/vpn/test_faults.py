"""What goes wrong around a VPN that runs: firewalls are reloaded, links cut, settings changed, networks clash."""

from __future__ import annotations

import asyncio
import subprocess
import time
from pathlib import Path

import pytest

from appliance.core.vpn.desk import Wish
from appliance.core.vpn.peers import Entry, Rotation
from appliance.core.vpn.service import Rhythm
from appliance.core.vpn.status import PeerState
from appliance.errors import AbsentError, ConflictError, ShellError
from tests.servers.netns import Net
from tests.support import wait_for
from tests.vpn.rig import Bench, Spoke, ping, star
from tests.vpn.test_otherside import pair


async def one(net: Net, tmp_path: Path, **more: object) -> tuple[Bench, Spoke]:
    hub, (node,), _ = star(net, 1)
    return Bench(hub, tmp_path, **{"endpoint": "192.0.2.1", **more}), Spoke(node, tmp_path / "node")


async def joined(bench: Bench, spoke: Spoke, name: str = "box") -> None:
    await bench.desk.add(name, Wish())
    await spoke.up((await bench.desk.export(name))["text"])
    await bench.connected(name)


async def test_a_rotation_is_followed_closely_whatever_the_rhythm(net: Net, tmp_path: Path) -> None:
    """The networks move to the new key with its first handshake, not with the next look at all peers, 2 s later."""
    async with pair(net, tmp_path, rhythm=Rhythm(look=3.0, providers=3600)) as bench:
        process = bench.node.spawn("ping", "-n", "-i", "0.01", "-c", "400", "-W", "1", "10.8.0.2", stdout=subprocess.PIPE)
        await bench.other.rotate("box")
        text = (await asyncio.to_thread(process.communicate))[0].decode()
        assert int(text.split(" received")[0].rsplit(" ", 1)[1]) >= 350, text[-300:]


async def test_a_rotation_that_nobody_ends_is_not_watched_for_ever(net: Net, tmp_path: Path) -> None:
    bench, _ = await one(net, tmp_path, rhythm=Rhythm(look=30.0, rotating=0.001, providers=3600))
    async with bench.life():
        await bench.desk.add("box", Wish())
        await bench.service.rotator.begin("box")
        long_ago = time.time() - 3600
        await bench.book.amend("box", lambda now: Entry(now.peer, Rotation("old", now.rotation.new, long_ago, True)))  # type: ignore[union-attr]
        keeper = bench.service.keeper
        assert keeper is not None
        reads = 0
        read = keeper.tunnel.read

        async def counted() -> object:
            nonlocal reads
            reads += 1
            return await read()

        keeper.tunnel.read = counted  # type: ignore[method-assign, assignment]
        await bench.service.changed()
        await wait_for(lambda: reads >= 3)
        for _ in range(50):
            await read()
        assert reads < 20
    await bench.remove()


async def test_a_firewall_that_was_flushed_is_made_again_and_told(net: Net, tmp_path: Path) -> None:
    bench, _ = await one(net, tmp_path, isolate=True)
    async with bench.life():
        await bench.desk.add("box", Wish())
        before = bench.host.run("nft", "list", "ruleset")
        assert "10.8.0.1" in before
        bench.host.run("nft", "flush", "ruleset")
        await bench.service.reconcile(ours=False)
        assert bench.host.run("nft", "list", "ruleset") == before
        assert any("firewall" in each for each in bench.service.status().foreign)
        await bench.service.reconcile(ours=False)
        assert len(bench.service.status().foreign) == 1
    await bench.remove()


async def test_an_interface_that_is_gone_is_made_again_at_once(net: Net, tmp_path: Path) -> None:
    """By the next look, and not by the next reconciliation, an hour later; explain does not say connected meanwhile."""
    bench, spoke = await one(net, tmp_path)
    async with bench.life():
        await joined(bench, spoke)
        keeper = bench.service.keeper
        assert keeper is not None
        for _ in range(2):
            before = keeper.reconciliations
            bench.host.run("ip", "link", "delete", bench.interface)
            await wait_for(lambda before=before: keeper.reconciliations > before)
            assert bench.interface in bench.host.run("ip", "-br", "link")
            assert bench.service.status().foreign[-1] == "the interface was gone"
    await bench.remove()


async def test_a_peer_is_not_called_connected_without_an_interface(net: Net, tmp_path: Path) -> None:
    bench, spoke = await one(net, tmp_path, rhythm=Rhythm(look=3600, providers=3600))
    async with bench.life():
        await bench.desk.add("box", Wish())
        await spoke.up((await bench.desk.export("box"))["text"])
        await wait_for(lambda: ping(spoke.host, "10.8.0.2", 1), 20)
        await bench.service.changed()
        assert bench.peer("box").state is PeerState.connected
        bench.host.run("ip", "link", "delete", bench.interface)
        told = await bench.examiner.explain("box")
        assert (told.state, told.findings[0].cause) == (PeerState.unknown, "interface-missing")
    await bench.remove()


async def test_peers_are_let_together_again_by_the_settings(net: Net, tmp_path: Path) -> None:
    bench, _ = await one(net, tmp_path, isolate=True)
    async with bench.life():
        await bench.desk.add("box", Wish())
    assert "prime-spark" in bench.host.run("nft", "list", "tables")
    bench.settings = bench.settings.model_copy(update={"isolate": False})
    bench.renew()
    async with bench.life():
        assert "prime-spark" not in bench.host.run("nft", "list", "tables")
    await bench.remove()


async def test_a_vpn_that_is_switched_off_lets_nobody_in(net: Net, tmp_path: Path) -> None:
    bench, spoke = await one(net, tmp_path)
    async with bench.life():
        await joined(bench, spoke)
    assert await ping(spoke.host, "10.8.0.2", 1) == 1
    bench.settings = bench.settings.model_copy(update={"enabled": False})
    bench.renew()
    with pytest.raises(AbsentError):
        async with bench.life():
            pass
    assert bench.interface not in bench.host.run("ip", "-br", "link")
    bench.host.run("ip", "link", "add", bench.interface, "type", "veth", "peer", "name", "other0")
    bench.renew()
    with pytest.raises(AbsentError):  # what somebody makes of that name afterwards is not ours
        async with bench.life():
            pass
    assert bench.interface in bench.host.run("ip", "-br", "link")


async def test_an_interface_of_another_name_is_not_left_behind(net: Net, tmp_path: Path) -> None:
    bench, spoke = await one(net, tmp_path)
    async with bench.life():
        await joined(bench, spoke)
    before, other = bench.interface, bench.host.interface()
    bench.settings = bench.settings.model_copy(update={"interface": other})
    bench.interface = other
    bench.renew()
    async with bench.life():
        assert before not in bench.host.run("ip", "-br", "link")
        await wait_for(lambda: ping(spoke.host, "10.8.0.2", 1), 20)
    await bench.remove()


async def test_a_node_that_got_new_keys_before_its_link_was_cut_stays_in(net: Net, tmp_path: Path) -> None:
    async with pair(net, tmp_path) as bench:
        assert bench.shell is not None
        old = bench.key()
        bench.shell.only_cut, bench.shell.cut_after = "syncconf", 0.0
        with pytest.raises(ShellError, match="was cut"):
            await bench.other.provision("box")
        await wait_for(lambda: bench.key() != old)
        await wait_for(lambda: ping(bench.node, "10.8.0.2", 1), 20)
        await wait_for(lambda: bench.peer("box").rotation == "")
        assert bench.key() == bench.peer("box").public_key


async def test_a_node_that_cannot_be_taken_back_is_not_locked_out(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its new keys could not be seen in time, and nobody could tell it to go back: both stay until one is used."""
    monkeypatch.setattr("appliance.core.vpn.otherside.PROOF", 0.5)
    async with pair(net, tmp_path) as bench:
        old, shell = bench.key(), bench.shell
        assert shell is not None
        run = shell.run

        async def cut_afterwards(node: str, command: tuple[str, ...], **more: object) -> object:
            ran = await run(node, command, **more)  # type: ignore[arg-type]
            bench.wire.cut()
            shell.unreachable.add(node)
            return ran

        monkeypatch.setattr(shell, "run", cut_afterwards)
        with pytest.raises(ConflictError, match="no handshake followed"):
            await bench.other.provision("box")
        bench.wire.join()
        assert bench.key() != old
        await wait_for(lambda: ping(bench.node, "10.8.0.2", 1), 30)
        await wait_for(lambda: bench.key() == bench.peer("box").public_key)


async def test_a_node_provisioned_again_gets_its_new_address(net: Net, tmp_path: Path) -> None:
    async with pair(net, tmp_path) as bench:
        await bench.desk.change("box", Wish(addresses=("10.8.0.77",)))
        await bench.other.provision("box")
        assert "10.8.0.77" in bench.node.run("ip", "-br", "address", "show", "dev", bench.there)
        assert await wait_for(lambda: ping(bench.node, "10.8.0.2", 1), 20)


async def test_nothing_is_begun_where_the_tunnel_is_broken(net: Net, tmp_path: Path) -> None:
    async with pair(net, tmp_path) as bench:
        keeper = bench.service.keeper
        assert keeper is not None

        async def broken() -> str:
            return "it is broken"

        bench.service.changed = broken  # type: ignore[method-assign]
        with pytest.raises(ConflictError, match="is broken"):
            await bench.other.provision("box")
        assert bench.peer("box").rotation == ""


async def test_a_network_that_this_machine_is_on_is_no_peers(net: Net, tmp_path: Path) -> None:
    bench, spoke = await one(net, tmp_path)
    async with bench.life():
        await joined(bench, spoke)
        with pytest.raises(ConflictError, match=r"192\.0\.2\.0/24.*eth0"):
            await bench.desk.add("office", Wish(networks=("192.0.2.0/24",)))
        await bench.desk.add("office", Wish(networks=("198.51.100.0/24",)))
        with pytest.raises(ConflictError, match="eth0"):
            await bench.desk.change("office", Wish(networks=("192.0.2.0/24",)))


async def test_a_network_that_came_to_this_machine_later_harms_one_peer_only(net: Net, tmp_path: Path) -> None:
    bench, spoke = await one(net, tmp_path)
    async with bench.life():
        await bench.desk.add("office", Wish(networks=("198.51.100.0/24",)))
    await bench.remove()
    bench.host.address("eth0", "198.51.100.7/24")
    bench.renew()
    async with bench.life():
        await joined(bench, spoke)
        assert bench.peer("office").state is PeerState.never
        assert any("198.51.100.0/24" in each for each in bench.service.status().problems)
    await bench.remove()


async def test_no_peer_has_the_hubs_own_key(net: Net, tmp_path: Path) -> None:
    bench, _ = await one(net, tmp_path)
    async with bench.life():
        with pytest.raises(ConflictError, match="this hub's own"):
            await bench.desk.add("mirror", Wish(public_key=bench.service.status().public_key))
    await bench.remove()


async def test_a_peer_that_fell_silent_is_told_so(net: Net, tmp_path: Path) -> None:
    """Its last handshake is young, so it is connected still; nobody answers there."""
    bench, spoke = await one(net, tmp_path)
    async with bench.life():
        await joined(bench, spoke)
        spoke.host.run("ip", "link", "set", "eth0", "down")
        found = (await bench.examiner.explain("box")).findings
        assert found[0].cause == "silent"
        assert "no echo" in found[0].what
        spoke.host.run("ip", "link", "set", "eth0", "up")
        spoke.host.run("nft", "-f", "-", text=ECHOLESS)
        sent = asyncio.create_task(asyncio.to_thread(spoke.host.run, "ping", "-c", "60", "-i", "0.05", "10.8.0.2", check=False))
        found = (await bench.examiner.explain("box")).findings
        await sent
        assert found[0].cause == "none"  # it answers no echo, but what it sends comes
    await bench.remove()


ECHOLESS = """
table inet test {
    chain in { type filter hook input priority filter; icmp type echo-request drop; }
}
"""

"""Real tunnels between hosts: made, changed, broken by hand, mended."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from appliance.core.vpn.keys import make_pair, make_preshared
from appliance.core.vpn.model import Changes, Endpoint, PeerChange, WantedPeer
from appliance.errors import TunnelError
from appliance.hw.wireguard.tunnel import WireGuardTunnel
from tests.servers.netns import SOCKETS, Net
from tests.support import wait_for
from tests.vpn.sides import PORT, WAY, Side, pair

BACKEND = "kernel" if WAY == "kernel" else "wireguard-go"


in_user_space = pytest.mark.skipif(WAY == "kernel", reason="the kernel has no process that could end")


def process_of(side: Side) -> int:
    """The process that carries a side's interface."""
    (pid,) = [pid for pid in side.host.pids() if "wireguard-go" in Path(f"/proc/{pid}/cmdline").read_text()]
    return pid


async def test_two_hosts_come_up_and_a_second_look_changes_nothing(net: Net) -> None:
    hub, spoke = await pair(net)
    assert await hub.reaches(spoke.address)
    assert await hub.reaches("fd00:8::2")
    assert not await hub.reconcile()
    assert not await spoke.reconcile()
    seen = await hub.peer(spoke)
    assert seen.handshake > 1.7e9
    assert seen.rx_bytes > 0
    assert seen.tx_bytes > 0
    assert seen.endpoint is not None
    assert seen.endpoint.address == "192.0.2.2"
    actual = await hub.read()
    assert (actual.public_key, actual.listen_port, actual.up, actual.backend) == (hub.keys.public, PORT, True, BACKEND)


async def test_the_outside_may_be_ipv6(net: Net) -> None:
    hub, spoke = await pair(net)
    spoke.want(hub.as_peer(endpoint="2001:db8::1", keepalive=25))
    changes = await spoke.reconcile()
    assert changes.peers == (PeerChange(hub.keys.public, endpoint=Endpoint("2001:db8::1", PORT), keepalive=25),)
    await spoke.comes_to_reach(hub.address)

    async def moved() -> bool:
        place = (await hub.peer(spoke)).endpoint
        return place is not None and place.address == "2001:db8::2"

    await wait_for(moved)
    assert not await spoke.reconcile()


async def test_a_preshared_key_is_set_changed_and_taken_away(net: Net) -> None:
    hub, spoke = await pair(net)
    for preshared in (make_preshared(), ""):
        hub.want(spoke.as_peer(preshared=preshared))
        spoke.want(hub.as_peer(endpoint="192.0.2.1", preshared=preshared))
        assert len((await hub.reconcile()).peers) == 1
        assert len((await spoke.reconcile()).peers) == 1
        assert (await hub.peer(spoke)).preshared == preshared
        assert not await hub.reconcile()
        assert await hub.reaches(spoke.address)


async def test_changing_others_drops_no_packet_of_a_healthy_peer(net: Net) -> None:
    hub, spoke = await pair(net)
    before = await hub.peer(spoke)
    ping = spoke.host.spawn("ping", "-i", "0.01", "-c", "300", "-W", "1", "-q", hub.address, stdout=subprocess.PIPE)
    others = [WantedPeer(make_pair().public, (f"10.8.0.{number}/32", f"10.9.{number}.0/24")) for number in range(10, 30)]
    for count in (20, 7, 0, 13):
        hub.want(spoke.as_peer(), *others[:count])
        assert await hub.reconcile()
    said, _ = await asyncio.to_thread(ping.communicate)
    assert b" 0% packet loss" in said
    after = await hub.peer(spoke)
    assert after.handshake == before.handshake
    assert after.rx_bytes > before.rx_bytes


@in_user_space
async def test_a_killed_process_is_started_again(net: Net) -> None:
    hub, spoke = await pair(net)
    os.kill(process_of(hub), signal.SIGKILL)
    assert await hub.tunnel.read() is None
    assert (SOCKETS / f"{hub.tunnel.name}.sock").exists(), "a killed process leaves its socket"
    assert (await hub.reconcile()).create
    assert not await hub.reconcile()
    await spoke.comes_to_reach(hub.address, 30)


async def test_an_interface_deleted_by_hand_is_made_again(net: Net) -> None:
    hub, spoke = await pair(net)
    spoke.host.run("ip", "link", "delete", spoke.tunnel.name)
    assert (await spoke.reconcile()).create
    assert not await spoke.reconcile()
    await spoke.comes_to_reach(hub.address)
    assert len(spoke.host.pids()) == (WAY == "userspace"), "the process that lost its interface has ended"


@in_user_space
async def test_a_hung_process_is_told_and_replaced(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    hub, spoke = await pair(net)
    monkeypatch.setattr("appliance.hw.wireguard.uapi.ANSWER_SECONDS", 0.3)
    monkeypatch.setattr("appliance.hw.wireguard.uapi.ask.__defaults__", (0.3,))
    monkeypatch.setattr("appliance.hw.wireguard.userspace.END_SECONDS", 0.3)
    pid = process_of(spoke)
    os.kill(pid, signal.SIGSTOP)
    await wait_for(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    with pytest.raises(TunnelError, match="does not answer"):
        await spoke.tunnel.read()
    await spoke.tunnel.remove()
    assert await spoke.tunnel.read() is None
    assert not spoke.host.pids()
    await spoke.reconcile()
    await spoke.comes_to_reach(hub.address)


async def test_changes_by_hand_are_undone_and_routes_of_others_kept(net: Net) -> None:
    hub, spoke = await pair(net)
    hub.want(spoke.as_peer("10.8.0.2/32", "fd00:8::2/128", "192.168.7.0/24"))
    assert (await hub.reconcile()).add_routes == ("192.168.7.0/24",)
    name, foreign = hub.tunnel.name, make_pair().public
    hub.host.run("wg", "set", name, "peer", foreign, "allowed-ips", "10.8.0.99/32,192.168.7.0/24", "persistent-keepalive", "7")
    hub.host.run("ip", "address", "add", "10.66.0.1/24", "dev", name)
    hub.host.run("ip", "link", "set", name, "mtu", "1300")
    hub.host.run("ip", "route", "add", "172.16.0.0/12", "dev", name)
    hub.host.run("ip", "route", "delete", "192.168.7.0/24")
    changes = await hub.reconcile()
    assert PeerChange(foreign, remove=True) in changes.peers
    assert len(changes.peers) == 2, "the stolen network is given back"
    assert (changes.remove_addresses, changes.mtu, changes.add_routes) == (("10.66.0.1/24",), 1420, ("192.168.7.0/24",))
    assert not await hub.reconcile()
    assert "172.16.0.0/12" in hub.host.run("ip", "route", "show", "dev", name)
    assert (await hub.read()).foreign_routes == ("172.16.0.0/12",)
    assert await hub.reaches(spoke.address)


async def test_networks_move_between_peers(net: Net) -> None:
    hub, spoke = await pair(net)
    other = make_pair().public
    one, two = ("192.168.7.0/24", "fd00:9::/64")
    hub.want(spoke.as_peer("10.8.0.2/32", one), WantedPeer(other, ("10.8.0.3/32", two)))
    await hub.reconcile()
    hub.want(spoke.as_peer("10.8.0.2/32", two), WantedPeer(other, ("10.8.0.3/32", one)))
    await hub.reconcile()
    assert {each.public_key: set(each.allowed) for each in (await hub.read()).peers} == {
        spoke.keys.public: {"10.8.0.2/32", two},
        other: {"10.8.0.3/32", one},
    }
    assert not await hub.reconcile()
    assert await hub.reaches(spoke.address)


async def test_routes_go_with_their_networks(net: Net) -> None:
    hub, spoke = await pair(net)
    hub.want(spoke.as_peer("10.8.0.2/32", "192.168.7.0/24", "fd00:77::/64", "192.168.9.9/32"))
    await hub.reconcile()
    assert set((await hub.read()).routes) == {"192.168.7.0/24", "fd00:77::/64", "192.168.9.9/32"}
    hub.want(spoke.as_peer("10.8.0.2/32", "192.168.9.9/32"))
    assert set((await hub.reconcile()).remove_routes) == {"192.168.7.0/24", "fd00:77::/64"}
    assert not await hub.reconcile()
    hub.want(routes=False)
    await hub.reconcile()
    assert (await hub.read()).routes == ()


async def test_another_first_address_loses_nothing(net: Net) -> None:
    """The kernel drops an address's secondaries with it, and routes with the last one."""
    hub, spoke = await pair(net)
    hub.want(spoke.as_peer("10.8.0.2/32", "fd00:8::2/128", "192.168.7.0/24"), addresses=("10.8.0.1/24", "10.8.0.4/24"))
    await hub.reconcile()
    hub.want(addresses=("10.8.0.4/24", "10.8.0.5/24"))
    await hub.reconcile()
    actual = await hub.read()
    assert set(actual.addresses) >= {"10.8.0.4/24", "10.8.0.5/24"}
    assert "10.8.0.1/24" not in actual.addresses
    assert set(actual.routes) == {"192.168.7.0/24", "fd00:8::2/128"}
    hub.want(addresses=("10.77.0.1/24",))
    await hub.reconcile()
    assert set((await hub.read()).routes) == {"10.8.0.2/32", "192.168.7.0/24", "fd00:8::2/128"}
    assert not await hub.reconcile()


async def test_250_peers(net: Net) -> None:
    host = net.host("hub")
    hub = Side(host, ("10.8.0.1/16", "fd00:8::1/64"), port=PORT)
    peers = [
        WantedPeer(
            base64.b64encode((number + 10).to_bytes(32, "big")).decode(),
            (f"10.8.1.{number}/32", f"fd00:8::1:{number:x}/128", f"10.{number + 9}.0.0/16"),
            keepalive=25, preshared=make_preshared(),
        )
        for number in range(1, 251)
        if number + 9 < 256
    ]  # fmt: skip
    peers += [
        WantedPeer(base64.b64encode((number + 900).to_bytes(32, "big")).decode(), (f"10.8.2.{number}/32",))
        for number in range(4)
    ]
    assert len(peers) == 250
    hub.want(*peers)
    assert len((await hub.reconcile()).peers) == 250
    assert not await hub.reconcile()
    actual = await hub.read()
    assert len(actual.peers) == 250
    assert len(actual.routes) == 246
    hub.want(*peers[1:], msgspec.structs.replace(peers[0], keepalive=0))
    assert (await hub.reconcile()).peers == (PeerChange(peers[0].public_key, keepalive=0),)


@in_user_space
async def test_it_outlives_the_program_that_made_it(net: Net) -> None:
    hub, spoke = await pair(net)
    await spoke.tunnel.remove()
    code = (
        "import asyncio, sys\n"
        "from appliance.hw.wireguard.tunnel import WireGuardTunnel\n"
        "async def main():\n"
        "    tunnel = WireGuardTunnel(sys.argv[1], netns=sys.argv[2], ways=('userspace',))\n"
        "    print(await tunnel.ensure(), await tunnel.ensure(), tunnel.backend)\n"
        "    await tunnel.close()\n"
        "asyncio.run(main())\n"
    )
    said = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", code, spoke.tunnel.name, spoke.host.namespace],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert said.stdout.split() == ["True", "False", "wireguard-go"]
    changes = await spoke.reconcile()
    assert not changes.create
    assert spoke.tunnel.backend == "wireguard-go"
    await spoke.comes_to_reach(hub.address)


async def test_what_is_removed_leaves_nothing(net: Net) -> None:
    hub, _ = await pair(net)
    await hub.tunnel.firewall([])
    await hub.tunnel.remove()
    assert await hub.tunnel.read() is None
    assert hub.host.pids() == []
    assert hub.host.run("nft", "list", "ruleset") == ""
    assert not (SOCKETS / f"{hub.tunnel.name}.sock").exists()
    await hub.tunnel.remove()
    await hub.tunnel.close()


async def test_a_taken_port_is_told(net: Net) -> None:
    hub, spoke = await pair(net)

    def taken() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("", 4500))
        return made

    with hub.host.within(taken):
        hub.want(listen_port=4500)
        with pytest.raises(TunnelError, match="UDP port is taken") as caught:
            await hub.reconcile()
        assert "ss -ulpn" in caught.value.next_step
        assert await spoke.reaches(hub.address), "the tunnel is as it was"
    await hub.reconcile()
    assert (await hub.read()).listen_port == 4500


async def test_a_network_that_is_routed_elsewhere_is_told_and_not_taken(net: Net) -> None:
    hub, spoke = await pair(net)
    hub.want(spoke.as_peer("10.8.0.2/32", "192.0.2.0/24", "10.44.0.0/16"))
    with pytest.raises(TunnelError, match=r"192\.0\.2\.0/24 is already routed through another interface"):
        await hub.reconcile()
    actual = await hub.read()
    assert actual.routes == ("10.44.0.0/16",), "what can be done is done"
    assert await hub.reaches(spoke.address)
    assert ("192.0.2.0/24", "eth0") in actual.elsewhere
    assert not {name for _, name in actual.elsewhere} & {hub.tunnel.name}


async def test_the_machines_own_network_is_not_taken_whatever_its_metric(net: Net) -> None:
    """NetworkManager gives connected routes a metric: the kernel would let one of ours go before it."""
    hub, spoke = await pair(net)
    hub.host.run("ip", "route", "delete", "192.0.2.0/24")
    hub.host.run("ip", "route", "add", "192.0.2.0/24", "dev", "eth0", "metric", "100")
    hub.want(spoke.as_peer("10.8.0.2/32", "192.0.2.0/24"))
    with pytest.raises(TunnelError, match=r"192\.0\.2\.0/24 is already routed"):
        await hub.reconcile()
    hub.want(spoke.as_peer(), addresses=("10.8.0.1/24", "192.0.2.77/24"))
    with pytest.raises(TunnelError, match=r"192\.0\.2\.0/24 is already routed"):
        await hub.reconcile()
    assert hub.tunnel.name not in hub.host.run("ip", "route", "show", "192.0.2.0/24")
    assert await spoke.reaches(hub.address)


async def test_an_interface_of_somebody_else_is_not_touched(net: Net) -> None:
    host = net.host("hub")
    side = Side(host, "10.8.0.1/24")
    host.run("ip", "link", "add", side.tunnel.name, "type", "bridge")
    for attempt in (side.reconcile, side.tunnel.ensure, side.tunnel.rebind, side.tunnel.remove):
        with pytest.raises(TunnelError, match=r"no WireGuard behind it \(bridge\)"):
            await attempt()
    assert side.tunnel.name in host.run("ip", "link")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (Changes(peers=(PeerChange("short", create=True),)), "is none: a key"),
        (Changes(private_key="x" * 44), "is none: a key"),
        (Changes(peers=(PeerChange("A" * 43 + "=", create=True, allowed=("banana",)),)), "is none: 'banana'"),
        (Changes(listen_port=70000), "there is no such port"),
        (Changes(fwmark=-1), "refused a value"),
        (Changes(mtu=20), "change wg"),
        (Changes(add_routes=("300.0.0.0/8",)), "change wg"),
    ],
)
async def test_bad_values_are_refused_with_a_sentence(net: Net, change: Changes, said: str) -> None:
    host = net.host("hub")
    tunnel = WireGuardTunnel(host.interface(), netns=host.namespace, ways=("userspace",))
    assert await tunnel.ensure()
    with pytest.raises(TunnelError, match=said) as caught:
        await tunnel.apply(change)
    assert caught.value.next_step
    actual = await tunnel.read()
    assert actual is not None
    assert actual.peers == ()


async def test_there_must_be_such_a_namespace() -> None:
    tunnel = WireGuardTunnel("wg0", netns="no-such-namespace")
    with pytest.raises(TunnelError, match="No such file"):
        await tunnel.read()

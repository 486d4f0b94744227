"""WireGuard in the kernel: messages as its header file wants them; and a real interface where this kernel has it."""

from __future__ import annotations

import asyncio
import base64

import pytest

from appliance.core.vpn.model import Changes, Endpoint, PeerChange
from appliance.errors import TunnelError
from appliance.hw.wireguard.kernel import NETWORKS_A_MESSAGE, device_of, messages
from appliance.hw.wireguard.tunnel import WireGuardTunnel
from tests.servers.netns import Net
from tests.vpn.sides import PORT, Side


def key(number: int) -> str:
    return base64.b64encode(number.to_bytes(32, "big")).decode()


FULL = PeerChange(
    key(1), create=True, allowed=("10.8.0.3/32", "fd00:8::/64"), endpoint=Endpoint("2001:db8::7", 4444), keepalive=25,
    preshared=key(9),
)  # fmt: skip


def through_the_wire(attributes: list) -> dict:
    """The attributes encoded as bytes for the kernel, and decoded from them by pyroute2."""
    from pyroute2.netlink.generic.wireguard import wgmsg

    message = wgmsg()
    message["cmd"], message["version"], message["attrs"] = 1, 1, attributes
    message.encode()
    decoded = wgmsg(message.data)
    decoded.decode()
    return decoded


def test_a_device_with_peers_survives_the_encoding() -> None:
    changes = Changes(private_key=key(5), listen_port=PORT, fwmark=7, peers=(FULL, PeerChange(key(2), allowed=())))
    (attributes,) = messages("wg0", changes)
    decoded = through_the_wire(attributes)
    assert decoded.get("WGDEVICE_A_IFNAME") == "wg0"
    assert decoded.get("WGDEVICE_A_PRIVATE_KEY").decode() == key(5)
    device = device_of([decoded])
    assert (device.listen_port, device.fwmark) == (PORT, 7)
    one, two = device.peers
    assert (one.public_key, one.allowed, one.endpoint) == (key(1), FULL.allowed, FULL.endpoint)
    assert (one.keepalive, one.preshared) == (25, key(9))
    assert (two.public_key, two.allowed) == (key(2), ())
    assert [peer.get("WGPEER_A_FLAGS") for peer in decoded.get("WGDEVICE_A_PEERS")] == [2, 6]


def test_a_removed_peer_says_nothing_else() -> None:
    (attributes,) = messages("wg0", Changes(peers=(PeerChange(key(1), remove=True, allowed=("10.0.0.0/8",)),)))
    (peer,) = through_the_wire(attributes).get("WGDEVICE_A_PEERS")
    assert {name for name, _ in peer["attrs"]} == {"WGPEER_A_PUBLIC_KEY", "WGPEER_A_FLAGS"}
    assert peer.get("WGPEER_A_FLAGS") == 1


def test_an_ipv4_endpoint_survives() -> None:
    (attributes,) = messages("wg0", Changes(peers=(PeerChange(key(1), endpoint=Endpoint("192.0.2.7", 51820)),)))
    assert device_of([through_the_wire(attributes)]).peers[0].endpoint == Endpoint("192.0.2.7", 51820)


def test_a_pre_shared_key_is_taken_away_with_zeros() -> None:
    (attributes,) = messages("wg0", Changes(peers=(PeerChange(key(1), preshared=""),)))
    (peer,) = through_the_wire(attributes).get("WGDEVICE_A_PEERS")
    assert base64.b64decode(peer.get("WGPEER_A_PRESHARED_KEY")) == bytes(32)


def test_many_peers_are_cut_into_messages_that_hold_them() -> None:
    peers = tuple(
        PeerChange(key(n), create=True, allowed=tuple(f"10.{n % 250}.{m}.0/24" for m in range(5))) for n in range(1, 251)
    )
    parts = list(messages("wg0", Changes(private_key=key(5), peers=peers)))
    assert len(parts) > 1
    decoded = [through_the_wire(part) for part in parts]
    assert [peer.public_key for peer in device_of(decoded).peers] == [each.public_key for each in peers]
    assert [bool(each.get("WGDEVICE_A_PRIVATE_KEY")) for each in decoded] == [True] + [False] * (len(parts) - 1)


def test_a_peer_that_no_message_holds_is_refused() -> None:
    allowed = tuple(f"10.{n // 250}.{n % 250}.0/24" for n in range(NETWORKS_A_MESSAGE))
    with pytest.raises(ValueError, match="300 networks"):
        list(messages("wg0", Changes(peers=(PeerChange(key(1), allowed=allowed),))))


def test_a_peer_that_goes_on_in_the_next_message_is_one() -> None:
    parts = [
        through_the_wire(next(messages("wg0", Changes(peers=(PeerChange(key(1), allowed=(net,)),)))))
        for net in ("10.1.0.0/16", "10.2.0.0/16")
    ]
    (peer,) = device_of(parts).peers
    assert peer.allowed == ("10.1.0.0/16", "10.2.0.0/16")


def test_nothing_to_change_takes_no_message() -> None:
    assert list(messages("wg0", Changes(mtu=1400, up=True))) == []


async def test_a_kernel_without_it_is_told_or_gone_around(net: Net) -> None:
    host = net.host("hub")
    if await has_kernel_wireguard(net):
        pytest.skip("this kernel has WireGuard")
    only = WireGuardTunnel(host.interface(), netns=host.namespace, ways=("kernel",))
    with pytest.raises(TunnelError, match="the kernel has no WireGuard") as caught:
        await only.ensure()
    assert "wireguard-go" in caught.value.next_step
    both = WireGuardTunnel(host.interface(), netns=host.namespace)
    assert await both.ensure()
    assert both.backend == "wireguard-go"


async def has_kernel_wireguard(net: Net) -> bool:
    host = net.host("probe")
    return "wireguard" in host.run("sh", "-c", "ip link add wgprobe type wireguard && ip -d link show wgprobe", check=False)


@pytest.fixture
def kernel_net(net: Net) -> Net:
    if not asyncio.run(has_kernel_wireguard(net)):
        pytest.skip("this kernel has no WireGuard; it is tested in the image's virtual machine")
    return net


def test_a_tunnel_in_the_kernel(kernel_net: Net) -> None:
    asyncio.run(in_the_kernel(kernel_net))


async def in_the_kernel(net: Net) -> None:
    hub_host, spoke_host = net.host("hub"), net.host("spoke")
    net.wire(hub_host, spoke_host, "192.0.2.1/24", "192.0.2.2/24")
    hub = Side(hub_host, ("10.8.0.1/24", "fd00:8::1/64"), port=PORT, way="kernel")
    spoke = Side(spoke_host, ("10.8.0.2/24", "fd00:8::2/64"), way="userspace")
    hub.want(spoke.as_peer("10.8.0.2/32", "fd00:8::2/128", "192.168.7.0/24", preshared=key(9), keepalive=25))
    spoke.want(hub.as_peer(endpoint="192.0.2.1", preshared=key(9)))
    await hub.reconcile()
    await spoke.reconcile()
    await spoke.comes_to_reach(hub.address)
    assert not await hub.reconcile()
    actual = await hub.read()
    assert (actual.backend, actual.listen_port, actual.public_key) == ("kernel", PORT, hub.keys.public)
    assert (await hub.peer(spoke)).handshake > 1.7e9
    await hub.tunnel.rebind()
    assert await hub.reaches(spoke.address)
    hub.want(spoke.as_peer(preshared=""))
    await hub.reconcile()
    assert (await hub.peer(spoke)).preshared == ""
    assert not await hub.reconcile()
    await hub.tunnel.remove()
    assert await hub.tunnel.read() is None

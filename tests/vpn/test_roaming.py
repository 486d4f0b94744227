"""Peers that move: behind NAT, to other addresses, over lines that take less."""

from __future__ import annotations

from functools import partial

import msgspec
import pytest

from appliance.core.vpn.model import Endpoint, PeerChange
from appliance.core.vpn.pathmtu import largest, path_mtu, tunnel_mtu
from tests.servers.netns import Net
from tests.support import wait_for
from tests.vpn.sides import PORT, WAY, Side, pair


async def place_of(side: Side, other: Side) -> str:
    place = (await side.peer(other)).endpoint
    return "" if place is None else place.address


async def test_a_peer_behind_nat_is_found_and_followed(net: Net) -> None:
    inside, router, outside = net.host("spoke"), net.host("router"), net.host("hub")
    net.wire(inside, router, "192.168.7.2/24", "192.168.7.1/24")
    uplink = net.wire(router, outside, "203.0.113.1/24", "203.0.113.2/24")
    inside.route("default", via="192.168.7.1")
    router.masquerade(uplink.first_end)
    hub, spoke = Side(outside, "10.8.0.1/24", port=PORT), Side(inside, "10.8.0.2/24")
    hub.want(spoke.as_peer())
    spoke.want(hub.as_peer(endpoint="203.0.113.2", keepalive=1))
    await hub.reconcile()
    await spoke.reconcile()
    await spoke.comes_to_reach(hub.address)
    assert await hub.reaches(spoke.address), "the way back goes through the router's table"
    assert await place_of(hub, spoke) == "203.0.113.1"
    assert not await hub.reconcile(), "where it was found is left alone"
    router.readdress(uplink.first_end, "203.0.113.77/24")
    router.run("nft", "flush", "table", "inet", "nat")
    router.run("nft", "delete", "table", "inet", "nat")
    router.masquerade(uplink.first_end)
    await spoke.tunnel.rebind()
    await spoke.comes_to_reach(hub.address)
    await wait_for(lambda: _is(hub, spoke, "203.0.113.77"))
    assert not await hub.reconcile()


async def _is(side: Side, other: Side, address: str) -> bool:
    return await place_of(side, other) == address


async def test_a_hub_that_moved_is_reached_at_its_new_endpoint(net: Net) -> None:
    hub, spoke = await pair(net)
    hub.host.readdress("eth0", "192.0.2.201/24")
    assert not await spoke.reaches(hub.address)
    spoke.want(hub.as_peer(endpoint="192.0.2.201"))
    assert (await spoke.reconcile()).peers == (PeerChange(hub.keys.public, endpoint=Endpoint("192.0.2.201", PORT)),)
    await hub.tunnel.rebind()
    await spoke.comes_to_reach(hub.address)
    assert not await spoke.reconcile()


async def test_a_peer_whose_own_address_changed_is_followed(net: Net) -> None:
    hub, spoke = await pair(net)
    spoke.host.readdress("eth0", "192.0.2.99/24")
    await spoke.tunnel.rebind()
    await spoke.comes_to_reach(hub.address)
    await wait_for(lambda: _is(hub, spoke, "192.0.2.99"))
    assert await hub.reaches(spoke.address)
    assert (await hub.reconcile(), await spoke.reconcile()) == (await hub.reconcile(), await spoke.reconcile())


async def test_rebinding_keeps_port_and_session(net: Net) -> None:
    hub, spoke = await pair(net)
    before, seen = await hub.read(), await hub.peer(spoke)
    await hub.tunnel.rebind()
    after = await hub.read()
    assert after.listen_port == before.listen_port
    assert await spoke.reaches(hub.address)
    assert (await hub.peer(spoke)).handshake == seen.handshake


async def test_a_line_that_was_cut_and_joined_carries_again(net: Net) -> None:
    hub_host, spoke_host = net.host("hub"), net.host("spoke")
    wire = net.wire(hub_host, spoke_host, "192.0.2.1/24", "192.0.2.2/24")
    hub, spoke = Side(hub_host, "10.8.0.1/24", port=PORT), Side(spoke_host, "10.8.0.2/24")
    hub.want(spoke.as_peer())
    spoke.want(hub.as_peer(endpoint="192.0.2.1"))
    await hub.reconcile()
    await spoke.reconcile()
    await spoke.comes_to_reach(hub.address)
    wire.cut()
    assert not await spoke.reaches(hub.address)
    wire.join()
    await spoke.comes_to_reach(hub.address)


async def through_a_router(net: Net, *, version: int = 4) -> tuple[Side, Side, str]:
    """A hub and a spoke with a router between them, whose further wire takes 1380 bytes and which tells nobody so."""
    outside, router, inside = net.host("hub"), net.host("router"), net.host("spoke")
    near = net.wire(inside, router, ["198.51.100.2/24", "2001:db8:2::2/64"], ["198.51.100.1/24", "2001:db8:2::1/64"])
    far = net.wire(router, outside, ["203.0.113.1/24", "2001:db8:3::1/64"], ["203.0.113.2/24", "2001:db8:3::2/64"])
    router.forward()
    for host, gateway in ((inside, "198.51.100.1"), (outside, "203.0.113.1")):
        host.route("default", via=gateway)
    for host, gateway in ((inside, "2001:db8:2::1"), (outside, "2001:db8:3::1")):
        host.route("default6", via=gateway)
    far.mtu(1380)
    router.run("nft", "-f", "-", text="""
        table inet silent {
            chain out {
                type filter hook output priority 0;
                icmp type destination-unreachable drop
                icmpv6 type packet-too-big drop
            }
        }""")  # fmt: skip
    assert near.first is inside
    endpoint = "203.0.113.2" if version == 4 else "2001:db8:3::2"
    hub = Side(outside, ("10.8.0.1/24", "fd00:8::1/64"), port=PORT)
    spoke = Side(inside, ("10.8.0.2/24", "fd00:8::2/64"))
    hub.want(spoke.as_peer())
    spoke.want(hub.as_peer(endpoint=endpoint))
    await hub.reconcile()
    await spoke.reconcile()
    await spoke.comes_to_reach(hub.address)
    return hub, spoke, endpoint


async def all_pass(side: Side, address: str, size: int) -> bool:
    return (await side.tunnel.ping(address, size=size, count=5, whole=True)).received == 5


@pytest.mark.parametrize(("version", "mtu"), [(4, 1320), (6, 1300)])
async def test_a_black_hole_is_measured_and_gone_with_the_right_mtu(net: Net, version: int, mtu: int) -> None:
    if WAY == "kernel" and version == 4:
        pytest.skip("the kernel's WireGuard lets its IPv4 packets be cut: nothing vanishes")
    hub, spoke, endpoint = await through_a_router(net, version=version)
    assert (await spoke.tunnel.ping(hub.address, size=1372, count=2, limit=0.5, whole=True)).received == 0
    assert await spoke.reaches(hub.address), "small packets pass: that is what makes it hard to see"
    path = await path_mtu(spoke.tunnel, endpoint, limit=0.3)
    assert path == 1380
    assert tunnel_mtu(path, version) == mtu
    # WireGuard pads packets to 16 bytes, except at the interface's own MTU.
    inside = await path_mtu(spoke.tunnel, hub.address, highest=1420, limit=0.3)
    assert inside is not None
    assert mtu - 16 < inside <= mtu
    for side in (hub, spoke):
        side.want(mtu=mtu)
        assert (await side.reconcile()).mtu == mtu
    # wireguard-go hears of its interface's MTU a moment later, and pads up to the old one until then.
    for address, headers in ((hub.address, 28), ("fd00:8::1", 48)):
        await wait_for(partial(all_pass, spoke, address, mtu - headers))
    assert not await spoke.reconcile()


async def test_what_does_not_answer_has_no_mtu(net: Net) -> None:
    hub, spoke = await pair(net)
    assert await path_mtu(spoke.tunnel, "10.8.0.77", limit=0.05) is None
    assert await path_mtu(spoke.tunnel, hub.address, highest=1420) == 1420


@pytest.mark.parametrize("size", [576, 577, 1000, 1499, 1500])
async def test_the_largest_is_found(size: int) -> None:
    asked = []

    async def passes(number: int) -> bool:
        asked.append(number)
        return number <= size

    assert await largest(passes, 576, 1500) == size
    assert len(asked) <= 13
    assert len(set(asked)) == len(asked)


async def test_a_tunnel_wanted_otherwise_keeps_its_session(net: Net) -> None:
    hub, spoke = await pair(net)
    seen = await hub.peer(spoke)
    hub.want(spoke.as_peer("10.8.0.2/32", "fd00:8::2/128", "10.50.0.0/16", keepalive=5), mtu=1380, listen_port=PORT + 1)
    await hub.reconcile()
    spoke.want(msgspec.structs.replace(spoke.wanted.peers[0], endpoint=Endpoint("192.0.2.1", PORT + 1)))
    await spoke.reconcile()
    await spoke.comes_to_reach(hub.address)
    assert (await hub.peer(spoke)).handshake == seen.handshake

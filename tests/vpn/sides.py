"""Sides of real tunnels for tests: a host with keys, a driver, and what its tunnel should be."""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec

from appliance.core.vpn.keys import make_pair
from appliance.core.vpn.model import ActualPeer, ActualTunnel, Changes, Endpoint, WantedPeer, WantedTunnel
from appliance.core.vpn.reconcile import diff
from appliance.hw.wireguard.tunnel import Way, WireGuardTunnel
from tests.servers.netns import Host, Net
from tests.support import wait_for

PORT = 51820
WAY: Way = "kernel" if os.environ.get("PRIME_SPARK_TEST_WIREGUARD") == "kernel" else "userspace"
"""What carries tunnels in tests: wireguard-go, or where asked for, and on a machine that has it, the kernel."""


class Side:
    """One end of tunnels."""

    def __init__(self, host: Host, addresses: str | Sequence[str], *, port: int = 0, mtu: int = 1420, way: Way = WAY) -> None:
        self.host, self.keys = host, make_pair()
        given = (addresses,) if isinstance(addresses, str) else tuple(addresses)
        self.tunnel = WireGuardTunnel(host.interface(), netns=host.namespace, ways=(way,))
        self.wanted = WantedTunnel(self.tunnel.name, self.keys.private, port, given, mtu, ())

    @property
    def address(self) -> str:
        """Its first address inside of the tunnel."""
        return self.wanted.addresses[0].partition("/")[0]

    def as_peer(
        self, *allowed: str, endpoint: str = "", port: int = PORT, keepalive: int = 0, preshared: str = ""
    ) -> WantedPeer:
        """This side, as another one is to know it; without networks: its own addresses."""
        own = tuple(f"{each.partition('/')[0]}/{128 if ':' in each else 32}" for each in self.wanted.addresses)
        place = Endpoint(endpoint, port) if endpoint else None
        return WantedPeer(self.keys.public, allowed or own, place, keepalive, preshared)

    def want(self, *peers: WantedPeer, **values: object) -> None:
        """Set what it should be; without peers, those stay."""
        self.wanted = msgspec.structs.replace(self.wanted, **({"peers": peers} if peers else {}), **values)

    async def reconcile(self) -> Changes:
        """Make the tunnel as wanted; what that took."""
        changes = diff(self.wanted, await self.tunnel.read())
        if changes:
            await self.tunnel.apply(changes)
        return changes

    async def read(self) -> ActualTunnel:
        """The tunnel as it is; it must be there."""
        actual = await self.tunnel.read()
        assert actual is not None, f"{self.tunnel.name} is not there"
        return actual

    async def peer(self, other: Side) -> ActualPeer:
        """What it knows of another side."""
        return next(each for each in (await self.read()).peers if each.public_key == other.keys.public)

    async def reaches(self, address: str) -> bool:
        """One echo request is answered."""
        return (await self.tunnel.ping(address, count=1, limit=0.5)).received == 1

    async def comes_to_reach(self, address: str, seconds: float = 20.0) -> None:
        """Wait for that; a first handshake that was lost is repeated after 5 s."""
        await wait_for(lambda: self.reaches(address), seconds, f"{self.host.name} reaches {address}")


async def pair(net: Net, *, ports: tuple[int, int] = (PORT, 0), keepalive: int = 0) -> tuple[Side, Side]:
    """Two joined hosts with a tunnel that works: hub 192.0.2.1 (10.8.0.1, fd00:8::1), spoke 192.0.2.2 (10.8.0.2, fd00:8::2)."""
    hub_host, spoke_host = net.host("hub"), net.host("spoke")
    net.wire(hub_host, spoke_host, ["192.0.2.1/24", "2001:db8::1/64"], ["192.0.2.2/24", "2001:db8::2/64"])
    hub = Side(hub_host, ("10.8.0.1/24", "fd00:8::1/64"), port=ports[0])
    spoke = Side(spoke_host, ("10.8.0.2/24", "fd00:8::2/64"), port=ports[1])
    hub.want(spoke.as_peer())
    spoke.want(hub.as_peer(endpoint="192.0.2.1", port=ports[0], keepalive=keepalive))
    await hub.reconcile()
    await spoke.reconcile()
    await spoke.comes_to_reach(hub.address)
    return hub, spoke

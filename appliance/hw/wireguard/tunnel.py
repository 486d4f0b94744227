"""One WireGuard interface: the Tunnel port, in the kernel where that can, else in user space."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import time
from collections.abc import Sequence
from typing import Literal

from appliance.core.vpn.model import ActualTunnel, Changes, Probe, Rule
from appliance.errors import TunnelError
from appliance.hw.wireguard.boringtun import BoringTunCarrier
from appliance.hw.wireguard.device import Carrier
from appliance.hw.wireguard.faults import ProcessEndedError, failed
from appliance.hw.wireguard.firewall import Firewall
from appliance.hw.wireguard.forwarding import open_for
from appliance.hw.wireguard.kernel import KernelCarrier
from appliance.hw.wireguard.links import Link, Links
from appliance.hw.wireguard.ping import Pinger
from appliance.hw.wireguard.space import Space
from appliance.hw.wireguard.uapi import UapiCarrier
from appliance.hw.wireguard.userspace import Userspace

Way = Literal["kernel", "userspace"]
WAYS: tuple[Way, ...] = ("kernel", "userspace")
KERNEL_KIND = "wireguard"
VANISH_SECONDS = 1.0
LARGEST_PORT = 65535
PORT_TAKEN = frozenset({errno.EADDRINUSE, errno.EACCES})


class WireGuardTunnel:
    """The Tunnel port (core/vpn/model.py).

    Args:
        name: Of the interface.
        netns: Name of the network namespace (`ip netns`) that it is in; None for the machine's own network.
        ways: What may carry it, the preferred one first.
    """

    def __init__(self, name: str, *, netns: str | None = None, ways: Sequence[Way] = WAYS) -> None:
        self.name = name
        self.backend = ""
        self._space = Space(netns)
        self._ways = tuple(ways)
        self._links = Links(name, self._space)
        self._process = Userspace(name, self._space)
        self._firewall = Firewall(name, self._space)
        self._pinger = Pinger(self._space)
        self._lock = asyncio.Lock()

    async def ensure(self) -> bool:
        """Make the interface where it is missing. True: it was made (and has nothing in it yet)."""
        async with self._lock:
            if await self._present() is not None:
                return False
            await self._make()
            return True

    async def _make(self) -> None:
        if "kernel" in self._ways and await self._links.make():
            self.backend = "kernel"
            return
        if "userspace" not in self._ways:
            raise failed(f"make {self.name}", errno.EOPNOTSUPP, "the kernel has no WireGuard")
        await self._process.stop()  # one that lost its interface and has not ended yet
        self.backend = await self._process.start()

    async def _present(self) -> Carrier | None:
        """What carries the interface, whoever made it; None where there is no interface.

        A process that ends takes its interface with it a moment later: that is waited for.
        """
        ends = time.monotonic() + VANISH_SECONDS
        while (link := await self._links.find()) is not None:
            if link.kind == KERNEL_KIND:
                self.backend = "kernel"
                return KernelCarrier(self.name, self._space)
            backend = await self._process.backend()
            if backend:
                self.backend = backend
                return (BoringTunCarrier if backend == "boringtun" else UapiCarrier)(self._process.path, backend)
            if time.monotonic() > ends:
                raise self._foreign(link)
            await asyncio.sleep(0.02)
        self._process.reap()
        return None

    def _foreign(self, link: Link) -> TunnelError:
        return TunnelError(
            f"There is an interface {self.name}, and no WireGuard behind it ({link.kind or 'no kind'}).",
            f"give the tunnel another name, or remove that one: sudo ip link delete {self.name}",
        )

    async def _must(self, doing: str) -> Carrier:
        carrier = await self._present()
        if carrier is None:
            raise failed(f"{doing} {self.name}", errno.ENODEV, "there is no such interface")
        return carrier

    async def read(self) -> ActualTunnel | None:
        """The interface as it is; None where there is none, also when its process was killed."""
        carrier = await self._present()
        if carrier is None:
            return None
        try:
            device = await carrier.read()
        except ProcessEndedError:
            if await self._present() is None:
                return None
            raise
        link, addresses, routes = await self._links.read()
        if link is None:
            return None
        return ActualTunnel(
            name=self.name, public_key=device.public_key, listen_port=device.listen_port, addresses=addresses, mtu=link.mtu,
            up=link.up, routes=routes.ours, peers=device.peers, fwmark=device.fwmark, backend=carrier.backend,
            foreign_routes=routes.others, elsewhere=routes.elsewhere,
        )  # fmt: skip

    async def apply(self, changes: Changes) -> None:
        """Carry changes out: WireGuard's part in one message, then MTU, addresses, up, routes.

        Raises:
            TunnelError: Something was refused. What was done stays; the next look finds the rest.
        """
        if changes.create:
            await self.ensure()
        async with self._lock:
            carrier = await self._must("change")
            if changes.listen_port is not None and changes.listen_port != (await carrier.read()).listen_port:
                await self._space.run(lambda: _must_be_free(changes.listen_port or 0))
            await carrier.change(changes)
            await self._links.apply(changes)

    async def rebind(self) -> None:
        """Open the UDP socket anew, so that a changed local address is used."""
        async with self._lock:
            carrier = await self._must("rebind")
            await carrier.rebind(await carrier.read())

    async def firewall(self, rules: Sequence[Rule] | None) -> bool:
        """Make the table of forwarding rules for this interface exactly these; None removes it.

        Returns:
            Whether somebody else had changed it since it was made.

        Raises:
            TunnelError: nft is missing or refused (the table is as it was), or the machine does not forward (it is made).
        """
        async with self._lock:
            changed = await self._firewall.set(rules)
            if rules:
                await self._let_forward(rules)
            return changed

    async def _let_forward(self, rules: Sequence[Rule]) -> None:
        link, addresses, routes = await self._links.read()
        if link is None:
            return
        inside = [ipaddress.ip_interface(each).network for each in addresses]
        inside += [ipaddress.ip_network(each) for each in (*routes.ours, *routes.others)]
        allowed = {ipaddress.ip_network(each) for rule in rules for each in rule.allow}
        beyond = {net.version for net in allowed if not any(_within(net, each) for each in inside)}
        await open_for(self.name, self._space, {net.version for net in allowed}, beyond)

    async def ping(self, address: str, *, size: int = 56, count: int = 3, limit: float = 1.0, whole: bool = False) -> Probe:
        """Echo requests from where the tunnel is; `whole`: they must not be fragmented (MTU discovery)."""
        return await self._pinger.ping(address, size=size, count=count, limit=limit, whole=whole)

    async def remove(self) -> None:
        """Take the interface away, with its routes and rules; end its process. One that is no WireGuard is not touched."""
        async with self._lock:
            await self._present()
            await self._firewall.set(None)
            await self._links.delete()
            await self._process.stop()
            self.backend = ""

    async def close(self) -> None:
        """Nothing is held open between calls; the interface and its process stay."""
        self._process.reap()


def _must_be_free(port: int) -> None:
    """A process that cannot open its port stays silent about it: it is tried before."""
    if not 0 <= port <= LARGEST_PORT:
        raise failed(f"listen on UDP port {port}", errno.EINVAL, "there is no such port")
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind(("", port))
        except OSError as error:
            if error.errno in PORT_TAKEN:
                raise failed(f"listen on UDP port {port}", error.errno or 0) from None


def _within(net: ipaddress.IPv4Network | ipaddress.IPv6Network, other: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    return net.version == other.version and net.prefixlen >= other.prefixlen and net.network_address in other

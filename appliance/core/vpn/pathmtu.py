"""How large a packet gets through whole, by echo requests that must not be fragmented; and what a tunnel makes of it."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable

from appliance.core.vpn.model import Tunnel

ECHO_HEADERS = {4: 28, 6: 48}
"""Bytes of IP and ICMP before the payload."""
OUTER_HEADERS = {4: 60, 6: 80}
"""Bytes that WireGuard adds to a packet: IP, UDP, and 32 of its own."""
LEAST = {4: 576, 6: 1280}
ETHERNET = 1500


def tunnel_mtu(path: int, outer: int) -> int:
    """The largest MTU of a tunnel whose packets go over a path.

    Args:
        path: What goes over the path whole, bytes.
        outer: Version of IP that the endpoints speak, 4 or 6.
    """
    return path - OUTER_HEADERS[outer]


async def path_mtu(tunnel: Tunnel, address: str, *, highest: int = ETHERNET, limit: float = 0.5, count: int = 2) -> int | None:
    """The largest packet that reaches an address whole, and is answered.

    Towards a peer's endpoint it tells what the path takes (see `tunnel_mtu`); towards its address inside of the tunnel, which
    MTU works there: packets between that and the interface's MTU vanish. (WireGuard pads packets to 16 bytes, but not beyond
    the interface's MTU: inside, up to 15 bytes less are found than an MTU may have. The kernel's WireGuard lets its IPv4
    packets be cut on their way: there nothing vanishes, and all sizes pass inside.)

    Args:
        tunnel: From where; its own MTU bounds what can be sent inside.
        address: IPv4 or IPv6.
        highest: Bytes; where this passes, the answer is this.
        limit: Seconds to wait for each size.
        count: Requests of each size; one answer is enough.

    Returns:
        Bytes; None where not even the smallest comes back (the address does not answer at all).

    Raises:
        TunnelError: The address is none, or no echo requests may be sent.
    """
    version = ipaddress.ip_address(address).version

    async def passes(size: int) -> bool:
        probe = await tunnel.ping(address, size=size - ECHO_HEADERS[version], count=count, limit=limit, whole=True)
        return probe.received > 0

    return await largest(passes, LEAST[version], highest)


async def largest(passes: Callable[[int], Awaitable[bool]], low: int, high: int) -> int | None:
    """The largest number of low to high that passes, where all below one that passes do too; None where low does not."""
    if not await passes(low):
        return None
    if await passes(high):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if await passes(middle):
            low = middle
        else:
            high = middle
    return low

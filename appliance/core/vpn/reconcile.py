"""What has to be done to a tunnel so that it is as it should be. Pure: the driver carries it out.

What is whose:
- The interface is ours. Peers and addresses that somebody added to it by hand are removed, since they decide who comes in.
- Routes into it are ours where we made them (the driver marks them with its own routing protocol number). A route that somebody
  else made into it stays; where it leads to a network that we would route, ours is not needed.
- Addresses of the link's own (fe80::/10), which the kernel makes, stay unless they are wanted.
- A peer's endpoint is set where one is wanted and the present one differs. None leaves the present one: a caller that knows
  that a healthy peer roamed says None.

Nothing is ever removed and made again: a peer that changes keeps its session.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from appliance.core.vpn.keys import public_of
from appliance.core.vpn.model import ActualPeer, ActualTunnel, Changes, Endpoint, PeerChange, WantedPeer, WantedTunnel

LINK_LOCAL = ipaddress.IPv6Network("fe80::/10")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def diff(wanted: WantedTunnel, actual: ActualTunnel | None) -> Changes:
    """The least that makes a tunnel as wanted; false (no change) for one that is.

    Args:
        wanted: As `desired.check` let it pass.
        actual: As the driver read it; None where there is no interface.
    """
    present = actual or ActualTunnel(wanted.name, "", 0, (), 0, False, (), ())
    add_addresses, remove_addresses = _addresses(wanted, present)
    add_routes, remove_routes = _routes(wanted, present)
    return Changes(
        create=actual is None,
        private_key=wanted.private_key if public_of(wanted.private_key) != present.public_key else None,
        listen_port=wanted.listen_port if wanted.listen_port not in {0, present.listen_port} else None,
        fwmark=wanted.fwmark if wanted.fwmark != present.fwmark else None,
        mtu=wanted.mtu if wanted.mtu not in {0, present.mtu} else None,
        up=not present.up,
        add_addresses=add_addresses,
        remove_addresses=remove_addresses,
        peers=_peers(wanted.peers, present.peers),
        add_routes=add_routes,
        remove_routes=remove_routes,
    )


def routes_of(wanted: WantedTunnel) -> tuple[str, ...]:
    """Networks that need a route of ours into the tunnel: those of the peers that no address of the interface covers already.

    Default routes are never among them: they would take the tunnel's own packets too (`desired` refuses to route them).
    """
    if not wanted.routes:
        return ()
    connected = [ipaddress.ip_interface(each).network for each in wanted.addresses]
    networks = map(ipaddress.ip_network, {each for peer in wanted.peers for each in peer.allowed})
    return _texts({net for net in networks if net.prefixlen and not any(_inside(net, other) for other in connected)})


def _inside(net: Network, other: Network) -> bool:
    if isinstance(net, ipaddress.IPv4Network):
        return isinstance(other, ipaddress.IPv4Network) and net.subnet_of(other)
    return isinstance(other, ipaddress.IPv6Network) and net.subnet_of(other)


def _texts(networks: Iterable[Network]) -> tuple[str, ...]:
    return tuple(map(str, sorted(networks, key=lambda net: (net.version, int(net.network_address), net.prefixlen))))


def _addresses(wanted: WantedTunnel, actual: ActualTunnel) -> tuple[tuple[str, ...], tuple[str, ...]]:
    want = [str(ipaddress.ip_interface(each)) for each in wanted.addresses]
    have = [ipaddress.ip_interface(each) for each in actual.addresses]
    extra = [each for each in have if str(each) not in want and (each.version == 4 or each.ip not in LINK_LOCAL)]
    return tuple(each for each in want if ipaddress.ip_interface(each) not in have), tuple(map(str, extra))


def _routes(wanted: WantedTunnel, actual: ActualTunnel) -> tuple[tuple[str, ...], tuple[str, ...]]:
    want = routes_of(wanted)
    there = {*actual.routes, *actual.foreign_routes}
    return tuple(each for each in want if each not in there), tuple(each for each in actual.routes if each not in want)


def _peers(wanted: Iterable[WantedPeer], actual: Iterable[ActualPeer]) -> tuple[PeerChange, ...]:
    """Who gives a network up comes before who gets it: no network is lost, or someone else's, in between."""
    present = {peer.public_key: peer for peer in actual}
    asked = {peer.public_key: peer for peer in wanted}
    gone = [PeerChange(key, remove=True) for key in present if key not in asked]
    giving: list[PeerChange] = []
    others: list[PeerChange] = []
    for key, peer in asked.items():
        change = _peer(peer, present.get(key))
        if change != PeerChange(key):
            (giving if _gives_up(change, present.get(key)) else others).append(change)
    return (*gone, *giving, *others)


def _gives_up(change: PeerChange, actual: ActualPeer | None) -> bool:
    return actual is not None and change.allowed is not None and not set(actual.allowed) <= set(change.allowed)


def _peer(wanted: WantedPeer, actual: ActualPeer | None) -> PeerChange:
    if actual is not None and set(wanted.allowed) == set(actual.allowed):
        allowed = actual.allowed  # spelled alike, as nearly always
    else:
        allowed = _texts({ipaddress.ip_network(each) for each in wanted.allowed})
    if actual is None:
        return PeerChange(
            wanted.public_key,
            create=True,
            allowed=allowed,
            endpoint=wanted.endpoint,
            keepalive=wanted.keepalive or None,
            preshared=wanted.preshared or None,
        )
    return PeerChange(
        wanted.public_key,
        allowed=allowed if set(allowed) != set(actual.allowed) else None,
        endpoint=None if _same_place(wanted.endpoint, actual.endpoint) else wanted.endpoint,
        keepalive=wanted.keepalive if wanted.keepalive != actual.keepalive else None,
        preshared=wanted.preshared if wanted.preshared != actual.preshared else None,
    )


def _same_place(wanted: Endpoint | None, actual: Endpoint | None) -> bool:
    if wanted is None or actual is None:
        return wanted is None
    return wanted.port == actual.port and ipaddress.ip_address(wanted.address) == ipaddress.ip_address(actual.address)

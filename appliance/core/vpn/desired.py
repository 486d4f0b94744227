"""What is wrong with a tunnel as it is wanted, before anything is done: everything at once, each with what to do.

Errors keep the tunnel from being made. A hint is legal and rarely meant: a network inside another peer's (the longer prefix
wins), or inside one that this machine reaches otherwise.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterator, Mapping

import msgspec

from appliance.core.vpn import keys
from appliance.core.vpn.model import WantedPeer, WantedTunnel
from appliance.core.vpn.names import INTERFACE
from appliance.errors import ConflictError, InvalidArgumentsError

LEAST_MTU, LEAST_MTU_IPV6, LARGEST_MTU = 576, 1280, 65456
"""Bytes. RFC 791 and 8200; the largest is what a TUN device takes less WireGuard's own."""
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong."""

    kind: str
    """In a word; bad values: name, key, address, network, number, endpoint; conflicts: duplicate, overlap, loop."""
    message: str
    next_step: str
    peers: tuple[str, ...] = ()
    """Public keys of the peers that it concerns."""
    fatal: bool = True
    network: str = ""
    """What of those peers cannot be, where the rest of them can."""


CONFLICTS = frozenset({"duplicate", "overlap", "loop", "elsewhere"})


def check(wanted: WantedTunnel, names: Mapping[str, str] | None = None, elsewhere: Mapping[str, str] | None = None) -> None:
    """Let a tunnel pass that can be made.

    Raises:
        ConflictError: Parts of it contradict each other.
        InvalidArgumentsError: A value is none.
    """
    wrong = [fault for fault in faults(wanted, names, elsewhere) if fault.fatal]
    if wrong:
        more = f" ({len(wrong) - 1} more such)" if len(wrong) > 1 else ""
        kind = ConflictError if wrong[0].kind in CONFLICTS else InvalidArgumentsError
        raise kind(wrong[0].message + more, wrong[0].next_step)


def faults(
    wanted: WantedTunnel, names: Mapping[str, str] | None = None, elsewhere: Mapping[str, str] | None = None
) -> tuple[Fault, ...]:
    """All that is wrong, bad values first; where there are such, conflicts are not looked for.

    Args:
        wanted: The tunnel.
        names: What people call the peers, by public key.
        elsewhere: Networks that this machine reaches through other interfaces, with the interface.
    """
    told = _Names(names or {})
    values = (*_device(wanted), *(fault for peer in wanted.peers for fault in _values(peer, told)))
    if values:
        return values
    return (*_twice(wanted, told), *_overlaps(wanted, told), *_own(wanted, told), *_loops(wanted, told),
            *_outside(wanted, elsewhere or {}, told))  # fmt: skip


class _Names:
    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def __call__(self, key: str) -> str:
        return f"peer {self._names[key]}" if key in self._names else f"peer {keys.short(key)}"


def _device(wanted: WantedTunnel) -> Iterator[Fault]:
    if INTERFACE.fullmatch(wanted.name) is None or wanted.name in {".", ".."}:
        yield Fault("name", f"{wanted.name[:40]!r} is no name of an interface.", "use 1 to 15 letters, digits and _ = + . - .")
    if problem := keys.fault(wanted.private_key):
        yield Fault("key", f"The tunnel's private key is none: {problem}.", "let the appliance make a new one.")
    if not 0 <= wanted.listen_port <= 65535:
        yield Fault("number", f"{wanted.listen_port} is no UDP port.", "use 1 to 65535, or 0 for any.")
    if not 0 <= wanted.fwmark < 2**32:
        yield Fault("number", f"{wanted.fwmark} is no mark for packets.", "use 0 (none) to 4294967295.")
    bad = [each for each in wanted.addresses if not _parses(each, ipaddress.ip_interface)]
    for each in bad:
        yield Fault("address", f"{each[:60]!r} is no address with prefix length.", "write it as 10.8.0.2/24 or fd00:8::2/64.")
    yield from _mtu(wanted)


def _mtu(wanted: WantedTunnel) -> Iterator[Fault]:
    six = any(":" in each for each in (*wanted.addresses, *(net for peer in wanted.peers for net in peer.allowed)))
    least = LEAST_MTU_IPV6 if six else LEAST_MTU
    if wanted.mtu and not least <= wanted.mtu <= LARGEST_MTU:
        why = " where IPv6 is used (RFC 8200)" if six else ""
        yield Fault(
            "number", f"An MTU of {wanted.mtu} does not work{why}.", f"use {least} to {LARGEST_MTU}; 1420 fits most lines."
        )


def _parses(text: str, parser: object) -> bool:
    try:
        parser(text)  # type: ignore[operator]
    except ValueError:
        return False
    return True


def _values(peer: WantedPeer, told: _Names) -> Iterator[Fault]:
    who, concerned = told(peer.public_key), (peer.public_key,)
    if problem := keys.fault(peer.public_key):
        yield Fault("key", f"The public key of {who} is none: {problem}.", "copy the 44 characters of `wg pubkey`.", concerned)
    if peer.preshared and (problem := keys.fault(peer.preshared)):
        yield Fault(
            "key", f"The pre-shared key of {who} is none: {problem}.", "copy the 44 characters of `wg genpsk`.", concerned
        )
    if not 0 <= peer.keepalive <= 65535:
        yield Fault(
            "number", f"{who} has a keepalive of {peer.keepalive} s.", "use 0 (none) to 65535; 25 suits NAT.", concerned
        )
    for each in peer.allowed:
        if not _parses(each, ipaddress.ip_network):
            yield Fault(
                "network", f"{each[:60]!r} of {who} is no network.{_meant(each)}", "write it as 10.8.0.3/32.", concerned
            )
    place = peer.endpoint
    if place is not None and not (_reachable(place.address) and 0 < place.port <= 65535):
        yield Fault(
            "endpoint", f"{who} cannot be reached at {place.address[:60]} port {place.port}.",
            "use the address of a machine and a port of 1 to 65535.", concerned,
        )  # fmt: skip


def _meant(text: str) -> str:
    if not _parses(text, ipaddress.ip_interface):
        return ""
    inside = ipaddress.ip_interface(text)
    return f" Was {inside.network} meant, or {inside.ip}/{inside.max_prefixlen}?"


def _reachable(text: str) -> bool:
    if not _parses(text, ipaddress.ip_address):
        return False
    address = ipaddress.ip_address(text)
    return not (address.is_unspecified or address.is_multicast)


def _twice(wanted: WantedTunnel, told: _Names) -> Iterator[Fault]:
    for key, count in Counter(peer.public_key for peer in wanted.peers).items():
        if count > 1:
            yield Fault("duplicate", f"{count} peers have the key of {told(key)}.", "give every peer a key of its own.", (key,))
    for address, count in Counter(str(ipaddress.ip_interface(each).ip) for each in wanted.addresses).items():
        if count > 1:
            yield Fault("duplicate", f"The tunnel has the address {address} {count} times.", "name it once.")
    own = keys.public_of(wanted.private_key)
    if any(peer.public_key == own for peer in wanted.peers):
        yield Fault(
            "duplicate",
            f"{told(own)} has this tunnel's own key.",
            "give the peer the key that was made on its machine.",
            (own,),
        )


def _entries(wanted: WantedTunnel) -> list[tuple[int, int, int, Network, str]]:
    nets = {(ipaddress.ip_network(each), peer.public_key) for peer in wanted.peers for each in peer.allowed}
    return sorted((net.version, int(net.network_address), net.prefixlen, net, key) for net, key in nets)


def _overlaps(wanted: WantedTunnel, told: _Names) -> Iterator[Fault]:
    """A walk over all networks in order, with those that are open around the present one."""
    around: list[tuple[Network, str]] = []
    for version, first, _, net, key in _entries(wanted):
        while around and (around[-1][0].version != version or int(around[-1][0].broadcast_address) < first):
            around.pop()
        for outer, other in around:
            if other != key:
                yield _overlap(net, key, outer, other, told)
        around.append((net, key))


def _overlap(net: Network, key: str, outer: Network, other: str, told: _Names) -> Fault:
    if net == outer:
        message = f"{net} belongs to {told(other)} and to {told(key)}: only one of them would get its packets."
        return Fault("overlap", message, "give each peer networks of its own.", (other, key))
    message = f"{net} of {told(key)} lies inside {outer} of {told(other)}: it goes to {told(key)} alone."
    return Fault("overlap", message, "take it apart where that is not meant.", (other, key), fatal=False)


def _own(wanted: WantedTunnel, told: _Names) -> Iterator[Fault]:
    own = {ipaddress.ip_network(ipaddress.ip_interface(each).ip) for each in wanted.addresses}
    for peer in wanted.peers:
        for net in own & {ipaddress.ip_network(each) for each in peer.allowed}:
            message = f"{net.network_address} is this tunnel's own address, and also that of {told(peer.public_key)}."
            yield Fault("overlap", message, "give the peer another address.", (peer.public_key,))


def _loops(wanted: WantedTunnel, told: _Names) -> Iterator[Fault]:
    if not wanted.routes:
        return
    nets = [(net, key) for _, _, _, net, key in _entries(wanted)]
    for net, key in nets:
        if net.prefixlen == 0:
            message = f"All traffic of this machine ({net}) would go to {told(key)}, the tunnel's own packets too."
            yield Fault("loop", message, "name the networks behind the peer, or let others route (routes = false).", (key,))
    for peer in wanted.peers:
        place = peer.endpoint and ipaddress.ip_address(peer.endpoint.address)
        for net, _ in nets:
            if place and net.prefixlen and place in net:
                message = f"{told(peer.public_key)} is reached at {place}, which {net} would send into the tunnel itself."
                yield Fault("loop", message, "name an endpoint outside of the tunnel's networks.", (peer.public_key,))


def _outside(wanted: WantedTunnel, elsewhere: Mapping[str, str], told: _Names) -> Iterator[Fault]:
    ours = {ipaddress.ip_interface(each).network for each in wanted.addresses}
    owners = {ipaddress.ip_network(each): peer.public_key for peer in wanted.peers for each in peer.allowed}
    if wanted.routes:
        ours |= set(owners)
    for text, interface in elsewhere.items():
        other = ipaddress.ip_network(text)
        for net in sorted(ours, key=str):
            if other.prefixlen and net.prefixlen and net.version == other.version and net.overlaps(other):
                message = f"The tunnel's network {net} overlaps {other}, which this machine reaches through {interface}."
                if net == other and net in owners:
                    fix = f"take it from {told(owners[net])}, or this machine off that network."
                    yield Fault("elsewhere", message, fix, (owners[net],), network=str(net))
                else:
                    yield Fault("overlap", message, "choose a network for the VPN that nobody uses.", fatal=net == other)

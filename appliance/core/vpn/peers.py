"""A peer as the operator set it, and the free addresses of the VPN."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import msgspec

from appliance.core.vpn import names
from appliance.errors import ConflictError, InvalidArgumentsError

MOST = 1000
"""Peers that may be set."""
REACH = 64
"""Networks that one peer may be given."""
SEARCHED = 1 << 17
"""Addresses of a network that are looked through for a free one; a /64 has more than anybody could count."""


class Peer(msgspec.Struct, frozen=True):
    """A peer; its secrets lie apart."""

    name: str
    public_key: str
    addresses: tuple[str, ...]
    """Inside the VPN, with the whole prefix length, such as 10.8.0.5/32."""
    networks: tuple[str, ...] = ()
    """Behind it, such as 192.168.7.0/24."""
    endpoint: str = ""
    """HOST:PORT where it is reached; empty: it finds us."""
    keepalive: int = 25
    """Seconds, of both sides; 0 for none."""
    node: str = ""
    """Its name in the inventory, where it is reached over SSH; empty for none."""
    node_interface: str = ""
    """Name of the interface there; empty: as here."""
    reach: tuple[str, ...] = ()
    """Networks that it may reach through the hub, where peers are kept apart."""
    enabled: bool = True
    expires: float = 0.0
    """Wall clock; 0 for never."""
    expired: bool = False
    """Its time came while the clock was believed; it stays so, whatever the clock does."""
    watched: bool = True
    created: float = 0.0
    connected: bool = False
    """It was connected once with these keys."""

    @property
    def allowed(self) -> tuple[str, ...]:
        """All networks that are routed to it."""
        return (*self.addresses, *self.networks)

    @property
    def active(self) -> bool:
        """It belongs into the tunnel."""
        return self.enabled and not self.expired

    def changed(self, **changes: Any) -> Peer:
        """It, with other values."""
        return msgspec.structs.replace(self, **changes)


class Rotation(msgspec.Struct, frozen=True):
    """A change of a peer's keys that is under way: until there is proof, the tunnel has both."""

    old: str
    """Public key."""
    new: str
    started: float
    """Wall clock."""
    told: bool = False
    """The node was told to change over, or may have been."""
    problem: str = ""
    """Why it waits, in a sentence."""


class Entry(msgspec.Struct, frozen=True):
    """A peer with what goes on around it."""

    peer: Peer
    rotation: Rotation | None = None

    def changed(self, **changes: Any) -> Entry:
        """The peer with other values, and its rotation as it was."""
        return Entry(self.peer.changed(**changes), self.rotation)


def free_address(subnet: str, taken: Iterable[str]) -> str:
    """The lowest free address of a network, with the whole prefix length.

    Args:
        subnet: Where it is taken from.
        taken: Addresses and networks that somebody has.

    Raises:
        ConflictError: None is free.
    """
    whole = ipaddress.ip_network(subnet)
    used = [ipaddress.ip_network(each, strict=False) for each in taken]
    mine = [each for each in used if each.version == whole.version and each.overlaps(whole)]
    single = {each.network_address for each in mine if each.num_addresses == 1}
    wide = [each for each in mine if each.num_addresses > 1]
    for address in islice(whole.hosts(), SEARCHED):
        if address not in single and not any(address in each for each in wide):
            return f"{address}/{whole.max_prefixlen}"
    raise ConflictError(f"No address of {subnet} is free.", "remove a peer, or take a larger vpn.subnet.")


def own_address(subnet: str) -> str:
    """The hub's address where none is set: the second of the network, with its prefix length."""
    whole = ipaddress.ip_network(subnet)
    return f"{whole.network_address + 2}/{whole.prefixlen}"


def check_overlap(peer: Peer, others: Sequence[Peer], own: Sequence[str]) -> None:
    """See to it that every address leads to one place.

    Args:
        peer: The new or changed one.
        others: All other peers, also those that are off.
        own: The hub's addresses.

    Raises:
        ConflictError: Says with whom it collides, and in what.
    """
    mine = [ipaddress.ip_network(each) for each in peer.allowed]
    for address in own:
        ours = ipaddress.ip_interface(address).ip
        if any(ours in each for each in mine if each.version == ours.version):
            raise ConflictError(
                f"{ours} is this hub's own address.", "give the peer another one, or none: a free one is taken."
            )
    for other in others:
        if other.public_key == peer.public_key:
            raise ConflictError(f"The peer {other.name} has this public key already.", "each peer needs keys of its own.")
        for theirs in map(ipaddress.ip_network, other.allowed):
            for each in mine:
                if each.version == theirs.version and each.overlaps(theirs):
                    raise ConflictError(
                        f"{each} overlaps {theirs} of the peer {other.name}.", "WireGuard can send it to one of them only."
                    )


def check_inside(addresses: Sequence[str], subnets: Sequence[str]) -> None:
    """A peer's own addresses are single ones of the VPN's networks. Raises InvalidArgumentsError."""
    for address in map(ipaddress.ip_network, addresses):
        homes = [whole for whole in map(ipaddress.ip_network, subnets) if whole.version == address.version]
        if address.num_addresses != 1 or not any(address.network_address in whole for whole in homes):
            raise InvalidArgumentsError(
                f"{address} is no single address of {' or '.join(subnets)}.",
                "networks behind a peer are given with --networks.",
            )


def networks(texts: Iterable[str]) -> tuple[str, ...]:
    """Networks in their one right spelling, each once. Raises InvalidArgumentsError."""
    found = tuple(dict.fromkeys(names.network(text) for text in texts))
    if len(found) > REACH:
        raise InvalidArgumentsError(
            f"{len(found)} networks are more than the {REACH} that a peer may have.", "take wider ones."
        )
    return found

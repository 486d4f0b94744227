"""A peer's own configuration as a wg-quick file; and a file's peers as peers of ours."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from appliance.core.vpn import keys, names
from appliance.core.vpn.peers import Peer
from appliance.core.vpn.quick import QuickFile, QuickPeer, write
from appliance.core.vpn.wanted import Hub
from appliance.errors import ConfigError, ConflictError

MARK = "# Prime Spark"
"""How a file begins that was made here."""


class Sides(msgspec.Struct, frozen=True):
    """The keys that a peer's file needs. Never shown."""

    private: str
    preshared: str
    hub: str
    """The hub's public key."""

    def __repr__(self) -> str:
        return "Sides(…)"

    __rich_repr__ = None  # type: ignore[assignment]


def file_for(peer: Peer, hub: Hub, sides: Sides, endpoint: str = "") -> str:
    """The file that a peer needs to come in. It has its private key in it.

    Args:
        peer: It.
        hub: This end.
        sides: The keys.
        endpoint: Where this peer reaches the hub, where it is not as for all.

    Raises:
        ConfigError: Nobody has said where the hub is reached.
    """
    place = endpoint or hub.endpoint
    if not place and not peer.endpoint:
        raise ConfigError(
            "Nobody has said where this hub is reached from outside.",
            'give --endpoint HOST:PORT, or set vpn.endpoint to its name, such as "vpn.example.org".',
        )
    where = str(names.place(place if _has_port(place) else f"{place}:{hub.port}")) if place else ""
    routed = dict.fromkeys((*hub.subnets, *hub.routed))
    remote = QuickPeer(sides.hub, tuple(routed), where, peer.keepalive if where else 0, sides.preshared)
    port = names.place(peer.endpoint).port if peer.endpoint else 0
    own = QuickFile(
        private_key=sides.private, addresses=_own(peer, hub), listen_port=port, mtu=hub.mtu if hub.mtu != 1420 else 0,
        dns=hub.dns, peers=(remote,),
    )  # fmt: skip
    return f"{MARK}: {peer.name}\n{write(own)}"


def _has_port(place: str) -> bool:
    return place.rpartition(":")[2].isdigit() and (place.count(":") == 1 or "]:" in place)


def _own(peer: Peer, hub: Hub) -> tuple[str, ...]:
    """Its addresses with the length of the VPN's network, so that it routes all of that."""
    found = []
    for each in map(ipaddress.ip_network, peer.addresses):
        homes = [whole for whole in map(ipaddress.ip_network, hub.subnets) if each.network_address in whole]
        found.append(f"{each.network_address}/{homes[0].prefixlen if homes else each.prefixlen}")
    return tuple(found)


# -- importing ---------------------------------------------------------------------------------------------------------


class Taken(msgspec.Struct, frozen=True):
    """What an imported file comes to."""

    private: str
    """The hub's private key; empty where the file has none. Never shown."""
    peers: tuple[tuple[Peer, str], ...]
    """Each with its pre-shared key. Never shown."""
    settings: dict[str, Any]
    """Settings that the file stands for and that are other ones here."""
    ignored: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Taken({len(self.peers)} peers)"

    __rich_repr__ = None  # type: ignore[assignment]


def taken_from(file: QuickFile, hub: Hub, kept: Collection[str], now: float) -> Taken:
    """A hub's wg-quick file as peers.

    Args:
        file: It.
        hub: This end, as the settings have it.
        kept: Names of peers that are there already.
        now: Wall clock.

    Raises:
        ConflictError: A peer has no address of its own, or the file is a client's one.
    """
    subnets = _subnets(file, hub)
    used = set(kept)
    peers = []
    for number, peer in enumerate(file.peers, 1):
        name = _name(peer, number, used)
        used.add(name)
        inside = [each for each in peer.allowed if _single_in(each, subnets)]
        if not inside:
            raise ConflictError(
                f"The peer {name} ({keys.short(peer.public_key)}) has no address of its own in {' or '.join(subnets)}.",
                "a hub's file gives each peer a /32; a client's own file is for that client, not for this hub.",
            )
        rest = tuple(each for each in peer.allowed if each not in inside)
        made = Peer(
            name=name, public_key=peer.public_key, addresses=tuple(inside), networks=rest, endpoint=peer.endpoint,
            keepalive=peer.keepalive, created=now,
        )  # fmt: skip
        peers.append((made, peer.preshared))
    return Taken(file.private_key, tuple(peers), _settings(file, hub, subnets), file.ignored)


def _subnets(file: QuickFile, hub: Hub) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(str(ipaddress.ip_interface(each).network) for each in file.addresses))
    return found or hub.subnets


def _single_in(network: str, subnets: Sequence[str]) -> bool:
    one = ipaddress.ip_network(network)
    return one.num_addresses == 1 and any(one.network_address in ipaddress.ip_network(each) for each in subnets)


def _name(peer: QuickPeer, number: int, used: Collection[str]) -> str:
    wanted = peer.name or f"peer{number}"
    return next(name for name in (wanted, *(f"{wanted[:26]}-{more}" for more in range(2, 5000))) if name not in used)


def _settings(file: QuickFile, hub: Hub, subnets: Sequence[str]) -> dict[str, Any]:
    four = [each for each in subnets if ":" not in each]
    own = [each for each in file.addresses if ":" not in each]
    found: dict[str, Any] = {
        "vpn.port": file.listen_port or hub.port, "vpn.mtu": file.mtu or hub.mtu,
        "vpn.subnet": four[0] if four else hub.subnets[0],
        "vpn.address": own[0].partition("/")[0] if own else hub.addresses[0].partition("/")[0],
    }  # fmt: skip
    here = {
        "vpn.port": hub.port, "vpn.mtu": hub.mtu, "vpn.subnet": hub.subnets[0],
        "vpn.address": hub.addresses[0].partition("/")[0],
    }  # fmt: skip
    return {key: value for key, value in found.items() if value != here[key]}

"""The tunnel as it should be, from the peers as they are set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from appliance.core.vpn.book import PeerSecrets
from appliance.core.vpn.model import Endpoint, Rule, WantedPeer, WantedTunnel
from appliance.core.vpn.peers import Entry, own_address
from appliance.settingvpn import VpnSettings

NONE = PeerSecrets()


class Hub(msgspec.Struct, frozen=True):
    """This end of the tunnel."""

    interface: str
    port: int
    addresses: tuple[str, ...]
    """With prefix length."""
    subnets: tuple[str, ...]
    mtu: int
    endpoint: str = ""
    dns: tuple[str, ...] = ()
    routed: tuple[str, ...] = ()
    isolate: bool = False

    @classmethod
    def of(cls, settings: VpnSettings) -> Hub:
        """As the settings have it."""
        length = settings.subnet.rpartition("/")[2]
        own = f"{settings.address}/{length}" if settings.address else own_address(settings.subnet)
        six = (own_address(settings.subnet6),) if settings.subnet6 else ()
        subnets = (settings.subnet, *((settings.subnet6,) if settings.subnet6 else ()))
        return cls(
            settings.interface, settings.port, (own, *six), subnets, settings.mtu, settings.endpoint, settings.dns,
            settings.routed, settings.isolate,
        )  # fmt: skip


def wanted_tunnel(
    hub: Hub, private: str, entries: Iterable[Entry], secrets: Mapping[str, PeerSecrets], aims: Mapping[str, Endpoint]
) -> WantedTunnel:
    """The interface with every peer that belongs into it.

    Args:
        hub: This end.
        private: Its private key.
        entries: The peers; those that are off are left out.
        secrets: Pre-shared keys by the peers' names.
        aims: Endpoints to set, by the peers' public keys; a peer without one keeps what the tunnel has, so that it may roam.
    """
    peers = [each for entry in entries if entry.peer.active for each in _peers(entry, secrets.get(entry.peer.name, NONE), aims)]
    return WantedTunnel(hub.interface, private, hub.port, hub.addresses, hub.mtu, tuple(peers))


def _peers(entry: Entry, secrets: PeerSecrets, aims: Mapping[str, Endpoint]) -> list[WantedPeer]:
    """The peer; while its keys are rotated its new self too, which gets its networks when it has shown itself."""
    peer, rotation = entry.peer, entry.rotation
    aim = aims.get(peer.public_key)
    found = [WantedPeer(peer.public_key, peer.allowed, aim, peer.keepalive, secrets.preshared)]
    if rotation is not None and rotation.new != peer.public_key:
        found.append(WantedPeer(rotation.new, (), None, 0, secrets.next_preshared))
    return found


def rules(hub: Hub, entries: Iterable[Entry]) -> tuple[Rule, ...] | None:
    """What each peer may reach through the hub; None where they are not kept apart."""
    if not hub.isolate:
        return None
    active = [entry.peer for entry in entries if entry.peer.active]
    return tuple(Rule(address, peer.reach) for peer in active for address in peer.allowed)

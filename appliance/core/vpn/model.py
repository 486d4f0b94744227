"""Values and ports of the VPN. Keys are base64, as wg(8) prints them; a private key is never in a value that is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

HANDSHAKE_FRESH = 180.0
"""A peer is connected when its last handshake is younger, seconds (contracts, section 1)."""


class Endpoint(msgspec.Struct, frozen=True):
    """Where a peer is reached, resolved."""

    address: str
    """IPv4 or IPv6."""
    port: int


class WantedPeer(msgspec.Struct, frozen=True):
    """A peer as the tunnel should have it."""

    public_key: str
    allowed: tuple[str, ...]
    """Networks in CIDR form, canonical."""
    endpoint: Endpoint | None = None
    """None: it finds us (it roams), and the present one is left alone."""
    keepalive: int = 0
    """Seconds; 0 for none."""
    preshared: str = ""
    """Pre-shared key, base64; empty for none. Never shown, never logged."""

    def __repr__(self) -> str:
        return f"WantedPeer({self.public_key[:8]}…, {', '.join(self.allowed)})"

    __rich_repr__ = None  # type: ignore[assignment]  # Rich would print every field


class WantedTunnel(msgspec.Struct, frozen=True):
    """An interface as it should be."""

    name: str
    private_key: str
    listen_port: int
    """UDP; 0 lets the system choose, once."""
    addresses: tuple[str, ...]
    """With prefix length, such as 10.8.0.2/24."""
    mtu: int
    peers: tuple[WantedPeer, ...]
    routes: bool = True
    """Networks of the peers are routed into it."""
    fwmark: int = 0

    def __repr__(self) -> str:
        return f"WantedTunnel({self.name}, {len(self.peers)} peers)"

    __rich_repr__ = None  # type: ignore[assignment]


class ActualPeer(msgspec.Struct, frozen=True):
    """A peer as the tunnel has it."""

    public_key: str
    allowed: tuple[str, ...]
    endpoint: Endpoint | None
    keepalive: int
    preshared: str
    """As in WantedPeer."""
    handshake: float
    """Wall clock of the last one; 0 where there was none."""
    rx_bytes: int
    tx_bytes: int

    def __repr__(self) -> str:
        return f"ActualPeer({self.public_key[:8]}…, {', '.join(self.allowed)})"

    __rich_repr__ = None  # type: ignore[assignment]


class ActualTunnel(msgspec.Struct, frozen=True):
    """An interface as it is."""

    name: str
    public_key: str
    """Of the private key that it has; empty where it has none."""
    listen_port: int
    addresses: tuple[str, ...]
    mtu: int
    up: bool
    routes: tuple[str, ...]
    """Networks that are routed into it by us."""
    peers: tuple[ActualPeer, ...]
    fwmark: int = 0
    backend: str = ""
    """"kernel" or "wireguard-go"."""
    foreign_routes: tuple[str, ...] = ()
    """Networks that somebody else routes into it; they are left alone."""
    elsewhere: tuple[tuple[str, str], ...] = ()
    """Networks that this machine reaches through other interfaces, with the interface; 1000 at most."""


class PeerChange(msgspec.Struct, frozen=True):
    """One minimal change of one peer. None means: leave it as it is."""

    public_key: str
    remove: bool = False
    create: bool = False
    allowed: tuple[str, ...] | None = None
    """Replaces all."""
    endpoint: Endpoint | None = None
    keepalive: int | None = None
    preshared: str | None = None

    def __repr__(self) -> str:
        word = "remove" if self.remove else "create" if self.create else "change"
        return f"PeerChange({word} {self.public_key[:8]}…)"

    __rich_repr__ = None  # type: ignore[assignment]


class Changes(msgspec.Struct, frozen=True):
    """What has to be done to make the tunnel as it should be; nothing for one that is."""

    create: bool = False
    """The interface itself is missing."""
    private_key: str | None = None
    listen_port: int | None = None
    fwmark: int | None = None
    mtu: int | None = None
    up: bool = False
    add_addresses: tuple[str, ...] = ()
    remove_addresses: tuple[str, ...] = ()
    peers: tuple[PeerChange, ...] = ()
    add_routes: tuple[str, ...] = ()
    remove_routes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self != Changes()

    def __repr__(self) -> str:
        return f"Changes({len(self.peers)} peers, +{len(self.add_addresses)} -{len(self.remove_addresses)} addresses)"

    __rich_repr__ = None  # type: ignore[assignment]


class Rule(msgspec.Struct, frozen=True):
    """What one peer may reach through the hub; the first that fits decides."""

    peer: str
    """Address of the peer inside the VPN, CIDR."""
    allow: tuple[str, ...]
    """Networks that it may reach; empty for none but the hub itself."""


class Probe(msgspec.Struct, frozen=True):
    """What a few echo requests to one address said."""

    sent: int
    received: int
    rtt_ms: float | None
    """Median; None where nothing came back."""


class Tunnel(Protocol):
    """One WireGuard interface, whatever carries it. Every method may be called at any time and again after an error.

    All raise TunnelError with what to do (no right, no WireGuard, process died); AbsentError where nothing here can carry one.
    """

    name: str
    backend: str
    """"kernel" or "wireguard-go"; empty before `ensure`."""

    async def ensure(self) -> bool:
        """Make the interface where it is missing (start wireguard-go where the kernel has no WireGuard). True: it was made."""

    async def read(self) -> ActualTunnel | None:
        """The interface as it is; None where there is none."""

    async def apply(self, changes: Changes) -> None:
        """Carry changes out, those of one kind in one message; a listening side before an initiating one."""

    async def rebind(self) -> None:
        """Open the UDP socket anew, so that a changed local address is used."""

    async def firewall(self, rules: Sequence[Rule] | None) -> bool:
        """Make the table of forwarding rules for this interface exactly these, in one transaction; None removes it.

        True: somebody else had changed it since it was made.
        """

    async def ping(self, address: str, *, size: int = 56, count: int = 3, limit: float = 1.0, whole: bool = False) -> Probe:
        """Echo requests through the tunnel; `whole`: they must not be fragmented (MTU discovery)."""

    async def remove(self) -> None:
        """Take the interface away, with its routes and rules; end what we started."""

    async def close(self) -> None:
        """Let go of sockets; the interface stays (a tunnel outlives the appliance)."""

"""What is shown of the VPN. There is no secret in any of these values."""

from __future__ import annotations

from enum import StrEnum

import msgspec

SPARK = 60
"""Points of a peer's history of traffic."""
ATTEMPTS = 8
"""Newest tries to bring a peer back that are shown."""


class PeerState(StrEnum):
    """How a peer is."""

    connected = "connected"
    """Its last handshake is younger than 180 s."""
    down = "down"
    """It was connected, and is no more."""
    never = "never"
    """It has not been connected since its keys are known here."""
    disabled = "disabled"
    expired = "expired"
    missing = "missing"
    """The tunnel does not have it: it is put there at the next reconciliation."""
    unknown = "unknown"
    """The tunnel cannot be read."""


class Attempt(msgspec.Struct, frozen=True):
    """One try to bring a peer back."""

    time: float
    """Wall clock."""
    step: str
    """"resolve", "rebind", "renew" (the peer's entry anew) or "restart" (the interface anew)."""
    outcome: str


class PeerStatus(msgspec.Struct, frozen=True):
    """One peer. None means not known."""

    name: str
    state: PeerState
    public_key: str
    addresses: tuple[str, ...]
    """Inside the VPN."""
    networks: tuple[str, ...]
    """Behind it, beside its own addresses."""
    endpoint: str = ""
    """Where it is reached now; empty where nobody knows."""
    wanted_endpoint: str = ""
    """As it was set, by name."""
    node: str = ""
    """Its name in the inventory, where it is reached over SSH."""
    enabled: bool = True
    keepalive: int = 0
    handshake_age_s: float | None = None
    rx_bytes: int | None = None
    tx_bytes: int | None = None
    rx_rate: float | None = None
    """Bytes a second."""
    tx_rate: float | None = None
    history: tuple[float, ...] = ()
    """Bytes a second both ways, oldest first."""
    latency_ms: float | None = None
    loss: float | None = None
    """Share of the last echo requests that were not answered, 0 to 1."""
    since: float = 0.0
    """Wall clock of the last change of state."""
    expires: float = 0.0
    """Wall clock; 0 for never."""
    watched: bool = True
    """An alert tells when it is down."""
    rotation: str = ""
    """Where the rotation of its keys stands; empty for none."""
    exportable: bool = False
    """Its private key is still here, for one export."""
    attempts: tuple[Attempt, ...] = ()
    """Newest last."""
    next_try: float = 0.0
    """Wall clock of the next attempt; 0 for none."""
    reason: str = ""
    next_step: str = ""


class ProviderPeer(msgspec.Struct, frozen=True):
    """A peer of another VPN product."""

    name: str
    address: str
    connected: bool
    how: str = ""
    """"direct", "relayed", or empty where it does not say."""
    latency_ms: float | None = None
    handshake: float = 0.0
    """Wall clock; 0 where there was none."""


class ProviderStatus(msgspec.Struct, frozen=True):
    """Another VPN product on this machine, as it says itself."""

    name: str
    state: str
    """"running", "stopped", "needs login", or why it cannot be read."""
    address: str = ""
    version: str = ""
    total_peers: int | None = None
    connected_peers: int | None = None
    peers: tuple[ProviderPeer, ...] = ()
    problems: tuple[str, ...] = ()


class VpnStatus(msgspec.Struct, frozen=True):
    """The VPN as a whole; the first five fields are those of /api/vpn/status."""

    interface: str
    is_active: bool
    total_peers: int
    connected_peers: int
    peers: tuple[PeerStatus, ...]
    backend: str = ""
    """"kernel" or "wireguard-go"."""
    public_key: str = ""
    listen_port: int | None = None
    addresses: tuple[str, ...] = ()
    mtu: int | None = None
    subnets: tuple[str, ...] = ()
    endpoint: str = ""
    """Where peers reach this hub, as exported files have it."""
    reconciled: float = 0.0
    """Wall clock of the last time that the tunnel was found or made as it should be."""
    reconciliations: int = 0
    changes: int = 0
    """Changes that were made to the tunnel since the start."""
    foreign: tuple[str, ...] = ()
    """What others had changed, and was put right; newest last."""
    problems: tuple[str, ...] = ()
    next_step: str = ""
    providers: tuple[ProviderStatus, ...] = ()
    enabled: bool = True
    """No: none is configured; nothing is down."""


class Finding(msgspec.Struct, frozen=True):
    """A possible cause of a peer being down."""

    cause: str
    """Its short name, such as "key-mismatch"."""
    likelihood: float
    """0 to 1; how far the evidence speaks for it."""
    what: str
    evidence: tuple[str, ...]
    fix: str


class Explanation(msgspec.Struct, frozen=True):
    """Why a peer is down: the most likely cause first."""

    peer: str
    state: PeerState
    findings: tuple[Finding, ...]
    looked_at: tuple[str, ...]
    """What was examined and is well, or could not be examined."""

"""How one peer is, from what the tunnel says of it from time to time."""

from __future__ import annotations

from collections import deque

from appliance.core.ports import Clock
from appliance.core.vpn.ladder import Ladder
from appliance.core.vpn.model import HANDSHAKE_FRESH, ActualPeer, Endpoint, Probe
from appliance.core.vpn.peers import Entry, Peer
from appliance.core.vpn.status import SPARK, PeerState, PeerStatus

ECHOES = 20
"""Newest echo requests from which the loss is told."""
SILENT = 20.0
"""Seconds in which we send and nothing comes back, after which a peer is suspected to be gone."""


class Gauge:
    """Follows one peer.

    Args:
        clock: The monotonic one counts ages: a wall clock that jumps makes no peer go down.
        ladder: Its tries to come back.
    """

    def __init__(self, clock: Clock, ladder: Ladder) -> None:
        self.ladder = ladder
        self.state = PeerState.unknown
        self.since = clock.wall()
        self._clock = clock
        self._key = ""
        self._handshake = 0.0
        self._shaken: float | None = None
        """Monotonic time of the last handshake."""
        self._at: float | None = None
        """Monotonic time of the reading before."""
        self._rx = self._tx = 0
        self._heard: float | None = None
        """Monotonic time from which on we have sent and heard nothing; None while nothing is owed."""
        self.rx_rate: float | None = None
        self.tx_rate: float | None = None
        self.endpoint: Endpoint | None = None
        self._history: deque[float] = deque(maxlen=SPARK)
        self._echoes: deque[bool] = deque(maxlen=ECHOES)
        self._latency: float | None = None

    # -- readings ------------------------------------------------------------------------------------------------------

    def read(self, peer: Peer, actual: ActualPeer | None, *, readable: bool) -> PeerState:
        """Take a reading; returns the state of before.

        Args:
            peer: As it is set.
            actual: As the tunnel has it; None where it does not.
            readable: The tunnel could be read.
        """
        now, before = self._clock.monotonic(), self.state
        if peer.public_key != self._key:
            self._begin(peer.public_key)
        if actual is not None:
            self._traffic(actual, now)
            self._shake(actual.handshake, now)
            self.endpoint = actual.endpoint
        elif readable:
            self._begin(peer.public_key)
        if readable:
            self._at = now
        self._become(self._judge(peer, actual, readable=readable))
        return before

    def _begin(self, key: str) -> None:
        """A peer with other keys, or one that the tunnel forgot, begins from nothing."""
        self._key, self._handshake, self._shaken, self._at, self._heard = key, 0.0, None, None, None
        self._rx = self._tx = 0
        self.rx_rate = self.tx_rate = self.endpoint = None
        self._echoes.clear()
        self._latency = None

    def _traffic(self, actual: ActualPeer, now: float) -> None:
        rx, tx = actual.rx_bytes - self._rx, actual.tx_bytes - self._tx
        if self._at is not None and now > self._at and rx >= 0 and tx >= 0:
            self.rx_rate, self.tx_rate = rx / (now - self._at), tx / (now - self._at)
            self._history.append(self.rx_rate + self.tx_rate)
        if rx:
            self._heard = None
        elif tx and self._heard is None:
            self._heard = now
        self._rx, self._tx = actual.rx_bytes, actual.tx_bytes

    def _shake(self, handshake: float, now: float) -> None:
        if not handshake or handshake == self._handshake:
            return
        age = max(0.0, self._clock.wall() - handshake)
        if self._at is not None:  # it was since the reading before, whatever the wall clock did meanwhile
            age = min(age, now - self._at)
        self._handshake, self._shaken = handshake, now - age

    def _judge(self, peer: Peer, actual: ActualPeer | None, *, readable: bool) -> PeerState:
        if not peer.active:
            return PeerState.expired if peer.expired else PeerState.disabled
        if not readable:
            return PeerState.unknown
        if actual is None:
            return PeerState.missing
        age = self.age
        if age is not None and age < HANDSHAKE_FRESH:
            return PeerState.connected
        return PeerState.down if age is not None or peer.connected else PeerState.never

    def _become(self, state: PeerState) -> None:
        if state is not self.state:
            self.state, self.since = state, self._clock.wall()
        if state is PeerState.connected:
            if not self.suspect:
                self.ladder.reset()
        elif state is not PeerState.unknown:
            self._latency = None

    def echoed(self, probe: Probe) -> None:
        """Take the outcome of echo requests."""
        self._echoes.extend([True] * probe.received + [False] * max(0, probe.sent - probe.received))
        self._latency = probe.rtt_ms

    # -- what they come to ---------------------------------------------------------------------------------------------

    @property
    def age(self) -> float | None:
        """Seconds since the last handshake; None where there was none."""
        return None if self._shaken is None else max(0.0, self._clock.monotonic() - self._shaken)

    @property
    def silent(self) -> float | None:
        """Seconds in which we have sent and heard nothing; None where nothing is owed."""
        return None if self._heard is None else self._clock.monotonic() - self._heard

    @property
    def suspect(self) -> bool:
        """We have sent for a while, and nothing came back."""
        return self.silent is not None and self.silent >= SILENT

    @property
    def bytes(self) -> tuple[int, int] | None:
        """(received, sent) since the tunnel has the peer; None where that is not known."""
        return None if self._at is None else (self._rx, self._tx)

    def status(self, entry: Entry, *, exportable: bool, trouble: tuple[str, str] = ("", "")) -> PeerStatus:
        """All that is shown of it."""
        peer, counted = entry.peer, self.bytes
        live = self.state in {PeerState.connected, PeerState.down, PeerState.never}
        reason, step = trouble if trouble[0] else told(peer, self, exportable=exportable)
        return PeerStatus(
            name=peer.name, state=self.state, public_key=peer.public_key, addresses=peer.addresses, networks=peer.networks,
            endpoint=_written(self.endpoint) if live else "", wanted_endpoint=peer.endpoint, node=peer.node,
            enabled=peer.enabled, keepalive=peer.keepalive, handshake_age_s=self.age if live else None,
            rx_bytes=counted[0] if counted and live else None, tx_bytes=counted[1] if counted and live else None,
            rx_rate=self.rx_rate if live else None, tx_rate=self.tx_rate if live else None, history=tuple(self._history),
            latency_ms=self._latency, loss=self._loss(), since=self.since, expires=peer.expires, watched=peer.watched,
            rotation=_rotation(entry), exportable=exportable, attempts=self.ladder.attempts, next_try=self.ladder.next_wall,
            reason=reason, next_step=step,
        )  # fmt: skip

    def _loss(self) -> float | None:
        return None if not self._echoes else 1.0 - sum(self._echoes) / len(self._echoes)


def _written(endpoint: Endpoint | None) -> str:
    if endpoint is None:
        return ""
    return f"[{endpoint.address}]:{endpoint.port}" if ":" in endpoint.address else f"{endpoint.address}:{endpoint.port}"


def _rotation(entry: Entry) -> str:
    rotation = entry.rotation
    if rotation is None:
        return ""
    return rotation.problem or ("the node was told to change over" if rotation.told else "waits for the new keys to be used")


def told(peer: Peer, gauge: Gauge, *, exportable: bool = False) -> tuple[str, str]:
    """Why a peer is not connected, and what to do, as far as it is plain; `explain` says more."""
    explain = f"prime-spark vpn explain {peer.name}"
    if gauge.state is PeerState.disabled:
        return "it is switched off", f"prime-spark vpn peer enable {peer.name}"
    if gauge.state is PeerState.expired:
        return "its time is over", f"prime-spark vpn peer enable {peer.name} --expires 30d"
    if gauge.state is PeerState.missing:
        return "the tunnel does not have it yet", "prime-spark vpn reconcile"
    if gauge.state is PeerState.never:
        bring = f"prime-spark vpn peer export {peer.name} --qr (or --output FILE), and bring it there"
        return "no handshake yet", bring if exportable else explain
    if gauge.state is PeerState.down:
        return "no handshake for three minutes", explain
    return "", ""

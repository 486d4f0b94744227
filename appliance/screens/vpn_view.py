"""The VPN as rows and lines: how every peer is, what is known of one, why it is down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from appliance.core.vpn.status import PeerState, PeerStatus, ProviderStatus, VpnStatus
from appliance.screens import format as f
from appliance.screens.glyphs import Glyphs
from appliance.screens.themes import Role
from appliance.screens.widgets.charts import sparkline
from appliance.screens.widgets.grid import Cell, Column, Row
from appliance.screens.widgets.lines import Line, Piece

PEERS = (
    Column("peer", 16), Column("state", 11), Column("address", 15), Column("handshake", 9, "right"), Column("in", 10, "right"),
    Column("out", 10, "right"), Column("ms", 5, "right", 108), Column("lost", 5, "right", 108),
    Column("traffic", 20, least=130), Column("endpoint", 22, least=150), Column("note", least=96),
)  # fmt: skip
WIDTH = 20
"""Cells of the sparkline."""
LEAD = 10
AGED = frozenset({PeerState.connected, PeerState.down})
"""States in which the handshake's age goes on between two readings."""


def badge(state: PeerState, glyphs: Glyphs) -> Piece:
    """A state as sign and word."""
    signs: dict[PeerState, tuple[str, Role]] = {
        PeerState.connected: (glyphs.ok, "ok"), PeerState.down: (glyphs.bad, "bad"), PeerState.missing: (glyphs.bad, "bad"),
        PeerState.never: (glyphs.warn, "warn"), PeerState.expired: (glyphs.warn, "muted"),
        PeerState.disabled: (glyphs.none, "muted"), PeerState.unknown: (glyphs.none, "muted"),
    }  # fmt: skip
    sign, role = signs[state]
    return f"{sign} {state.value}", role


def head_lines(status: VpnStatus | None) -> list[Line]:
    """The tunnel itself, and what is wrong with it."""
    if status is None:
        return [((" not read yet", "muted"),)]
    up: Piece = ("up", "ok") if status.is_active else ("down", "bad") if status.enabled else ("off", "muted")
    told = f"   {status.connected_peers} of {status.total_peers} connected"
    facts = [status.backend, *status.addresses, f"port {status.listen_port}" if status.listen_port else "", status.endpoint]
    lines: list[Line] = [
        ((f" {status.interface} ", "title"), up, (told, "text"), (f"   {'  '.join(filter(None, facts))}", "muted"))
    ]
    lines += [((f" {problem}", "bad"),) for problem in status.problems[:2]]
    if status.next_step:
        lines.append(((" Next: ", "accent"), (status.next_step, "text")))
    lines += [((" others changed it: ", "warn"), (each, "text")) for each in status.foreign[-1:]]
    return [*lines, *(provider_line(each) for each in status.providers)]


def provider_line(provider: ProviderStatus) -> Line:
    """Another product in one line."""
    count = "" if provider.total_peers is None else f", {provider.connected_peers} of {provider.total_peers} connected"
    running = provider.state == "running"
    state: Piece = (provider.state, "ok" if running else "warn")
    return ((f" {provider.name} ", "title"), state, (f" {provider.address}{count}", "text"))


def peer_rows(peers: Sequence[PeerStatus], put_s: float | None, glyphs: Glyphs) -> list[Row]:
    """A row a peer: those that are down first, else by name."""
    order = {PeerState.down: 0, PeerState.missing: 0, PeerState.never: 1, PeerState.unknown: 1, PeerState.connected: 2}
    ordered = sorted(peers, key=lambda peer: (order.get(peer.state, 3), peer.name))
    return [Row(peer.name, _cells(peer, put_s, glyphs)) for peer in ordered]


def _cells(peer: PeerStatus, put_s: float | None, glyphs: Glyphs) -> tuple[Cell, ...]:
    here = peer.state is PeerState.connected
    return (
        peer.name,
        badge(peer.state, glyphs),
        (", ".join(each.partition("/")[0] for each in peer.addresses), "muted"),
        (handshake(peer, put_s), "text" if here else "muted"),
        (f.rate(peer.rx_rate), "accent" if here else "muted"),
        (f.rate(peer.tx_rate), "accent" if here else "muted"),
        f.ms(peer.latency_ms),
        (loss(peer), "warn" if peer.loss else "muted"),
        (spark(peer, glyphs), "accent"),
        (peer.endpoint or f.NONE, "muted"),
        note(peer),
    )


def handshake(peer: PeerStatus, put_s: float | None) -> str:
    """How long ago the last one was, now.

    Args:
        peer: As it was put.
        put_s: Seconds since then.
    """
    if peer.handshake_age_s is None:
        return f.NONE
    return f.duration(peer.handshake_age_s + ((put_s or 0.0) if peer.state in AGED else 0.0))


def loss(peer: PeerStatus) -> str:
    """Echo requests that were not answered."""
    return f.percent(None if peer.loss is None else 100 * peer.loss)


def spark(peer: PeerStatus, glyphs: Glyphs) -> str:
    """Traffic of the last minutes, against its own highest point."""
    values = peer.history[-WIDTH:]
    if not values:
        return ""
    return sparkline([value or None for value in values], 0.0, max(1.0, *values), glyphs).rjust(WIDTH)


def note(peer: PeerStatus) -> Cell:
    """What has to be said of a peer, in a few words."""
    if peer.rotation:
        return (f"new keys: {peer.rotation}", "warn")
    if peer.state is PeerState.connected:
        return (peer.reason, "warn") if peer.reason else (f.NONE, "muted")
    return (peer.reason or f.NONE, "muted" if peer.state in {PeerState.disabled, PeerState.expired} else "warn")


def trouble(peer: PeerStatus) -> list[Piece]:
    """Why a peer is not connected, and what to do; nothing where all is well."""
    pieces: list[Piece] = []
    if peer.reason:
        pieces.append((f" {peer.name}: {peer.reason}.", "warn"))
    if peer.next_step:
        pieces.append((f" Next: {peer.next_step}", "accent"))
    if peer.next_try:
        pieces.append((f" Tried again at {f.clock(peer.next_try)}", "muted"))
    return pieces


def _line(name: str, text: str, role: Role = "text") -> Line:
    return ((f" {name:<{LEAD}}", "muted"), (text, role))


def fact_lines(peer: PeerStatus, put_s: float | None, glyphs: Glyphs) -> list[Line]:
    """What is known of a peer."""
    sign, role = badge(peer.state, glyphs)
    counted = f.NONE if peer.rx_bytes is None else f"{f.size(peer.rx_bytes)} in, {f.size(peer.tx_bytes)} out"
    lines = [
        _line("state", f"{sign} for {f.since(peer.since)}", role),
        _line("handshake", f"{handshake(peer, put_s)} ago" if peer.handshake_age_s is not None else "never"),
        _line("traffic", counted),
        _line("now", f"{f.rate(peer.rx_rate)} in, {f.rate(peer.tx_rate)} out", "accent"),
        _line("echo", f"{f.milliseconds(peer.latency_ms)}, {loss(peer)} lost"),
        _line("", spark(peer, glyphs), "accent"),
        _line("endpoint", peer.endpoint or f.NONE, "accent"),
        _line("addresses", ", ".join(peer.addresses)),
        _line("key", peer.public_key, "muted"),
    ]
    more = {
        "name is": peer.wanted_endpoint, "behind it": ", ".join(peer.networks), "node": peer.node,
        "expires": f.clock(peer.expires) if peer.expires else "", "keys": peer.rotation,
        "file": "e shows it, once" if peer.exportable else "", "keepalive": f"{peer.keepalive} s" if peer.keepalive else "none",
        "alert": "" if peer.watched else "none",
    }  # fmt: skip
    return [*lines, *(_line(name, text) for name, text in more.items() if text)]


def attempt_lines(peer: PeerStatus) -> list[Line]:
    """What was tried to bring a peer back, newest first."""
    lines: list[Line] = [
        ((f" {f.clock(each.time)} ", "muted"), (f"{each.step} ", "accent"), (each.outcome, "text"))
        for each in reversed(peer.attempts)
    ]
    return lines or [((" nothing had to be tried", "muted"),)]


def explained(answer: Mapping[str, Any]) -> list[Line]:
    """Why a peer is down, to be read."""
    lines: list[Line] = []
    for number, finding in enumerate(answer["findings"], 1):
        share = f"{100 * finding['likelihood']:.0f} %"
        lines.append(((f"{number}. ", "muted"), (finding["what"], "title" if number == 1 else "text")))
        lines.append((("   ", "muted"), (f"{finding['cause']}, {share}", "muted")))
        lines += [(("   seen  ", "muted"), (each, "text")) for each in finding["evidence"]]
        if finding["fix"]:
            lines.append((("   do    ", "accent"), (finding["fix"], "text")))
        lines.append(())
    return [*lines, *(((("looked at ", "muted"), (each, "muted"))) for each in answer["looked_at"])]


def exported(answer: Mapping[str, Any], code: Sequence[str], fits: str) -> list[Line]:
    """A peer's file, and the code where there is room for it."""
    lines: list[Line] = [
        (
            ("This is shown once: the private key is forgotten here now. ", "warn"),
            ("Copy it." if fits else "Copy it, or let a camera read the code.", "text"),
        ),
        (),
        *(((line, "text"),) for line in answer["text"].splitlines()),
        (),
    ]
    if fits:
        return [*lines, ((fits, "muted"),)]
    return [*(((line, "text"),) for line in code), (), *lines]

"""Why a peer is down: from evidence to causes, the most likely one first. Pure: gathering is in evidence.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from appliance.core.vpn.keys import short
from appliance.core.vpn.peers import Peer
from appliance.core.vpn.status import Finding

BACK = 1.0
"""Seconds by which a clock must have gone back to be taken for a cause."""


class Theirs(msgspec.Struct, frozen=True):
    """What the other side sees, over SSH."""

    reached: bool = False
    """It answered over SSH."""
    interface: bool = False
    """It has its interface."""
    public_key: str = ""
    port: int = 0
    knows: tuple[str, ...] = ()
    """Public keys of its peers."""
    endpoint: str = ""
    """Where it looks for us."""
    allowed: tuple[str, ...] = ()
    """Networks that it sends to us."""
    handshake: float = 0.0
    rx_bytes: int = 0
    tx_bytes: int = 0
    clock_ahead_s: float | None = None
    """Its wall clock less ours."""
    error: str = ""


class Evidence(msgspec.Struct, frozen=True):
    """What is known of a peer that is down. None: not known, or not looked at."""

    peer: Peer
    own_key: str
    """The hub's public key."""
    port: int
    """Of the hub."""
    configured: bool = True
    """The settings want a VPN."""
    interface: bool | None = None
    """The interface is there."""
    up: bool | None = None
    process_dead: bool | None = None
    """wireguard-go ended, and left its interface or socket."""
    in_tunnel: bool | None = None
    """The tunnel has the peer."""
    handshake_age_s: float | None = None
    ever: bool = False
    """There was a handshake with these keys once."""
    received: int = 0
    """Bytes since the tunnel has it: only what was taken for the peer's own is counted."""
    rx_grew: int | None = None
    """Bytes while it was watched."""
    tx_grew: int | None = None
    watched_s: float = 0.0
    endpoint: str = ""
    """Where it is looked for now; empty where nobody knows."""
    resolve_error: str = ""
    resolved: tuple[str, ...] = ()
    """What its name means now."""
    route: str = ""
    """Empty: there is one; else why not."""
    port_refused: bool | None = None
    """An ICMP "port unreachable" came from there."""
    prohibited: bool | None = None
    """An ICMP "administratively prohibited" came, or our own firewall refused to send."""
    host_unreachable: bool | None = None
    overlaps: tuple[str, ...] = ()
    """Peers that have some of its networks, each in words."""
    allowed_there: tuple[str, ...] | None = None
    """Networks that the tunnel has for it."""
    small: tuple[int, int] | None = None
    """Echo requests through the tunnel, sent and answered."""
    large: tuple[int, int] | None = None
    """The same as large as the tunnel takes, unbroken."""
    silent_s: float | None = None
    """Seconds since anything came from a peer that we sent to; None where nothing is owed."""
    passing: int | None = None
    """The largest that passed, bytes of a whole packet; None where none was looked for."""
    mtu: int | None = None
    forwarding: bool | None = None
    """This machine forwards packets."""
    forwards: bool = False
    """Something of the peer's needs it to."""
    input_dropped: str = ""
    """A rule of this machine's firewall that drops what comes to the port; empty where none was found."""
    clock_stepped_s: float | None = None
    """By how much this machine's clock went back since the handshake."""
    theirs: Theirs = Theirs()
    rotating: bool = False


Check = Callable[[Evidence], Iterator[Finding]]


def explain(evidence: Evidence) -> tuple[Finding, ...]:
    """Causes, the most likely first; one that says so where the evidence speaks for none."""
    found = [finding for check in CHECKS for finding in check(evidence)]
    found.sort(key=lambda finding: -finding.likelihood)
    return tuple(found) or (_nothing(evidence),)


def _nothing(seen: Evidence) -> Finding:
    if seen.handshake_age_s is not None and seen.handshake_age_s < 180:
        if seen.small is not None and not seen.small[1] and not seen.rx_grew:
            return _mute(seen)
        return Finding(
            "none", 1.0, f"{seen.peer.name} is connected.", (f"last handshake {seen.handshake_age_s:.0f} s ago",), ""
        )
    return Finding(
        "unknown", 0.1, "Nothing that was looked at speaks for a cause.", (f"watched for {seen.watched_s:.0f} s",),
        "look at the other side: is its tunnel up, has it this hub's public key, does it reach the hub's port?",
    )  # fmt: skip


def _mute(seen: Evidence) -> Finding:
    """Connected by the age of its last handshake, and nothing comes from it now."""
    sent = seen.small[0] if seen.small is not None else 0
    told = f" for {seen.silent_s:.0f} s" if seen.silent_s is not None else ""
    return Finding(
        "silent", 0.8, f"{seen.peer.name} has said nothing{told}, and answers no echo request: it counts as connected only "
        "because its last handshake is younger than 180 s.",
        (f"last handshake {seen.handshake_age_s:.0f} s ago", f"none of {sent} echo requests was answered, and no byte came"),
        "is that machine on, and has it its network? A machine that sleeps, or whose firewall drops echo requests and that is "
        "idle, looks the same; it is called down three minutes after its last handshake.",
    )  # fmt: skip


def _down(seen: Evidence) -> bool:
    return seen.handshake_age_s is None or seen.handshake_age_s >= 180


def off(seen: Evidence) -> Iterator[Finding]:
    """Switched off here, or over."""
    peer = seen.peer
    if peer.expired:
        yield Finding("expired", 1.0, f"The time of {peer.name} is over.", (f"it ended at {peer.expires:.0f}",),
                      f"prime-spark vpn peer enable {peer.name} --expires 30d")  # fmt: skip
    elif not peer.enabled:
        yield Finding(
            "disabled", 1.0, f"{peer.name} is switched off here.", ("enabled: no",), f"prime-spark vpn peer enable {peer.name}"
        )


def machinery(seen: Evidence) -> Iterator[Finding]:
    """This end's own parts."""
    again = "prime-spark vpn reconcile"
    if not seen.configured:
        step = "prime-spark config set vpn.enabled true, then start the appliance again."
        yield Finding("off", 1.0, "The VPN of this hub is switched off.", ("vpn.enabled is false",), step)
    elif seen.process_dead:
        yield Finding(
            "process-dead", 0.99, "The WireGuard process of this hub is dead.", ("its socket does not answer",), again
        )
    elif seen.interface is False:
        yield Finding(
            "interface-missing", 0.98, "This hub's interface is not there.", ("the system knows no such interface",), again
        )
    elif seen.up is False:
        yield Finding("interface-down", 0.97, "This hub's interface is down.", ("it was set down by hand",), again)
    elif seen.in_tunnel is False and seen.peer.active:
        yield Finding(
            "missing", 0.96, f"The tunnel does not have {seen.peer.name}.", ("it is not among the tunnel's peers",), again
        )


def names(seen: Evidence) -> Iterator[Finding]:
    """The endpoint's name."""
    if seen.resolve_error:
        yield Finding("unresolved", 0.95, "The endpoint's name has no address.", (seen.resolve_error,),
                      "check the name, and this machine's name server.")  # fmt: skip
    elif seen.resolved and seen.endpoint and seen.endpoint not in seen.resolved and _down(seen):
        yield Finding(
            "moved", 0.9, "The endpoint's name means another address by now.",
            (f"the tunnel looks for it at {seen.endpoint}", f"the name means {', '.join(seen.resolved)}"),
            "prime-spark vpn reconcile; it is looked up again by itself, too.",
        )  # fmt: skip


def reach(seen: Evidence) -> Iterator[Finding]:
    """The way there."""
    if not _down(seen):
        return
    if seen.route:
        yield Finding("no-route", 0.94, f"There is no way from here to {seen.endpoint}.", (seen.route,),
                      "check this machine's network: address, gateway, cable.")  # fmt: skip
    if seen.prohibited:
        yield Finding(
            "firewall", 0.93, f"A firewall refuses packets to {seen.endpoint}.",
            ('ICMP "administratively prohibited", or this machine itself refused to send',),
            "let UDP to that port pass, there and on this machine (nft list ruleset).",
        )  # fmt: skip
    if seen.port_refused:
        yield Finding(
            "port-closed", 0.92, f"Nobody listens at {seen.endpoint}.", ('ICMP "port unreachable" came from there',),
            "bring the tunnel up on the other side, or correct the port of the endpoint.",
        )  # fmt: skip
    if seen.host_unreachable:
        told = ('ICMP "host unreachable", or no answer to ARP',)
        yield Finding(
            "unreachable", 0.91, f"{seen.endpoint} is not reached.", told, "is that machine on, and is this its address?"
        )


def keys(seen: Evidence) -> Iterator[Finding]:
    """Keys that do not fit each other."""
    theirs, peer = seen.theirs, seen.peer
    if theirs.interface and theirs.public_key and theirs.public_key != peer.public_key and not seen.rotating:
        yield Finding(
            "key-mismatch", 0.97, f"{peer.name} has other keys than this hub knows of it.",
            (f"it has {short(theirs.public_key)}", f"here it is known as {short(peer.public_key)}"),
            f"prime-spark vpn peer provision {peer.name} --replace yes",
        )  # fmt: skip
    elif theirs.interface and seen.own_key not in theirs.knows:
        yield Finding(
            "key-mismatch", 0.97, f"{peer.name} does not know this hub's public key.",
            (f"this hub is {short(seen.own_key)}", f"it knows {', '.join(map(short, theirs.knows)) or 'no peer'}"),
            f"prime-spark vpn peer provision {peer.name} --replace yes",
        )  # fmt: skip
    elif _down(seen) and (seen.rx_grew or (seen.received and seen.handshake_age_s is None)):
        yield Finding(
            "preshared-mismatch",
            0.75,
            "Its calls arrive, and our answers are not taken: the pre-shared keys differ, or the answers are lost.",
            (f"{seen.received} bytes came that were taken for its own, and no handshake was made",), _again(peer),
        )  # fmt: skip
    elif _silent(seen) and not (seen.port_refused or seen.host_unreachable or seen.prohibited or seen.route):
        yield _unanswered(seen)


def _unanswered(seen: Evidence) -> Finding:
    told = (f"{seen.tx_grew} bytes sent and {seen.rx_grew} received in {seen.watched_s:.0f} s", "no ICMP error came")
    if seen.theirs.interface and seen.own_key in seen.theirs.knows:
        what = "Both sides know each other's public keys: either the pre-shared keys differ, or packets vanish on the way."
        return Finding("preshared-mismatch", 0.7, what, told, _again(seen.peer))
    what = "Our calls go out and nothing comes back: the keys of the two sides do not fit, or packets vanish."
    return Finding("key-mismatch", 0.35 if seen.ever else 0.6, what, told, _again(seen.peer))


def _again(peer: Peer) -> str:
    return f"compare the keys; or make new ones for both sides: `prime-spark vpn peer rotate {peer.name}`."


def _silent(seen: Evidence) -> bool:
    """We send, and nothing that counts comes back."""
    return _down(seen) and bool(seen.tx_grew) and not seen.rx_grew and bool(seen.endpoint)


def clocks(seen: Evidence) -> Iterator[Finding]:
    """WireGuard refuses a handshake whose time stamp is not later than the last one's (TAI64N)."""
    if not _down(seen):
        return
    ahead = seen.theirs.clock_ahead_s
    if ahead is not None and ahead < -60 and seen.ever:
        yield Finding(
            "clock", 0.9, f"The clock of {seen.peer.name} went back: its handshakes look like old ones that are replayed.",
            (f"it is {-ahead:.0f} s behind this machine's",),
            "set its clock (timedatectl set-ntp true); or let this hub forget: `prime-spark vpn peer disable` and `enable` it.",
        )  # fmt: skip
    if seen.clock_stepped_s is not None and seen.clock_stepped_s > BACK:
        yield Finding(
            "clock", 0.7, "This machine's clock went back: the other side takes its handshakes for old ones that are replayed.",
            (f"by {seen.clock_stepped_s:.0f} s since the last handshake",),
            "set the clock (timedatectl set-ntp true), or have the other side renew this peer.",
        )  # fmt: skip


def networks(seen: Evidence) -> Iterator[Finding]:
    """Whose packets are whose."""
    for overlap in seen.overlaps:
        yield Finding("overlap", 0.88, "Another peer has some of its networks, and gets its packets.", (overlap,),
                      "give each network to one peer: `prime-spark vpn peer change NAME --networks …`.")  # fmt: skip
    lacking = [each for each in seen.peer.allowed if seen.allowed_there is not None and each not in seen.allowed_there]
    if lacking and seen.in_tunnel and not seen.rotating:
        told = (f"missing: {', '.join(lacking[:4])}",)
        yield Finding("overlap", 0.87, "The tunnel has not given it all of its networks.", told, "prime-spark vpn reconcile")
    theirs = seen.theirs
    if not _down(seen) and theirs.interface and seen.own_key in theirs.knows and not theirs.allowed:
        fix = f"prime-spark vpn peer provision {seen.peer.name} --replace yes"
        yield Finding("their-networks", 0.85, f"{seen.peer.name} sends nothing here.", ("its AllowedIPs are empty",), fix)


def sizes(seen: Evidence) -> Iterator[Finding]:
    """Small packets pass, large ones vanish."""
    if seen.small is None or seen.large is None or not seen.small[1] or seen.large[1]:
        return
    fits = seen.passing
    told = f"; the largest that passed had {fits}" if fits else ""
    yield Finding(
        "mtu", 0.95, "Large packets vanish on the way: the tunnel's MTU is larger than the path takes.",
        (
            f"{seen.small[1]} of {seen.small[0]} small echo requests were answered",
            f"none of {seen.large[0]} with {seen.mtu} bytes was{told}",
        ),
        f"prime-spark config set vpn.mtu {max(1280, fits or 1280)}, and the same in the peer's own file.",
    )  # fmt: skip


def firewalls(seen: Evidence) -> Iterator[Finding]:
    """This machine's own rules."""
    if seen.input_dropped and _down(seen):
        yield Finding("firewall", 0.9, f"This machine's firewall drops what comes to UDP {seen.port}.", (seen.input_dropped,),
                      f"nft add rule … udp dport {seen.port} accept, before that rule.")  # fmt: skip
    if seen.forwarding is False and seen.forwards:
        yield Finding(
            "forwarding", 0.5 if _down(seen) else 0.85,
            "This machine does not forward packets, so peers reach nothing behind it.",
            ("net.ipv4.ip_forward is 0",), "sudo sysctl -w net.ipv4.ip_forward=1, and into /etc/sysctl.d to keep it.",
        )  # fmt: skip


def nat(seen: Evidence) -> Iterator[Finding]:
    """A router between forgets the way back."""
    peer = seen.peer
    if _down(seen) and seen.ever and not peer.endpoint and not peer.keepalive:
        yield Finding(
            "nat", 0.75, f"{peer.name} finds us through a router that forgets it: without keepalive its way back is closed.",
            ("no keepalive, and no endpoint is set: only it can begin", f"last known at {seen.endpoint or 'nowhere'}"),
            f"prime-spark vpn peer change {peer.name} --keepalive 25, and the same in its own file.",
        )  # fmt: skip


def there(seen: Evidence) -> Iterator[Finding]:
    """What the other side says."""
    theirs, peer = seen.theirs, seen.peer
    if theirs.reached and not theirs.interface:
        yield Finding("their-interface", 0.96, f"The tunnel of {peer.name} is not up there.", ("it has no such interface",),
                      f"bring it up there, or `prime-spark vpn peer provision {peer.name}`.")  # fmt: skip
    elif theirs.interface and not theirs.endpoint and not seen.endpoint:
        yield Finding("no-endpoint", 0.9, "Neither side knows where the other one is.", ("no endpoint here, and none there",),
                      "set vpn.endpoint, and provision the peer again; or give the peer an endpoint.")  # fmt: skip


def vanishing(seen: Evidence) -> Iterator[Finding]:
    """It was there with these very keys, and now nothing comes back from where it was."""
    told = seen.port_refused or seen.host_unreachable or seen.prohibited or seen.route or seen.resolve_error
    if _silent(seen) and seen.ever and not told:
        yield Finding(
            "vanished", 0.5, f"{seen.peer.name} was here with these keys, and nothing comes back from {seen.endpoint} now.",
            (f"{seen.tx_grew} bytes sent in {seen.watched_s:.0f} s, none received",),
            "is that machine on, and is it still there? It may have moved, or a firewall drops what we send.",
        )  # fmt: skip


def waiting(seen: Evidence) -> Iterator[Finding]:
    """Nobody has come yet, and we cannot go."""
    if _down(seen) and not seen.ever and not seen.endpoint and not seen.resolve_error and seen.in_tunnel:
        yield Finding(
            "never-came", 0.55, f"{seen.peer.name} has never come, and this hub does not know where to look for it.",
            ("no endpoint is set, and no packet with its keys arrived",),
            f"bring its file there (`prime-spark vpn peer export {seen.peer.name}`) and its tunnel up; "
            f"see to it that UDP {seen.port} reaches this hub.",
        )  # fmt: skip


CHECKS: tuple[Check, ...] = (
    off,
    machinery,
    names,
    reach,
    keys,
    clocks,
    networks,
    sizes,
    firewalls,
    nat,
    there,
    vanishing,
    waiting,
)
"""Every check there is; each one looks at one kind of cause."""

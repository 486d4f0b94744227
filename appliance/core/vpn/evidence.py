"""Gathers what speaks for or against causes of a peer being down. Bounded: it takes some seconds, as handshakes do."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from appliance.core.ports import Clock
from appliance.core.vpn import names, roundabout
from appliance.core.vpn.explain import Evidence, Theirs, explain
from appliance.core.vpn.keeper import Keeper
from appliance.core.vpn.keys import public_of
from appliance.core.vpn.model import HANDSHAKE_FRESH, ActualPeer, ActualTunnel, Tunnel
from appliance.core.vpn.nodes import Nodes
from appliance.core.vpn.pathmtu import ECHO_HEADERS, path_mtu
from appliance.core.vpn.peers import Entry, Peer
from appliance.core.vpn.service import VpnService
from appliance.core.vpn.status import Explanation, PeerState
from appliance.errors import ApplianceError, NotFoundError, TunnelError

WATCH = 7.0
"""Seconds for which a silent peer is watched: a handshake is tried every 5."""
LEAST = 1280
"""Bytes: every path of IPv6 takes as much."""
OTHER = 10.0
"""Seconds for the other side's view."""

Within = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs what blocks, where the tunnel's network is."""


class Examiner:
    """Looks into one peer.

    Args:
        service: The VPN.
        nodes: The other sides.
        within: Runs what blocks.
        watch: Seconds for which a silent peer is watched.
    """

    def __init__(self, service: VpnService, nodes: Nodes, within: Within = asyncio.to_thread, watch: float = WATCH) -> None:
        self._service = service
        self._nodes = nodes
        self._within = within
        self._watch = watch

    async def explain(self, name: str) -> Explanation:
        """Why a peer is down, the most likely cause first. Raises NotFoundError, StoreError."""
        entry = await self._service.book.one(name)
        evidence = await self.gather(entry)
        state = next((peer.state for peer in self._service.status().peers if peer.name == name), PeerState.unknown)
        if evidence.interface is False or evidence.process_dead:
            state = PeerState.unknown  # what was shown last is not so any more
        return Explanation(name, state, explain(evidence), tuple(looked_at(evidence)))

    async def gather(self, entry: Entry) -> Evidence:
        """All that can be learnt of a peer now. Raises StoreError."""
        book, hub = self._service.book, self._service.hub
        seen = Evidence(
            entry.peer, public_of(await book.own_key()), hub.port, ever=entry.peer.connected, mtu=hub.mtu,
            rotating=entry.rotation is not None, overlaps=overlaps(entry.peer, list((await book.all()).values())),
        )  # fmt: skip
        keeper = self._service.keeper
        if not entry.peer.active:
            return seen
        if keeper is None:
            return msgspec.structs.replace(seen, configured=self._service.enabled, interface=False)
        seen = await self._tunnel(seen, keeper)
        tending = self._service.tending
        if not seen.in_tunnel or tending is None:
            return seen
        tending.examined += 1
        try:
            return await self._closely(seen, keeper)
        finally:
            tending.examined -= 1

    async def _closely(self, seen: Evidence, keeper: Keeper) -> Evidence:
        """What takes a while; nobody tries to bring the peer back meanwhile."""
        fresh = seen.handshake_age_s is not None and seen.handshake_age_s < HANDSHAKE_FRESH
        parts = [self._theirs(seen), self._machine(seen), self._packets(seen, keeper) if fresh else self._silence(seen, keeper)]
        for found in await asyncio.gather(*parts):
            seen = msgspec.structs.replace(seen, **found)
        return seen

    async def _tunnel(self, seen: Evidence, keeper: Keeper) -> Evidence:
        try:
            actual = await keeper.tunnel.read()
        except TunnelError:
            return msgspec.structs.replace(seen, process_dead=True)
        if actual is None:
            return msgspec.structs.replace(seen, interface=False)
        there = _find(actual, seen.peer)
        found: dict[str, Any] = {"interface": True, "up": actual.up, "in_tunnel": there is not None, "mtu": actual.mtu}
        if there is not None:
            found |= _facts(there, self._service.clock)
            found["ever"] = seen.ever or there.handshake > 0
        return msgspec.structs.replace(seen, **found)

    async def _silence(self, seen: Evidence, keeper: Keeper) -> dict[str, Any]:
        """A peer that is not connected: is anything sent, does anything come, what does the way there say?"""
        around = asyncio.create_task(self._way(seen, keeper))
        before = await _counts(keeper.tunnel, seen.peer)
        poke = seen.peer.addresses[0].partition("/")[0]
        watching = asyncio.get_running_loop().time()
        try:
            await keeper.tunnel.ping(poke, count=3, limit=self._watch)
        except TunnelError:
            await asyncio.sleep(self._watch)  # what is sent by itself is seen as well
        after = await _counts(keeper.tunnel, seen.peer)
        found: dict[str, Any] = {"watched_s": asyncio.get_running_loop().time() - watching}
        if before is not None and after is not None:
            found |= {"rx_grew": after.rx_bytes - before.rx_bytes, "tx_grew": after.tx_bytes - before.tx_bytes}
            found |= _facts(after, self._service.clock)
        return {**found, **await around}

    async def _way(self, seen: Evidence, keeper: Keeper) -> dict[str, Any]:
        found: dict[str, Any] = {}
        place = names.place(seen.peer.endpoint) if seen.peer.endpoint else None
        if place is not None and not place.literal:
            try:
                addresses = await keeper.lookup(place)
                found["resolved"] = tuple(str(names.Place(each.address, each.port)) for each in addresses)
            except TunnelError as error:
                found["resolve_error"] = error.message
        target = names.place(seen.endpoint) if seen.endpoint else None
        if target is not None and target.literal:
            answer: roundabout.Around = await self._within(lambda: roundabout.ask(target.host, target.port))
            found |= {
                "route": answer.route, "port_refused": answer.refused, "prohibited": answer.prohibited,
                "host_unreachable": answer.unreachable,
            }  # fmt: skip
        return found

    async def _packets(self, seen: Evidence, keeper: Keeper) -> dict[str, Any]:
        """A peer that is connected: do small packets pass, and large ones?"""
        address = seen.peer.addresses[0].partition("/")[0]
        head = ECHO_HEADERS[6 if ":" in address else 4]
        mtu = seen.mtu or LEAST
        try:
            before = await _counts(keeper.tunnel, seen.peer)
            small = await keeper.tunnel.ping(address, count=3)
            if not small.received:
                return {"small": (small.sent, 0), **await self._heard(seen, keeper, before)}
            large = await keeper.tunnel.ping(address, count=3, size=mtu - head, whole=True)
            passing = await path_mtu(keeper.tunnel, address, highest=mtu) if not large.received else None
        except TunnelError:
            return {}
        return {"small": (small.sent, small.received), "large": (large.sent, large.received), "passing": passing}

    async def _heard(self, seen: Evidence, keeper: Keeper, before: ActualPeer | None) -> dict[str, Any]:
        """Whether anything else came meanwhile, and how long ago the last thing was."""
        after = await _counts(keeper.tunnel, seen.peer)
        tending = self._service.tending
        gauge = tending.gauges.get(seen.peer.name) if tending is not None else None
        grew = after.rx_bytes - before.rx_bytes if after is not None and before is not None else None
        return {"rx_grew": grew, "silent_s": gauge.silent if gauge is not None else None}

    async def _machine(self, seen: Evidence) -> dict[str, Any]:
        """This machine's own rules and switches."""
        port, hub = seen.port, self._service.hub
        rules, forwards = await self._within(lambda: (roundabout.ruleset(), roundabout.forwards()))
        needed = bool(seen.peer.reach or hub.routed)
        return {"input_dropped": roundabout.drops(rules, port), "forwarding": forwards, "forwards": needed}

    async def _theirs(self, seen: Evidence) -> dict[str, Any]:
        peer = seen.peer
        if not peer.node or not self._nodes.known(peer.node):
            return {}
        try:
            async with asyncio.timeout(OTHER):
                text = await self._nodes.dump(peer)
        except NotFoundError:
            return {"theirs": Theirs(reached=True)}
        except (ApplianceError, TimeoutError) as error:
            return {"theirs": Theirs(error=getattr(error, "message", "it did not answer in time"))}
        return {"theirs": read_dump(text, seen.own_key, self._service.clock.wall())}


def _find(actual: ActualTunnel, peer: Peer) -> ActualPeer | None:
    return next((each for each in actual.peers if each.public_key == peer.public_key), None)


async def _counts(tunnel: Tunnel, peer: Peer) -> ActualPeer | None:
    try:
        actual = await tunnel.read()
    except TunnelError:
        return None
    return _find(actual, peer) if actual is not None else None


def _facts(there: ActualPeer, clock: Clock) -> dict[str, Any]:
    age = clock.wall() - there.handshake if there.handshake else None
    where = str(names.Place(there.endpoint.address, there.endpoint.port)) if there.endpoint is not None else ""
    stepped = -age if age is not None and age < 0 else None
    return {
        "handshake_age_s": None if age is None else max(0.0, age), "endpoint": where, "allowed_there": there.allowed,
        "clock_stepped_s": stepped, "received": there.rx_bytes,
    }  # fmt: skip


def overlaps(peer: Peer, entries: Sequence[Entry]) -> tuple[str, ...]:
    """Which other peers have some of a peer's networks, in words: also where a longer prefix takes only a part."""
    others = [entry.peer for entry in entries if entry.peer.active and entry.peer.name != peer.name]
    own = [ipaddress.ip_network(each) for each in peer.allowed]
    pairs = [(other, ipaddress.ip_network(each)) for other in others for each in other.allowed]
    return tuple(
        f"{theirs} of {other.name} and {mine} of {peer.name}"
        for other, theirs in pairs
        for mine in own
        if mine.version == theirs.version and mine.overlaps(theirs)
    )[:4]


def read_dump(text: str, own_key: str, now: float) -> Theirs:
    """What nodes.DUMP prints, as evidence.

    Args:
        text: "SECONDS", "own PUBLIC PORT", "peer PUBLIC ENDPOINT ALLOWED HANDSHAKE RX TX KEEPALIVE", a line each.
        own_key: The hub's public key.
        now: Wall clock here.
    """
    lines = [line.split() for line in text.splitlines() if line.strip()]
    ahead = float(lines[0][0]) - now if lines and lines[0][0].isdigit() else None
    own = next((line for line in lines if line[0] == "own" and len(line) >= 3), None)
    peers = [line for line in lines if line[0] == "peer" and len(line) >= 7]
    ours = next((line for line in peers if line[1] == own_key), None)
    if own is None:
        return Theirs(reached=True, clock_ahead_s=ahead)
    base = Theirs(
        True, True, own[1], int(own[2]) if own[2].isdigit() else 0, tuple(line[1] for line in peers), clock_ahead_s=ahead
    )
    if ours is None:
        return base
    numbers = [int(word) if word.isdigit() else 0 for word in ours[4:7]]
    return msgspec.structs.replace(
        base, endpoint="" if ours[2] == "(none)" else ours[2], allowed=() if ours[3] == "(none)" else tuple(ours[3].split(",")),
        handshake=float(numbers[0]), rx_bytes=numbers[1], tx_bytes=numbers[2],
    )  # fmt: skip


def looked_at(seen: Evidence) -> list[str]:
    """What was examined, in words, for whoever wants to know how far an answer can be trusted."""
    told = []
    if seen.interface:
        told.append(f"the interface is there and {'up' if seen.up else 'down'}")
    if seen.handshake_age_s is not None:
        told.append(f"last handshake {seen.handshake_age_s:.0f} s ago")
    if seen.tx_grew is not None:
        told.append(f"watched for {seen.watched_s:.0f} s: {seen.tx_grew} bytes sent, {seen.rx_grew} received")
    if seen.endpoint:
        told.append(f"endpoint {seen.endpoint}")
    if seen.small is not None:
        told.append(f"{seen.small[1]} of {seen.small[0]} small echo requests answered")
    if seen.large is not None:
        told.append(f"{seen.large[1]} of {seen.large[0]} with {seen.mtu} bytes answered")
    theirs = seen.theirs
    told.append(
        "the other side was asked over SSH"
        if theirs.reached
        else f"the other side was not asked: {theirs.error or 'it has no node'}"
    )
    return told

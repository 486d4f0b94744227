"""Keeps the tunnel as it should be: compares, changes what differs, and says what others had changed."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from appliance.core.ports import Clock
from appliance.core.vpn import desired, names
from appliance.core.vpn.book import PeerBook
from appliance.core.vpn.model import ActualPeer, ActualTunnel, Changes, Endpoint, PeerChange, Tunnel, WantedTunnel
from appliance.core.vpn.peers import Entry
from appliance.core.vpn.reconcile import diff
from appliance.core.vpn.resolve import Resolver
from appliance.core.vpn.wanted import Hub, rules, wanted_tunnel
from appliance.errors import ApplianceError, TunnelError

log = logging.getLogger(__name__)

FOREIGN = 20
"""Changes by others that are remembered."""
PLACES = frozenset({"endpoint", "loop"})
"""Kinds of faults that are of a peer's endpoint."""
LOOKUPS = 4
"""Names that are looked up at the same time."""


class Keeper:
    """One tunnel and what it should be.

    Args:
        hub: This end.
        tunnel: What carries it.
        book: The peers.
        resolver: For endpoints that are names.
        clock: For times.
    """

    def __init__(self, hub: Hub, tunnel: Tunnel, book: PeerBook, resolver: Resolver, clock: Clock) -> None:
        self.hub = hub
        self.tunnel = tunnel
        self.entries: dict[str, Entry] = {}
        self.actual: ActualTunnel | None = None
        self.foreign: deque[str] = deque(maxlen=FOREIGN)
        self.reconciled = 0.0
        """Wall clock."""
        self.reconciliations = 0
        self.changes = 0
        self.unresolved: dict[str, TunnelError] = {}
        """Peers whose endpoint has no address now."""
        self.faults: tuple[desired.Fault, ...] = ()
        """What is wrong with single peers, and was left out."""
        self.turn = asyncio.Lock()
        """One change of the tunnel at a time."""
        self._book = book
        self._resolver = resolver
        self._clock = clock
        self._aims: dict[str, Endpoint] = {}
        self._unruled = False
        """No rules are wanted, and none are there."""
        self._port = hub.port

    def troubles(self) -> list[tuple[str, str]]:
        """What is wrong with single peers: (what, what to do)."""
        unresolved = [(error.message, error.next_step) for error in self.unresolved.values()]
        return unresolved + [(fault.message, fault.next_step) for fault in self.faults]

    def peers(self) -> dict[str, ActualPeer]:
        """What the tunnel has, by public key."""
        return {each.public_key: each for each in self.actual.peers} if self.actual is not None else {}

    def elsewhere(self, network: str) -> str:
        """The interface through which this machine reaches exactly this network, other than the tunnel; empty for none."""
        return dict(self.actual.elsewhere).get(network, "") if self.actual is not None else ""

    async def read(self) -> ActualTunnel | None:
        """Look at the tunnel. Raises TunnelError."""
        self.actual = await self.tunnel.read()
        return self.actual

    async def reload(self) -> None:
        """Read the peers anew. Raises StoreError."""
        self.entries = await self._book.all()

    def aim(self, public: str, endpoint: Endpoint) -> None:
        """At the next reconciliation a peer is reached there."""
        self._aims[public] = endpoint

    async def reconcile(self, *, ours: bool = True) -> Changes:
        """Make the tunnel as it should be.

        Args:
            ours: What differs is a change of our own; else somebody else made it, and it is told.

        Returns:
            What was changed; nothing of it where all was well.

        Raises:
            TunnelError: The interface cannot be made, read or changed.
            StoreError: The peers or their keys cannot be read.
            ActionError: What is wanted contradicts itself, or a key on disk is damaged.
        """
        async with self.turn:
            return await self._reconcile(ours=ours)

    async def _reconcile(self, *, ours: bool) -> Changes:
        made = await self.tunnel.ensure()
        actual = await self.read()
        await self._aim_at(actual)
        wanted = await self._wanted()
        called = {entry.peer.public_key: name for name, entry in self.entries.items()}
        changes, self.faults = await asyncio.to_thread(_compare, wanted, actual, called)
        if changes:
            await self.tunnel.apply(changes)
            self.changes += 1
            await self.read()
        self._note(made, changes, ours=ours)
        self._aims.clear()
        await self._firewall()
        self.reconciled = self._clock.wall()
        self.reconciliations += 1
        return changes

    async def _wanted(self) -> WantedTunnel:
        entries = list(self.entries.values())
        secrets = await self._book.preshared([entry for entry in entries if entry.peer.active])
        return wanted_tunnel(self.hub, await self._book.own_key(), entries, secrets, self._aims)

    def _note(self, made: bool, changes: Changes, *, ours: bool) -> None:
        if ours or not (made or changes):
            return
        told = "the interface was gone" if made else describe(changes, {e.peer.public_key: n for n, e in self.entries.items()})
        log.warning("the tunnel %s was changed by somebody else, and put right: %s", self.hub.interface, told)
        self.foreign.append(told)

    async def _firewall(self) -> None:
        """Rules that a reload of the machine's firewall took away are made again; where none are wanted, it is looked once."""
        wanted = rules(self.hub, self.entries.values())
        if wanted is None and self._unruled:
            return
        if await self.tunnel.firewall(wanted):
            told = "its firewall rules were gone or others"
            log.warning("somebody else changed the firewall of %s; it was put right", self.hub.interface)
            self.foreign.append(told)
        self._unruled = wanted is None

    async def _aim_at(self, actual: ActualTunnel | None) -> None:
        """Find the endpoints of peers that the tunnel has none of."""
        known = {each.public_key for each in actual.peers if each.endpoint is not None} if actual is not None else set()
        lost = [
            entry for entry in self.entries.values()
            if entry.peer.active and entry.peer.endpoint and entry.peer.public_key not in known | set(self._aims)
            and entry.peer.name not in self.unresolved  # it is tried again by its ladder, and holds up nobody here
        ]  # fmt: skip
        gate = asyncio.Semaphore(LOOKUPS)

        async def find(entry: Entry) -> None:
            async with gate:
                await self.resolve(entry)

        await asyncio.gather(*(find(entry) for entry in lost))

    async def resolve(self, entry: Entry) -> Endpoint | None:
        """Look a peer's endpoint up and aim at it; None where it has no address now (told in `unresolved`)."""
        peer = entry.peer
        try:
            found = await self._resolver.resolve(names.place(peer.endpoint))
        except TunnelError as error:
            self.unresolved[peer.name] = error
            return None
        self.unresolved.pop(peer.name, None)
        present = self.peers().get(peer.public_key)
        chosen = present.endpoint if present is not None and present.endpoint in found else found[0]
        if chosen is not None:
            self.aim(peer.public_key, chosen)
        return chosen

    async def lookup(self, place: names.Place) -> tuple[Endpoint, ...]:
        """What a name means now. Raises TunnelError."""
        return await self._resolver.resolve(place)

    async def renew(self, entry: Entry) -> None:
        """Take a peer's entry out and put it in again, so that it begins afresh. Raises TunnelError, StoreError."""
        async with self.turn:
            present = self.peers().get(entry.peer.public_key)
            if present is not None:
                await self.tunnel.apply(Changes(peers=(PeerChange(present.public_key, remove=True),)))
                if present.endpoint is not None and not entry.peer.endpoint:
                    self.aim(present.public_key, present.endpoint)
            await self._reconcile(ours=True)

    async def restart(self) -> None:
        """The whole interface anew: only where no peer is connected. Raises TunnelError, StoreError."""
        async with self.turn:
            await self.tunnel.remove()
            await self._reconcile(ours=True)

    async def guarded(self, work: Callable[[], Awaitable[object]], what: str) -> str:
        """Do one thing to the tunnel; returns "" or why it failed, which is no reason to end anything."""
        try:
            await work()
        except ApplianceError as error:
            log.error("%s: %s", what, error.message)
            return error.message
        return ""


def _compare(
    wanted: WantedTunnel, actual: ActualTunnel | None, called: Mapping[str, str]
) -> tuple[Changes, tuple[desired.Fault, ...]]:
    """What differs, without what cannot be; some ten milliseconds for hundreds of peers. Raises ActionError."""
    elsewhere = dict(actual.elsewhere) if actual is not None else {}
    wrong = tuple(fault for fault in desired.faults(wanted, called, elsewhere) if fault.fatal and fault.peers)
    if wrong:
        wanted = without(wanted, wrong)
    desired.check(wanted, called)
    return diff(wanted, actual), wrong


def without(wanted: WantedTunnel, wrong: Sequence[desired.Fault]) -> WantedTunnel:
    """The tunnel without what is wrong with single peers: one that nobody can reach keeps nobody else from coming in.

    A bad endpoint, or a network that this machine is on, is left out, and the peer stays; of peers that contradict each
    other the last one goes.
    """
    unplaced = {fault.peers[-1] for fault in wrong if fault.kind in PLACES}
    gone = {fault.peers[-1] for fault in wrong if fault.kind not in PLACES and not fault.network}
    taken = {(fault.peers[-1], fault.network) for fault in wrong}
    peers = tuple(
        msgspec.structs.replace(
            peer, endpoint=None if peer.public_key in unplaced else peer.endpoint,
            allowed=tuple(each for each in peer.allowed if (peer.public_key, each) not in taken),
        )
        for peer in wanted.peers
        if peer.public_key not in gone
    )  # fmt: skip
    return msgspec.structs.replace(wanted, peers=peers)


def describe(changes: Changes, known: Mapping[str, str]) -> str:
    """What a reconciliation changed, in one sentence; no keys but the beginnings of public ones."""
    parts = [text for text, there in (
        ("its private key", changes.private_key is not None), ("its port", changes.listen_port is not None),
        ("its MTU", changes.mtu is not None), ("it was down", changes.up), ("its mark", changes.fwmark is not None),
        (f"addresses {_listed(changes.add_addresses)} missing", changes.add_addresses),
        (f"addresses {_listed(changes.remove_addresses)} too many", changes.remove_addresses),
        (f"routes {_listed(changes.add_routes)} missing", changes.add_routes),
        (f"routes {_listed(changes.remove_routes)} too many", changes.remove_routes),
    ) if there]  # fmt: skip
    for change in changes.peers:
        name = known.get(change.public_key, f"{change.public_key[:8]}…")
        parts.append(f"peer {name} " + ("not known here" if change.remove else "missing" if change.create else "altered"))
    return "; ".join(parts[:6]) + (f"; and {len(parts) - 6} more" if len(parts) > 6 else "") or "nothing"


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(texts[:3]) + (" …" if len(texts) > 3 else "")

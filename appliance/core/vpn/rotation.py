"""Change a peer's keys without an outage: the new ones are let in beside the old ones, until one of them has proven itself.

1. New keys are made and kept. The hub gets a second entry with the new public key and no networks: both may shake hands.
2. The node changes over (or a person exports the new file). Alone it goes back where the new keys give no handshake.
3. The first handshake with the new keys is the proof: the networks move to them at once, then the old entry goes.

What is noted on disk before each step, and what the tunnel says, tell after any failure how to go on:

| what fails | what is known | what is done |
|---|---|---|
| the node does not answer | nothing ran there | undone |
| the node goes back by itself | it says so | undone |
| the link is cut while it is told | perhaps it changed over | both stay, until one of them shakes hands |
| this program dies | the rotation is on disk | goes on at the next start, by the same evidence |
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from appliance.core.model import Severity
from appliance.core.ports import Clock
from appliance.core.vpn import keys
from appliance.core.vpn.book import Held, PeerBook
from appliance.core.vpn.keeper import Keeper
from appliance.core.vpn.model import ActualPeer, Changes, PeerChange
from appliance.core.vpn.peers import Entry, Rotation
from appliance.core.vpn.tending import Note
from appliance.errors import ApplianceError, ConflictError, NotFoundError

log = logging.getLogger(__name__)

NODE = 20.0
"""Seconds in which a node must have a handshake with its new keys, else it goes back."""
MARGIN = 15.0
"""Seconds after that until a handshake with the old keys proves that it did go back."""
OFFERED = 7 * 86400.0
"""Seconds that new keys wait for somebody to export and use them."""


class Rotator:
    """Rotations that are under way.

    Args:
        book: The peers.
        clock: For times.
        note: Tells of events.
    """

    def __init__(self, book: PeerBook, clock: Clock, note: Note) -> None:
        self.keeper: Keeper | None = None
        self._book = book
        self._clock = clock
        self._note = note

    async def begin(self, name: str) -> Entry:
        """Make new keys and note the rotation; the caller brings them into the tunnel.

        Raises:
            ConflictError: One is under way, or the peer is off.
            NotFoundError, StoreError: Nothing was begun.
        """
        check(await self._book.one(name))
        pair = keys.make_pair()
        await self._book.set_secret(name, Held.next_private, pair.private)
        await self._book.set_secret(name, Held.next_preshared, keys.make_preshared())

        def change(entry: Entry) -> Entry:
            check(entry)
            return Entry(entry.peer, Rotation(entry.peer.public_key, pair.public, self._clock.wall()))

        return await self._book.amend(name, change)

    async def tell(self, name: str, *, told: bool = True, problem: str = "") -> Entry:
        """Note that the node is told now, or what is in the way. Raises NotFoundError, StoreError."""

        def change(entry: Entry) -> Entry:
            if entry.rotation is None:
                return entry
            old = entry.rotation
            started = self._clock.wall() if told and not old.told else old.started
            return Entry(entry.peer, Rotation(old.old, old.new, started, old.told or told, problem))

        return await self._book.amend(name, change)

    async def tend(self, entries: Sequence[Entry]) -> bool:
        """Look for proof, and act on it; True where a rotation has ended. Raises TunnelError, StoreError."""
        if self.keeper is None:
            return False
        await self.keeper.read()
        ended = False
        for entry in entries:
            verdict = judge(entry, self.keeper.peers(), self._clock.wall())
            if verdict == "commit":
                await self.commit(entry)
                ended = True
            elif verdict:
                await self.undo(entry.peer.name, verdict)
                ended = True
        return ended

    async def commit(self, entry: Entry) -> None:
        """The new keys are in use: give them the networks, and let the old ones go. May be repeated. Raises ApplianceError."""
        rotation, peer, name = entry.rotation, entry.peer, entry.peer.name
        if rotation is None or self.keeper is None:
            return
        async with self.keeper.turn:
            await self.keeper.tunnel.apply(Changes(peers=(
                PeerChange(rotation.old, allowed=()), PeerChange(rotation.new, allowed=peer.allowed, keepalive=peer.keepalive),
            )))  # fmt: skip
        await self._book.set_secret(name, Held.preshared, await self._book.secret(name, Held.next_preshared))

        def change(now: Entry) -> Entry:
            return Entry(now.peer.changed(public_key=rotation.new, connected=True))

        self.keeper.entries[name] = await self._book.amend(name, change)
        await self._forget(name)
        await self.keeper.reconcile()
        log.info("the keys of the peer %s were rotated", name)
        await self._told("vpn.keys-rotated", Severity.info, {"peer": name, "public_key": rotation.new})

    async def undo(self, name: str, why: str) -> None:
        """Forget the new keys. Raises ApplianceError."""
        try:
            entry = await self._book.amend(name, lambda now: Entry(now.peer))
        except NotFoundError:
            return
        await self._forget(name)
        log.warning("the rotation of %s's keys was undone: %s", name, why)
        if self.keeper is not None:
            self.keeper.entries[name] = entry
            await self.keeper.reconcile()
        await self._told("vpn.rotation-undone", Severity.warning, {"peer": name, "reason": why})

    async def _forget(self, name: str) -> None:
        for which in (Held.next_private, Held.next_preshared, Held.private):
            if which != Held.private or not await self._keeps_private(name):
                await self._book.set_secret(name, which, "")

    async def _keeps_private(self, name: str) -> bool:
        """The private key that is here is that of the keys that hold: it waits for its export still."""
        held = await self._book.secret(name, Held.private)
        return bool(held) and keys.public_of(held) == (await self._book.one(name)).peer.public_key

    async def _told(self, event: str, severity: Severity, attributes: dict[str, object]) -> None:
        try:
            await self._note(event, severity, attributes)
        except ApplianceError as error:
            log.error("%s is not among the events: %s", event, error.message)


def check(entry: Entry) -> None:
    """Whether a rotation may begin. Raises ConflictError."""
    name = entry.peer.name
    if entry.rotation is not None:
        raise ConflictError(
            f"The keys of {name} are being rotated already.",
            f"wait until the new ones are used, or give it up: `prime-spark vpn peer rotate {name} --undo yes`.",
        )
    if not entry.peer.active:
        raise ConflictError(f"{name} is off.", f"switch it on first: `prime-spark vpn peer enable {name}`.")


def imminent(entry: Entry, now: float) -> bool:
    """Whether a node changes over just now: its networks must follow within milliseconds. Later there is no hurry."""
    rotation = entry.rotation
    return rotation is not None and rotation.told and abs(now - rotation.started) < NODE + MARGIN


def judge(entry: Entry, peers: dict[str, ActualPeer], now: float) -> str:
    """What the evidence says of a rotation.

    Args:
        entry: With the rotation.
        peers: What the tunnel has, by public key.
        now: Wall clock.

    Returns:
        "commit"; or why it is to be undone; or nothing while there is no proof.
    """
    rotation = entry.rotation
    if rotation is None:
        return ""
    new, old = peers.get(rotation.new), peers.get(rotation.old)
    if new is not None and new.handshake > 0:
        return "commit"
    if rotation.told and old is not None and old.handshake > rotation.started + NODE + MARGIN:
        return "the node shakes hands with its old keys, after the time for the new ones was over"
    if not rotation.told and now > rotation.started + OFFERED:
        return "nobody used the new keys for a week"
    return ""

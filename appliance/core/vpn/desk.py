"""What operators do with peers. Each change is on disk, and in the tunnel where that runs, when it returns."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import msgspec

from appliance.core.vpn import exporting, keys, names, qr, quick
from appliance.core.vpn.book import Held
from appliance.core.vpn.nodes import Nodes, checked_node
from appliance.core.vpn.peers import Entry, Peer, check_inside, free_address, networks
from appliance.core.vpn.service import VpnService
from appliance.core.vpn.status import PeerStatus
from appliance.errors import ApplianceError, ConflictError, InvalidArgumentsError, NotFoundError

log = logging.getLogger(__name__)


class Wish(msgspec.Struct, frozen=True):
    """What somebody wants of a peer; None leaves a value as it is, or takes the default."""

    public_key: str | None = None
    addresses: tuple[str, ...] = ()
    networks: tuple[str, ...] | None = None
    endpoint: str | None = None
    keepalive: int | None = None
    node: str | None = None
    node_interface: str | None = None
    reach: tuple[str, ...] | None = None
    expires: float | None = None
    """Wall clock; 0 for never."""
    watched: bool | None = None


class Desk:
    """Changes peers.

    Args:
        service: The VPN.
        nodes: The peers' own machines.
    """

    def __init__(self, service: VpnService, nodes: Nodes) -> None:
        self._service = service
        self._book = service.book
        self._nodes = nodes
        self._turn = asyncio.Lock()

    # -- peers ---------------------------------------------------------------------------------------------------------

    async def add(self, name: str, wish: Wish) -> PeerStatus:
        """Keep a new peer, with a free address where none is wanted, and keys made here where none is given.

        Raises:
            InvalidArgumentsError, ConflictError: It cannot be as it is wanted.
            StoreError: Nothing is kept.
        """
        pair = None if wish.public_key else keys.make_pair()
        public = pair.public if pair is not None else keys.checked(wish.public_key or "")
        if public == keys.public_of(await self._book.own_key()):
            raise ConflictError("That is this hub's own public key.", "give the one of the peer: `wg pubkey` there.")
        async with self._turn:  # two that are added at once do not get the same address
            peer = Peer(
                name=names.name(name),
                public_key=public,
                addresses=await self._addresses(wish),
                created=self._service.clock.wall(),
            )
            await self._book.add(self._with(peer, wish), keys.make_preshared(), pair.private if pair is not None else "")
        return await self._done(name)

    async def _addresses(self, wish: Wish) -> tuple[str, ...]:
        subnets = self._service.hub.subnets
        if wish.addresses:
            chosen = networks(wish.addresses)
            check_inside(chosen, subnets)
            return chosen
        entries = (await self._book.all()).values()
        taken = [each for entry in entries for each in entry.peer.allowed] + [
            each.partition("/")[0] for each in self._service.hub.addresses
        ]
        return await asyncio.to_thread(lambda: tuple(free_address(subnet, taken) for subnet in subnets))

    def _with(self, peer: Peer, wish: Wish) -> Peer:
        """The peer as it is wanted. Raises InvalidArgumentsError."""
        changes: dict[str, Any] = {
            field: value
            for field in ("keepalive", "watched", "expires", "node_interface")
            if (value := getattr(wish, field)) is not None
        }
        if wish.networks is not None:
            changes["networks"] = networks(wish.networks)
            self._check_ways(changes["networks"])
        if wish.reach is not None:
            changes["reach"] = networks(wish.reach)
        if wish.endpoint is not None:
            changes["endpoint"] = str(names.place(wish.endpoint)) if wish.endpoint else ""
        if wish.node is not None:
            changes["node"] = checked_node(self._nodes, wish.node)
        if any(each.endswith("/0") for each in changes.get("networks", ())):
            raise InvalidArgumentsError("A hub does not send everything to one peer.", "give the networks that lie behind it.")
        if wish.expires and wish.expires <= self._service.clock.wall():
            raise InvalidArgumentsError("That time is over already.", "give one that is to come, such as 30d.")
        return peer.changed(**changes)

    def _check_ways(self, chosen: Sequence[str]) -> None:
        """Networks that this machine is on do not lie behind a peer. Raises ConflictError."""
        keeper = self._service.keeper
        for each in chosen:
            if keeper is not None and (interface := keeper.elsewhere(each)):
                raise ConflictError(
                    f"This machine reaches {each} through {interface} already.", "name networks that lie behind the peer only."
                )

    async def change(self, name: str, wish: Wish) -> PeerStatus:
        """Change a peer. Raises NotFoundError, InvalidArgumentsError, ConflictError, StoreError."""
        chosen = networks(wish.addresses)
        check_inside(chosen, self._service.hub.subnets)

        def change(entry: Entry) -> Entry:
            peer = self._with(entry.peer, wish)
            return Entry(peer.changed(addresses=chosen) if chosen else peer, entry.rotation)

        entry = await self._book.amend(name, change)
        if wish.endpoint and self._service.keeper is not None:
            await self._service.keeper.resolve(entry)
        return await self._done(name)

    async def switch(self, name: str, *, enabled: bool, expires: float | None = None) -> PeerStatus:
        """Let a peer in, or not any more. Raises NotFoundError, InvalidArgumentsError, StoreError."""
        now = self._service.clock.wall()
        if expires and expires <= now:
            raise InvalidArgumentsError("That time is over already.", "give one that is to come, such as 30d.")

        def change(entry: Entry) -> Entry:
            until = entry.peer.expires if expires is None else expires
            if enabled and until and until <= now:
                raise ConflictError(
                    f"The time of {name} is over.", f"`prime-spark vpn peer enable {name} --expires 30d`, or never."
                )
            return entry.changed(enabled=enabled, expires=until, expired=False if enabled else entry.peer.expired)

        await self._book.amend(name, change)
        return await self._done(name)

    async def remove(self, name: str) -> str:
        """Remove a peer with its keys; says what is wrong with the tunnel, or nothing. Raises NotFoundError, StoreError."""
        await self._book.remove(name)
        return await self._service.changed()

    async def _done(self, name: str) -> PeerStatus:
        problem = await self._service.changed()
        status = status_of(self._service, name)
        if problem:
            return msgspec.structs.replace(status, reason=f"kept, but {problem}", next_step="prime-spark vpn reconcile")
        return status

    # -- files ---------------------------------------------------------------------------------------------------------

    async def export(self, name: str, endpoint: str = "") -> dict[str, Any]:
        """A peer's own file, and as a code; once, for then its private key is forgotten here.

        Raises:
            NotFoundError: There is no such peer.
            ConflictError: Its private key is not here (any more).
            ConfigError, StoreError: The file cannot be made.
        """
        entry = await self._book.one(name)
        rotated = entry.rotation is not None
        which = Held.next_private if rotated else Held.private
        private = await self._book.secret(name, which)
        if not private or (rotated and entry.rotation is not None and entry.rotation.told):
            raise ConflictError(
                f"The private key of {name} is not here: it was exported already, or made by the peer itself.",
                f"make new ones, which are shown once: `prime-spark vpn peer rotate {name}`.",
            )
        text = await file_of(self._service, entry.peer, private, rotated=rotated, endpoint=endpoint)
        rows = qr.matrix(short) if len(short := qr.small(text)) <= qr.LARGEST else ()
        await self._book.set_secret(name, which, "")
        await self._service.refresh()
        return {"name": name, "text": text, "qr": list(rows), "file": f"{self._nodes.interface(entry.peer)}.conf"}

    async def take(self, text: str, *, own_key: bool) -> dict[str, Any]:
        """Take over a hub's wg-quick file: all of its peers, or none.

        Args:
            text: The file.
            own_key: Its private key becomes this hub's, so that its peers need no change.

        Raises:
            InvalidArgumentsError: It cannot be read; names the line.
            ConflictError: Something of it is here already; nothing was taken over.
            StoreError: Nothing was taken over.
        """
        file = await asyncio.to_thread(quick.parse, text)
        kept = await self._book.all()
        taken = exporting.taken_from(file, self._service.hub, kept, self._service.clock.wall())
        if own_key and taken.private and kept:
            raise ConflictError(
                "There are peers here that know this hub by its present key.", "remove them first, or import with --own-key no."
            )
        added: list[str] = []
        try:
            for peer, preshared in taken.peers:
                await self._book.add(peer, preshared)
                added.append(peer.name)
            if own_key and taken.private:
                await self._book.set_own_key(taken.private)
        except ApplianceError:
            for name in added:
                await self._book.remove(name)
            raise
        problem = await self._service.changed()
        return {
            "peers": added, "ignored": list(taken.ignored), "own_key": bool(own_key and taken.private), "problem": problem,
            "settings": [{"key": key, "value": str(value)} for key, value in taken.settings.items()],
        }  # fmt: skip


def status_of(service: VpnService, name: str) -> PeerStatus:
    """A peer as it is shown. Raises NotFoundError."""
    found = next((peer for peer in service.status().peers if peer.name == name), None)
    if found is None:
        raise NotFoundError(f"There is no peer {name!r}.", "list them with `prime-spark vpn status`.")
    return found


async def file_of(service: VpnService, peer: Peer, private: str, *, rotated: bool, endpoint: str = "") -> str:
    """A peer's own file, with its present keys or those that it is rotated to. Raises ConfigError, StoreError."""
    shared = await service.book.secret(peer.name, Held.next_preshared if rotated else Held.preshared)
    own = keys.public_of(await service.book.own_key())
    return exporting.file_for(peer, service.hub, exporting.Sides(private, shared, own), endpoint)

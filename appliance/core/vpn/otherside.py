"""What is done at both ends of a peer at once: its keys are rotated, its machine is provisioned."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from appliance.core.vpn import keys
from appliance.core.vpn.book import Held
from appliance.core.vpn.desk import file_of, status_of
from appliance.core.vpn.model import HANDSHAKE_FRESH
from appliance.core.vpn.nodes import Nodes
from appliance.core.vpn.peers import Entry, Peer
from appliance.core.vpn.rekey import NewKeys
from appliance.core.vpn.rotation import NODE
from appliance.core.vpn.service import VpnService
from appliance.core.vpn.status import PeerState, PeerStatus
from appliance.errors import ApplianceError, ConflictError, InvalidArgumentsError, ShellError, UnreachableError

log = logging.getLogger(__name__)

PROOF = 20.0
"""Seconds that a first handshake is waited for."""
LOOK = 0.2
"""Seconds between two looks for it."""


async def until(done: Callable[[], Awaitable[bool]], limit: float) -> bool:
    """Wait until something is so; False where it is not within `limit` seconds."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + limit
    while not await done():
        if loop.time() > ends:
            return False
        await asyncio.sleep(LOOK)
    return True


class OtherSide:
    """Both ends of peers.

    Args:
        service: The VPN, this end.
        nodes: The other ends.
    """

    def __init__(self, service: VpnService, nodes: Nodes) -> None:
        self._service = service
        self._book = service.book
        self._nodes = nodes

    async def rotate(self, name: str, *, undo: bool = False) -> PeerStatus:
        """Change a peer's keys: on its node over SSH where it has one; else the new ones wait for their export.

        Raises:
            ConflictError: It cannot begin, or the node went back to its old keys.
            NotFoundError, UnreachableError, StoreError, TunnelError: Nothing is changed.
            ShellError: The link was cut while the node was told; it goes on by itself when one side shows its keys.
        """
        entry = await self._book.one(name)
        if undo:
            return await self._give_up(entry)
        peer = entry.peer
        text = await self._nodes.configuration(peer) if peer.node else ""
        await self._service.rotator.begin(name)
        if problem := await self._service.changed():
            await self._undo(name, f"the tunnel did not take the new keys: {problem}")
            raise ConflictError(f"The keys of {name} are as they were: {problem}.", "prime-spark vpn status")
        if peer.node:
            await self._change_over(peer, text)
        await self._service.refresh()
        return status_of(self._service, name)

    async def _give_up(self, entry: Entry) -> PeerStatus:
        if entry.rotation is None:
            raise ConflictError(f"The keys of {entry.peer.name} are not being rotated.", "there is nothing to give up.")
        await self._undo(entry.peer.name, "it was given up")
        return status_of(self._service, entry.peer.name)

    async def _undo(self, name: str, why: str) -> None:
        await self._service.rotator.undo(name, why)
        await self._service.refresh()

    async def _change_over(self, peer: Peer, text: str) -> None:
        name = peer.name
        entry = await self._service.rotator.tell(name)
        await self._service.refresh()
        private, shared = await self._book.secret(name, Held.next_private), await self._book.secret(name, Held.next_preshared)
        own = keys.public_of(await self._book.own_key())
        try:
            await self._nodes.switch(peer, text, NewKeys(private, shared, own))
        except (UnreachableError, ConflictError, InvalidArgumentsError) as error:
            await self._undo(name, error.message)
            raise
        except ShellError as error:
            await self._service.rotator.tell(name, problem=f"the link to {peer.node} was cut; waiting for proof of one side")
            await self._service.refresh()
            raise ShellError(
                f"The link to {peer.node} was cut while it changed over: {error.message}",
                "the tunnel takes both keys until one of them is used; see `prime-spark vpn status`.",
            ) from error
        if not await until(lambda: self._over(name), PROOF):
            raise ConflictError(
                f"{peer.node} uses its new keys, but this hub has not seen them within {PROOF:g} s.",
                f"prime-spark vpn explain {name}",
            )
        log.info("%s changed over from %s", name, keys.short(entry.peer.public_key))

    async def provision(self, name: str, *, endpoint: str = "", replace: bool = False) -> PeerStatus:
        """Write a node's own side over SSH and bring its tunnel up; taken back where no handshake follows.

        Raises:
            ConflictError: The peer has no node, or the node another configuration; or no handshake came, and all is undone.
            UnreachableError, ShellError, ConfigError, StoreError: It was not provisioned.
        """
        entry = await self._book.one(name)
        peer = entry.peer
        private = await self._book.secret(name, Held.private)
        fresh = not private
        if fresh:
            await self._service.rotator.begin(name)
            private = await self._book.secret(name, Held.next_private)
        try:
            if problem := await self._service.changed():
                raise ConflictError(f"The tunnel is not as it should be: {problem.rstrip('.')}.", "prime-spark vpn reconcile")
            text = await file_of(self._service, peer, private, rotated=fresh, endpoint=endpoint)
            await self._start(peer, text, fresh=fresh, replace=replace)
        except ApplianceError as error:
            if fresh and not isinstance(error, ShellError):
                await self._undo(name, "the node was not provisioned")
            raise
        await self._prove(peer, fresh=fresh)
        await self._service.refresh()
        return status_of(self._service, name)

    async def _start(self, peer: Peer, text: str, *, fresh: bool, replace: bool) -> None:
        try:
            await self._nodes.start(peer, text, replace=replace)
        except ShellError as error:
            if fresh:
                await self._leave_open(peer)
            raise ShellError(
                f"The link to {peer.node} was cut while it was provisioned: {error.message}",
                f"the tunnel takes its old and its new keys; see `prime-spark vpn peer show {peer.name}`, and try again.",
            ) from error

    async def _leave_open(self, peer: Peer) -> None:
        """Nobody knows which keys the node has: both stay until one of them is used."""
        await self._service.rotator.tell(peer.name, problem=f"the link to {peer.node} was cut; waiting for proof of one side")
        await self._service.refresh()

    async def _prove(self, peer: Peer, *, fresh: bool) -> None:
        """Wait for the first handshake; without one all is taken back."""
        name = peer.name
        if await until(lambda: self._seen(name, fresh=fresh), PROOF):
            if not fresh:
                await self._book.set_secret(name, Held.private, "")
            return
        back = "its configuration was taken back"
        try:
            await self._nodes.undo(peer)
            if fresh:
                await self._undo(name, "no handshake followed")
        except ApplianceError as error:
            back = error.message.rstrip(".")
            if fresh:
                await self._leave_open(peer)
        raise ConflictError(
            f"{peer.node} was provisioned, and no handshake followed within {PROOF:g} s; {back}.",
            f"see why: `prime-spark vpn explain {name}`; mostly the endpoint cannot be reached from there.",
        )

    async def _over(self, name: str) -> bool:
        return (await self._book.one(name)).rotation is None

    async def _seen(self, name: str, *, fresh: bool) -> bool:
        if fresh:
            return await self._over(name)
        status = status_of(self._service, name)
        return status.state is PeerState.connected and (status.handshake_age_s or 0.0) < min(HANDSHAKE_FRESH, PROOF + NODE)

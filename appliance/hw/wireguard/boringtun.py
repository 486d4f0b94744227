"""boringtun's dialect of the configuration protocol.

It cannot change a peer (it ends, or forgets what it is not told again) and knows no update_only: a peer that changes is
removed and made with all that it has. Its session begins anew then; wireguard-go and the kernel have no such gap. What one
peer of a request was given also holds for the next ones: each gets a request of its own. Handshakes are told by their age,
and the private key is not told.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import msgspec

from appliance.core.vpn.model import ActualPeer, Changes, PeerChange
from appliance.hw.wireguard.device import Device
from appliance.hw.wireguard.uapi import UapiCarrier, parse


class BoringTunCarrier(UapiCarrier):
    """An interface that boringtun carries."""

    def _parse(self, answer: str) -> Device:
        return parse(answer, time.time())

    async def change(self, changes: Changes) -> None:
        """The device in one request, then each peer in its own."""
        peers = changes.peers
        if any(not each.create and not each.remove for each in peers):
            present = {each.public_key: each for each in (await self.read()).peers}
            peers = tuple(anew(peers, present))
        await super().change(msgspec.structs.replace(changes, peers=()))
        for each in peers:
            await super().change(Changes(peers=(each,)))


def anew(changes: Iterable[PeerChange], present: dict[str, ActualPeer]) -> Iterator[PeerChange]:
    """Changes of peers as removals and additions; those of peers that are not there (any more) are left out."""
    for each in changes:
        peer = present.get(each.public_key)
        if each.create or each.remove:
            yield each
        elif peer is not None:
            yield PeerChange(each.public_key, remove=True)
            yield PeerChange(
                each.public_key,
                create=True,
                allowed=peer.allowed if each.allowed is None else each.allowed,
                endpoint=peer.endpoint if each.endpoint is None else each.endpoint,
                keepalive=(peer.keepalive if each.keepalive is None else each.keepalive) or None,
                preshared=(peer.preshared if each.preshared is None else each.preshared) or None,
            )

"""WireGuard in the kernel, through generic netlink (pyroute2)."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import socket
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar

from appliance.core.vpn.model import ActualPeer, Changes, Endpoint, PeerChange
from appliance.errors import TunnelError
from appliance.hw.wireguard.device import Device, key_text, network, raw_key
from appliance.hw.wireguard.faults import wrapped
from appliance.hw.wireguard.space import Space

REMOVE, REPLACE_ALLOWED, UPDATE_ONLY = 1, 2, 4
"""Flags of a peer (uapi/wireguard.h)."""
SET_DEVICE, VERSION = 1, 1
REQUEST_AND_ACK = 1 | 4
NETWORKS_A_MESSAGE = 300
"""A netlink attribute holds at most 64 KiB: a peer takes about 150 bytes, a network about 40."""
Attributes = list[list[Any]]
T = TypeVar("T")


def peer_attributes(change: PeerChange) -> Attributes:
    """A peer's change as netlink attributes. Raises ValueError for what is no key or network."""
    attributes: Attributes = [["WGPEER_A_PUBLIC_KEY", base64.b64encode(raw_key(change.public_key))]]
    flags = (0 if change.create else UPDATE_ONLY) | (REPLACE_ALLOWED if change.allowed is not None else 0)
    attributes.append(["WGPEER_A_FLAGS", REMOVE if change.remove else flags])
    if change.remove:
        return attributes
    if change.preshared is not None:
        attributes.append(["WGPEER_A_PRESHARED_KEY", base64.b64encode(raw_key(change.preshared))])
    if change.endpoint is not None:
        address = str(ipaddress.ip_address(change.endpoint.address))
        attributes.append(["WGPEER_A_ENDPOINT", {"addr": address, "port": change.endpoint.port}])
    if change.keepalive is not None:
        attributes.append(["WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL", change.keepalive])
    if change.allowed:
        attributes.append(["WGPEER_A_ALLOWEDIPS", [_network_attributes(each) for each in change.allowed]])
    return attributes


def _network_attributes(text: str) -> dict[str, Attributes]:
    net = ipaddress.ip_network(text)
    family = socket.AF_INET6 if net.version == 6 else socket.AF_INET
    return {
        "attrs": [
            ["WGALLOWEDIP_A_FAMILY", int(family)],
            ["WGALLOWEDIP_A_IPADDR", net.network_address.packed],
            ["WGALLOWEDIP_A_CIDR_MASK", net.prefixlen],
        ]
    }


def messages(name: str, changes: Changes) -> Iterator[Attributes]:
    """The attributes of each message that changes take, in order. Raises ValueError for what is no key or network."""
    head: Attributes = []
    if changes.private_key is not None:
        head.append(["WGDEVICE_A_PRIVATE_KEY", base64.b64encode(raw_key(changes.private_key))])
    if changes.listen_port is not None:
        head.append(["WGDEVICE_A_LISTEN_PORT", changes.listen_port])
    if changes.fwmark is not None:
        head.append(["WGDEVICE_A_FWMARK", changes.fwmark])
    for part in _parts(changes.peers) if changes.peers else [[]] if head else []:
        peers = [["WGDEVICE_A_PEERS", [{"attrs": peer_attributes(each)} for each in part]]] if part else []
        yield [["WGDEVICE_A_IFNAME", name], *head, *peers]
        head = []


def _parts(peers: Iterable[PeerChange]) -> Iterator[list[PeerChange]]:
    part: list[PeerChange] = []
    weight = 0
    for each in peers:
        cost = 4 + len(each.allowed or ())
        if cost > NETWORKS_A_MESSAGE:
            raise ValueError(f"a peer has {len(each.allowed or ())} networks, more than a message holds")
        if part and weight + cost > NETWORKS_A_MESSAGE:
            yield part
            part, weight = [], 0
        part.append(each)
        weight += cost
    if part:
        yield part


def device_of(answers: Iterable[Any]) -> Device:
    """The device that the kernel told of in one or more messages; a peer with many networks goes on in the next one."""
    public, port, mark = "", 0, 0
    peers: dict[str, ActualPeer] = {}
    for answer in answers:
        public = _key(answer.get("WGDEVICE_A_PUBLIC_KEY")) or public
        port = answer.get("WGDEVICE_A_LISTEN_PORT") or port
        mark = answer.get("WGDEVICE_A_FWMARK") or mark
        for each in answer.get("WGDEVICE_A_PEERS") or ():
            peer = _peer(each)
            known = peers.get(peer.public_key)
            peers[peer.public_key] = peer if known is None else _joined(known, peer)
    return Device(public, port, mark, tuple(peers.values()))


def _joined(first: ActualPeer, more: ActualPeer) -> ActualPeer:
    return ActualPeer(
        first.public_key, (*first.allowed, *more.allowed), first.endpoint, first.keepalive, first.preshared,
        first.handshake, first.rx_bytes, first.tx_bytes,
    )  # fmt: skip


def _key(value: bytes | None) -> str:
    """pyroute2 gives keys in Base64, as bytes; no key is all zeros."""
    return key_text(base64.b64decode(value)) if value else ""


def _peer(told: Any) -> ActualPeer:
    place, seen = told.get("WGPEER_A_ENDPOINT"), told.get("WGPEER_A_LAST_HANDSHAKE_TIME")
    return ActualPeer(
        public_key=_key(told.get("WGPEER_A_PUBLIC_KEY")),
        allowed=tuple(network(*each["addr"].split("/", 1)) for each in told.get("WGPEER_A_ALLOWEDIPS") or ()),
        endpoint=Endpoint(place["addr"], place["port"]) if place else None,
        keepalive=told.get("WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL") or 0,
        preshared=_key(told.get("WGPEER_A_PRESHARED_KEY")),
        handshake=seen["tv_sec"] + seen["tv_nsec"] / 1e9 if seen and seen["tv_sec"] else 0.0,
        rx_bytes=told.get("WGPEER_A_RX_BYTES") or 0,
        tx_bytes=told.get("WGPEER_A_TX_BYTES") or 0,
    )


def _library() -> tuple[Any, Any, Any]:
    """pyroute2's socket, its message and its error; the first call takes half a second and belongs in a thread."""
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.netlink.generic.wireguard import AsyncWireGuard, wgmsg

    return AsyncWireGuard, wgmsg, NetlinkError


class KernelCarrier:
    """An interface that the kernel carries."""

    backend = "kernel"

    def __init__(self, name: str, space: Space) -> None:
        self.name, self._space = name, space

    async def _within(self, doing: str, work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
        """What some requests over one netlink socket give, in a thread; its errors become TunnelError."""
        library, _, netlink_error = await asyncio.to_thread(_library)

        async def requests() -> T:
            async with library() as wireguard:
                await wireguard.setup_endpoint()
                return await work(wireguard)

        try:
            return await self._space.work(requests)
        except (OSError, netlink_error) as error:
            raise wrapped(f"{doing} {self.name}", error) from None

    async def read(self) -> Device:
        """As it is."""

        async def told(wireguard: Any) -> Device:
            return device_of([each async for each in await wireguard.info(self.name)])

        return await self._within("read", told)

    async def change(self, changes: Changes) -> None:
        """As few messages as hold them; the port and the key come with the first."""
        try:
            parts = await asyncio.to_thread(lambda: list(messages(self.name, changes)))
        except ValueError as error:
            raise TunnelError(f"A value for {self.name} is none: {error}.", "correct it; nothing was changed.") from None
        if parts:
            await self._within("configure", lambda wireguard: _send(wireguard, parts))

    async def rebind(self, device: Device) -> None:
        """Setting the mark, also to what it is, makes the kernel forget the addresses that it sent from."""
        parts: list[Attributes] = [[["WGDEVICE_A_IFNAME", self.name], ["WGDEVICE_A_FWMARK", device.fwmark]]]
        await self._within("rebind", lambda wireguard: _send(wireguard, parts))


async def _send(wireguard: Any, parts: Iterable[Attributes]) -> None:
    _, new_message, _ = _library()
    for attributes in parts:
        message = new_message()
        message["cmd"], message["version"], message["attrs"] = SET_DEVICE, VERSION, attributes
        answers = await wireguard.nlm_request(message, msg_type=wireguard.prid, msg_flags=REQUEST_AND_ACK)
        async for _ in answers:
            pass

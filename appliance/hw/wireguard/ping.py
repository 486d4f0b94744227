"""Echo requests (RFC 792, RFC 4443), through an unprivileged socket where the kernel allows it, else a raw one."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import statistics
import struct
import time
from typing import NamedTuple

from appliance.core.vpn.model import Probe
from appliance.errors import TunnelError
from appliance.hw.wireguard.faults import wrapped
from appliance.hw.wireguard.space import Space

GAP_SECONDS = 0.02
TOKEN_BYTES = 8
LARGEST = 65000
MTU_DISCOVER = {4: (socket.IPPROTO_IP, 10), 6: (socket.IPPROTO_IPV6, 23)}
"""IP_MTU_DISCOVER, IPV6_MTU_DISCOVER (ip(7), ipv6(7)): Python names neither."""
PROBE = 3
"""Never fragment, and do not believe in what was learnt of the path."""


class Kind(NamedTuple):
    """Echo messages of one version of IP."""

    family: socket.AddressFamily
    protocol: int
    request: int
    reply: int


KINDS = {
    4: Kind(socket.AF_INET, socket.IPPROTO_ICMP, 8, 0),
    6: Kind(socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 129),
}


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def request(kind: Kind, identifier: int, sequence: int, payload: bytes) -> bytes:
    """An echo request; the kernel fills the checksum of version 6 in."""
    head = struct.pack("!BBHHH", kind.request, 0, 0, identifier, sequence)
    number = checksum(head + payload) if kind.request == 8 else 0
    return struct.pack("!BBHHH", kind.request, 0, number, identifier, sequence) + payload


def sequence_of(kind: Kind, packet: bytes, token: bytes, *, with_header: bool) -> int | None:
    """The sequence number of an answer to us; None for anything else that came in.

    Args:
        kind: The version.
        packet: As it was received.
        token: How our payload begins: raw sockets see everybody's answers.
        with_header: The IPv4 header stands before it.
    """
    start = (packet[0] & 15) * 4 if with_header and packet else 0
    if (
        len(packet) < start + 8 + TOKEN_BYTES
        or packet[start] != kind.reply
        or packet[start + 8 : start + 8 + TOKEN_BYTES] != token
    ):
        return None
    return int.from_bytes(packet[start + 6 : start + 8], "big")


class Pinger:
    """Sends echo requests from one namespace."""

    def __init__(self, space: Space) -> None:
        self._space = space

    async def ping(self, address: str, *, size: int = 56, count: int = 3, limit: float = 1.0, whole: bool = False) -> Probe:
        """Ask an address for echoes.

        Args:
            address: IPv4 or IPv6.
            size: Bytes after the ICMP header; at least 8 are sent.
            count: How many.
            limit: Seconds to wait after the last one.
            whole: They must not be fragmented; one that is too large for the interface counts as not received.

        Raises:
            TunnelError: The address is none, or we may not send.
        """
        try:
            version = ipaddress.ip_address(address).version
        except ValueError:
            raise TunnelError(f"{address[:60]!r} is no address.", "give an IPv4 or IPv6 address.") from None
        kind = KINDS[version]
        try:
            sock, raw = await self._space.run(lambda: _opened(kind, whole))
        except PermissionError:
            raise TunnelError(
                "Echo requests may not be sent.",
                "sudo sysctl -w net.ipv4.ping_group_range='0 2147483647', or give CAP_NET_RAW.",
            ) from None
        except OSError as error:
            raise wrapped(f"ping {address}", error) from None
        with sock:
            return await _Round(sock, kind, raw and version == 4, address).run(min(size, LARGEST), count, limit)


def _opened(kind: Kind, whole: bool) -> tuple[socket.socket, bool]:
    """A socket, and whether it is a raw one."""
    raw = False
    try:
        sock = socket.socket(kind.family, socket.SOCK_DGRAM, kind.protocol)
    except OSError:
        sock, raw = socket.socket(kind.family, socket.SOCK_RAW, kind.protocol), True
    sock.setblocking(False)
    if whole:
        level, option = MTU_DISCOVER[4 if kind.family == socket.AF_INET else 6]
        sock.setsockopt(level, option, PROBE)
    return sock, raw


class _Round:
    """One series of requests to one address."""

    def __init__(self, sock: socket.socket, kind: Kind, with_header: bool, address: str) -> None:
        self._sock, self._kind, self._with_header, self._address = sock, kind, with_header, address
        self._token = os.urandom(TOKEN_BYTES)
        self._identifier = int.from_bytes(os.urandom(2), "big")
        self._sent: dict[int, float] = {}
        self._took: dict[int, float] = {}

    async def run(self, size: int, count: int, limit: float) -> Probe:
        listening = asyncio.create_task(self._listen(count))
        try:
            if await self._send(self._token + b"\xa5" * max(0, size - TOKEN_BYTES), count):
                await asyncio.wait([listening], timeout=limit)
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening
        middle = statistics.median(self._took.values()) * 1000 if self._took else None
        return Probe(count, len(self._took), middle)

    async def _send(self, payload: bytes, count: int) -> bool:
        """Whether any left this machine: with no route, no key, or an interface too small for it, none did."""
        loop, left = asyncio.get_running_loop(), False
        for number in range(count):
            if number:
                await asyncio.sleep(GAP_SECONDS)
            packet = request(self._kind, self._identifier, number, payload)
            with contextlib.suppress(OSError):
                self._sent[number] = time.perf_counter()
                await loop.sock_sendto(self._sock, packet, (self._address, 0))
                left = True
        return left

    async def _listen(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        while len(self._took) < count:
            try:
                packet = await loop.sock_recv(self._sock, 2**16)
            except OSError:  # an error that came back for one of ours, such as unreachable: not an answer
                await asyncio.sleep(GAP_SECONDS / 4)
                continue
            number = sequence_of(self._kind, packet, self._token, with_header=self._with_header)
            if number is not None and number in self._sent and number not in self._took:
                self._took[number] = time.perf_counter() - self._sent[number]

"""Hears Wake-on-LAN packets on a network: Ethernet type 0x0842, and UDP to the ports 7 and 9."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
import struct
from collections.abc import Callable

ETH_P_ALL = 3
SO_ATTACH_FILTER = 26
MAGIC = b"\xff" * 6
FILTER = [
    (0x28, 0, 0, 12), (0x15, 7, 0, 0x0842), (0x15, 0, 7, 0x0800),
    (0x30, 0, 0, 23), (0x15, 0, 5, 17),
    (0xB1, 0, 0, 14), (0x48, 0, 0, 16), (0x15, 1, 0, 9), (0x15, 0, 1, 7),
    (0x06, 0, 0, 0x40000), (0x06, 0, 0, 0),
]  # fmt: skip
"""Classic BPF: type is 0x0842, or IPv4 and UDP and its port is 9 or 7; everything else stays in the kernel."""


def listener() -> socket.socket:
    """A socket that hears them in the network namespace of the calling thread."""
    heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    code = b"".join(struct.pack("HBBI", *each) for each in FILTER)
    kept = ctypes.create_string_buffer(code)
    heard.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HxxxxxxQ", len(FILTER), ctypes.addressof(kept)))
    heard.setblocking(False)
    return heard


def woken(packet: bytes) -> str | None:
    """The card's address that a magic packet names, or None."""
    start = packet.find(MAGIC)
    while start >= 0:
        card = packet[start + 6 : start + 12]
        if len(card) == 6 and packet[start + 6 : start + 6 + 96] == card * 16:
            return card.hex(":")
        start = packet.find(MAGIC, start + 1)
    return None


def listen(heard: socket.socket, wake: Callable[[str], None]) -> None:
    """Call `wake` with each card's address that is named from now on, until the socket is closed."""

    def read() -> None:
        with contextlib.suppress(BlockingIOError):
            card = woken(heard.recv(4096))
            if card:
                wake(card)

    asyncio.get_running_loop().add_reader(heard, read)

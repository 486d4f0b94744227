"""HTTP with limits that hold: on connecting, on sending and on reading, and no retries that nobody sees."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import urllib3


PIECE = 64 * 1024
"""Bytes that are sent at once."""
BUFFER = 4 * PIECE
"""Bytes that the kernel holds of what was sent; with megabytes there, waiting for the answer would take in the sending."""


def _pieces(data: Any) -> Iterable[Any]:
    if not isinstance(data, bytes) or len(data) <= PIECE:
        return (data,)
    view = memoryview(data)
    return (view[start : start + PIECE] for start in range(0, len(view), PIECE))


def pool_manager(connect: float, transfer: float, size: int) -> urllib3.PoolManager:
    """Connections to HTTP servers.

    urllib3 alone sends with the limit for connecting, and a socket counts it for the whole of what it is given at once, so
    that a body on a slow uplink would break off.

    Args:
        connect: Seconds until a connection stands.
        transfer: Seconds without a single byte going out or coming in.
        size: Connections that are kept.
    """
    import certifi
    import urllib3
    from urllib3.connection import HTTPConnection, HTTPSConnection

    class PlainConnection(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            self.sock.settimeout(transfer)

        def send(self, data: Any) -> None:
            for piece in _pieces(data):
                super().send(piece)

    class SecureConnection(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            self.sock.settimeout(transfer)

        def send(self, data: Any) -> None:
            for piece in _pieces(data):
                super().send(piece)

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = PlainConnection

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = SecureConnection

    manager = urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=connect, read=transfer),
        retries=False,
        socket_options=[*HTTPConnection.default_socket_options, (socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)],
        maxsize=size,
        cert_reqs="CERT_REQUIRED",
        ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
    )
    manager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
    return manager

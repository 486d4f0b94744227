"""The way to a machine before anybody speaks SSH: a TCP connection, which costs nothing while nobody answers."""

from __future__ import annotations

import asyncio
import socket


async def dial(address: str, port: int) -> socket.socket:
    """A connected, non-blocking TCP socket to the first of its addresses that answers; the caller closes it.

    Args:
        address: Name or address.
        port: TCP port.

    Raises:
        OSError: None of its addresses takes the connection; socket.gaierror where the name is not known.
    """
    loop = asyncio.get_running_loop()
    refused: OSError | None = None
    for family, kind, protocol, _, place in await loop.getaddrinfo(address, port, type=socket.SOCK_STREAM):
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        try:
            await loop.sock_connect(made, place)
        except OSError as error:
            made.close()
            refused = error
        except BaseException:
            made.close()
            raise
        else:
            return made
    raise refused or OSError(f"{address} has no address")

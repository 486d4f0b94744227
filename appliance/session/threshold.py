"""A port that is open before what serves it is loaded: the first who knocks has it loaded, and waits in the port's queue."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

QUEUE = 100
"""Connections that wait while the server is loaded; the system turns away more."""


class Threshold:
    """One TCP port, on all addresses that a name has. On one loop.

    Args:
        knocked: Called once, when the first connection waits; nothing is accepted here.
    """

    def __init__(self, knocked: Callable[[], None]) -> None:
        self._knocked = knocked
        self._watched: list[socket.socket] = []

    async def open(self, host: str, port: int) -> int:
        """Listen; returns the port in use. Raises OSError."""
        loop = asyncio.get_running_loop()
        bound = await loop.create_server(asyncio.Protocol, host, port, reuse_address=True, start_serving=False)
        self._watched = [each.dup() for each in bound.sockets]
        bound.close()
        try:
            for each in self._watched:
                each.setblocking(False)
                each.listen(QUEUE)
        except OSError:  # somebody else listens there since we bound it
            self.close()
            raise
        for each in self._watched:
            loop.add_reader(each, self._knock)
        return int(self._watched[0].getsockname()[1])

    def _knock(self) -> None:
        self._look_away()
        self._knocked()

    def _look_away(self) -> None:
        loop = asyncio.get_running_loop()
        for each in self._watched:
            loop.remove_reader(each)

    def hand_over(self) -> list[socket.socket]:
        """The listening sockets, for whoever accepts what waits there; they are the caller's from here on."""
        self._look_away()
        watched, self._watched = self._watched, []
        return watched

    def close(self) -> None:
        """Close the port, where it was not handed over."""
        for each in self.hand_over():
            each.close()

"""Lets so many in at once; the others wait their turn."""

from __future__ import annotations

import asyncio
from collections import deque


class Gate:
    """The sessions of one connection.

    Args:
        most: How many at once.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Take a place; waits for one."""
        while self.taken >= self.most:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                else:  # it was just given to us: pass it on
                    self._call()
                raise
        self.taken += 1

    def leave(self) -> None:
        """Give the place back."""
        self.taken -= 1
        self._call()

    def learned(self, most: int) -> None:
        """The other side allows no more than so many."""
        self.most = max(1, min(self.most, most))

    def _call(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

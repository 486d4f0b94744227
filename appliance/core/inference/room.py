"""Memory that waiting requests may take together: whoever needs more than is left waits, the most urgent first."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from appliance.errors import DeadlineError


class Room:
    """Bytes that are given out and come back. For one event loop.

    Args:
        size: Bytes in all; whoever asks for more gets all of it, alone.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.left = size
        self._waiting: list[tuple[int, int, int, asyncio.Future[None]]] = []
        """Priority, number, bytes, and who waits for them."""
        self._number = itertools.count()

    @asynccontextmanager
    async def take(self, wanted: int, priority: int, seconds: float) -> AsyncIterator[None]:
        """Hold bytes as long as this lasts.

        Args:
            wanted: Bytes.
            priority: The lower number goes first.
            seconds: Longest wait.

        Raises:
            DeadlineError: There was no room in time.
        """
        wanted = min(wanted, self.size)
        if self._waiting or wanted > self.left:
            await self._wait(wanted, priority, seconds)
        else:
            self.left -= wanted
        try:
            yield
        finally:
            self.left += wanted
            self._hand_out()

    async def _wait(self, wanted: int, priority: int, seconds: float) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._number), wanted, turn))
        self._hand_out()
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # it came, and at once the caller went
                self.left += wanted
            turn.cancel()
            self._hand_out()
            if isinstance(error, TimeoutError):
                raise DeadlineError("There was no memory for the input in time.", "send fewer, or smaller ones.") from error
            raise

    def _hand_out(self) -> None:
        while self._waiting:
            _, _, wanted, turn = self._waiting[0]
            if not turn.done():
                if wanted > self.left:
                    return
                self.left -= wanted
                turn.set_result(None)
            heapq.heappop(self._waiting)

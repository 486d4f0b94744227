"""A session's terminal handed over to a shell on a node: bytes go both ways, untouched, until it ends or is left."""

from __future__ import annotations

import asyncio
import logging

from appliance.core.console import FarTerminal
from appliance.core.fleet.terminals import ShellEnd
from appliance.errors import ApplianceError
from appliance.session.driver import Channel
from appliance.session.escapes import MODES_OFF, MOUSE_OFF

log = logging.getLogger(__name__)

LEAVE_KEYS = (b"\x1d", b"\x1b[93;5u")
"""Ctrl-], and as terminals send it that a program has switched to the Kitty keyboard protocol."""
SETTLED = MOUSE_OFF + MODES_OFF + "\x1b[?1002l\x1b[?1004l\x1b[?1l\x1b>\x1b[4l\x1b[r\x1b[m\x1b(B\x0f\x1b[?25h"
"""What a program may have left switched on (console_codes(4), ctlseqs): mouse, paste, cursor keys, keypad, insert, margins."""
SETTLED_MORE = "\x1b[<u\x1b[?2026l"
"""For terminals beyond the Linux console: Kitty's keys, synchronised output."""
IDLE = 1800.0
"""Seconds without a byte in either direction after which it is left."""
TYPED = 1 << 20
"""Bytes typed ahead that wait for a slow link; more are thrown away, and the end says how many."""


def greeting(node: str, user: str) -> bytes:
    """What is said before the shell speaks."""
    return f"\r\nShell on {node} as {user}. Ctrl-] comes back.\r\n".encode()


class Bridge:
    """Between a terminal here and one on a node. On the UI loop.

    Args:
        far: The one there.
        channel: The one here.
        node: Its name.
        user: Who sits here.
        plain: The terminal here is a Linux console or simpler.
        idle: Seconds without a byte after which it is left.
    """

    def __init__(
        self, far: FarTerminal, channel: Channel, node: str, *, user: str = "", plain: bool = False, idle: float = IDLE
    ) -> None:
        self.user = user
        self._far = far
        self._channel = channel
        self._node = node
        self._plain = plain
        self._idle = idle
        self._typed = bytearray()
        self._lost = 0
        self._key = asyncio.Event()
        self._room = asyncio.Event()
        self._left: asyncio.Future[ShellEnd] = asyncio.get_running_loop().create_future()
        self._last = asyncio.get_running_loop().time()

    def feed(self, data: bytes) -> None:
        """Somebody typed."""
        self._last = asyncio.get_running_loop().time()
        at = min((where for key in LEAVE_KEYS if (where := data.find(key)) >= 0), default=-1)
        kept = data if at < 0 else data[:at]
        if len(self._typed) + len(kept) > TYPED:
            self._lost += len(kept)
        else:
            self._typed += kept
        self._key.set()
        if at >= 0:
            self.leave("left with Ctrl-]")

    def resize(self, columns: int, rows: int) -> None:
        """The terminal here has another size."""
        self._far.resize(columns, rows)

    def resumed(self) -> None:
        """The terminal here takes data again."""
        self._room.set()

    def leave(self, reason: str) -> None:
        """End it."""
        if not self._left.done():
            self._left.set_result(ShellEnd(self._node, reason))

    async def run(self) -> ShellEnd:
        """Until the shell ends, is left, or is cut off; the shell there has ended then, and the terminal here is settled."""
        tasks = [asyncio.ensure_future(each) for each in (self._out(), self._in(), self._watch())]
        waited: set[asyncio.Future[ShellEnd]] = {*tasks, self._left}
        try:
            done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            end = self._left.result() if self._left in done else next(iter(done)).result()
        finally:
            for task in tasks:
                task.cancel()
            closing = self._far.close()
            self._channel.write((SETTLED + ("" if self._plain else SETTLED_MORE)).encode())
        return self._final(end, await closing)

    def _final(self, end: ShellEnd, status: int | None) -> ShellEnd:
        lost = f"; {self._lost} bytes that were typed ahead were thrown away" if self._lost else ""
        if end.reason:
            return ShellEnd(end.node, end.reason + lost, None, end.broken, end.next_step)
        told = "it ended" if status is None else f"it ended with exit status {status}"
        return ShellEnd(end.node, told + lost, status)

    async def _out(self) -> ShellEnd:
        """What it says."""
        try:
            while data := await self._far.read():
                self._last = asyncio.get_running_loop().time()
                self._channel.write(data)
                while self._channel.paused:
                    self._room.clear()
                    await self._room.wait()
        except ApplianceError as error:
            return self._broken(error)
        return ShellEnd(self._node, "")

    async def _in(self) -> ShellEnd:
        """What is typed."""
        try:
            while True:
                await self._key.wait()
                self._key.clear()
                data = bytes(self._typed)
                self._typed.clear()
                if data:
                    await self._far.write(data)
        except ApplianceError as error:
            return self._broken(error)

    async def _watch(self) -> ShellEnd:
        """Nobody is there any more."""
        loop = asyncio.get_running_loop()
        left = self._idle
        while left > 0:
            await asyncio.sleep(left)
            left = self._last + self._idle - loop.time()
        return ShellEnd(self._node, f"nothing happened for {self._idle / 60:g} min, so it was ended")

    def _broken(self, error: ApplianceError) -> ShellEnd:
        log.info("the shell on %s: %s", self._node, error.message)
        return ShellEnd(self._node, error.message, None, broken=True, next_step=error.next_step)

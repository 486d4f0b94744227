"""An interactive shell on another machine (implements model.Terminal)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from appliance.core.fleet.link import Live
from appliance.core.fleet.link_process import BLOCK, reason_of
from appliance.errors import ShellError

STATUS_LIMIT = 2.0
"""Seconds that the exit status of a shell may come behind its last output."""


class SshTerminal:
    """A pseudo-terminal there.

    Args:
        process: asyncssh's SSHClientProcess, its streams bytes.
        live: The connection that it has a session of.
        node: Name of the machine, for errors.
    """

    def __init__(self, process: Any, live: Live, node: str) -> None:
        self._process, self._live, self._node = process, live, node
        self._open = True

    async def read(self) -> bytes:
        """See model.Terminal."""
        import asyncssh

        try:
            data: bytes = await self._process.stdout.read(BLOCK)
        except (OSError, asyncssh.Error) as error:
            raise self._broken(error) from error
        if not data:
            await self._over()
        if not data and self._process.returncode is None and self._live.opened.connection.is_closed():
            raise self._broken(ConnectionResetError("the link broke"))
        return data

    async def _over(self) -> None:
        """Its exit status comes behind its last output."""
        with suppress(TimeoutError):
            async with asyncio.timeout(STATUS_LIMIT):
                await self._process.wait_closed()

    async def write(self, data: bytes) -> None:
        """See model.Terminal."""
        import asyncssh

        try:
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        except (OSError, asyncssh.Error) as error:
            raise self._broken(error) from error

    def resize(self, columns: int, rows: int) -> None:
        """See model.Terminal."""
        if not self._process.is_closing():
            self._process.change_terminal_size(columns, rows)

    async def close(self) -> int | None:
        """See model.Terminal."""
        if self._open:
            self._open = False
            self._process.close()
            self._live.gate.leave()
        status: int | None = self._process.returncode
        return status

    def _broken(self, error: BaseException) -> ShellError:
        return ShellError(f"{self._node}: the terminal was cut off ({reason_of(error)}).", "open it again.")

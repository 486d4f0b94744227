"""Tells the service manager how this process does: sd_notify(3), whose protocol is one datagram of NAME=VALUE lines.

Without NOTIFY_SOCKET in the environment nothing is told to anybody.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping

log = logging.getLogger(__name__)


class Notifier:
    """The service manager that started this process, if one did and wants to be told.

    Args:
        environ: NOTIFY_SOCKET: its socket, a path, or @NAME of an abstract one. WATCHDOG_USEC: microseconds without a sign
            of life after which it restarts this process (sd_watchdog_enabled(3)); WATCHDOG_PID: which process is meant.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.interval = _interval(environ) if address else None
        """Seconds between two signs of life; None where nobody waits for them."""

    def tell(self, *lines: str) -> None:
        """Send these lines, such as READY=1; a manager that cannot be reached is logged, for it will act on its silence."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            log.warning("the service manager was not told %s: %s", lines[0], error)

    async def beat(self) -> None:
        """Give signs of life from this loop until cancelled, where somebody waits for them: a loop that hangs gives none."""
        while self.interval is not None:
            self.tell("WATCHDOG=1")
            await asyncio.sleep(self.interval)

    async def attend(self, settled: Callable[[], Awaitable[None]]) -> None:
        """Say that the start is complete when `settled` returns, then give signs of life until cancelled."""
        await settled()
        self.tell("READY=1")
        await self.beat()


def _interval(environ: Mapping[str, str]) -> float | None:
    """A third of the time that the manager waits, in seconds."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        wait = int(environ.get("WATCHDOG_USEC", "0")) / 1e6
    except ValueError as error:
        log.warning("WATCHDOG_USEC: %s", error)
        return None
    return wait / 3 if wait > 0 else None

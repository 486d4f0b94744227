"""A second local start attaches to the appliance that runs: it hands its terminal over as file descriptors.

The client sends its standard input and output with SCM_RIGHTS (unix(7)) and one JSON line about the terminal; further
lines tell new sizes. The server closes the connection when the console ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from appliance.core.model import Actor, Health, HealthReport
from appliance.session.caps import caps_of
from appliance.session.manager import Session, Sessions
from appliance.session.tty import RawMode, TtyChannel, window_size
from appliance.session.ui import UiThread

log = logging.getLogger(__name__)

HELLO = 4096
KEPT = ("TERM", "COLORTERM", "LANG", "LC_ALL", "LC_CTYPE")


async def run_on_terminal(
    sessions: Sessions,
    actor: Actor,
    in_fd: int,
    out_fd: int,
    environ: Mapping[str, str],
    opened: Callable[[Session], None] | None = None,
) -> None:
    """One console on a local terminal, from first paint to the last byte written. On the UI loop."""
    channel = TtyChannel(in_fd, out_fd)
    session = sessions.create(actor, channel, caps_of(environ), window_size(out_fd))
    if opened is not None:
        opened(session)
    channel.open(session.feed, session.end, session.resumed)
    await sessions.run(session)
    await channel.ended.wait()


class AttachService:
    """Takes further local terminals (implements ports.Service); it runs on the UI loop.

    Args:
        ui: The UI thread.
        sessions: Opens consoles.
        actor_for: Who sits at a terminal of this name.
        path: The socket's path.
        bind: Makes the listening-to-be socket, mode 0600.
    """

    name = "console"
    summary = "Consoles on this machine's terminals"
    depends: tuple[str, ...] = ()

    def __init__(
        self, ui: UiThread, sessions: Sessions, actor_for: Callable[[str], Actor], path: Path, bind: Callable[[], socket.socket]
    ) -> None:
        self._ui = ui
        self._sessions = sessions
        self._actor_for = actor_for
        self._path = path
        self._bind = bind
        self._socket: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. Raises OSError."""
        self._path.unlink(missing_ok=True)
        self._socket = self._bind()
        self._socket.listen(8)
        self._socket.setblocking(False)
        self._ui.loop.call_soon_threadsafe(self._ui.loop.add_reader, self._socket.fileno(), self._accept)

    async def run(self) -> None:
        """Serve until cancelled."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Take no more terminals."""
        sock, self._socket = self._socket, None
        if sock is not None:
            await self._ui.call(self._forget(sock.fileno()))
            sock.close()
            self._path.unlink(missing_ok=True)

    async def _forget(self, descriptor: int) -> None:
        asyncio.get_running_loop().remove_reader(descriptor)

    async def health(self) -> HealthReport:
        """Whether further terminals can attach."""
        if not self._path.is_socket():
            return HealthReport(
                Health.degraded, f"{self._path} is gone: no terminal can attach", "prime-spark service restart console"
            )
        return HealthReport(Health.healthy, f"{len(self._sessions)} consoles open")

    def _accept(self) -> None:
        if self._socket is None:
            return
        try:
            connection, _ = self._socket.accept()
        except OSError as error:
            log.warning("a terminal could not attach: %s", error)
            return
        task = asyncio.get_running_loop().create_task(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: socket.socket) -> None:
        descriptors: list[int] = []
        try:
            data, descriptors, _, _ = await asyncio.to_thread(socket.recv_fds, connection, HELLO, 2)
            hello = json.loads(data)
            if len(descriptors) != 2 or not all(os.isatty(descriptor) for descriptor in descriptors):
                raise ValueError("no terminal was handed over")
            await self._console(connection, descriptors, hello)
        except (OSError, ValueError) as error:
            log.warning("a terminal could not attach: %s", error)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
            connection.close()

    async def _console(self, connection: socket.socket, descriptors: list[int], hello: dict[str, Any]) -> None:
        environ = {str(key): str(value) for key, value in hello.get("environ", {}).items() if key in KEPT}
        loop = asyncio.get_running_loop()
        connection.setblocking(False)

        def opened(session: Session) -> None:
            loop.add_reader(connection.fileno(), self._on_line, connection, session)

        try:
            actor = self._actor_for(str(hello.get("user", "")) or "console")
            await run_on_terminal(self._sessions, actor, descriptors[0], descriptors[1], environ, opened)
        finally:
            loop.remove_reader(connection.fileno())

    def _on_line(self, connection: socket.socket, session: Session) -> None:
        try:
            data = connection.recv(HELLO)
        except BlockingIOError:
            return
        except OSError as error:
            log.debug("attached terminal: %s", error)
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(connection.fileno())
            session.end()
            return
        for line in data.splitlines():
            with contextlib.suppress(ValueError, KeyError):  # a line cut in two: the next size comes whole
                size = json.loads(line)
                session.resize(int(size["columns"]), int(size["rows"]))


def attach(address: str, user: str, environ: Mapping[str, str]) -> int:
    """Hand this process's terminal to the running appliance until its console ends; returns the exit code.

    Raises:
        OSError: Nobody listens there.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(address)
        hello = {"user": user, "environ": {key: environ[key] for key in KEPT if key in environ}}
        raw = RawMode(sys.stdin.fileno())

        def on_size(*_: object) -> None:
            columns, rows = window_size(sys.stdout.fileno())
            with contextlib.suppress(OSError):  # the console ended meanwhile
                sock.sendall(json.dumps({"columns": columns, "rows": rows}).encode() + b"\n")

        raw.enter()
        try:
            socket.send_fds(sock, [json.dumps(hello).encode()], [sys.stdin.fileno(), sys.stdout.fileno()])
            signal.signal(signal.SIGWINCH, on_size)
            signal.signal(signal.SIGTERM, lambda *_: sock.shutdown(socket.SHUT_RDWR))
            while sock.recv(64):
                continue
        finally:
            raw.leave()
    return 0

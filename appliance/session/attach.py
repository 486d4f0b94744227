"""A second local start attaches to the appliance that runs: it hands its terminal over as file descriptors.

The client (session.handover) sends its standard input and output with SCM_RIGHTS (unix(7)) and one JSON line about the
terminal; further lines tell new sizes. The server's only line, {"end": reason}, comes when the console has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import pwd
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from appliance.core.fleet.terminals import ShellEnd
from appliance.core.model import Actor, Health, HealthReport
from appliance.errors import ApplianceError
from appliance.errortext import error_text
from appliance.session.caps import caps_of
from appliance.session.handover import KEPT
from appliance.session.manager import Session, Sessions
from appliance.session.remote import Bridge
from appliance.session.tty import TtyChannel, window_size
from appliance.session.ui import UiThread

log = logging.getLogger(__name__)

HELLO = 4096
"""Bytes of the first message at most."""
HELLO_TIME = 5.0
"""Seconds in which it must come."""
MOST = 8
"""Terminals attached at one time."""
WRITE_OUT = 2.0
"""Seconds that a terminal has to take the last bytes."""


STOPPED = "The appliance was stopped.\nnext: start it again: prime-spark"
"""What is told to whose console ended with the appliance."""


async def run_on_terminal(
    sessions: Sessions,
    actor: Actor,
    in_fd: int,
    out_fd: int,
    environ: Mapping[str, str],
    opened: Callable[[Session], None] | None = None,
) -> str | None:
    """One console on a local terminal, until its last byte is written; returns what its App returns. On the UI loop."""
    channel = TtyChannel(in_fd, out_fd)
    session = sessions.create(actor, channel, caps_of(environ), window_size(out_fd), environ.get("TERM", ""))
    if opened is not None:
        opened(session)
    channel.open(session.feed, session.end, session.resumed)
    result = await sessions.run(session)
    await written_out(channel)
    return result


async def written_out(channel: TtyChannel) -> None:
    """Wait until a closed terminal has taken its last bytes; one that takes nothing is left as it is."""
    try:
        async with asyncio.timeout(WRITE_OUT):
            await channel.ended.wait()
    except TimeoutError:
        log.warning("a terminal took nothing for %g s and was left as it is", WRITE_OUT)
        channel.abandon()


def _told(connection: socket.socket) -> bytes | None:
    """What the client said; empty where it is gone, and then it is listened to no more; None for nothing."""
    try:
        data = connection.recv(HELLO)
    except BlockingIOError:
        return None
    except OSError as error:
        log.debug("attached terminal: %s", error)
        data = b""
    if not data:
        asyncio.get_running_loop().remove_reader(connection.fileno())
    return data


def _gave_up(connection: socket.socket, asked: asyncio.Future[ShellEnd]) -> None:
    """The client said something, or went, before its shell was there; a size may come, anything else is the end."""
    if _told(connection) == b"":
        asked.cancel()


@dataclass(frozen=True)
class Hello:
    """What a client says first.

    Attributes:
        environ: Of its terminal.
        shell: Node of the shell that it wants; empty for a console.
    """

    environ: dict[str, str]
    shell: str = ""


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
        if not await self._ui.answers():
            return HealthReport(Health.unhealthy, "the UI loop takes no turns: consoles stand still", "restart the appliance.")
        return HealthReport(Health.healthy, f"{len(self._sessions)} open")

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
        end: dict[str, object] = {"end": ""}
        try:
            user = self._admitted(connection)
            hello, descriptors = await receive_terminal(connection)
            if hello.shell:
                end = await self._shell(connection, descriptors, hello, user)
            else:
                await self._console(connection, descriptors, hello.environ, user)
                if self._socket is None:  # nobody closed it: all of it ends
                    end = {"end": "", "note": STOPPED}
        except ApplianceError as error:
            end = {"end": error_text(error), "status": error.exit_code}
        except (OSError, ValueError, TimeoutError) as error:
            end = {"end": f"error: this terminal could not attach: {error}"}
            log.warning("a terminal could not attach: %s", error)
        finally:
            with contextlib.suppress(OSError):  # the client is gone
                connection.send(json.dumps(end).encode())
            for descriptor in descriptors:
                os.close(descriptor)
            connection.close()

    def _admitted(self, connection: socket.socket) -> str:
        """The name of whoever connects. Raises PermissionError, ConnectionRefusedError."""
        uid = peer_uid(connection)
        if uid not in {0, os.geteuid()}:
            raise PermissionError(f"it belongs to user {uid}, the appliance to user {os.geteuid()}")
        if len(self._tasks) > MOST:
            raise ConnectionRefusedError(f"{MOST} terminals are attached already; close one")
        return user_name(uid)

    async def _console(self, connection: socket.socket, descriptors: list[int], environ: dict[str, str], user: str) -> None:
        loop = asyncio.get_running_loop()

        def opened(session: Session) -> None:
            loop.add_reader(connection.fileno(), self._on_line, connection, session.resize, session.end)

        try:
            await run_on_terminal(self._sessions, self._actor_for(user), descriptors[0], descriptors[1], environ, opened)
        finally:
            loop.remove_reader(connection.fileno())

    async def _shell(self, connection: socket.socket, descriptors: list[int], hello: Hello, user: str) -> dict[str, object]:
        """A shell on a node, on the terminal that was handed over; what its client is told at the end."""
        loop = asyncio.get_running_loop()
        channel = TtyChannel(descriptors[0], descriptors[1])
        bridges: list[Bridge] = []
        gone = "the terminal was closed"

        def opened(bridge: Bridge) -> None:
            bridges.append(bridge)
            loop.remove_reader(connection.fileno())
            loop.add_reader(connection.fileno(), self._on_line, connection, bridge.resize, lambda: bridge.leave(gone))
            channel.open(bridge.feed, lambda: bridge.leave(gone), bridge.resumed)

        actor, size = self._actor_for(user), window_size(descriptors[1])
        asked = asyncio.ensure_future(
            self._sessions.shell(actor, channel, hello.shell, hello.environ.get("TERM", ""), size, opened)
        )
        loop.add_reader(connection.fileno(), _gave_up, connection, asked)
        try:
            end = await asked
        except asyncio.CancelledError:
            return {"end": "stopped", "status": 130}
        finally:
            loop.remove_reader(connection.fileno())
            if bridges:
                channel.close()
                await written_out(channel)
        told = f"\n{error_text(ApplianceError(end.reason, end.next_step))}" if end.broken else ""
        note = "" if end.broken or end.status is not None else f"shell on {end.node}: {end.reason}"
        return {"end": told, "note": note, "status": 1 if end.broken else end.status or 0}

    def _on_line(self, connection: socket.socket, resize: Callable[[int, int], None], end: Callable[[], None]) -> None:
        data = _told(connection)
        if data == b"":
            end()
        for line in (data or b"").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # a line cut in two: the next size comes whole
                size = json.loads(line)
                resize(int(size["columns"]), int(size["rows"]))


async def receive_terminal(connection: socket.socket) -> tuple[Hello, list[int]]:
    """What a client says, and its terminal's descriptors.

    Raises:
        ValueError: It handed over something else.
        TimeoutError: Nothing came in time.
        OSError: The client is gone.
    """
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    connection.setblocking(False)
    loop.add_reader(connection.fileno(), readable.set)
    try:
        async with asyncio.timeout(HELLO_TIME):
            await readable.wait()
    except TimeoutError:
        if not readable.is_set():  # where this loop stood still for so long, what came meanwhile is in time
            raise TimeoutError(f"nothing came within {HELLO_TIME:g} s") from None
    finally:
        loop.remove_reader(connection.fileno())
    data, descriptors, _, _ = socket.recv_fds(connection, HELLO, 2)
    try:
        return _hello_of(data, descriptors), descriptors
    except ValueError:
        for descriptor in descriptors:
            os.close(descriptor)
        raise


def _hello_of(data: bytes, descriptors: list[int]) -> Hello:
    if len(descriptors) != 2 or not all(os.isatty(descriptor) for descriptor in descriptors):
        raise ValueError("no terminal was handed over")
    first, end, _ = data.partition(b"\n")
    hello = json.loads(first) if end else None
    environ = hello.get("environ") if isinstance(hello, dict) else None
    if not isinstance(hello, dict) or not isinstance(environ, dict):
        raise ValueError("the first line is not what this version sends; is the other one newer?")
    return Hello({str(key): str(value) for key, value in environ.items() if key in KEPT}, str(hello.get("shell", "")))


def peer_uid(connection: socket.socket) -> int:
    """The user at the other end (SO_PEERCRED, unix(7))."""
    size = struct.calcsize("3i")
    return int(struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[1])


def user_name(uid: int) -> str:
    """The name of a user id, or the number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)

"""Serves the REST application on a UNIX socket of mode 0600, as a supervised service."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from starlette.requests import Request
from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.server import Server

from appliance.core.model import Actor, Health, HealthReport, Role
from appliance.errors import NotAuthorizedError


class QuietServer(Server):
    """Uvicorn without signal handlers: signals belong to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none."""
        yield


class _Peers(AutoHTTPProtocol):  # type: ignore[misc,valid-type]
    """HTTP on a UNIX socket: a client's address is (user id, process id), as the kernel tells (SO_PEERCRED, unix(7))."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Look who is there."""
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
        self.client = (str(uid), pid)


class ApiService:
    """The control socket (implements ports.Service).

    Args:
        app: Makes the application (late: its libraries are heavy).
        path: The socket's path.
        address: The path as an address (paths.socket_address).
    """

    name = "api"
    summary = "REST on the control socket, for the command line"
    depends: tuple[str, ...] = ()

    def __init__(self, app: Callable[[], ASGIApp], path: Path, address: str) -> None:
        self._app = app
        self._path = path
        self._address = address
        self._server: QuietServer | None = None
        self._socket: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Bind and serve. Raises OSError."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        self._socket = bind_private(self._address)
        config = Config(
            self._app(),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
            server_header=False,
            proxy_headers=False,
            http=_Peers,
            ws="none",
        )
        self._server = QuietServer(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]), name="api serve")
        while not self._server.started:
            if self._task.done():
                self._task.result()
            await asyncio.sleep(0.005)

    async def run(self) -> None:
        """Serve until cancelled."""
        if self._task is None:
            raise RuntimeError("run before start")
        await asyncio.shield(self._task)

    async def stop(self) -> None:
        """Answer what is under way, close, remove the socket."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await asyncio.wait({self._task}, timeout=2)
            self._task.cancel()
        if self._socket is not None:
            self._socket.close()
            self._path.unlink(missing_ok=True)
        self._server, self._socket, self._task = None, None, None

    async def health(self) -> HealthReport:
        """Unhealthy when the socket's file was taken away."""
        if not self._path.is_socket():
            return HealthReport(Health.unhealthy, f"{self._path} is gone", "prime-spark service restart api")
        return HealthReport(Health.healthy, f"listens on {self._path}")


def bind_private(address: str) -> socket.socket:
    """A listening-to-be UNIX socket of mode 0600 from its first moment."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    os.fchmod(sock.fileno(), 0o600)  # Linux gives the file the mode that the socket has; the umask is everybody's
    try:
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def local_actor(request: Request) -> Actor:
    """Whoever is at the other end of the socket: this process's user or root, and so its admin.

    Raises:
        NotAuthorizedError: It is somebody else, or nobody can tell.
    """
    peer = request.client
    if peer is None or not peer.host.isdigit() or int(peer.host) not in {0, os.geteuid()}:
        raise NotAuthorizedError("This socket belongs to another user.", f"do it as {user_name(os.geteuid())}.")
    return Actor(user_name(int(peer.host)), Role.admin, "socket", f"process {peer.port}")


def user_name(uid: int) -> str:
    """The name of a user id, or the number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)

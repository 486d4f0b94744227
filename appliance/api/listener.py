"""REST over TCP as a supervised service: plain HTTP on loopback, HTTPS elsewhere, and a port that sends on to HTTPS."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config

from appliance.api.bounded import TcpServer, bounded
from appliance.api.limits import room_for
from appliance.core.model import Health, HealthReport
from appliance.errors import ConfigError, StoreError

log = logging.getLogger(__name__)

LOOK = 5.0
"""Seconds between two looks at who may be listened to, and at the certificate."""
GRACE = 2
"""Seconds that open requests have when it stops."""
KEEP_ALIVE = 30
"""Seconds that a connection may rest between two requests."""
MESSAGE = 65536
"""Bytes of a message over a WebSocket: clients have nothing to say there."""


@dataclass(frozen=True)
class Place:
    """Where to listen.

    Attributes:
        host: Address.
        port: TCP port; 0 for a free one.
        secure: Speak HTTPS.
        redirect_port: Port of plain HTTP that sends on; None for none.
        connections: Most at one time.
    """

    host: str
    port: int
    secure: bool
    redirect_port: int | None = None
    connections: int = 1024


@dataclass(frozen=True)
class Needs:
    """What the service asks of the rest.

    Attributes:
        prepare: Awaited before anything listens; raises ConfigError, StoreError.
        exposed: Whether it may be reached from other machines: why not, or "".
        context: The TLS context with the present certificate; blocks.
        renew: Whether the certificate was renewed into that context; blocks.
        trouble: What is wrong with the certificate, or ""; blocks.
        names: Names that a redirect may go to, the first by default.
        left: Days until the certificate ends; blocks.
        challenge: What is answered over plain HTTP at a path (RFC 8555, section 8.3), or None.
    """

    prepare: Callable[[], Awaitable[None]]
    exposed: Callable[[], Awaitable[str]]
    context: Callable[[], ssl.SSLContext]
    renew: Callable[[], bool]
    trouble: Callable[[], str]
    names: Callable[[], list[str]]
    left: Callable[[], float]
    challenge: Callable[[str], str | None] = lambda _: None


class HttpService:
    """The listener (implements ports.Service).

    Args:
        app: Makes the application (late: its libraries are heavy).
        place: Where to listen.
        needs: What it asks of the rest.
    """

    name = "http"
    summary = "REST over TCP, for programs and browsers"
    depends: tuple[str, ...] = ("store",)

    def __init__(self, app: Callable[[], ASGIApp], place: Place, needs: Needs) -> None:
        self._app, self._place, self._needs = app, place, needs
        self._servers: list[tuple[TcpServer, asyncio.Task[None], socket.socket]] = []
        self._kept_in = self._trouble = ""
        self._left: float | None = None
        self.urls: tuple[str, ...] = ()
        """Where it listens now."""

    async def start(self) -> None:
        """Bind and serve. Raises ConfigError, StoreError, OSError."""
        await self._needs.prepare()
        await self._open()

    async def run(self) -> None:
        """Serve until cancelled; look at who may be listened to, and after the certificate."""
        while True:
            await asyncio.sleep(LOOK)
            for _, task, _ in self._servers:
                if task.done():
                    task.result()
                    raise RuntimeError("the server ended")
            await self._look()
            if self._place.secure and await asyncio.to_thread(self._needs.renew):
                log.info("new connections get the new certificate")
            await self._look_at_certificate()

    async def _look_at_certificate(self) -> None:
        if self._place.secure:
            self._trouble = await asyncio.to_thread(self._needs.trouble)
            self._left = round(await asyncio.to_thread(self._needs.left), 1)

    async def _look(self) -> None:
        """Open to other machines, or no more, where that has changed."""
        try:
            changed = await self._needs.exposed() != self._kept_in
        except StoreError as error:
            log.warning("who may be listened to cannot be told now: %s", error.message)
            return
        if changed:
            await self._close()
            await self._open()

    async def stop(self) -> None:
        """Answer what is under way, and close."""
        await self._close()

    async def health(self) -> HealthReport:
        """Degraded while it is kept to this machine, or where the certificate does not hold."""
        where = ", ".join(self.urls)
        if self._kept_in:
            return HealthReport(
                Health.degraded, f"listens for this machine alone ({where}): {self._kept_in}",
                "give an administrator a password: `prime-spark user set-password`", self._details,
            )  # fmt: skip
        if self._trouble:
            return HealthReport(Health.degraded, self._trouble, "prime-spark tls show", self._details)
        return HealthReport(Health.healthy, f"listens on {where}", "", self._details)

    @property
    def _details(self) -> dict[str, Any]:
        return {} if self._left is None else {"certificate_days": self._left}

    async def _open(self) -> None:
        place = self._place
        self._kept_in = await self._needs.exposed()
        host = "127.0.0.1" if self._kept_in else place.host
        context = await asyncio.to_thread(self._needs.context) if place.secure else None
        await self._look_at_certificate()
        try:
            port = await self._serve(self._app(), host, place.port, context)
            urls = [f"{'https' if context else 'http'}://{written(host)}:{port}"]
            if context is not None and place.redirect_port is not None:
                plain = await self._serve(
                    Redirect(port, self._needs.names, self._needs.challenge), host, place.redirect_port, None
                )
                urls.append(f"http://{written(host)}:{plain}")
        except BaseException:
            await self._close()
            raise
        self.urls = tuple(urls)

    async def _serve(self, app: ASGIApp, host: str, port: int, context: ssl.SSLContext | None) -> int:
        sock = bind(host, port)
        config = Config(
            app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=GRACE, server_header=False,
            proxy_headers=False, http=bounded(room_for(self._place.connections)), timeout_keep_alive=KEEP_ALIVE,
            log_level="error", ws="websockets-sansio", ws_max_size=MESSAGE, ws_max_queue=4,
            ssl_context_factory=(lambda *_: context) if context is not None else None,
        )  # fmt: skip
        config.load()
        server = TcpServer(config)
        task = asyncio.create_task(server.serve(sockets=[sock]), name=f"http serve {port}")
        self._servers.append((server, task, sock))
        while not server.started:
            if task.done():
                task.result()
            await asyncio.sleep(0.005)
        return int(sock.getsockname()[1])

    async def _close(self) -> None:
        servers, self._servers, self.urls = self._servers, [], ()
        for server, _, _ in servers:
            server.should_exit = True
        tasks = {task for _, task, _ in servers}
        if tasks:
            await asyncio.wait(tasks, timeout=GRACE + 1)
        for _, task, sock in servers:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            sock.close()


class Redirect:
    """Sends every request on to HTTPS, under a name that is this machine's own; but answers what proves names.

    Args:
        port: Of HTTPS.
        names: This machine's, the first where the request names another.
        challenge: What is answered at a path, or None.
    """

    def __init__(
        self, port: int, names: Callable[[], list[str]], challenge: Callable[[str], str | None] = lambda _: None
    ) -> None:  # fmt: skip
        self._port, self._names, self._challenge = port, names, challenge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http":
            await self._answer(Request(scope))(scope, receive, send)

    def _answer(self, request: Request) -> Response:
        if (proof := self._challenge(request.url.path)) is not None:
            return Response(proof, media_type="text/plain", headers={"Connection": "close", "Cache-Control": "no-store"})
        names = self._names()
        host = request.url.hostname if request.url.hostname in names else names[0]
        port = "" if self._port == 443 else f":{self._port}"
        query = f"?{request.url.query}" if request.url.query else ""
        raw = request.scope.get("raw_path", b"/").decode("ascii")
        return RedirectResponse(f"https://{written(str(host))}{port}{raw}{query}", 308, {"Connection": "close"})


def bind(host: str, port: int) -> socket.socket:
    """A bound socket. Raises ConfigError where that cannot be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named, or asyncio leaves Nagle's delay on
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        taken = error.errno == errno.EADDRINUSE
        reason = f"Port {port} of {host} cannot be listened on: {error.strerror}."
        raise ConfigError(reason, "choose another api.port." if taken else "choose another api.host or api.port.") from error
    sock.setblocking(False)
    return sock


def written(host: str) -> str:
    """A host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host

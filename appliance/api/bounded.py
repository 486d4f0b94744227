"""HTTP over TCP for strangers: bounds on connections and headers, on their time, and on readers that do not read."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from http import HTTPStatus
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from appliance.api.problems import MEDIA_TYPE, problem
from appliance.api.server import QuietServer

HEADER_SECONDS, WRITE_SECONDS, HANDSHAKE_SECONDS = 10.0, 60.0, 10.0
"""Longest time for the head of a request; for a client to take what it asked for; for a TLS handshake."""
HEAD = 32 * 1024
"""Bytes of a request's head."""
GOODBYE_SECONDS = 1.0
"""Longest time to take leave of who is turned away."""
AT_ONCE, WAITING = 64, 1024
"""Connections that are taken in before others have their turn; those that the system lets wait."""


def farewell(status: int, code: str, message: str, next_step: str) -> bytes:
    """A whole answer with a problem, after which the connection ends; no handler has seen the request."""
    body = msgspec.json.encode(problem(status, code, message, next_step, ""))
    again = "Retry-After: 5\r\n" if status == 503 else ""
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{again}Connection: close\r\nContent-Type: {MEDIA_TYPE}\r\n"
        f"Cache-Control: no-store\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


TOO_MANY = farewell(503, "busy", "Too many connections are open.", "try again in some seconds.")
"""What is said to a connection that is one too many."""


class Bounded(HttpToolsProtocol):
    """One connection; made into a class with its bounds by `bounded`."""

    most = 1024
    """Connections at one time; of one address, half as many."""
    hosts: Counter[str]
    """How many each address has."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Turn away what is too much, and give the rest their time for a request."""
        super().connection_made(transport)
        self._head: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self._in_head, self._head_bytes = True, 0
        self._host = self.client[0] if self.client else ""
        self._counted = self._over = False
        if len(self.connections) > self.most or self.hosts[self._host] >= max(8, self.most // 2):
            self._turn_away()
            return
        self.hosts[self._host] += 1
        self._counted = True
        self._head = self.loop.call_later(HEADER_SECONDS, transport.abort)

    def _turn_away(self) -> None:
        """Say that there are too many, and end it; it takes nobody's place meanwhile."""
        self.connections.discard(self)
        self._say_goodbye(TOO_MANY)

    def _say_goodbye(self, answer: bytes) -> None:
        """A last answer. What still comes is read and dropped for a moment: else the system would throw the answer away."""
        self._calm()
        self._over = True
        self.transport.write(answer)
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._stuck = self.loop.call_later(GOODBYE_SECONDS, self.transport.abort)
        else:  # TLS
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP."""
        self._say_goodbye(farewell(400, "headers", msg, "send HTTP/1.1."))

    def _uncount(self) -> None:
        if self._counted:
            self._counted = False
            self.hosts[self._host] -= 1
            if self.hosts[self._host] <= 0:
                del self.hosts[self._host]

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the timers go."""
        self._calm()
        self._uncount()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """From now on it is a WebSocket's, and counts with the event streams."""
        self._uncount()
        super().handle_websocket_upgrade()

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head."""
        if self._over:
            return
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD and not self._over:
            self._say_goodbye(farewell(431, "headers", "The head of the request is too large.", f"send {HEAD} bytes at most."))

    def on_message_begin(self) -> None:
        """A request begins; its first byte was the sign."""
        super().on_message_begin()
        self._in_head = True
        if self._head is None:
            self._head = self.loop.call_later(HEADER_SECONDS, self.transport.abort)

    def on_headers_complete(self) -> None:
        """The head is here."""
        self._in_head, self._head_bytes = False, 0
        if self._head is not None:
            self._head.cancel()
            self._head = None
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """The client does not read: it may rest for so long."""
        super().pause_writing()
        if self._stuck is None:
            self._stuck = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def _calm(self) -> None:
        for timer in (self._head, self._stuck):
            if timer is not None:
                timer.cancel()
        self._head = self._stuck = None


def bounded(most: int) -> type[Bounded]:
    """The class with its bounds."""
    return type("BoundedHttp", (Bounded,), {"most": most, "hosts": Counter()})


class TcpServer(QuietServer):
    """Serves one socket, with a bound on TLS handshakes."""

    async def startup(self, sockets: list[Any] | None = None) -> None:
        """As uvicorn's, for sockets that are bound."""
        loop, config = asyncio.get_running_loop(), self.config

        def protocol() -> asyncio.Protocol:
            return config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=self.server_state, app_state={}, _loop=loop
            )

        context: ssl.SSLContext | None = config.ssl
        handshake = HANDSHAKE_SECONDS if context is not None else None
        self.servers = [
            await loop.create_server(protocol, sock=sock, ssl=context, ssl_handshake_timeout=handshake, backlog=AT_ONCE)
            for sock in sockets or []
        ]
        for sock in sockets or []:
            sock.listen(WAITING)  # asyncio takes as many at a stretch as it was told may wait; the system lets more wait
        self.started = True

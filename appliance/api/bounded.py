"""HTTP over TCP for strangers: bounds on connections and headers, on their time, and on readers that do not read."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from appliance.api.server import QuietServer

HEADER_SECONDS, WRITE_SECONDS, HANDSHAKE_SECONDS = 10.0, 60.0, 10.0
"""Longest time for the head of a request; for a client to take what it asked for; for a TLS handshake."""
HEAD = 32 * 1024
"""Bytes of a request's head."""


class Bounded(HttpToolsProtocol):
    """One connection; made into a class with its bounds by `bounded`."""

    most = 1024
    """Connections at one time; of one address, half as many."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Turn away what is too much, and give the rest their time for a request."""
        super().connection_made(transport)
        self._head: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self._in_head, self._head_bytes = True, 0
        host = self.client[0] if self.client else ""
        clients = [getattr(each, "client", None) for each in self.connections]  # a WebSocket's protocol has one too
        mine = sum(1 for client in clients if client and client[0] == host)
        if len(self.connections) > self.most or mine > max(8, self.most // 2):
            transport.abort()
            return
        self._head = self.loop.call_later(HEADER_SECONDS, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the timers go."""
        self._calm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD:
            self.transport.abort()

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
    return type("BoundedHttp", (Bounded,), {"most": most})


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
            await loop.create_server(protocol, sock=sock, ssl=context, ssl_handshake_timeout=handshake, backlog=config.backlog)
            for sock in sockets or []
        ]
        self.started = True

"""One kept HTTP/1.1 connection to an endpoint: bytes in, parsed by httptools, one answer at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httptools

HIGH = 256 * 1024
"""Bytes that wait to be read before the endpoint is made to wait."""
HEAD = 64 * 1024
"""Bytes of an answer's headers."""
LINGER = 0.2
"""Seconds that an endpoint has for closing an answer of which everything was read that matters."""


class BrokenError(Exception):
    """The connection ended, or brought what is no HTTP."""


class SilentError(Exception):
    """Nothing came in time."""


class Connection(asyncio.Protocol):
    """One of them.

    Attributes:
        closed: It is of no use any more.
        begun: Something of the answer has come.
        status: Of the answer; 0 before its head is here.
        headers: Of the answer, their names in small letters.
        idle_since: On the loop's clock.
    """

    def __init__(self) -> None:
        self.closed = False
        self.idle_since = 0.0
        self._transport: asyncio.Transport | None = None
        self._reset()

    def _reset(self) -> None:
        self.begun = self.complete = False
        self.status = 0
        self.headers: dict[str, str] = {}
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._held = self._head = 0
        self._fault = ""
        self._paused = self._stays = False
        self._waiter: asyncio.Future[None] | None = None
        self._after: Callable[[Connection], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # -- what the caller does ------------------------------------------------------------------------------------------

    def send(self, *parts: bytes) -> None:
        """Begin a request."""
        self._reset()
        if self._transport is None or self.closed:
            self._fault = "it was closed"
            return
        for part in parts:
            self._transport.write(part)

    async def head(self, patience: float | None) -> int:
        """Wait for status and headers; returns the status. Raises BrokenError, SilentError."""
        while not self.status:
            await self._news(patience)
        return self.status

    async def more(self, patience: float | None) -> bytes:
        """What has come of the body since the last look; empty at its end. Raises BrokenError, SilentError."""
        while not self._parts:
            if self.complete:
                return b""
            await self._news(patience)
        found = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._held = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return found

    def release(self, after: Callable[[Connection], None]) -> None:
        """Nothing more of the answer matters: `after` gets the connection as soon as the answer has ended, if that is soon."""
        if self.complete:
            self._settle(after)
            return
        self._after = after
        self._timer = asyncio.get_running_loop().call_later(LINGER, self.abort)
        if self._paused and self._transport is not None:
            self._transport.resume_reading()

    def abort(self) -> None:
        """End it at once; the endpoint sees that its reader is gone."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    # -- what comes (asyncio.Protocol) ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        if self.complete and not self._after:  # nothing was asked
            self.abort()
            return
        self.begun = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fault = f"what came is no HTTP ({error.__context__ or error})"
            self.abort()
        if self._held > HIGH and not self._paused and not self._after and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()
        if self.complete and self._after is not None:
            after, self._after = self._after, None
            self._settle(after)

    def connection_lost(self, exc: Exception | None) -> None:
        """It ended; where the body's length was not told, that is the body's end."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        framed = "content-length" in self.headers or "chunked" in self.headers.get("transfer-encoding", "").lower()
        if self.status and not framed and exc is None and not self._fault:
            self.complete = True
        self._fault = self._fault or (str(exc) if exc else "it was closed before the end")
        self._wake()

    # -- what the parser finds -----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """An answer begins: one, for one request."""
        if self.complete:
            raise ValueError("two answers to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._head += len(name) + len(value)
        if self._head > HEAD:
            raise ValueError(f"headers of more than {HEAD} bytes")
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The head is here; one that only announces another (1xx) does not count."""
        status = self._parser.get_status_code()
        if status < 200:
            self.headers.clear()
        else:
            self.status = status
            self._stays = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if self._after is None:
            self._parts.append(body)
            self._held += len(body)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        self.complete = bool(self.status)

    # -- helpers -------------------------------------------------------------------------------------------------------

    async def _news(self, patience: float | None) -> None:
        if self.closed or self._fault:
            raise BrokenError(self._fault or "it was closed before the end")
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        timer = None if patience is None else loop.call_later(max(0.0, patience), _late, waiter)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _settle(self, after: Callable[[Connection], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.closed or not self._stays:
            self.abort()
            return
        self._parts.clear()
        self.idle_since = asyncio.get_running_loop().time()
        after(self)


def _late(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(SilentError())

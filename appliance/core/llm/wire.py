"""HTTP to one endpoint: lines as they come, bounded, with every failure as one of ours."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec

from appliance.core.llm.connection import BrokenError, Connection, SilentError
from appliance.core.llm.faults import Fault, LlmError
from appliance.core.llm.refusals import TOLD, fault_of, pause, words

CONNECT = 3.0
"""Seconds for a connection, and its TLS."""
LINE = 4 * 1024 * 1024
"""Bytes of one line; a longer one is no answer of a model."""
BODY = 32 * 1024 * 1024
"""Bytes of a whole answer that is not streamed: embeddings, lists of models."""
REFUSAL, REFUSING = 64 * 1024, 2.0
"""Bytes and seconds of a refusal's words."""
KEEP = 55.0
"""Seconds that an unused connection is kept."""
DEEP = RecursionError
"""What a document brings about that is nested too deeply."""


class Exchange:
    """One request under way.

    Args:
        wire: Its endpoint's.
        connection: The head of the answer is here.
        stall: Longest time between two tokens, seconds; before the first one whoever asks has their own patience.
    """

    def __init__(self, wire: Wire, connection: Connection, stall: float | None) -> None:
        self._wire, self._connection, self._stall = wire, connection, stall
        self._rest = b""
        self._moved: float | None = None
        self._released = False

    def moved(self) -> None:
        """A token has come, or was taken: the time for the next one begins."""
        self._moved = asyncio.get_running_loop().time()

    async def lines(self) -> list[bytes] | None:
        """Those that have come by now, without their ends; the last one may lack its own; None at the end. Raises LlmError."""
        while True:
            piece = await self.part(None if self._moved is None or self._stall is None else self._moved + self._stall)
            if not piece:
                rest, self._rest = self._rest, b""
                return [rest] if rest else None
            *whole, self._rest = (self._rest + piece).split(b"\n")
            if len(self._rest) > LINE:
                raise LlmError(Fault.garbled, f"{self._wire.url} sent a line of more than {LINE} bytes.")
            if whole:
                return whole

    async def part(self, until: float | None = None) -> bytes:
        """What has come of the body; empty at its end. Raises LlmError."""
        left = None if until is None else until - asyncio.get_running_loop().time()
        if left is not None and left <= 0:
            raise LlmError(Fault.cut, f"{self._wire.url} fell silent in the middle of its answer.")
        try:
            return await self._connection.more(left)
        except SilentError as error:
            raise LlmError(Fault.cut, f"{self._wire.url} fell silent in the middle of its answer.") from error
        except BrokenError as error:
            raise LlmError(Fault.cut, f"{self._wire.url} broke off its answer: {error}.") from error

    def release(self) -> None:
        """All that matters was read: keep the connection for the next request."""
        if not self._released:
            self._released = True
            self._connection.release(self._wire.keep)

    def close(self) -> None:
        """End it, also at the endpoint, unless it was released."""
        if not self._released:
            self._released = True
            self._connection.abort()


class Wire:
    """Speaks HTTP with one server; connections are kept.

    Args:
        url: Its address, without a slash at the end.
        key: Sent as a bearer token; empty for none.
        most: Connections that are kept.
        house: It must be in the house: nothing is sent where its name leads elsewhere.
    """

    def __init__(self, url: str, key: str = "", most: int = 100, *, house: bool = False) -> None:
        parts = urlsplit(url)
        self.url = url
        self._secure, self._host = parts.scheme == "https", parts.hostname or ""
        self._port = parts.port or (443 if self._secure else 80)
        self._base, self._house, self._most = parts.path.rstrip("/"), house, most
        self._key, self._netloc = key, parts.netloc
        self._idle: deque[Connection] = deque()
        self._closed = False
        self._context: ssl.SSLContext | None = None

    async def close(self) -> None:
        """Let go of all connections."""
        self._closed = True
        while self._idle:
            self._idle.pop().abort()

    def keep(self, connection: Connection) -> None:
        """Take a connection back whose answer has ended."""
        if self._closed or len(self._idle) >= self._most:
            connection.abort()
        else:
            self._idle.append(connection)

    async def fetch(self, method: str, path: str, body: bytes | None = None, patience: float = 10.0) -> Any:
        """A whole JSON document, in `patience` seconds. Raises LlmError."""
        content = bytearray()
        try:
            async with asyncio.timeout(patience), self.ask(method, path, body) as exchange:
                while piece := await exchange.part():
                    content += piece
                    if len(content) > BODY:
                        raise LlmError(Fault.garbled, f"{self.url} answered with more than {BODY} bytes.")
                exchange.release()
        except TimeoutError as error:
            told = f"{self.url} did not answer in time."
            raise LlmError(Fault.slow, told, "see whether it runs, and how busy it is.") from error
        return document(bytes(content), self.url)

    @asynccontextmanager
    async def ask(
        self, method: str, path: str, body: bytes | None = None, stall: float | None = None
    ) -> AsyncIterator[Exchange]:
        """Send a request; what comes back, once its head is here and no refusal. Raises LlmError.

        Args:
            method: Of HTTP.
            path: Where, below the address.
            body: JSON.
            stall: Longest time between two tokens, seconds.
        """
        connection = await self._answered((self._request(method, path, body), body or b""))
        exchange = Exchange(self, connection, stall)
        try:
            if connection.status >= 300:
                raise await self._refusal(connection, exchange)
            yield exchange
        finally:
            exchange.close()

    async def _answered(self, payload: tuple[bytes, bytes]) -> Connection:
        """A connection with the head of the answer. One that the server closed while nobody used it is not its fault."""
        kept = self._kept()
        if kept is not None:
            try:
                return await self._head(kept, payload)
            except BrokenError as error:
                if kept.begun:
                    raise self._dead(error, sent=True) from error
        fresh = await self._connect()
        try:
            return await self._head(fresh, payload)
        except BrokenError as error:
            raise self._dead(error, sent=True) from error

    async def _head(self, connection: Connection, payload: tuple[bytes, bytes]) -> Connection:
        head, body = payload
        try:
            if len(body) > LINE:
                connection.send(head, body)
            else:
                connection.send(head + body)
            await connection.head(None)
        except BaseException:
            connection.abort()
            raise
        return connection

    def _kept(self) -> Connection | None:
        now = asyncio.get_running_loop().time()
        while self._idle and (self._idle[0].closed or now - self._idle[0].idle_since > KEEP):
            self._idle.popleft().abort()
        while self._idle:
            found = self._idle.pop()
            if not found.closed:
                return found
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        if self._secure and self._context is None:
            self._context = await asyncio.to_thread(ssl.create_default_context)
        try:
            async with asyncio.timeout(CONNECT):
                transport, made = await loop.create_connection(
                    Connection, self._host, self._port, ssl=self._context, happy_eyeballs_delay=0.25
                )
        except TimeoutError as error:
            raise self._dead("no connection in time", sent=False) from error
        except (OSError, UnicodeError) as error:
            raise self._dead(error, sent=False) from error
        if self._house and (address := _elsewhere(transport.get_extra_info("peername"))):
            made.abort()
            told = f"{self._host} is {address}, which is not in the house: nothing was sent."
            raise LlmError(Fault.refused, told, 'mend its name, or set place = "cloud".', sent=False)
        return made

    def _dead(self, error: object, *, sent: bool) -> LlmError:
        told = " ".join(str(error).split()) or type(error).__name__
        return LlmError(Fault.dead, f"{self.url} does not answer: {told}.", "see whether it runs.", sent=sent)

    def _request(self, method: str, path: str, body: bytes | None) -> bytes:
        try:
            lines = [f"{method} {self._base}{path} HTTP/1.1", f"host: {self._netloc}", "accept: */*", "user-agent: prime-spark"]
            if self._key:
                if not self._key.isprintable():
                    raise UnicodeError
                lines.append(f"authorization: Bearer {self._key}")
            if body is not None:
                lines += ["content-type: application/json", f"content-length: {len(body)}"]
            return "\r\n".join([*lines, "", ""]).encode("ascii")
        except UnicodeError as error:
            told = f"The address or the key of {self._host} has letters that no header can carry."
            raise LlmError(Fault.refused, told, "mend them; write a name as xn--….", sent=False) from error

    async def _refusal(self, connection: Connection, exchange: Exchange) -> LlmError:
        content = bytearray()
        until = asyncio.get_running_loop().time() + REFUSING
        try:
            while len(content) <= REFUSAL and (piece := await exchange.part(until)):
                content += piece
            if connection.complete:
                exchange.release()
        except LlmError as error:
            content += f" (and {error.message})".encode()
        status, headers = connection.status, connection.headers
        told = words(bytes(content[:REFUSAL]))
        fault, step = fault_of(status, told, "retry-after" in headers)
        after = pause(headers.get("retry-after"), headers.get("date"))
        return LlmError(fault, f"{self.url} answered {status}: {told}", step, after, status=status)


def document(content: bytes, url: str) -> Any:
    """JSON. Raises LlmError; what came is repeated only where it is a page, for it may be somebody's own words."""
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, DEEP) as error:
        page = content.lstrip()[:1] == b"<"
        shown = f": {content[:80].decode(errors='replace')!r}" if page else f", {len(content)} bytes"
        raise LlmError(Fault.garbled, f"{url} sent what is no JSON ({str(error)[:TOLD]}){shown}.") from error


def _elsewhere(peer: Any) -> str:
    """The address that was reached, where no house has it; IPv6 numbers say nothing about that."""
    address = str(peer[0]) if isinstance(peer, tuple) and peer else ""
    try:
        number = ipaddress.ip_address(address)
    except ValueError:
        return ""
    return address if number.version == 4 and number.is_global else ""

"""A TCP proxy that makes the network fail on order, in front of a real server."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

CHUNK = 65_536
HEAD_ENDS = b"\r\n\r\n"
BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


@dataclass(frozen=True)
class Fault:
    """What happens to every connection.

    Args:
        hang: it is accepted and nothing goes through.
        status: HTTP status that answers each request.
        cut: bytes of an answer after which the connection is reset.
        http: whether `cut` counts the bodies of HTTP answers, or all bytes of a connection.
        delay: seconds that each piece sent by the client waits.
        rate: bytes a second of answers, or None.
    """

    hang: bool = False
    status: int | None = None
    cut: int | None = None
    http: bool = True
    delay: float = 0.0
    rate: int | None = None


class Cut:
    """Counts an answer's bytes and says how many of a piece may pass."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.asked()

    def asked(self) -> None:
        """The client sent something: a new answer begins."""
        self._head = b""
        self._in_body = not self.fault.http
        self._left = self.fault.cut if self.fault.cut is not None else 0

    def allowed(self, data: bytes) -> int:
        """How many bytes of `data` pass; fewer than there are means that the connection ends after them."""
        if self.fault.cut is None:
            return len(data)
        start = 0
        if not self._in_body:
            before = len(self._head)
            self._head += data
            end = self._head.find(HEAD_ENDS)
            if end < 0:
                return len(data)
            self._in_body = True
            start = end + len(HEAD_ENDS) - before
        passes = min(self._left, len(data) - start)
        self._left -= passes
        return start + passes


class FaultyProxy:
    """A proxy on an ephemeral port of loopback. Every order cuts the present connections and holds for all later ones.

    Args:
        host: where it forwards to.
        port: TCP port of that.
    """

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.port = 0
        self.accepted = 0  # connections since the start
        self._fault = Fault()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty-proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def endpoint(self) -> str:
        """Host and port, as minio wants them."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen and pass all through."""
        self._thread.start()
        self._call(self._listen())

    def stop(self) -> None:
        """Close all, and end its thread."""
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def heal(self) -> None:
        """Pass all through again, on the same port."""
        self._call(self._order(Fault()))

    def refuse(self) -> None:
        """Refuse connections, as a host without the server does."""
        self._call(self._close())

    def hang(self) -> None:
        """Accept connections and answer nothing."""
        self._call(self._order(Fault(hang=True)))

    def answer(self, status: int = 503) -> None:
        """Answer every HTTP request with `status` and S3's SlowDown."""
        self._call(self._order(Fault(status=status)))

    def cut_after(self, count: int, *, http: bool = True) -> None:
        """Reset a connection after `count` bytes of an answer's body, or with http=False of what the server sends at all."""
        self._call(self._order(Fault(cut=count, http=http)))

    def delay(self, seconds: float) -> None:
        """Let each piece that a client sends wait."""
        self._call(self._order(Fault(delay=seconds)))

    def throttle(self, rate: int) -> None:
        """Let answers through at `rate` bytes a second."""
        self._call(self._order(Fault(rate=rate)))

    def cut_now(self) -> None:
        """Reset the present connections, and change nothing else."""
        self._call(self._order(self._fault))

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _order(self, fault: Fault) -> None:
        await self._drop()
        self._fault = fault
        if self._server is None:
            await self._listen()

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._drop()

    async def _drop(self) -> None:
        dropped = list(self._connections)
        for each in dropped:
            each.cancel()
        await asyncio.gather(*dropped, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self.accepted += 1
        try:
            # Either side may end at any time: that is what ends the connection.
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._handle(self._fault, reader, writer)
        except asyncio.CancelledError:  # an order: the client sees a reset
            pass
        finally:
            writer.transport.abort()
            self._connections.discard(task)

    async def _handle(self, fault: Fault, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if fault.hang:
            await asyncio.Event().wait()
        elif fault.status is not None:
            await self._refuse_request(fault.status, reader, writer)
        else:
            await self._forward(fault, reader, writer)

    async def _refuse_request(self, status: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(HEAD_ENDS)
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        await reader.readexactly(int(length[1]) if length else 0)  # else the client is reset while it still sends
        about = f"Content-Type: application/xml\r\nContent-Length: {len(BUSY)}\r\nConnection: close"
        answer = f"HTTP/1.1 {status} Fault\r\n{about}\r\n\r\n"
        writer.write(answer.encode() + (b"" if head.startswith(b"HEAD") else BUSY))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def _forward(self, fault: Fault, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection(*self.target)
        cut = Cut(fault)
        pumps = [
            asyncio.create_task(self._up(fault, cut, reader, to_server)),
            asyncio.create_task(self._down(fault, cut, server, writer)),
        ]
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                each.result()
        finally:
            for each in pumps:
                each.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            to_server.transport.abort()

    async def _up(self, fault: Fault, cut: Cut, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            if fault.delay:
                await asyncio.sleep(fault.delay)
            cut.asked()
            writer.write(data)
            await writer.drain()

    async def _down(self, fault: Fault, cut: Cut, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        piece = max(1, fault.rate // 20) if fault.rate else CHUNK
        while data := await reader.read(piece):
            allowed = cut.allowed(data)
            writer.write(data[:allowed])
            await writer.drain()
            if allowed < len(data):
                return
            if fault.rate:
                await asyncio.sleep(len(data) / fault.rate)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

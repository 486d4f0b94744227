"""Events as they happen: server-sent events (WHATWG HTML, section 9.2) and WebSocket (RFC 6455).

A client that comes back with the id of the last event that it had (Last-Event-ID, or ?last_event_id=) gets those which
followed, as far as they are kept; where some are not, it is told so by an event "gap".
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import StreamingResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from appliance.api.feed import Feed, Gap, Reader, Told
from appliance.core.access.errors import TooManyError
from appliance.core.access.model import Identity
from appliance.core.bus import Bus
from appliance.core.events import EVENT_TYPES
from appliance.errors import InvalidArgumentsError

HEARTBEAT = 15.0
"""Seconds without an event after which the client is told that the stream lives."""
LOOK = 5.0
"""Seconds between two looks whether whoever listens still may."""
RETRY_MS = 3000
"""Milliseconds after which a browser comes back."""
MOST = 600
"""Streams at one time, in all."""
ENDED, POLICY = 4401, 1008
"""Close codes: the session ended; not allowed."""


class EventStreams:
    """All streams.

    Args:
        bus: Where the events come from.
        device_id: For their envelopes.
        holds: Whether an identity's stream may go on.
        per_identity: Most streams of one identity at a time.
    """

    def __init__(
        self, bus: Bus, device_id: str, holds: Callable[[Identity], bool] = lambda _: True, per_identity: int = MOST
    ) -> None:
        self.feed = Feed(bus, device_id)
        self._holds, self._most = holds, per_identity
        self._open: Counter[str] = Counter()

    def response(self, request: Request) -> StreamingResponse:
        """Server-sent events; ?topics=a,b chooses. Raises TooManyError, InvalidArgumentsError."""
        topics_of(request)
        self._check(key_of(request))  # before the answer begins
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(self._lines(request), media_type="text/event-stream", headers=headers)

    async def _lines(self, request: Request) -> AsyncIterator[bytes]:
        with self.place(request) as reader:
            yield b": connected\nretry: %d\n\n" % RETRY_MS
            async for batch in self._events(reader, request):
                yield b"".join(_sse(each) for each in batch) or b": alive\n\n"

    async def socket(self, socket: WebSocket) -> None:
        """The same over a WebSocket: one envelope a message."""
        try:
            topics_of(socket)
            with self.place(socket) as reader:
                await socket.accept(subprotocol=socket.scope.get("bearer_protocol"))
                await self._talk(socket, reader)
        except (TooManyError, InvalidArgumentsError):
            await socket.close(POLICY)

    async def _talk(self, socket: WebSocket, reader: Reader) -> None:
        sender = asyncio.create_task(self._send(socket, reader), name="events to a socket")
        try:
            while not sender.done():
                heard = asyncio.create_task(socket.receive(), name="end of a socket")
                await asyncio.wait({heard, sender}, return_when=asyncio.FIRST_COMPLETED)
                if not heard.done():
                    heard.cancel()
                elif heard.result()["type"] == "websocket.disconnect":
                    return
            sender.result()
        finally:
            sender.cancel()

    async def _send(self, socket: WebSocket, reader: Reader) -> None:
        with contextlib.suppress(WebSocketDisconnect):
            async for batch in self._events(reader, socket):
                for each in batch:
                    await socket.send_text(_text(each))
            await socket.close(ENDED)

    @contextlib.contextmanager
    def place(self, connection: HTTPConnection) -> Iterator[Reader]:
        """A place for one stream. Raises TooManyError."""
        key = key_of(connection)
        self._check(key)
        self._open[key] += 1
        self.feed.join()
        try:
            yield Reader(self.feed, last_id_of(connection))
        finally:
            self.feed.leave()
            self._open[key] -= 1
            self._open += Counter()  # keys at 0 go

    def _check(self, key: str) -> None:
        if self._open[key] >= self._most or self._open.total() >= MOST:
            raise TooManyError("Too many event streams are open.", "close some of them.", 5.0)

    def _may(self, connection: HTTPConnection) -> bool:
        identity = connection.scope.get("identity")
        return not isinstance(identity, Identity) or self._holds(identity)

    async def _events(self, reader: Reader, connection: HTTPConnection) -> AsyncIterator[list[Told | Gap]]:
        """Events of the wanted topics; nothing after each quiet spell; ends where whoever listens may no more."""
        wanted = topics_of(connection)
        loop = asyncio.get_running_loop()
        told = loop.time()
        while self._may(connection):
            batch: list[Told | Gap] = []
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    batch = await reader.batch()
            if not self._may(connection):  # it may have ended while nothing happened
                return
            now = loop.time()
            batch = [each for each in batch if isinstance(each, Gap) or not wanted or each.topic in wanted]
            if batch or now - told >= HEARTBEAT:
                yield batch
                told = now


def topics_of(connection: HTTPConnection) -> frozenset[str]:
    """Topics that a reader chose; none for all. Raises InvalidArgumentsError where no event has one of them."""
    wanted = frozenset(filter(None, connection.query_params.get("topics", "").split(",")))
    known = {each.topic for each in EVENT_TYPES.values()}
    if strange := wanted - known:
        raise InvalidArgumentsError(f"There is no topic {min(strange)!r} here.", f"topics are {', '.join(sorted(known))}.")
    return wanted


def _sse(each: Told | Gap) -> bytes:
    return each.sse if isinstance(each, Told) else b"event: gap\ndata: " + msgspec.json.encode(each._asdict()) + b"\n\n"


def _text(each: Told | Gap) -> str:
    if isinstance(each, Told):
        return each.text.decode()
    return msgspec.json.encode({"type": "gap", "topic": "", "data": each._asdict()}).decode()


def last_id_of(connection: HTTPConnection) -> str:
    """Of the last event that the client had, or ""."""
    return connection.headers.get("last-event-id") or connection.query_params.get("last_event_id", "")


def key_of(connection: HTTPConnection) -> str:
    """Whose stream it is."""
    identity = connection.scope.get("identity")
    return identity.key if isinstance(identity, Identity) else ""

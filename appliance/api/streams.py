"""Events as they happen: server-sent events (WHATWG HTML, section 9.2) and WebSocket (RFC 6455)."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import StreamingResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from appliance.core.access.errors import TooManyError
from appliance.core.access.model import Identity
from appliance.core.bus import Bus, Subscription
from appliance.core.events import Event, envelope

HEARTBEAT = 15.0
"""Seconds without an event after which the client is told that the stream lives, and looked at whether it still may."""
WAITING = 1000
"""Events that wait for a slow client; beyond it the oldest are dropped, and the client is told how many."""
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
        self._bus, self._device, self._holds, self._most = bus, device_id, holds, per_identity
        self._open: Counter[str] = Counter()

    def response(self, request: Request) -> StreamingResponse:
        """Server-sent events; ?topics=a,b chooses. Raises TooManyError."""
        self._check(key_of(request))  # before the answer begins
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(self._lines(request), media_type="text/event-stream", headers=headers)

    async def _lines(self, request: Request) -> AsyncIterator[bytes]:
        with self.place(request) as queue:
            yield b": connected\n\n"
            async for event in self._events(queue, request):
                if event is None:
                    yield b": alive\n\n"
                    continue
                data = msgspec.json.encode(envelope(event, self._device))
                yield b"id: " + event.id.encode() + b"\nevent: " + event.topic.encode() + b"\ndata: " + data + b"\n\n"

    async def socket(self, socket: WebSocket) -> None:
        """The same over a WebSocket: one envelope a message."""
        try:
            with self.place(socket) as queue:
                await socket.accept(subprotocol=socket.scope.get("bearer_protocol"))
                await self._talk(socket, queue)
        except TooManyError:
            await socket.close(POLICY)

    async def _talk(self, socket: WebSocket, queue: Subscription) -> None:
        sender = asyncio.create_task(self._send(socket, queue), name="events to a socket")
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

    async def _send(self, socket: WebSocket, queue: Subscription) -> None:
        with contextlib.suppress(WebSocketDisconnect):
            async for event in self._events(queue, socket):
                if event is not None:
                    told = msgspec.json.encode({**envelope(event, self._device), "topic": event.topic})
                    await socket.send_text(told.decode())
            await socket.close(ENDED)

    @contextlib.contextmanager
    def place(self, connection: HTTPConnection) -> Iterator[Subscription]:
        """A queue for one stream. Raises TooManyError."""
        key = key_of(connection)
        self._check(key)
        self._open[key] += 1
        queue = self._bus.subscribe(f"stream {id(connection):x}", capacity=WAITING)
        try:
            yield queue
        finally:
            queue.close()
            self._open[key] -= 1
            self._open += Counter()  # keys at 0 go

    def _check(self, key: str) -> None:
        if self._open[key] >= self._most or self._open.total() >= MOST:
            raise TooManyError("Too many event streams are open.", "close some of them.", 5.0)

    async def _events(self, queue: Subscription, connection: HTTPConnection) -> AsyncIterator[Event | None]:
        """Events of the wanted topics; None after each quiet spell; ends where the identity holds no more."""
        identity: Any = connection.scope.get("identity")
        wanted = frozenset(filter(None, connection.query_params.get("topics", "").split(",")))
        while not isinstance(identity, Identity) or self._holds(identity):
            try:
                async with asyncio.timeout(HEARTBEAT):
                    batch = await queue.batch(100)
            except TimeoutError:
                yield None
                continue
            if isinstance(identity, Identity) and not self._holds(identity):
                return  # what came after the end is not for them
            for event in batch:
                if not wanted or event.topic in wanted:
                    yield event


def key_of(connection: HTTPConnection) -> str:
    """Whose stream it is."""
    identity = connection.scope.get("identity")
    return identity.key if isinstance(identity, Identity) else ""

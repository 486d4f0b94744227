"""The gate before the application on TCP: who asks, how often, how much, and that what is repeated is done once.

Nothing passes without a token but what stands in OPEN. Everything here is decided before a route is looked for, so that
an address that does not exist tells nothing either.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.api.problems import RequestError, answer
from appliance.core.access.answers import LARGEST, Answer, Answers
from appliance.core.access.errors import TooManyError
from appliance.core.access.limiter import Limiter
from appliance.core.access.model import Identity
from appliance.core.lockout import source_of
from appliance.core.model import Actor
from appliance.errors import ApplianceError, AuthError

OPEN = frozenset({
    ("GET", "/health"),  # the verdict in one word
    ("HEAD", "/health"),
    ("POST", "/api/auth/login"),
    ("POST", "/api/auth/refresh"),  # carries its own proof
    ("GET", "/docs"),  # a page that holds nothing: it asks for a token
})  # fmt: skip
"""All that needs no token."""
READS = frozenset({"GET", "HEAD", "OPTIONS"})
CHANGES = frozenset({"POST", "DELETE"})
"""Methods of routes that change something."""
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
KEY = re.compile(r"[\x21-\x7e]{1,255}")
BODY_SECONDS, CHUNK_SECONDS = 120.0, 15.0
"""Longest time for a whole body, and for the next part of one."""
SMALL = 64 * 1024
"""Bytes of a body that comes without a token."""
PATH = 120
"""Characters of a path that stand in the audit."""
IN_HAND, LEAST_ROOM = 6, 64 * 2**20
"""Largest bodies that are in memory at one time, all requests together; bytes that they may have at least."""
STRANGERS = 20.0
"""Requests a second without a valid token, of one address."""
STREAMED = (b"text/event-stream", b"application/x-ndjson")
"""Kinds of answers that are not kept."""
DONE = frozenset({500, 504})
"""Statuses after which nobody can say that nothing was done, beside those that went well."""

Identify = Callable[[str, str], Awaitable[Identity]]
"""(token, address) → who it is; raises AuthError."""
Tell = Callable[[Actor | None, str, str], Awaitable[None]]
"""(actor, address, what): has the audit tell of a request to change something that was turned away here."""


class Gate:
    """ASGI middleware.

    Args:
        app: What is behind it.
        identify: Tells who a token belongs to.
        answers: Where answers to repeated requests are kept.
        reads: Paces what reads.
        changes: Paces what changes something.
        is_query: Whether a POST to this path only reads.
        most: Largest body, bytes.
        turned_away: Is told of requests to change something that come no further; None: nobody is.
    """

    def __init__(
        self, app: ASGIApp, identify: Identify, answers: Answers, reads: Limiter, changes: Limiter,
        is_query: Callable[[str], bool], most: int, turned_away: Tell | None = None,
    ) -> None:  # fmt: skip
        self._app, self._identify, self._answers = app, identify, answers
        self._reads, self._changes, self._is_query, self._most = reads, changes, is_query, most
        self._strangers, self._turned_away = Limiter(STRANGERS), turned_away
        self._room, self._in_hand = max(IN_HAND * most, LEAST_ROOM), 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] not in {"http", "websocket"}:
            return
        scope["request_id"] = request_id_of(scope)
        send, body = _dressed(scope, send), _Body()
        try:
            await self._admit(scope)
            receive = self._bounded(scope, receive, body) if scope["type"] == "http" else receive
            if key := _idempotency_key(scope):
                await self._once(scope, receive, send, key)
            else:
                await self._app(scope, receive, send)
        except ApplianceError as error:
            await self._tell(scope, error)
            await refuse(scope, receive, send, error)
        finally:
            self._in_hand -= body.taken

    async def _tell(self, scope: Scope, error: ApplianceError) -> None:
        """Have the audit tell of a change that was turned away; logins tell of themselves."""
        method, path = scope.get("method", "GET"), scope["path"]
        if self._turned_away is None or method in READS or (method, path) in OPEN or self._is_query(path):
            return
        identity, address = scope.get("identity"), scope["client"][0] if scope.get("client") else "unknown"
        actor = identity.actor if isinstance(identity, Identity) else None
        await self._turned_away(actor, address, f"{method} {path[:PATH]!r}: {error.message}")

    async def _admit(self, scope: Scope) -> None:
        """Say who it is, and let it through. Raises AuthError, TooManyError, RequestError."""
        address = scope["client"][0] if scope.get("client") else "unknown"
        method, path = scope.get("method", "GET"), scope["path"]
        if scope["type"] == "http" and (method, path) in OPEN:
            await self._pace(self._strangers, source_of(address))
            return
        try:
            identity = await self._identify(bearer(scope), address)
        except AuthError:
            await self._pace(self._strangers, source_of(address))
            raise
        scope["identity"] = identity
        reading = method in READS or self._is_query(path)
        await self._pace(self._reads if reading else self._changes, identity.key)

    async def _pace(self, limiter: Limiter, key: str) -> None:
        wait = await limiter.take(key)
        if wait:
            raise TooManyError("Too many requests.", f"try again in {wait} s, and ask less often.", wait)

    def _bounded(self, scope: Scope, receive: Receive, body: _Body) -> Receive:
        """`receive` with bounds on size and time. Raises RequestError."""
        most = self._most if "identity" in scope else SMALL
        _plain_coding(scope)
        told = _headers(scope, b"content-length")
        if told and (len(told) > 1 or not told[0].isdigit()):
            raise RequestError("headers", "Content-Length is no number.", "send it once.")
        if told and (len(told[0]) > 12 or int(told[0]) > most):
            raise _too_large(most)
        loop = asyncio.get_running_loop()
        ends, more = loop.time() + BODY_SECONDS, True

        async def bounded() -> Message:
            nonlocal more
            if not more:
                return await receive()
            try:
                async with asyncio.timeout(min(CHUNK_SECONDS, max(0.0, ends - loop.time()))):
                    message = await receive()
            except TimeoutError:
                raise RequestError("slow", "The body came too slowly.", "send it again, at once.") from None
            size = len(message.get("body", b""))
            body.taken += size
            self._in_hand += size
            more = message["type"] == "http.request" and bool(message.get("more_body"))
            if body.taken > most:
                raise _too_large(most)
            if self._in_hand > self._room:
                raise RequestError("busy", "Too many large requests are under way.", "try again in a moment.")
            return message

        return bounded

    async def _once(self, scope: Scope, receive: Receive, send: Send, key: str) -> None:
        """A request with an Idempotency-Key."""
        identity = scope["identity"].key
        body = await _whole(receive)
        line = f"{scope['method']} {scope['path']}?".encode() + scope.get("query_string", b"") + b"\n"
        before = await self._answers.begin(identity, key, hashlib.sha256(line + body).hexdigest())
        if before is not None:
            await _send(send, before, [(b"idempotency-replayed", b"true")])
            return
        kept = _Kept(send)
        try:
            await self._app(scope, _replayed(body, receive), kept)
        finally:
            await asyncio.shield(self._settle(identity, key, kept))

    async def _settle(self, identity: str, key: str, kept: _Kept) -> None:
        """Keep the answer, then send it. One that was never complete stays as it is: nobody knows what was done."""
        if not kept.complete:
            return
        if kept.status < 300 or kept.status in DONE:
            body = bytes(LARGEST + 1) if kept.streams else bytes(kept.body)
            await self._answers.end(identity, key, Answer(kept.status, body))
        else:
            await self._answers.forget(identity, key)
        await kept.release()


class _Body:
    """How much of a request's body has come, bytes."""

    __slots__ = ("taken",)

    def __init__(self) -> None:
        self.taken = 0


class _Kept:
    """`send` that holds an answer back until it is kept, so that a repetition finds it; a stream goes through as it comes."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._held: list[Message] = []
        self.status = 0
        self.body = bytearray()
        self.complete = self.streams = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            kind = next((value for name, value in message.get("headers", []) if name.lower() == b"content-type"), b"")
            self.streams = kind.startswith(STREAMED)
        elif message["type"] == "http.response.body":
            self.complete = not message.get("more_body")
            self.body += b"" if self.streams else message.get("body", b"")
        if self.streams:
            await self._send(message)
        else:
            self._held.append(message)

    async def release(self) -> None:
        """Send what was held back."""
        for message in self._held:
            await self._send(message)


def bearer(scope: Scope) -> str:
    """The token of a request: Authorization (RFC 6750), X-API-Key, or, where a browser opens a WebSocket, a subprotocol.

    Raises:
        AuthError: There is none.
        RequestError: There is more than one.
    """
    given = [value.decode("latin-1") for value in _headers(scope, b"authorization")]
    keys = [f"Bearer {value.decode('latin-1')}" for value in _headers(scope, b"x-api-key")]
    found = [*given, *keys]
    if scope["type"] == "websocket":
        offered = [each for each in scope.get("subprotocols", []) if each.startswith("bearer.")]
        found += [f"Bearer {each.removeprefix('bearer.')}" for each in offered]
        if offered:
            scope["bearer_protocol"] = offered[0]
    if len(found) > 1:
        raise RequestError("headers", "The request carries more than one token.", "send one.")
    scheme, _, token = found[0].partition(" ") if found else ("", "", "")
    if scheme.lower() != "bearer" or not token.strip():
        raise AuthError("This needs a token.", "log in: POST /api/auth/login; send Authorization: Bearer TOKEN.")
    return token.strip()


def request_id_of(scope: Scope) -> str:
    """The request's own id where it brings a harmless one, else a new one."""
    given = _headers(scope, b"x-request-id")
    if len(given) == 1 and REQUEST_ID.fullmatch(given[0]):
        return given[0].decode()
    return secrets.token_hex(8)


def _idempotency_key(scope: Scope) -> str:
    """The key of a request that changes something. Raises RequestError."""
    given = [value.decode("latin-1") for value in _headers(scope, b"idempotency-key")]
    if not given or scope["type"] != "http" or scope["method"] not in CHANGES or "identity" not in scope:
        return ""
    if len(given) > 1 or not KEY.fullmatch(given[0]):
        raise RequestError("headers", "Idempotency-Key is malformed.", "send one of 1 to 255 visible ASCII characters.")
    return given[0]


def _plain_coding(scope: Scope) -> None:
    """Bodies come as they are: one that is coded would be taken for something else (RFC 9110, 8.4; RFC 9112, 6.1)."""
    if any(each.strip().lower() != b"chunked" for each in _headers(scope, b"transfer-encoding")):
        raise RequestError("headers", "Transfer-Encoding is not chunked.", "send the body as it is.")
    if any(each.strip().lower() not in {b"", b"identity"} for each in _headers(scope, b"content-encoding")):
        raise RequestError("encoding", "The body is coded.", "send it without Content-Encoding.")


def _headers(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key == name]


def _too_large(most: int) -> RequestError:
    return RequestError("too_large", f"The body is larger than {most} bytes.", "send less; the bound is api.body_mib.")


def _dressed(scope: Scope, send: Send) -> Send:
    """`send` that adds the headers which every answer has."""
    added = [
        (b"x-request-id", scope["request_id"].encode()), (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"), (b"x-frame-options", b"DENY"),
    ]  # fmt: skip
    if scope.get("scheme") in {"https", "wss"}:
        added.append((b"strict-transport-security", b"max-age=31536000"))

    async def dressed(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = {name.lower() for name, _ in message.get("headers", [])}
            extra = [] if b"cache-control" in present else [(b"cache-control", b"no-store")]
            message = {**message, "headers": [*message.get("headers", []), *added, *extra]}
        await send(message)

    return dressed


async def refuse(scope: Scope, receive: Receive, send: Send, error: ApplianceError) -> None:
    """An error as the answer; a WebSocket that was not accepted gets it too."""
    response = answer(error, scope["path"], scope.get("request_id", ""))
    if scope["type"] == "websocket":
        await response(scope, receive, _as_denial(send))
        return
    response.headers["Connection"] = "close"  # a body may still be on its way
    await response(scope, receive, send)


def _as_denial(send: Send) -> Send:
    async def denial(message: Message) -> None:
        kind = message["type"].removeprefix("websocket.")
        await send({**message, "type": f"websocket.{kind}"})

    return denial


async def _whole(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] == "http.disconnect":
            raise RequestError("body", "The request was not sent whole.", "send it again.")
        if not message.get("more_body"):
            return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A body that was read, once more; then what really comes."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed


async def _send(send: Send, kept: Answer, headers: list[tuple[bytes, bytes]]) -> None:
    kind = b"application/json" if kept.status < 400 else b"application/problem+json"
    size = str(len(kept.body)).encode()
    start: dict[str, Any] = {
        "type": "http.response.start", "status": kept.status,
        "headers": [(b"content-type", kind), (b"content-length", size), *headers],
    }  # fmt: skip
    await send(start)
    await send({"type": "http.response.body", "body": kept.body})

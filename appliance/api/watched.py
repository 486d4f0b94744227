"""Counts requests, times them, and begins their spans: outside of everything else, so that refusals count too."""

from __future__ import annotations

import time
from collections.abc import Iterator

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.core.observe.observer import Observer
from appliance.core.observe.sample import Sample

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
NOWHERE = "none"
"""The route of a request that was refused before one was looked for, or that none fits."""
GONE = 499
"""Status of a request whose answer nobody waited for."""
STREAMS = (b"text/event-stream", b"application/x-ndjson")
"""Kinds of answers that go on for as long as there is something to say: their time is that of their first byte."""


class Watched:
    """ASGI middleware (RED: rate, errors, duration).

    Args:
        app: What is behind it.
        observer: Told.
        front: "tcp" or "socket".
    """

    def __init__(self, app: ASGIApp, observer: Observer, front: str) -> None:
        self._app, self._front, self._spans = app, front, observer.spans
        self._in_flight = 0
        figures = observer.meter
        labels = ("front", "method", "route", "status")
        self._requests = figures.counter("edge_http_requests_total", "Requests by class of their status", *labels)
        words = "Time until a request was answered; of a stream, until its first byte"
        self._times = figures.times("edge_http_request_duration_seconds", words, "front", "method", "route")
        figures.ask(self._samples)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._in_flight += 1
        facts = {"http.request.method": method, "prime_spark.front": self._front}
        try:
            with self._spans.span(f"HTTP {method}", facts, "server", _parent(scope)) as span:
                try:
                    await self._app(scope, receive, answer)
                finally:
                    route = _route(scope)
                    status = answer.status or GONE
                    if span.sampled:
                        span.set({"http.route": route, "http.response.status_code": status})
                        if status >= 500:
                            span.fail(str(status))
        finally:
            self._in_flight -= 1
            self._note(method, _route(scope), answer, span.trace_id if span.sampled else "")

    def _note(self, method: str, route: str, answer: _Answer, trace_id: str) -> None:
        status = answer.status or GONE
        self._requests.add(self._front, method, route, f"{status // 100}xx")
        ended = answer.first if answer.streams else time.perf_counter()
        self._times.observe(ended - answer.began, self._front, method, route, trace_id=trace_id)

    def _samples(self) -> Iterator[Sample]:
        labels = (("front", self._front),)
        yield Sample("edge_http_requests_in_flight", "gauge", "Requests under way", self._in_flight, labels)


class _Answer:
    """`send` that sees what is answered."""

    __slots__ = ("_send", "began", "first", "status", "streams")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        self.streams = False
        self.began = self.first = time.perf_counter()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.first = message["status"], time.perf_counter()
            kind = next((value for name, value in message.get("headers", ()) if name.lower() == b"content-type"), b"")
            self.streams = kind.startswith(STREAMS)
        await self._send(message)


def _route(scope: Scope) -> str:
    """The template of the route, such as /api/v1/jobs/{job_id}: never what the caller wrote."""
    return str(getattr(scope.get("route"), "path", NOWHERE))


def _parent(scope: Scope) -> str:
    """The traceparent of the caller (W3C Trace Context), or ""."""
    for name, value in scope["headers"]:
        if name == b"traceparent" and len(value) <= 128:
            return str(value.decode("ascii", "replace"))
    return ""

"""What it costs to be watched: CPU time that a request takes more, and that a scrape takes."""

from __future__ import annotations

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.api.watched import Watched
from appliance.core import metrics
from appliance.core.clock import SystemClock
from appliance.core.observe.observer import Observer
from appliance.core.observe.otel import Maker
from appliance.core.observe.spans import child
from appliance.core.state import LiveState
from benchmarks.rows import Figure, at_most

ROUNDS = 5
PARTS = 3
"""Spans within the request's own: as of one that reads and writes."""
SCOPE = {"type": "http", "method": "GET", "path": "/x", "headers": [(b"host", b"x"), (b"accept", b"*/*")]}
ROUTES = 60


async def answer(_: Scope, __: Receive, send: Send) -> None:
    """A request that does nothing, but in three parts."""
    for _part in range(PARTS):
        with child("part"):
            pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b"{}"})


async def bare(_: Scope, __: Receive, send: Send) -> None:
    """The same for nobody to watch."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b"{}"})


async def _nobody(_: Message) -> None:
    """Is sent an answer."""


async def _nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def cost(app: ASGIApp, number: int) -> float:
    """Microseconds of CPU of one request; the best of several rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(number):
            await app(dict(SCOPE), _nothing, _nobody)
        best = min(best, (time.process_time() - began) / number)
    return best * 1e6


async def measure() -> list[Figure]:
    """All figures."""
    floor = await cost(bare, 20_000)
    observer = Observer()
    watched = Watched(answer, observer, "tcp")
    off = await cost(watched, 20_000) - floor
    found = [at_most("a request: counted and timed, traces off", off, "µs", 50.0, "the request alone", round(floor, 2))]
    for ratio, words, budget in ((0.0, "not sampled", 100.0), (1.0, f"sampled, {1 + PARTS} spans", 500.0)):
        observer.spans.switch(Maker({"service.name": "benchmark"}, ratio, lambda _: None).begin)
        on = await cost(watched, 2_000) - floor
        found.append(at_most(f"a request: traces on, {words}", on, "µs", budget, "traces off", round(off, 2)))
    return [*found, *scraped(observer)]


def scraped(observer: Observer) -> list[Figure]:
    """A scrape of an API with many routes."""
    times = observer.meter.times("edge_benchmark_seconds", "Times", "front", "method", "route")
    for number in range(ROUTES):
        times.observe(0.001 * number, "tcp", "GET", f"/api/{number}")
    state = LiveState(SystemClock())
    metrics.gathered(state, observer.meter).written()  # the library is loaded
    looked = written = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        found = metrics.gathered(state, observer.meter)
        looked = min(looked, time.process_time() - began)
        began = time.process_time()
        found.written()
        written = min(written, time.process_time() - began)
    name = f"a scrape with times of {ROUTES} routes"
    return [
        at_most(f"{name}: on the core loop", 1000 * looked, "ms", 5.0),
        Figure(f"{name}: written, in a thread", round(1000 * written, 3), "ms"),
    ]


def run() -> list[Figure]:
    """All figures."""
    return asyncio.run(measure())

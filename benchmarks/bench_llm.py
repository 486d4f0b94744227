"""What the gateway adds to an answer: the same requests to the upstream itself, through the gateway, through LiteLLM's proxy.

Upstream, gateway, peer and caller are processes of their own; the upstream answers at once, so that all that is measured is
the way. They are asked in turns. The overhead at p95 is the p95 of the one minus the p95 of the upstream itself; where other
programs want the processors too, it is theirs as well, and the processor time for an answer is what the gateway itself takes.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import httpx

from appliance.core.figures import percentile
from appliance.core.llm.connection import BrokenError, Connection
from benchmarks.llm_rig import MODEL, litellm, process
from benchmarks.rows import Figure, at_least, at_most

COUNT, WARM = 300, 40
STREAMS, ROUNDS = 500, 3
CALLERS, LOAD = 16, 960
"""Callers at one time, and their requests, where the requests a second are measured."""
DYING, AT = 300, 100
"""Requests while an endpoint of the cloud dies, and the one after which it does."""
TALK = {"model": MODEL, "messages": [{"role": "user", "content": "Why is the sky blue?"}]}
MS = 1000.0
PATIENCE = 60.0


class Place(NamedTuple):
    """Something that is asked."""

    url: str
    pid: int


class Caller:
    """One connection that asks; written for this, so that it costs little beside what it measures."""

    def __init__(self, place: Place) -> None:
        host, _, port = place.url.removeprefix("http://").partition(":")
        self._host, self._port = host, int(port)
        self._connection: Connection | None = None

    async def ask(self, *, stream: bool) -> tuple[float, float, bytes]:
        """Seconds to the first byte of the answer and to its end, and the answer."""
        body = json.dumps({**TALK, "stream": stream}).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {self._host}:{self._port}\r\ncontent-type: application/json\r\n"
            f"authorization: Bearer none\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        connection = self._connection
        if connection is None or connection.closed:
            _, connection = await asyncio.get_running_loop().create_connection(Connection, self._host, self._port)
        began = time.perf_counter()
        connection.send(head.encode() + body)
        status = await connection.head(PATIENCE)
        answer = await connection.more(PATIENCE)
        first = time.perf_counter() - began
        while piece := await connection.more(PATIENCE):
            answer += piece
        took = time.perf_counter() - began
        connection.release(self._keep)
        if status != 200:
            raise RuntimeError(f"{self._host}:{self._port} answered {status}: {answer[:300]!r}")
        return first, took, answer

    def _keep(self, connection: Connection) -> None:
        self._connection = connection

    def close(self) -> None:
        """Let go of it."""
        if self._connection is not None:
            self._connection.abort()


def run() -> list[Figure]:
    """All figures."""
    with (
        process("upstream") as up,
        process("gateway", f"edge={up[0]}") as near,
        process("gateway", f"cloud={up[0]}") as far,
        litellm(up[0]) as peer,
    ):
        places = [Place(*up), Place(*near), Place(*far), *([Place(*peer)] if peer else [])]
        figures = [*asyncio.run(_overhead(places)), *asyncio.run(_load(places))]
    return [*figures, *_dying(), *_hedging()]


async def _overhead(places: Sequence[Place]) -> list[Figure]:
    await _turns(places, WARM, stream=False)
    before = [_cpu(place.pid) for place in places]
    whole = [[took for _, took in each] for each in await _turns(places, COUNT, stream=False)]
    busy = [MS * (_cpu(place.pid) - then) / COUNT for place, then in zip(places, before, strict=True)]
    firsts = [[first for first, _ in each] for each in await _turns(places, COUNT, stream=True)]
    over = [MS * (percentile(each, 0.95) - percentile(whole[0], 0.95)) for each in whole]
    over_first = [MS * (percentile(each, 0.95) - percentile(firsts[0], 0.95)) for each in firsts]
    name = "LiteLLM's proxy" if len(places) > 3 else ""

    def peer(values: list[float]) -> float | None:
        return round(values[3], 3) if name else None

    return [
        at_most("overhead, whole answer, p95", over[1], "ms", 5, name, peer(over)),
        at_most("overhead, first token of a stream, p95", over_first[1], "ms", 5, name, peer(over_first)),
        Figure("the same for the cloud, its entry in the ledger synced before it is sent", round(over[2], 3), "ms"),
        at_most("processor time for an answer", busy[1], "ms", 5, name, peer(busy)),
        Figure("the upstream itself, whole answer, p95", round(MS * percentile(whole[0], 0.95), 3), "ms"),
    ]


async def _turns(places: Sequence[Place], count: int, *, stream: bool) -> list[list[tuple[float, float]]]:
    """(seconds to the first byte, to the end) of each request, place by place; they are asked in turns."""
    callers = [Caller(place) for place in places]
    found: list[list[tuple[float, float]]] = [[] for _ in places]
    for _ in range(count):
        for caller, times in zip(callers, found, strict=True):
            first, took, _answer = await caller.ask(stream=stream)
            times.append((first, took))
    for caller in callers:
        caller.close()
    return found


async def _load(places: Sequence[Place]) -> list[Figure]:
    rates = [await _rate(place, LOAD if number < 3 else LOAD // 4) for number, place in enumerate(places)]
    grown = await _crowd(places[1])
    name, theirs = ("LiteLLM's proxy", round(rates[3], 1)) if len(places) > 3 else ("", None)
    own = f"requests a second of {CALLERS} callers, whole answers"
    return [
        at_least(own, rates[1], "/s", theirs, name, theirs) if theirs else Figure(own, round(rates[1], 1), "/s"),
        Figure("the upstream itself, requests a second of the same callers", round(rates[0], 1), "/s"),
        at_most(f"memory that grows from round 1 to {ROUNDS} of {STREAMS} streams at one time", grown, "MiB", 10),
    ]


async def _rate(place: Place, count: int) -> float:
    async def work() -> None:
        caller = Caller(place)
        for _ in range(count // CALLERS):
            await caller.ask(stream=False)
        caller.close()

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(CALLERS)))
    return count / (time.perf_counter() - began)


async def _crowd(place: Place) -> float:
    """MiB that the gateway's process has grown by, between the first round of streams and the last."""

    async def one() -> None:
        caller = Caller(place)
        await caller.ask(stream=True)
        caller.close()

    sizes = []
    for _ in range(ROUNDS):
        await asyncio.gather(*(one() for _ in range(STREAMS)))
        sizes.append(_resident(place.pid))
    return sizes[-1] - sizes[0]


def _dying() -> list[Figure]:
    """A cloud endpoint is killed while it is asked."""
    with (
        process("upstream") as edge,
        process("upstream") as cloud,
        process("gateway", f"edge={edge[0]}", f"cloud={cloud[0]}") as door,
    ):
        failed, places = asyncio.run(_while_it_dies(Place(*door), cloud[1]))
    return [
        at_most("requests that fail while an endpoint of the cloud dies, of " + str(DYING), failed, "", 0),
        Figure("of these answered by the cloud before it died", places.count("cloud"), ""),
        Figure("of these answered at the edge", places.count("edge"), ""),
    ]


async def _while_it_dies(door: Place, victim: int) -> tuple[int, list[str]]:
    asked = failed = 0
    places: list[str] = []

    async def work() -> None:
        nonlocal asked, failed
        caller = Caller(door)
        while asked < DYING:
            asked += 1
            if asked == AT:
                os.kill(victim, 9)
            try:
                _, _, answer = await caller.ask(stream=False)
                places.append(json.loads(answer)["prime_spark"]["place"])
            except (RuntimeError, BrokenError):
                failed += 1
        caller.close()

    await asyncio.gather(*(work() for _ in range(8)))
    return failed, places


def _hedging() -> list[Figure]:
    """The cloud takes two seconds for its first token; the edge is asked beside it after a quarter of one."""
    with (
        process("upstream") as edge,
        process("upstream", "2") as cloud,
        process("gateway", f"edge={edge[0]}", f"cloud={cloud[0]}") as door,
    ):
        times, hedges = asyncio.run(_hedged(Place(*door)))
    return [
        Figure("hedges of 10 requests to a cloud that is slow with its first token", hedges, ""),
        at_most("first answer of these, p95 (hedged after 250 ms; the cloud takes 2000 ms)", MS * percentile(times, 0.95), "ms",
                500),
    ]  # fmt: skip


async def _hedged(door: Place) -> tuple[list[float], int]:
    caller = Caller(door)
    times = [(await caller.ask(stream=False))[1] for _ in range(10)]
    caller.close()
    async with httpx.AsyncClient(trust_env=False) as http:
        return times, int((await http.get(f"{door.url}/status")).json()["hedges"])


def _cpu(pid: int) -> float:
    """Seconds of processor time that the process has had (proc_pid_stat(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> float:
    rows = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("VmRSS:")) / 1024

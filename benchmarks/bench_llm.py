"""What the gateway adds to an answer: the same requests to the upstream itself and through the gateway, in turns.

Upstream, gateway and caller are three processes; the upstream answers at once, so that all that is measured is the way. The
overhead at p95 is the p95 of the one minus the p95 of the other; where other programs want the processors too, it is theirs as
well, and the gateway's own processor time says what is its share. Streams: as many at one time as the issue of a busy evening.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import httpx

from appliance.core.figures import percentile
from benchmarks.llm_rig import process
from benchmarks.rows import Figure, at_most

COUNT, WARM = 400, 50
STREAMS, ROUNDS = 500, 3
BODY = {"model": "llama3.2:latest", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}
MS = 1000.0


def run() -> list[Figure]:
    """All figures."""
    with process("upstream") as (url, _), process("gateway", url) as (door, pid):
        asyncio.run(_turns(url, door, count=0))
        before = _cpu(pid)
        direct, through = asyncio.run(_turns(url, door, warm=0))
        busy = (_cpu(pid) - before) / COUNT
        first_direct, first_through = asyncio.run(_turns(url, door, stream=True))
        grown = asyncio.run(_crowd(door, pid))
    peer = "the upstream itself"
    over = MS * (percentile(through, 0.95) - percentile(direct, 0.95))
    over_first = MS * (percentile(first_through, 0.95) - percentile(first_direct, 0.95))
    return [
        at_most("gateway overhead, whole answer, p95", over, "ms", 5, peer, MS * percentile(direct, 0.95)),
        at_most(
            "gateway overhead, first token of a stream, p95", over_first, "ms", 5, peer, MS * percentile(first_direct, 0.95)
        ),
        at_most("gateway's own processor time for an answer", MS * busy, "ms", 5),
        at_most(f"memory that grows from round 1 to {ROUNDS} of {STREAMS} streams at one time", grown, "MiB", 10),
    ]


async def _turns(
    url: str, door: str, *, stream: bool = False, warm: int = WARM, count: int = COUNT
) -> tuple[list[float], list[float]]:
    """Seconds of each request, directly and through the gateway."""
    found: tuple[list[float], list[float]] = ([], [])
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        for number in range(warm + count):
            for place, times in zip((url, door), found, strict=True):
                took = await _one(http, place, stream=stream)
                if number >= warm:
                    times.append(took)
    return found


async def _one(http: httpx.AsyncClient, place: str, *, stream: bool) -> float:
    began = time.perf_counter()
    async with http.stream("POST", f"{place}/api/chat", json={**BODY, "stream": stream}) as answer:
        pieces = answer.aiter_raw()
        await anext(pieces)
        first = time.perf_counter() - began
        async for _ in pieces:
            pass
    return first if stream else time.perf_counter() - began


async def _crowd(door: str, pid: int) -> float:
    """MiB that the gateway's process has grown by, between the first round of streams and the last."""
    limits = httpx.Limits(max_connections=STREAMS, max_keepalive_connections=0)
    sizes = []
    async with httpx.AsyncClient(trust_env=False, timeout=120, limits=limits) as http:
        for _ in range(ROUNDS):
            await asyncio.gather(*(_one(http, door, stream=True) for _ in range(STREAMS)))
            sizes.append(_resident(pid))
    return sizes[-1] - sizes[0]


def _cpu(pid: int) -> float:
    """Seconds of processor time that the process has had (proc_pid_stat(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> float:
    rows = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("VmRSS:")) / 1024

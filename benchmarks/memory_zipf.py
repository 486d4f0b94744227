"""Hit rates of tier 1 on a Zipf trace, beside an exact LRU of as many entries as tier 1 really held."""

from __future__ import annotations

import statistics
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from appliance.core.memory.front import Front
from appliance.core.memory.hot import OVERHEAD, LocalLru
from benchmarks.memory_rig import running
from benchmarks.rows import Figure, at_most

REQUESTS, KEYS, ENTRIES = 1_000_000, 100_000, 10_000
BATCH = 10
"""Requests sent together: a trace is one after the other, but that takes minutes."""
SIZE = 100
POINTS = 2.0


async def figures() -> list[Figure]:
    """Redis, then the LRU of this process."""
    trace = _trace()
    async with running() as built:
        from redis.asyncio import Redis

        bare = Redis.from_url(built.url)
        held = await _shrink(built.parts.front, bare, trace)
        began = time.perf_counter()
        rate, sizes = await _replay(built.parts.front, trace, bare.dbsize)
        pace = REQUESTS / (time.perf_counter() - began)
        await bare.aclose()
    found = [_row(f"Redis, maxmemory set for about {held} entries, {pace / 1000:.0f} k requests/s", rate, trace, sizes)]
    local = LocalLru(ENTRIES * (len(trace[0]) + SIZE + OVERHEAD))
    front = Front(local, 1024)
    await front.open()

    async def size() -> int:
        usage = await local.usage()
        return usage.entries if usage is not None and usage.entries is not None else 0

    rate, sizes = await _replay(front, trace, size)
    return [*found, _row("LRU in this process", rate, trace, sizes)]


def _trace() -> list[str]:
    """Names, drawn with probabilities of 1/rank; the same in every run."""
    import numpy as np

    weights = 1.0 / np.arange(1, KEYS + 1)
    drawn = np.random.default_rng(11).choice(KEYS, REQUESTS, p=weights / weights.sum())
    return [f"zipf:{number:06d}" for number in drawn]


async def _shrink(front: Front, bare: Any, trace: Sequence[str]) -> int:
    """Set maxmemory to what so many entries take; returns how many those are."""
    names = list(dict.fromkeys(trace))[:ENTRIES]
    for start in range(0, ENTRIES, BATCH):
        await front.set_many(dict.fromkeys(names[start : start + BATCH], b"x" * SIZE), None)
    used = int((await bare.info("memory"))["used_memory"])
    await bare.config_set("maxmemory", used)
    await front.remove(names)
    return len(names)


async def _replay(front: Front, trace: Sequence[str], size: Any) -> tuple[float, list[int]]:
    """(Hit rate in percent, entries held at moments of the second half); reads in batches, and sets what was missing."""
    hits, sizes = 0, []
    for start in range(0, REQUESTS, BATCH):
        names = trace[start : start + BATCH]
        found = await front.get_many(names)
        missed = {name: b"x" * SIZE for name, value in zip(names, found, strict=True) if value is None}
        hits += BATCH - found.count(None)
        if missed:
            await front.set_many(missed, None)
        if start >= REQUESTS // 2 and start % (100 * BATCH) == 0:
            sizes.append(await size())
    return 100 * hits / REQUESTS, sizes


def _exact(trace: Sequence[str], entries: int) -> float:
    """Hit rate of an exact LRU in percent, request by request."""
    kept: OrderedDict[str, None] = OrderedDict()
    hits = 0
    for name in trace:
        if name in kept:
            hits += 1
            kept.move_to_end(name)
        else:
            kept[name] = None
            if len(kept) > entries:
                kept.popitem(last=False)
    return 100 * hits / len(trace)


def _row(what: str, rate: float, trace: Sequence[str], sizes: list[int]) -> Figure:
    entries = round(statistics.median(sizes))
    exact = _exact(trace, entries)
    name = f"Zipf(1.0) hit rate below exact LRU of the {entries} entries really held, batches of {BATCH}: {what}, {rate:.2f} %"
    return at_most(name, exact - rate, "points", POINTS, "exact LRU, % hits", round(exact, 2))

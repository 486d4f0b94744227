"""The local disk's tier with tier 1 off, beside bare SQLite; what write-behind sustains; and a thousand misses of one key."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import statistics
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from appliance.core.figures import percentile
from appliance.core.memory.model import Durability
from benchmarks.memory_rig import Built, p99s, running, turns
from benchmarks.rows import Figure, at_most

ROWS, ROW = 20_000, 1024
"""Small values, and bytes of each."""
FILES, FILE = 200, 256 * 1024
GETS, SETS, BATCH = 3000, 300, 500
BEHIND = 50_000
"""Distinct keys through write-behind."""
CROWD = 1000


async def figures() -> list[Figure]:
    """All of it."""
    noise = random.Random(7)
    small = {f"row/{index:06d}": noise.randbytes(ROW) for index in range(ROWS)}
    large = {f"file/{index:04d}": noise.randbytes(FILE) for index in range(FILES)}
    async with running(redis=False) as built:
        with closing(_bare(built.home / "bare.sqlite")) as bare:
            found = [*await _writes(built, bare, small), *await _reads(built, small, large)]
    async with running() as built:
        return [*found, await _behind(built), await _crowd(built)]


def _bare(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE entries (key TEXT PRIMARY KEY, value BLOB)")
    return connection


async def _writes(built: Built, bare: sqlite3.Connection, small: dict[str, bytes]) -> list[Figure]:
    items = list(small.items())
    batches = [dict(items[start : start + BATCH]) for start in range(0, ROWS, BATCH)]
    ours, theirs = iter(batches), iter(batches)

    def commit(values: dict[str, bytes]) -> None:
        bare.execute("BEGIN IMMEDIATE")
        bare.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?)", list(values.items()))
        bare.execute("COMMIT")

    many, plain = await turns([lambda: built.memory.set_many(next(ours)), lambda: commit(next(theirs))], len(batches))
    one, other = iter(items), iter(items)

    async def single() -> None:
        key, value = next(one)
        await built.memory.set(key, value)

    sets, commits = await turns([single, lambda: commit(dict([next(other)]))], SETS)
    name = f"set at durability edge, {ROW} B"
    floor = "bare sqlite3, a synced commit each"
    return [
        Figure(f"{name}, p50", _ms(sets), "ms", peer=floor, peer_measured=_ms(commits)),
        Figure(f"{name}, p99", round(1000 * percentile(sets, 0.99), 3), "ms", peer=floor,
               peer_measured=1000 * percentile(commits, 0.99)),
        Figure(f"set_many of {BATCH} x {ROW} B at durability edge", round(BATCH / statistics.median(many)), "ops/s",
               peer=f"bare sqlite3, {BATCH} in a synced commit", peer_measured=BATCH / statistics.median(plain)),
    ]  # fmt: skip


async def _reads(built: Built, small: dict[str, bytes], large: dict[str, bytes]) -> list[Figure]:
    for key, value in large.items():
        await built.memory.set(key, value)
    file = f"{FILE // 1024} KiB file"
    return [
        await _gets(built, small, GETS, f"{ROW} B in a row"),
        await _gets(built, large, GETS // 3, file),
        await _gets(built, large, GETS // 10, f"{file} out of the page cache", cold=True),
    ]


async def _gets(built: Built, values: dict[str, bytes], count: int, what: str, *, cold: bool = False) -> Figure:
    """Random reads; in turns with the floor, an empty call in a thread, which shows what else the machine does."""
    keys = iter(random.Random(3).choices(list(values), k=count))

    async def get() -> None:
        key = next(keys)
        assert await built.memory.get(key) == values[key]

    async def nothing() -> None:
        await asyncio.to_thread(int)

    times, floor = await turns([get, nothing], count, (lambda: _drop_pages(built.parts.edge.directory)) if cold else None)
    name = f"disk tier get, {what}, p99 (median of 5; p50 {_ms(times)} ms)"
    return at_most(name, 1000 * p99s(times), "ms", 5.0, "empty asyncio.to_thread, p99", round(1000 * p99s(floor), 3))


def _drop_pages(directory: Path) -> None:
    """Let go of the files' pages, and of nobody else's."""
    for path in (directory / "files").rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


async def _behind(built: Built) -> Figure:
    """From the first call until the last value is on disk."""
    batches = [{f"b/{start + index}": b"%0100d" % index for index in range(1000)} for start in range(0, BEHIND, 1000)]
    began = time.perf_counter()
    for batch in batches:
        await built.memory.set_many(batch, durability=Durability.memory)
    taken = time.perf_counter() - began
    await built.memory.flush()
    name = f"set_many of 1000 x 100 B, durability memory, {BEHIND} distinct keys until all are synced to disk"
    whole = BEHIND / (time.perf_counter() - began)
    return Figure(name, round(whole), "keys/s", peer="same run, acknowledged by tier 1", peer_measured=BEHIND / taken)


async def _crowd(built: Built) -> Figure:
    """Reads of the disk that so many readers of one key cause, whom tier 1 cannot help."""
    edge, calls = built.parts.edge, []
    await built.memory.set("crowd", b"x" * 1000)
    await built.parts.front.remove(["default:crowd"])
    read = edge.get

    async def counted(namespace: str, key: str) -> Any:
        calls.append(key)
        return await read(namespace, key)

    edge.get = counted  # type: ignore[method-assign]
    values = await asyncio.gather(*(built.memory.get("crowd") for _ in range(CROWD)))
    edge.get = read  # type: ignore[method-assign]
    assert values == [b"x" * 1000] * CROWD
    assert built.parts.front.up
    return at_most(f"fetches caused by {CROWD} concurrent misses of one key", len(calls), "fetches", 1)


def _ms(times: list[float]) -> float:
    return round(1000 * statistics.median(times), 3)

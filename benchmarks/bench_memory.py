"""The tiered memory beside bare redis-py, bare SQLite, cashews and an exact LRU: same run, same data, same server."""

from __future__ import annotations

import asyncio

from benchmarks import memory_disk, memory_hot, memory_zipf
from benchmarks.rows import Figure


def run() -> list[Figure]:
    """All of it."""
    return asyncio.run(_all())


async def _all() -> list[Figure]:
    return [*await memory_hot.figures(), *await memory_disk.figures(), *await memory_zipf.figures()]

"""Tier 1 through the full API, beside bare redis-py and cashews on the same server."""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator
from itertools import cycle
from typing import Any

from appliance.core.memory.model import Durability
from benchmarks.memory_peers import cashews
from benchmarks.memory_rig import Built, Work, p99s, running, turns
from benchmarks.rows import Figure, at_least, at_most

KEYS, SIZE = 20_000, 100
"""Values, and bytes of each."""
GETS, CALLS, RESTED = 3000, 300, 100
"""Calls of each: one value; many values; many values with the write-behind brought to rest before each."""
SHARE, FLOOR = 0.8, 100_000
"""Of the bare form; values per second."""
TTL = 3600.0


async def figures() -> list[Figure]:
    """All of tier 1."""
    import redis
    from redis.asyncio import Redis

    data = {f"sensor/{index:06d}": random.Random(index).randbytes(SIZE) for index in range(KEYS)}
    async with running() as built, cashews(built.url) as peer:
        bare, blocking = Redis.from_url(built.url), redis.Redis.from_url(built.url)
        try:
            bench = _Bench(built, data, bare, blocking, peer)
            await bench.fill()
            found = await bench.get()
            for count in (200, 1000):
                found += await bench.get_many(count)
                found += await bench.set_many(count, None)
                found += await bench.set_many(count, TTL)
            return [*found, *await bench.flushing(1000)]
        finally:
            await bare.aclose()
            blocking.close()


class _Bench:
    """All that is measured on one server with the same data."""

    def __init__(self, built: Built, data: dict[str, bytes], bare: Any, blocking: Any, peer: Any) -> None:
        self.memory, self.data, self.bare, self.blocking, self.peer = built.memory, data, bare, blocking, peer
        self.named = {f"bare:default:{key}": value for key, value in data.items()}

    async def fill(self) -> None:
        """The same values under the names of each."""
        await self.memory.set_many(self.data, durability=Durability.memory)
        await self.memory.flush()
        await self.bare.mset(self.named)
        if self.peer is not None:
            await self.peer.set_many(self.data)

    async def get(self) -> list[Figure]:
        """One value at a time."""
        keys, names, theirs = cycle(self.data), cycle(self.named), cycle(self.data)

        async def ours() -> None:
            assert await self.memory.get(next(keys)) is not None

        async def plain() -> None:
            assert await self.bare.get(next(names)) is not None

        async def other() -> None:
            assert await self.peer.get(next(theirs)) is not None

        times = await turns([ours, plain, other] if self.peer is not None else [ours, plain], GETS)
        milliseconds = [(1000 * statistics.median(each), 1000 * p99s(each)) for each in times]
        (p50, p99), (bare50, bare99) = milliseconds[:2]
        rows = [
            Figure("tier-1 get, full API, 100 B, p50", round(p50, 3), "ms", peer="redis.asyncio GET", peer_measured=bare50),
            at_most("tier-1 get, full API, 100 B, p99 (median of 5)", p99, "ms", 1.0, "redis.asyncio GET", bare99),
        ]
        if self.peer is not None:
            peer50 = milliseconds[2][0]
            rows.append(
                Figure("tier-1 get, full API, 100 B, p50", round(p50, 3), "ms", peer="cashews get", peer_measured=peer50)
            )
        return rows

    def _batches(self, values: dict[str, bytes], count: int) -> Iterator[dict[str, bytes]]:
        items = list(values.items())
        return cycle([dict(items[start : start + count]) for start in range(0, KEYS, count)])

    async def get_many(self, count: int) -> list[Figure]:
        """Many values at once."""
        keys, names, flat, theirs = (
            cycle([list(batch) for batch, _ in zip(self._batches(values, count), range(KEYS // count), strict=False)])
            for values in (self.data, self.named, self.named, self.data)
        )

        async def ours() -> None:
            assert len(await self.memory.get_many(next(keys))) == count

        async def mget() -> None:
            assert None not in await self.bare.mget(next(names))

        def held() -> None:
            assert None not in self.blocking.mget(next(flat))

        async def other() -> None:
            assert len(await self.peer.get_many(*next(theirs))) == count

        name = f"get_many of {count} x {SIZE} B"
        return await self._compared(name, count, [ours, mget, held, other], ["MGET", "MGET", "get_many"])

    async def set_many(self, count: int, ttl: float | None) -> list[Figure]:
        """Many values at once, with nothing on its way to the disk when a call begins."""
        name = (
            f"set_many of {count} x {SIZE} B, durability memory, {'TTL' if ttl else 'no TTL'}, write-behind at rest before each"
        )
        forms = ["pipeline of SET PX", "pipeline of SET PX", "set_many with TTL"] if ttl else ["MSET", "MSET", "set_many"]
        return await self._compared(name, count, self._sets(count, ttl), forms, self.memory.flush)

    async def flushing(self, count: int) -> list[Figure]:
        """The same while write-behind flushes all the time, against peers in turns with it."""
        found = []
        for ttl, form in ((None, "MSET"), (TTL, "pipeline of SET PX")):
            kind = "TTL" if ttl else "no TTL"
            name = f"set_many of {count} x {SIZE} B, durability memory, {kind}, write-behind flushing all along"
            found += await self._compared(name, count, self._sets(count, ttl)[:2], [form])
            await self.memory.flush()
        return found

    def _sets(self, count: int, ttl: float | None) -> list[Work]:
        keys, names, flat, theirs = (self._batches(values, count) for values in (self.data, self.named, self.named, self.data))
        milliseconds = int(1000 * (ttl or 0))

        def filled(pipeline: Any, batch: dict[str, bytes]) -> Any:
            for key, value in batch.items():
                pipeline.set(key, value, px=milliseconds)
            return pipeline

        async def ours() -> None:
            await self.memory.set_many(next(keys), durability=Durability.memory, ttl=ttl)

        async def plain() -> None:
            if ttl is None:
                await self.bare.mset(next(names))
            else:
                await filled(self.bare.pipeline(transaction=False), next(names)).execute()

        def held() -> None:
            if ttl is None:
                self.blocking.mset(next(flat))
            else:
                filled(self.blocking.pipeline(transaction=False), next(flat)).execute()

        async def other() -> None:
            await self.peer.set_many(next(theirs), expire=ttl)

        return [ours, plain, held, other]

    async def _compared(
        self, name: str, count: int, works: list[Work], forms: list[str], before: Work | None = None
    ) -> list[Figure]:
        """A row beside each peer; only that of the same kind, on one event loop, sets a budget."""
        if self.peer is None:
            works = works[:3]
        times = await turns(works, CALLS if before is None else RESTED, before)
        ours, plain, *others = (count / statistics.median(each) for each in times)
        rows = [at_least(name, ours, "ops/s", round(max(FLOOR, SHARE * plain)), f"redis.asyncio {forms[0]}", plain)]
        libraries = ["blocking redis-py", "cashews"]
        for library, form, figure in zip(libraries, forms[1:], others, strict=False):
            rows.append(Figure(name, round(ours), "ops/s", peer=f"{library} {form}", peer_measured=figure))
        return rows

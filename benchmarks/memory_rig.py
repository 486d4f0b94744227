"""A memory as the appliance builds it, beside bare clients of the same private redis-server."""

from __future__ import annotations

import asyncio
import inspect
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance.core.clock import SystemClock
from appliance.core.figures import percentile
from appliance.core.memory.build import Places, build
from appliance.core.memory.memory import Memory
from appliance.core.memory.parts import Parts
from appliance.core.memory.service import MemoryService
from appliance.core.secrets import Secrets
from appliance.core.state import LiveState
from appliance.settings import MemorySettings, NasSettings, Settings

Work = Callable[[], Awaitable[object] | object]


@dataclass(frozen=True)
class Built:
    """A running memory.

    Attributes:
        url: Of its redis-server; empty where that is not started.
        home: Directory of its own.
    """

    service: MemoryService
    url: str
    home: Path

    @property
    def memory(self) -> Memory:
        """Its API."""
        return self.service.memory

    @property
    def parts(self) -> Parts:
        """Its tiers."""
        return self.service.parts


@asynccontextmanager
async def running(*, redis: bool = True) -> AsyncIterator[Built]:
    """Local disk and private redis-server, all services running; without `redis` as while Redis is down."""
    with tempfile.TemporaryDirectory(prefix="spark-bench-") as name:
        home = Path(name)
        settings = Settings(nas=NasSettings(enabled="no"), memory=MemorySettings(disk_max_mib=65536))
        clock, socket = SystemClock(), home / "redis.sock"
        places = Places(home / "memory", socket, str(socket))
        service, needed = build(settings, places, Secrets(home, {}), clock, LiveState(clock), _note)
        for each in needed if redis else ():
            await each.start()
        await service.start()
        run = asyncio.create_task(service.run())
        try:
            yield Built(service, f"unix://{socket}" if redis else "", home)
        finally:
            run.cancel()
            await asyncio.wait({run})
            await service.stop()
            for each in needed if redis else ():
                await each.stop()


async def _note(event: str, attributes: dict[str, object]) -> None:
    print(f"{event}: {attributes}")


async def turns(works: Sequence[Work], rounds: int, before: Work | None = None) -> list[list[float]]:
    """Seconds of each call, the works taken in turns, so that a busy moment of the machine falls on all alike.

    The order changes from round to round: who comes after the one that uses most time would be at a disadvantage.

    Args:
        works: What is measured; plain functions or coroutine functions.
        rounds: Calls of each.
        before: Called before each call, unmeasured.
    """
    taken: list[list[float]] = [[] for _ in works]
    pairs, order = list(zip(taken, works, strict=True)), random.Random(1)
    for _ in range(rounds):
        for times, work in order.sample(pairs, len(pairs)):
            if before is not None:
                await _called(before)
            began = time.perf_counter()
            await _called(work)
            times.append(time.perf_counter() - began)
    return taken


async def _called(work: Work) -> None:
    done = work()
    if inspect.isawaitable(done):
        await done


def p99s(times: Sequence[float], parts: int = 5) -> float:
    """Median of the p99 of `parts` equal stretches, so that one busy moment of the machine does not decide."""
    size = len(times) // parts
    return statistics.median(percentile(times[start : start + size], 0.99) for start in range(0, parts * size, size))

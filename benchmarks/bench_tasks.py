"""Tasks through Kafka to two worker processes and back, beside Dramatiq on Redis with as many, in the same run.

Ours are on disk (SQLite, synchronous=FULL) before they are acknowledged, before they are given out, when they begin and when
they end; Dramatiq's are in Redis's memory. The task itself does nothing.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from appliance.core.figures import percentile
from appliance.core.tasks.model import Task
from benchmarks.rows import Figure, at_least, at_most
from tests.servers.child import Child
from tests.servers.kafka import KafkaServer
from tests.servers.redis import RedisServer
from tests.tasks.far_rig import FarRig, far
from tests.tasks.rig import Echo, running

COUNT = 3000
ALONE = 200
WORKERS, LIMIT = 2, 16


def run() -> list[Figure]:
    """All figures."""
    with tempfile.TemporaryDirectory(prefix="ps-tasks-") as own:
        directory = Path(own)
        peer_rate, peer_alone = _peer(directory)
        local = asyncio.run(_local(directory / "local"))
        with KafkaServer(directory / "kafka", options=()) as server:
            rate, alone = asyncio.run(_ours(server, directory))
    return [
        at_least("tasks over Kafka, submitted to done, a second", rate, "/s", 200, "Dramatiq on Redis", peer_rate),
        at_most("one task alone, submit → done, p50", 1000 * percentile(alone, 0.5), "ms", 50, "Dramatiq on Redis",
                1000 * percentile(peer_alone, 0.5)),
        at_most("one task alone, submit → done, p99", 1000 * percentile(alone, 0.99), "ms", 150, "Dramatiq on Redis",
                1000 * percentile(peer_alone, 0.99)),
        at_least("tasks on this machine's worker, a second", local, "/s", 500),
    ]  # fmt: skip


async def _ours(server: KafkaServer, directory: Path) -> tuple[float, list[float]]:
    topics: Any = SimpleNamespace(server=server, bootstrap=server.bootstrap(), prefix="bench.")
    (directory / "ours").mkdir()
    async with far(directory / "ours", topics, service={"lease_seconds": 20.0, "beat_seconds": 3.0}) as rig:
        names = [f"worker-{number}" for number in range(WORKERS)]
        for name in names:
            rig.launch(name, LIMIT, lease_seconds=20.0, beat_seconds=3.0)
        await rig.ready(*names)
        await _done(rig, 100)
        began = time.perf_counter()
        await _done(rig, COUNT)
        rate = COUNT / (time.perf_counter() - began)
        return rate, [await _timed(rig) for _ in range(ALONE)]


async def _done(rig: FarRig, count: int) -> None:
    async def one(number: int) -> None:
        task: Task = await rig.submit(payload={"n": number})
        await rig.desk.ended(task.task_id)

    await asyncio.gather(*(one(number) for number in range(count)))


async def _timed(rig: FarRig) -> float:
    began = time.perf_counter()
    await _done(rig, 1)
    return time.perf_counter() - began


async def _local(directory: Path) -> float:
    directory.mkdir()
    async with running(directory, handlers=[Echo()]) as rig:
        began = time.perf_counter()
        tasks = await asyncio.gather(*(rig.submit(payload={"n": number}) for number in range(COUNT)))
        for task in tasks:
            await rig.desk.ended(task.task_id)
        return COUNT / (time.perf_counter() - began)


def _peer(directory: Path) -> tuple[float, list[float]]:
    """Dramatiq: (tasks a second, seconds of each alone)."""
    (directory / "redis").mkdir()
    with RedisServer(directory / "redis") as server:
        os.environ["BENCH_REDIS"] = f"unix://{server.socket}"
        root = str(Path(__file__).resolve().parents[1])
        child = Child(directory / "dramatiq.log")
        command = ["-m", "dramatiq", "benchmarks.tasks_peer", "--processes", str(WORKERS), "--threads", str(LIMIT)]
        child.spawn([sys.executable, *command], lambda: True, env={"PYTHONPATH": root})
        try:
            echo = importlib.import_module("benchmarks.tasks_peer").echo
            echo.send({"n": 0}).get_result(block=True, timeout=60_000)
            began = time.perf_counter()
            for sent in [echo.send({"n": number}) for number in range(COUNT)]:
                sent.get_result(block=True, timeout=60_000)
            rate = COUNT / (time.perf_counter() - began)
            return rate, [_alone(echo) for _ in range(ALONE)]
        finally:
            child.kill()


def _alone(echo: Any) -> float:
    began = time.perf_counter()
    echo.send({"n": 1}).get_result(block=True, timeout=60_000)
    return time.perf_counter() - began

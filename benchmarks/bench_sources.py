"""A person's requests beside four sources that ask for all the device can do: how long they wait, and what memory is taken."""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from appliance.core.clock import SystemClock
from appliance.core.figures import percentile
from appliance.core.inference.build import Ground, build
from appliance.core.inference.model import Priority
from appliance.core.inference.service import InferenceService
from appliance.core.inference.sources.definition import build as define
from appliance.core.inference.sources.frames import Frame
from appliance.core.inference.sources.model import SourceEvent
from appliance.core.inference.sources.opening import Opener
from appliance.core.inference.sources.pictures import Limits
from appliance.core.inference.sources.runner import Runner, Tools
from appliance.core.inference.sources.shelf import Shelf
from appliance.core.inference.sources.tally import Tally
from appliance.core.state import LiveState
from appliance.core.store import Store
from appliance.hw.onnx import OnnxAccelerator
from appliance.settings import Settings
from benchmarks.rows import Figure

MODELS = Path(__file__).resolve().parent.parent / ".models"
VIDEO = MODELS / "samples" / "bikes.mp4"
SOURCES = 4
REQUESTS = 150
WARM = 10


def run() -> list[Figure]:
    """All of it."""
    with tempfile.TemporaryDirectory() as home:
        return asyncio.run(_measured(Path(home)))


async def _measured(home: Path) -> list[Figure]:
    store = Store(home / "state.sqlite")
    store.open()
    service = _inference(home, store)
    await service.start()
    try:
        alone = await _requests(service)
        tallies = [Tally() for _ in range(SOURCES)]
        tools = _tools(service, store)
        work = [asyncio.create_task(_runner(index, tools, tally).run()) for index, tally in enumerate(tallies)]
        while min(tally.inferred for tally in tallies) < WARM:
            await asyncio.sleep(0.05)
        process = psutil.Process()
        rss, began, looked = process.memory_info().rss, time.perf_counter(), sum(tally.inferred for tally in tallies)
        beside = await _requests(service)
        seconds = time.perf_counter() - began
        seen = sum(tally.inferred for tally in tallies) - looked
        grown = (process.memory_info().rss - rss) / 2**20
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
    finally:
        await service.stop()
        store.close()
    return _figures(alone, beside, seen / seconds, grown)


def _figures(alone: list[float], beside: list[float], rate: float, grown: float) -> list[Figure]:
    told = f"high-priority request beside {SOURCES} sources"
    return [
        Figure(f"{told}, p50", round(percentile(beside, 0.5), 1), "ms", None, "no source", round(percentile(alone, 0.5), 1)),
        Figure(f"{told}, p99", round(percentile(beside, 0.99), 1), "ms", None, "no source", round(percentile(alone, 0.99), 1)),
        Figure(f"frames of {SOURCES} sources looked at meanwhile", round(rate, 1), "frames/s", None, "", None),
        Figure(f"memory taken over {REQUESTS} requests and those frames", round(grown, 1), "MiB", None, "", None),
    ]


def _inference(home: Path, store: Store) -> InferenceService:
    clock = SystemClock()

    async def nothing(*_: Any) -> None: ...

    settings = Settings.model_validate({"inference": {"model_dir": str(MODELS), "model": "yolov3-tiny-coco"}})
    return build(
        Ground(
            settings=settings, accelerators=(OnnxAccelerator(threads=settings.inference.threads),), models=home / "models",
            remote=None, store=store, state=LiveState(clock), clock=clock, note=nothing, on_result=nothing,
        )
    )  # fmt: skip


class _NoMemory:
    """No rule keeps pictures here."""

    async def set(self, *_: Any, **__: Any) -> None:
        """Never called."""
        raise AssertionError

    async def delete(self, *_: Any) -> bool:
        """Never called."""
        raise AssertionError


def _tools(service: InferenceService, store: Store) -> Tools:
    clock = SystemClock()

    async def nothing(_: SourceEvent) -> None: ...

    opener = Opener(lambda _: "", Limits(2**23, 20_000_000))
    return Tools(service, opener, Shelf(_NoMemory(), store, clock, 1.0, 1), nothing, clock)


def _runner(index: int, tools: Tools, tally: Tally) -> Runner:
    document = {"name": f"cam{index}", "kind": "video", "address": str(VIDEO), "rate": 25.0, "repeat": True}
    return Runner(define(document), tools, tally)


async def _requests(service: InferenceService) -> list[float]:
    """Milliseconds of each."""
    feed = Opener(lambda _: "", Limits(2**23, 20_000_000))(
        define({"name": "one", "kind": "video", "address": str(VIDEO)}), threading.Event()
    )
    shot = feed.read()
    assert shot is not None
    frame = Frame(np.ascontiguousarray(shot.rgb()), "person", 0.0, 0.0)
    feed.close()
    taken = []
    for index in range(REQUESTS + WARM):
        began = time.perf_counter()
        await service.infer_sample(frame, source="person", priority=Priority.high, keep=False)
        if index >= WARM:
            taken.append((time.perf_counter() - began) * 1000)
    return taken

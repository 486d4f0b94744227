"""The engine beside the bare onnxruntime session, with the detection model that ships; and how it bears load and hangs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from benchmarks.rows import Figure, at_most
from benchmarks.sessions_rig import THREADS, bare_session, lower_quartile

MODELS = Path(__file__).resolve().parent.parent / ".models"
ROUNDS, WARM = 30, 5
SOURCES = 4
URGENT = 40
"""High-priority requests beside the sources."""
MANY = 10_000


def run() -> list[Figure]:
    """All of it."""
    logging.disable(logging.ERROR)  # the hangs below are meant
    return [*asyncio.run(_with_model()), *asyncio.run(_many()), *asyncio.run(_hang())]


async def _with_model() -> list[Figure]:
    from appliance.core.inference import manifest
    from appliance.core.inference.model import ModelVersion

    directory = next((each for each in manifest.find([MODELS]) if manifest.load(each).task == "detection"), None)
    if directory is None:
        print(f"no detection model is in {MODELS}: the engine is not measured on one; make setup fetches it", file=sys.stderr)
        return []
    version = ModelVersion(manifest.load(directory), directory)
    return [*await _above(version), *await _beside_sources(version)]


@contextlib.asynccontextmanager
async def _engine(*accelerators: Any, **limits: Any) -> AsyncIterator[Any]:
    from appliance.core.clock import SystemClock
    from appliance.core.inference.engine import Limits, build

    made = build(accelerators, SystemClock(), Limits(**limits))
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


def _input(version: Any) -> dict[str, Any]:
    import numpy as np

    wanted = version.manifest.input
    return {wanted.name: np.random.default_rng(0).random((1, 3, wanted.height, wanted.width), np.float32)}


async def _above(version: Any) -> list[Figure]:
    """One request after another, in turns with bare sessions: one set up as the engine's is, and one as onnxruntime does it.

    The latter's threads spin while they wait, which the appliance forbids: they would heat an idle board.
    """
    from appliance.core.inference.model import Request
    from appliance.hw.onnx import OnnxAccelerator

    tensors = _input(version)
    path = str(version.directory / version.manifest.file("onnx").path)
    calm, spinning = (bare_session(path, spin=spin) for spin in (False, True))
    own: list[float] = []
    async with _engine(OnnxAccelerator(THREADS)) as made:

        async def engine() -> None:
            began = time.perf_counter()
            answer = await made.run(Request(version, tensors))
            own.append(1000 * (time.perf_counter() - began) - answer.inference_ms)

        async def one() -> None:
            await asyncio.to_thread(calm.run, None, tensors)

        async def other() -> None:
            await asyncio.to_thread(spinning.run, None, tensors)

        works = [engine, one, other]
        taken: dict[Any, list[float]] = {work: [] for work in works}
        await made.load(version)
        orders = itertools.cycle(itertools.permutations(works))
        for _ in range(ROUNDS):
            for work in next(orders):
                await asyncio.sleep(0.05)  # threads that spin come to rest
                began = time.perf_counter()
                await work()
                taken[work].append(time.perf_counter() - began)
    through, alone, theirs = (lower_quartile(times[WARM:]) for times in taken.values())
    return [
        at_most(
            "request through the engine, above the bare session", 100 * (through / alone - 1), "%", 10.0,
            "bare session, ms", round(1000 * alone, 1),
        ),
        Figure(
            "the same, above a session whose threads spin", round(100 * (through / theirs - 1), 1), "%", None,
            "spinning session, ms", round(1000 * theirs, 1),
        ),
        Figure("the engine's own part of a request, median", round(statistics.median(own[WARM:]), 3), "ms"),
    ]  # fmt: skip


async def _beside_sources(version: Any) -> list[Figure]:
    """Four sources push frames as fast as they are taken; an operator asks now and then."""
    from appliance.core.figures import percentile
    from appliance.core.inference.model import Priority, Request
    from appliance.errors import AbsentError, QueueFullError
    from appliance.hw.onnx import OnnxAccelerator

    tensors, answered, dropped = _input(version), [0] * SOURCES, [0] * SOURCES
    times: list[float] = []

    async def frame(source: int) -> None:
        try:
            await made.run(Request(version, tensors, Priority.low, source=str(source)))
            answered[source] += 1
        except QueueFullError:
            dropped[source] += 1
        except AbsentError:  # the engine stopped: the measuring is over
            return

    async def source(number: int) -> None:
        tasks: set[asyncio.Task[None]] = set()
        while True:  # 10 frames a second each, whatever becomes of them
            tasks.add(asyncio.create_task(frame(number)))
            tasks = {task for task in tasks if not task.done()}
            await asyncio.sleep(0.1)

    async with _engine(OnnxAccelerator(THREADS), waiting=8) as made:
        await made.load(version)
        alone = []
        for _ in range(10):
            began = time.perf_counter()
            await made.run(Request(version, tensors, Priority.high))
            alone.append(time.perf_counter() - began)
        sources = [asyncio.create_task(source(number)) for number in range(SOURCES)]
        await asyncio.sleep(2)
        for _ in range(URGENT):
            began = time.perf_counter()
            await made.run(Request(version, tensors, Priority.high))
            times.append(1000 * (time.perf_counter() - began))
            await asyncio.sleep(0.05)
        for task in sources:
            task.cancel()
        status = made.status()
    least = 1000 * statistics.median(alone)
    print(f"frames answered {answered}, dropped {dropped}; the engine dropped {status.dropped_by}", file=sys.stderr)
    floor = "alone, ms (a frame that runs is not interrupted)"
    return [
        Figure("high priority beside 4 sources, p50", round(percentile(times, 0.5), 1), "ms", None, floor, round(least, 1)),
        at_most("high priority beside 4 sources, p99", percentile(times, 0.99), "ms", round(3 * least), floor, round(least, 1)),
        Figure("least frames of one source / most of one", round(min(answered) / max(1, *answered), 2), "share"),
    ]


async def _many() -> list[Figure]:
    """Ten thousand small requests, eight at a time: the memory before and after, and the time that each costs."""
    from appliance.core.inference.model import Request
    from appliance.hw.onnx import OnnxAccelerator

    with tempfile.TemporaryDirectory() as directory:
        version = _small(Path(directory))
        tensors = {"x": _small_input()}
        async with _engine(OnnxAccelerator(1)) as made:

            async def ask(count: int) -> None:
                for _ in range(count):
                    await made.run(Request(version, tensors))

            await asyncio.gather(*(ask(250) for _ in range(8)))
            gc.collect()
            before, began = _rss(), time.perf_counter()
            await asyncio.gather(*(ask(MANY // 8) for _ in range(8)))
            seconds = time.perf_counter() - began
            gc.collect()
            grown = _rss() - before
    return [
        at_most("memory grown over 10 000 requests", grown, "MiB", 4.0),
        Figure("small requests through the engine, 8 at a time", round(MANY / seconds), "requests/s"),
    ]


def _small(directory: Path) -> Any:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from appliance.core.inference.manifest import Manifest, ModelFile
    from appliance.core.inference.model import ModelVersion

    sides: list[Any] = ["N", 3, 64, 64]
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "half"], ["y"])],
        "half",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, sides)],
        [numpy_helper.from_array(np.array([0.5], np.float32), "half")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9), str(directory / "m.onnx"))
    return ModelVersion(Manifest("small", "1", "embedding", "MIT", [], [ModelFile("m.onnx", "", "onnx")]), directory)


def _small_input() -> Any:
    import numpy as np

    return np.ones((1, 3, 64, 64), np.float32)


def _rss() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


async def _hang() -> list[Figure]:
    """The driver and its unmodified worker on the stand-in for the vendor's package: no Hailo is measured here."""
    from appliance.core.inference.model import Request
    from appliance.hw.onnx import OnnxAccelerator
    from tests.inference.hailo_rig import SHAPE, Bench, picture
    from tests.inference.test_engine_hailo import both

    figures = []
    for how in ("infer", "infer-deaf"):
        with tempfile.TemporaryDirectory() as directory:
            bench = Bench(Path(directory) / "bench")
            version = both(Path(directory) / "model")
            tensors = {"x": picture().transpose(0, 3, 1, 2).astype("float32")}
            assert tensors["x"].shape[1] == SHAPE[2]
            async with _engine(bench.driver(stall_seconds=1.5), OnnxAccelerator(1), poll=0.5, probe_first=0.05) as made:
                await made.load(version)
                assert (await made.run(Request(version, tensors))).backend == "hailo"
                bench.say(hang=how)
                began = time.perf_counter()
                answer = await made.run(Request(version, tensors))
                answered = time.perf_counter() - began
                assert (answer.backend, answer.fell_back) == ("cpu", True), answer
                while made.status().devices[0].health.value != "healthy":
                    await asyncio.sleep(0.01)
                back = time.perf_counter() - began
            bench.end()
            name = "alive" if how == "infer" else "deaf"
            figures.append(at_most(f"stand-in hangs, its library {name}: answered by the CPU after", answered, "s", 2.0))
            figures.append(Figure(f"stand-in hangs, its library {name}: reset and back in service after", round(back, 2), "s"))
    return figures

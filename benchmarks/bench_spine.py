"""Durable events into the outbox, beside bare SQLite; and a picture through the pipeline, beside the bare session."""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from appliance.core.events import Noted
from appliance.core.outbox import Outbox
from appliance.core.store import Store
from benchmarks.rows import Figure, at_least, at_most
from benchmarks.terminal import new_home

EVENTS = 20_000
AT_ONCE = 1000
"""Appended together, and in one transaction of the peer."""
ROUNDS, WARM = 50, 10
"""Pictures, and how many of them do not count."""
THREADS = 2
MODELS = Path(__file__).resolve().parent.parent / ".models"


def run() -> list[Figure]:
    """Both."""
    with new_home() as home:
        ours, bare = asyncio.run(_append(Path(home))), _bare(Path(home))
    return [
        at_least("outbox append, durable", ours, "events/s", 50_000, "bare sqlite3, groups of 1000", bare),
        *_pipeline(),
    ]


async def _append(home: Path) -> float:
    store = Store(home / "ours.sqlite")
    store.open()
    outbox = Outbox(store, "bench")
    await outbox.load()
    events = [Noted(time=1.0, event="bench", severity="info") for _ in range(EVENTS)]
    began = time.perf_counter()
    for start in range(0, EVENTS, AT_ONCE):
        await asyncio.gather(*(outbox.append(event) for event in events[start : start + AT_ONCE]))
    taken = time.perf_counter() - began
    await asyncio.to_thread(store.close)
    return EVENTS / taken


def _bare(home: Path) -> float:
    connection = sqlite3.connect(home / "bare.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE t (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, body BLOB)")
    began = time.perf_counter()
    for start in range(0, EVENTS, AT_ONCE):
        connection.execute("BEGIN")
        for index in range(start, start + AT_ONCE):
            connection.execute("INSERT INTO t (id, body) VALUES (?, ?)", (str(index), b"x" * 200))
        connection.execute("COMMIT")
    return EVENTS / (time.perf_counter() - began)


def _pipeline() -> list[Figure]:
    import onnxruntime

    from appliance.core.inference import image, manifest
    from appliance.core.inference.tasks import task_for
    from appliance.hw.onnx import OnnxAccelerator

    picture = MODELS / "samples/bus.jpg"
    if not picture.exists():
        print(f"inference is not measured: {picture} is not there; make setup fetches it", file=sys.stderr)
        return []
    directory = manifest.find([MODELS])[0]
    told = manifest.load(directory)
    path = str(manifest.verify(told, directory))
    task, ready = task_for(told), OnnxAccelerator(THREADS).load(path)
    names = tuple(spec.name for spec in ready.outputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    data = picture.read_bytes()
    decoded = image.decode(data, "bus.jpg", 50_000_000)
    (tensors,) = task.prepare(decoded).batches

    def prepare() -> None:
        task.prepare(image.decode(data, "bus.jpg", 50_000_000))

    def detect() -> None:
        fitted = task.prepare(decoded)
        task.finish([ready.infer(fitted.batches[0])], names, fitted, 0.3)

    whole, bare, prepared = _medians(detect, lambda: session.run(None, dict(tensors)), prepare)
    above = 100 * (whole / bare - 1)
    return [
        at_most("letterbox, model and boxes, above the bare session", above, "%", 10.0, "bare session, ms", 1000 * bare),
        at_least("decode + letterbox, one thread", 1 / prepared, "images/s", 300.0),
    ]


def _medians(*works: Callable[[], object]) -> list[float]:
    """Median seconds of each, taken in turns, so that a busy moment of the machine falls on all alike."""
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(ROUNDS):
        for times, work in zip(taken, works, strict=True):
            began = time.perf_counter()
            work()
            times.append(time.perf_counter() - began)
    return [statistics.median(times[WARM:]) for times in taken]

"""Durable events into the outbox, beside bare SQLite; and a picture through the pipeline, beside the bare session."""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import time
from pathlib import Path

from appliance.core.events import Noted
from appliance.core.outbox import Outbox
from appliance.core.store import Store
from benchmarks.rows import Figure, at_least, at_most
from benchmarks.terminal import new_home

EVENTS = 20_000


def run() -> list[Figure]:
    """Both."""
    with new_home() as home:
        ours, bare = asyncio.run(_append(Path(home))), _bare(Path(home))
    return [at_least("outbox append, durable", ours, "events/s", 50_000, "bare sqlite3, groups of 500", bare), *_pipeline()]


async def _append(home: Path) -> float:
    store = Store(home / "ours.sqlite")
    store.open()
    outbox = Outbox(store, "bench")
    await outbox.load()
    events = [Noted(time=1.0, event="bench", severity="info") for _ in range(EVENTS)]
    began = time.perf_counter()
    for start in range(0, EVENTS, 1000):
        await asyncio.gather(*(outbox.append(event) for event in events[start : start + 1000]))
    taken = time.perf_counter() - began
    await asyncio.to_thread(store.close)
    return EVENTS / taken


def _bare(home: Path) -> float:
    connection = sqlite3.connect(home / "bare.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE t (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, body BLOB)")
    began = time.perf_counter()
    for start in range(0, EVENTS, 500):
        connection.execute("BEGIN")
        for index in range(start, start + 500):
            connection.execute("INSERT INTO t (id, body) VALUES (?, ?)", (str(index), b"x" * 200))
        connection.execute("COMMIT")
    return EVENTS / (time.perf_counter() - began)


def _pipeline() -> list[Figure]:
    from appliance.core.inference import detector, image, letterbox
    from appliance.hw.onnx import OnnxAccelerator

    here = Path(__file__).resolve().parent.parent / ".models"
    picture = here / "samples/bus.jpg"
    if not picture.exists():
        return []
    ready = detector.load(detector.choose([here], ""), OnnxAccelerator(2))
    data = picture.read_bytes()
    whole, bare, decode = [], [], []
    for _ in range(40):
        began = time.perf_counter()
        decoded = image.decode(data, "bus.jpg", 50_000_000)
        letterbox.letterbox(decoded.rgb, 416, 416, 255.0)
        decode.append(time.perf_counter() - began)
        whole.append(time.perf_counter())
        bare.append(ready.detect(decoded, 0.3).inference_time_ms)
        whole[-1] = 1000 * (time.perf_counter() - whole[-1])
    above = 100 * (statistics.median(whole) / statistics.median(bare) - 1)
    return [
        at_most(
            "pipeline above the bare session (letterbox, decode of boxes)",
            above,
            "%",
            10.0,
            "bare session, ms",
            statistics.median(bare),
        ),
        at_least("decode + letterbox, one thread", 1 / statistics.median(decode), "images/s", 300.0),
    ]

"""Decode and letterbox, beside Pillow alone; and pictures a second from the file to the boxes, beside Ultralytics.

Six photographs at the sizes of cameras (picture_rig.camera_pictures), bytes in memory, two threads, as the appliance runs.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from appliance.core.inference.image import decode
from appliance.core.inference.letterbox import fit_picture
from appliance.core.inference.manifest import Input
from appliance.core.inference.tasks import task_for
from appliance.hw.onnx import OnnxAccelerator
from benchmarks.picture_rig import CAMERAS, FALLS, SAMPLES, camera_pictures, falls, peer
from benchmarks.rows import Figure, at_least

THREADS = 2
ROUNDS = 5
EACH = 60
"""Pictures of one round."""
SIDES = (416, 640)
WANTED = 300.0


def run() -> list[Figure]:
    """All of it."""
    return [*_prepared(), *_whole()]


def _prepared() -> list[Figure]:
    figures, ours, theirs = [], [], []
    for name, size in CAMERAS.items():
        pictures = camera_pictures(size)
        kilobytes = round(sum(map(len, pictures)) / len(pictures) / 1000)
        for side in SIDES:
            wanted = Input("images", side, side)
            rates = _alternately(pictures, partial(_fast, wanted=wanted), partial(_pillow, side=side))
            ours.append(rates[0])
            theirs.append(rates[1])
            told = f"decode + letterbox, {name} JPEG ({kilobytes} kB) to {side}, {THREADS} threads"
            figures.append(Figure(told, round(rates[0], 1), "images/s", None, "Pillow alone", round(rates[1], 1)))
    both = [len(each) / sum(1 / rate for rate in each) for each in (ours, theirs)]
    told = f"decode + letterbox, the mean of those {len(ours)}"
    return [at_least(told, both[0], "images/s", WANTED, "Pillow alone", both[1]), *figures]


def _fast(data: bytes, wanted: Input) -> Any:
    return fit_picture(decode(data, "x", 10**8).rgb, wanted)


def _pillow(data: bytes, side: int) -> Any:
    """What the appliance did before: Pillow, and NumPy for the rest."""
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        scale = min(side / image.width, side / image.height)
        inner = round(image.width * scale), round(image.height * scale)
        small = image.convert("RGB").resize(inner, Image.Resampling.BILINEAR, reducing_gap=2.0)
    canvas = np.full((side, side, 3), 114, np.uint8)
    left, top = (side - inner[0]) // 2, (side - inner[1]) // 2
    canvas[top : top + inner[1], left : left + inner[0]] = np.asarray(small)
    return np.ascontiguousarray(canvas.transpose(2, 0, 1)[None], np.float32) / np.float32(255)


def _alternately(pictures: list[bytes], *ways: Callable[[bytes], Any]) -> list[float]:
    """Images/s of each way: the median of rounds that take turns."""
    rates: list[list[float]] = [[] for _ in ways]
    work = [pictures[index % len(pictures)] for index in range(EACH)]
    with ThreadPoolExecutor(THREADS) as pool:
        for way in ways:
            list(pool.map(way, pictures))
        for _ in range(ROUNDS):
            for place, way in enumerate(ways):
                began = time.perf_counter()
                list(pool.map(way, work))
                rates[place].append(len(work) / (time.perf_counter() - began))
    return [statistics.median(each) for each in rates]


def _whole() -> list[Figure]:
    """From the file to the boxes, one picture after the other, on the same ONNX file."""
    if not FALLS.exists():
        raise SystemExit(f"{FALLS} is not there: make setup")
    task, model = task_for(falls()), OnnxAccelerator(THREADS).load(str(FALLS))
    names = tuple(spec.name for spec in model.outputs)
    with tempfile.TemporaryDirectory() as scratch:
        files = []
        for size in CAMERAS.values():
            for index, data in enumerate(camera_pictures(size)[:4]):
                files.append(Path(scratch) / f"{size[0]}-{index}.jpg")
                files[-1].write_bytes(data)

        def once() -> tuple[float, float]:
            around, began = 0.0, time.perf_counter()
            for file in files:
                picture = decode(file.read_bytes(), file.name, 10**8)
                first = time.perf_counter()
                prepared = task.prepare(picture)
                second = time.perf_counter()
                answers = [model.infer(batch) for batch in prepared.batches]
                third = time.perf_counter()
                task.finish(answers, names, prepared, 0.25)
                around += second - first + time.perf_counter() - third
            return len(files) / (time.perf_counter() - began), around / len(files) * 1000

        once()
        ours, theirs = [], []
        with peer(FALLS, files) as go:
            for _ in range(3):
                ours.append(once())
                if go is not None:
                    told = go()
                    theirs.append((told["rate"], told["around_ms"]))
    model.close()
    who = "Ultralytics predict()" if theirs else "no peer was named (PRIME_SPARK_PEER)"
    rate, around = (statistics.median(each) for each in zip(*ours, strict=True))
    their = [round(statistics.median(each), 3) for each in zip(*theirs, strict=True)] or [None, None]
    return [
        Figure(f"file to boxes, YOLOv8s at 640, {len(files)} files", round(rate, 2), "images/s", None, who, their[0]),
        Figure("of it: before and behind the model, decoding apart", round(around, 3), "ms", None, who, their[1]),
    ]


if __name__ == "__main__":
    print(SAMPLES, *run(), sep="\n")

"""A decoded picture through letterbox, model and boxes, beside the bare session."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.rows import Figure, at_most
from benchmarks.sessions_rig import THREADS, bare_session, lower_quartile

ROUNDS, WARM = 36, 6
REST = 0.05
"""Seconds between two works: the threads of a spinning session come to rest, and take no time from the next."""
MODELS = Path(__file__).resolve().parent.parent / ".models"


def run() -> list[Figure]:
    """The budget is against a session set up as the appliance's is; the other is what onnxruntime does by itself."""
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
    calm, spinning = (bare_session(path, spin=spin) for spin in (False, True))
    decoded = image.decode(picture.read_bytes(), "bus.jpg", 50_000_000)
    (tensors,) = task.prepare(decoded).batches

    def whole() -> None:
        fitted = task.prepare(decoded)
        task.finish([ready.infer(fitted.batches[0])], names, fitted, 0.3)

    ours, alone, theirs = _turns(whole, lambda: calm.run(None, dict(tensors)), lambda: spinning.run(None, dict(tensors)))
    return [
        at_most(
            "letterbox, model and boxes, above the bare session", 100 * (ours / alone - 1), "%", 10.0,
            "bare session, ms", round(1000 * alone, 1),
        ),
        Figure(
            "the same, above a session whose threads spin", round(100 * (ours / theirs - 1), 1), "%", None,
            "spinning session, ms", round(1000 * theirs, 1),
        ),
    ]  # fmt: skip


def _turns(*works: Callable[[], object]) -> list[float]:
    """Seconds of each, taken in turns of every order, so that a busy moment of the machine falls on all alike."""
    taken: list[list[float]] = [[] for _ in works]
    orders = itertools.cycle(itertools.permutations(range(len(works))))
    for _ in range(ROUNDS):
        for index in next(orders):
            time.sleep(REST)
            began = time.perf_counter()
            works[index]()
            taken[index].append(time.perf_counter() - began)
    return [lower_quartile(times[WARM:]) for times in taken]

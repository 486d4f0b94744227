"""One input through several runs of a model, on devices that come and go."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.core.inference.manifest import Manifest, ModelFile, Softmax, SoundInput, Stateful
from appliance.core.inference.model import Answer, ModelVersion, Priority, Request, Sound
from appliance.core.inference.pipeline import Pipeline
from appliance.core.inference.status import EngineStatus
from appliance.core.inference.tasks import task_for
from appliance.errors import ModelError
from tests.support import wait_for

RATE = 8000


class Devices:
    """Answers in turns as it is told (implements model.Engine)."""

    def __init__(self, *backends: str) -> None:
        self.backends = list(backends)
        self.asked: list[Request] = []

    async def run(self, request: Request) -> Answer:
        self.asked.append(request)
        backend = self.backends.pop(0) if self.backends else "cpu"
        outputs = [np.array([[0.9]], np.float32)]
        return Answer(outputs, ("y",), backend, backend, 1.0, 0.0, 1, "told so", backend == "cpu")

    async def load(self, version: ModelVersion) -> None:
        raise NotImplementedError

    async def unload(self, version: ModelVersion) -> None:
        self.asked.clear()

    def status(self) -> EngineStatus:
        return EngineStatus()


def version(directory: Path, decode: Any, *kinds: str) -> ModelVersion:
    files = []
    for kind in kinds:
        (directory / f"model.{kind}").write_bytes(b"model")
        files.append(ModelFile(f"model.{kind}", hashlib.sha256(b"model").hexdigest(), kind))  # type: ignore[arg-type]
    wanted = SoundInput("x", RATE, RATE, RATE)
    return ModelVersion(Manifest("m", "1", "audio", "MIT", ["a"], files, sound=wanted, decode=decode), directory)


def pipeline(engine: Devices) -> Pipeline:
    return Pipeline(engine, task_for, lambda *_: None)


TALK = Sound(np.full(3 * RATE, 0.1, np.float32), RATE, "talk.wav")


async def test_an_input_whose_device_went_midway_is_run_again(tmp_path: Path) -> None:
    engine = Devices("hailo", "hailo", "cpu")
    ran = await pipeline(engine).run(version(tmp_path, Softmax("sigmoid"), "onnx", "hef"), TALK, threshold=0.5)
    assert (ran.backend, ran.fell_back, len(engine.asked)) == ("cpu", True, 6)
    assert ran.findings.classes[0].label == "a"
    engine = Devices(*["hailo", "hailo", "cpu"] * 9)
    with pytest.raises(ModelError, match="again and again"):
        await pipeline(engine).run(version(tmp_path, Softmax("sigmoid"), "onnx", "hef"), TALK, threshold=0.5)
    assert len(engine.asked) == 6


async def test_a_state_that_no_output_carries_is_the_manifests_fault(tmp_path: Path) -> None:
    head = Stateful(state_in=("s",), state_out=("nothing",))
    with pytest.raises(ModelError, match="m@1 has no output nothing"):
        await pipeline(Devices()).run(version(tmp_path, head, "onnx"), TALK, threshold=0.5)


async def test_a_file_of_another_kind_makes_other_tasks(tmp_path: Path) -> None:
    """The same version, once with both of its files and once with the one that is proven."""
    engine = Devices("cpu", "cpu", "cpu", "hailo", "hailo", "hailo")
    line = pipeline(engine)
    await line.run(version(tmp_path, Softmax("sigmoid"), "onnx"), TALK, threshold=0.5)
    assert {each.kind for each in engine.asked} == {"onnx"}
    await line.run(version(tmp_path, Softmax("sigmoid"), "onnx", "hef"), TALK, threshold=0.5)
    assert engine.asked[-1].kind == "hef"
    await line.forget(version(tmp_path, Softmax("sigmoid"), "onnx", "hef"))
    assert line._tasks == {}


async def test_the_most_urgent_is_decoded_first_whatever_waits(tmp_path: Path) -> None:
    gate, order = threading.Event(), list[str]()

    def opens(_: object, __: bytes, source: str) -> str:
        assert gate.wait(20)
        order.append(source)
        return source

    line, told = Pipeline(Devices(), task_for, opens, threads=1), version(tmp_path, Softmax("sigmoid"), "onnx")
    first = asyncio.create_task(line.decode(told, b"", "first", Priority.low))
    await asyncio.sleep(0)
    others = [asyncio.create_task(line.decode(told, b"", f"{name}", Priority[name])) for name in ("low", "normal", "critical")]
    await wait_for(lambda: len(line._slots._waiting) == 3)
    gate.set()
    await asyncio.gather(first, *others)
    assert order == ["first", "critical", "normal", "low"]

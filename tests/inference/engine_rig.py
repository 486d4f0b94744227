"""Small real models, and accelerators whose behaviour the test decides, for the engine's tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from appliance.core.clock import SystemClock
from appliance.core.inference.engine import Limits, build
from appliance.core.inference.engine.engine import DeviceEngine
from appliance.core.inference.manifest import Manifest, ModelFile
from appliance.core.inference.model import DeviceReading, ModelVersion, Priority, Request, TensorSpec
from appliance.core.inference.status import EngineEvent
from appliance.core.model import Device, Health
from appliance.errors import DeviceError, DeviceStalledError, ModelError
from tests.support import wait_for

SIDE = 4


def weights(side: int = SIDE) -> np.ndarray:
    return np.arange(side * side, dtype=np.float32).reshape(side, side) / 10


def write_onnx(path: Path, batch: int | str = "N", side: int = SIDE, opset: int = 17, ir: int = 9, external: str = "") -> Path:
    """y = x · weights + 1, with the batch axis free or fixed."""
    shape = [batch, side]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["xw"]), helper.make_node("Add", ["xw", "one"], ["y"])],
        "line",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weights(side), "w"), numpy_helper.from_array(np.ones(1, np.float32), "one")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    if external:
        onnx.save(model, str(path), save_as_external_data=True, location=external, size_threshold=0)
    else:
        onnx.save(model, str(path))
    return path


def expected(x: np.ndarray) -> np.ndarray:
    return x @ weights(x.shape[-1]) + 1


def version(
    directory: Path, name: str = "line", *, onnx_file: bool = True, hef_file: bool = False, **wanted: Any
) -> ModelVersion:
    """A version whose ONNX file is real; its HEF is an empty one, for accelerators that do not read it."""
    directory.mkdir(parents=True, exist_ok=True)
    files = []
    if onnx_file:
        write_onnx(directory / f"{name}.onnx", **wanted)
        files.append(ModelFile(f"{name}.onnx", "", "onnx"))
    if hef_file:
        (directory / f"{name}.hef").touch()
        files.append(ModelFile(f"{name}.hef", "", "hef"))
    return ModelVersion(Manifest(name, "1", "embedding", "MIT", [], files), directory)


def request(
    model: ModelVersion, value: float = 1.0, priority: Priority = Priority.normal, deadline: float | None = None
) -> Request:
    return Request(model, {"x": np.full((1, SIDE), value, np.float32)}, priority, deadline)


class Doll:
    """An accelerator that computes the same line in numpy, and stalls or fails when it is told to (ports.Accelerator)."""

    def __init__(self, name: str = "hailo", backend: str = "hailo", kind: str = "hef") -> None:
        self.name, self.backend, self.kind = name, backend, kind
        self.gate = threading.Event()
        self.gate.set()
        """Cleared: runs wait."""
        self.error: Exception | None = None
        self.fails_on: float | None = None
        """The first number of an input on which the device fails."""
        self.load_error: ModelError | None = None
        self.here = True
        self.told = DeviceReading()
        self.batch: int | None = None
        self.ran: list[list[float]] = []
        """First number of each input, by run."""
        self.loads = self.resets = 0
        self.closed: list[str] = []

    def detect(self) -> Device:
        if self.here:
            return Device("accelerator", self.name, Health.healthy, "there")
        return Device("accelerator", self.name, Health.absent, "no card", "fit one")

    def load(self, path: str) -> DollModel:
        if self.load_error is not None:
            raise self.load_error
        self.loads += 1
        return DollModel(self, path)

    def reading(self) -> DeviceReading:
        return self.told

    def reset(self) -> None:
        self.resets += 1
        if not self.here or isinstance(self.error, DeviceStalledError):
            raise DeviceError("it does not come back")

    def close(self) -> None:
        self.gate.set()


class DollModel:
    def __init__(self, doll: Doll, path: str) -> None:
        self._doll, self._path = doll, path
        self.inputs = (TensorSpec("x", (doll.batch, SIDE), "float32"),)
        self.outputs = (TensorSpec("y", (doll.batch, SIDE), "float32"),)

    def infer(self, inputs: Mapping[str, np.ndarray]) -> Sequence[Any]:
        doll, x = self._doll, inputs["x"]
        doll.ran.append([float(row[0]) for row in x])
        doll.gate.wait(30)
        if doll.error is not None:
            raise doll.error
        if doll.fails_on in x[:, 0]:
            raise DeviceError("It fails on this.")
        return [expected(x)]

    def close(self) -> None:
        self._doll.closed.append(self._path)


@asynccontextmanager
async def engine(
    *accelerators: Any, limits: Limits | None = None, power: str | None = None
) -> Iterator[tuple[DeviceEngine, list[EngineEvent]]]:
    """A started engine, and its events."""
    events: list[EngineEvent] = []
    quick = limits or Limits(poll=0.05, probe_first=0.02, probe_longest=0.05, absent_retry=0.05)
    made = build(accelerators, SystemClock(), quick, power=lambda: power, on_event=events.append)
    await made.start()
    try:
        yield made, events
    finally:
        await made.stop()


def kinds(events: list[EngineEvent]) -> list[str]:
    return [event.kind for event in events]


async def waits(made: DeviceEngine, count: int) -> None:
    """Until so many requests wait."""
    await wait_for(lambda: sum(made.status().waiting.values()) == count)


def deadline_in(seconds: float) -> float:
    return SystemClock().monotonic() + seconds


def elapsed(since: float) -> float:
    return time.perf_counter() - since

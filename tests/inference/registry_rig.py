"""Small real models that tell red from blue, and an inference service that runs them on ONNX Runtime."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tomlkit
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from appliance.core.clock import SystemClock
from appliance.core.inference.build import Ground, build
from appliance.core.inference.registry.intake import Remote
from appliance.core.inference.service import InferenceService
from appliance.core.model import InferenceResult, Severity
from appliance.core.ports import Accelerator, Clock
from appliance.core.state import LiveState
from appliance.core.store import Store
from appliance.hw.onnx import OnnxAccelerator
from appliance.settings import Settings

SIDE = 32
COLOURS = {"red": (255, 0, 0), "blue": (0, 0, 255)}


def picture(colour: str = "red", size: int = 64, shade: int = 0) -> bytes:
    """A PNG of one colour; another shade is another file."""
    stream = io.BytesIO()
    red, green, blue = COLOURS[colour]
    Image.new("RGB", (size, size), (red, green + shade % 50, blue)).save(stream, "PNG")
    return stream.getvalue()


def write_onnx(path: Path, *, outputs: int = 7, breaks_on_blue: bool = False, flip: bool = False, external: bool = False,
               opset: int = 17) -> None:  # fmt: skip
    """A YOLOv3 head of one cell: mean colour → objectness, red, blue."""
    weights = np.zeros((outputs, 3, 1, 1), np.float32)
    bias = np.zeros(outputs, np.float32)
    bias[4] = 6.0
    first, second = (6, 5) if flip else (5, 6)
    weights[first, 0], weights[first, 2] = 12, -12
    weights[second, 0], weights[second, 2] = -12, 12
    constants = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")]
    nodes = [helper.make_node("GlobalAveragePool", ["images"], ["mean"])]
    source = "mean"
    if breaks_on_blue:  # an index that lies outside as soon as there is blue
        values = {
            "channel": np.array([2]),
            "one": np.zeros(1, np.float32),
            "nine": np.array(9, np.float32),
            "flat": np.array([1]),
        }
        constants += [numpy_helper.from_array(value, each) for each, value in values.items()]
        steps: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
            ("Gather", "mean channel", "blue", {"axis": 1}), ("Mul", "blue nine", "far", {}),
            ("Reshape", "far flat", "far1", {}), ("Cast", "far1", "index", {"to": TensorProto.INT64}),
            ("Gather", "one index", "zero", {}), ("Add", "mean zero", "mean2", {}),
        )  # fmt: skip
        nodes += [helper.make_node(kind, takes.split(), [gives], **more) for kind, takes, gives, more in steps]
        source = "mean2"
    nodes.append(helper.make_node("Conv", [source, "w", "b"], ["map"]))
    graph = helper.make_graph(
        nodes, "colours", [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, [1, outputs, 1, 1])], constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    if external:
        onnx.save(model, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    else:
        onnx.save(model, str(path))


def write_model(
    directory: Path, version: str = "1", *, name: str = "colours", expects: str = "red",
    labels: tuple[str, ...] = ("red", "blue"), self_test: bool = True, change: dict[str, Any] | None = None, **wanted: Any,
) -> Path:  # fmt: skip
    """A directory that can be added; the hashes are right."""
    directory.mkdir(parents=True, exist_ok=True)
    write_onnx(directory / "model.onnx", **wanted)
    files = [("model.onnx", "onnx")]
    if self_test:
        (directory / "test.png").write_bytes(picture("red"))
        files.append(("test.png", "self-test"))
    if wanted.get("external"):
        files.append(("weights.bin", "data"))
    told: dict[str, Any] = {
        "name": name, "version": version, "task": "detection", "licence": "MIT", "labels": list(labels),
        "files": [{"path": path, "sha256": hashlib.sha256((directory / path).read_bytes()).hexdigest(), "kind": kind}
                  for path, kind in files],
        "input": {"name": "images", "width": SIDE, "height": SIDE},
        "decode": {"head": "yolov3", "layers": [[[16, 16]]]},
    }  # fmt: skip
    if self_test:
        told["expects"] = [{"label": expects, "score": 0.5, "box": [16, 16, 48, 48]}]
    (directory / "manifest.toml").write_text(tomlkit.dumps({**told, **(change or {})}))
    return directory


def archive(directory: Path, path: Path) -> tuple[Path, str]:
    """A .tar of a model, and its SHA-256."""
    with tarfile.open(path, "w") as file:
        for each in sorted(directory.iterdir()):
            file.add(each, each.name)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


class MovedClock(SystemClock):
    """The machine's clocks, and what the test adds to both."""

    ahead = 0.0

    def wall(self) -> float:
        return super().wall() + self.ahead

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


class Rig:
    """A service on a directory, whose events and results are lists."""

    def __init__(
        self, home: Path, *, remote: Remote | None = None, accelerators: list[Accelerator] | None = None,
        clock: Clock | None = None, **settings: Any,
    ) -> None:  # fmt: skip
        self.home = home
        self.models = home / "models"
        self.events: list[tuple[str, Severity, dict[str, Any]]] = []
        self.results: list[InferenceResult] = []
        self.failure: Exception | None = None
        self.clock = clock or MovedClock()
        self.state = LiveState(self.clock)
        home.mkdir(parents=True, exist_ok=True)
        self.store = Store(home / "state.sqlite")
        self.given = home / "given"
        """What a set-up put there."""
        wanted = {"inference": {"model_dir": str(self.given), "threads": 1}, **settings}
        ground = Ground(
            settings=Settings.model_validate(wanted), accelerators=accelerators or [OnnxAccelerator(1)], models=self.models,
            remote=remote, store=self.store, state=self.state, clock=self.clock, note=self._note, on_result=self._keep,
        )  # fmt: skip
        self.service: InferenceService = build(ground)
        self.parts = self.service.parts
        self.parts.registry.setup.shelf.places[:] = [self.given, self.models]  # nothing of this machine

    async def _note(self, event: str, severity: Severity, facts: dict[str, Any]) -> None:
        self.events.append((event, severity, facts))

    async def _keep(self, result: InferenceResult) -> None:
        if self.failure is not None:
            raise self.failure
        self.results.append(result)

    def told(self, event: str) -> list[dict[str, Any]]:
        return [facts for name, _, facts in self.events if name == event]

    def row(self, version: str, name: str = "colours") -> Any:
        return next(each for each in self.service.status().models if (each.name, each.version) == (name, version))

    async def start(self) -> None:
        if not self.store.path.exists() or self.store._writer is None:
            self.store.open()
        await self.service.start()

    async def stop(self) -> None:
        await self.service.stop()
        self.store.close()

    async def add(self, version: str = "1", **wanted: Any) -> None:
        """Add a version from a directory beside."""
        await self.parts.intake.add(str(write_model(self.home / f"new-{version}", version, **wanted)))

    async def serve(self, version: str = "1", **wanted: Any) -> None:
        """Add a version and activate it."""
        await self.add(version, **wanted)
        await self.parts.deciding.activate("colours", version)


@asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[Rig]:
    """Started, and stopped at the end; its loops do not run."""
    await rig.start()
    try:
        yield rig
    finally:
        await rig.stop()

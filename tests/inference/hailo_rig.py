"""A Hailo that is none: the appliance's driver and its unmodified worker on the stand-in for the vendor's package."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from appliance.hw.hailo import HailoAccelerator
from tests.hailo import hefs

STAND_IN = Path(hefs.__file__).parent
SHAPE = (4, 6, 3)
BOXES = np.array(
    [
        [[0.1, 0.2, 0.3, 0.4, 1.0], [0.5, 0.5, 0.6, 0.7, 0.2]],
        [[0.0, 0.0, 0.1, 0.1, 0.1], [0.0, 0.0, 0.2, 0.2, 0.05]],
        [[0.2, 0.2, 0.9, 0.9, 0.8], [0.3, 0.1, 0.4, 0.5, 0.9]],
    ],
    np.float32,
)
"""Candidates of three classes, two each; their scores are multiplied by the mean of the input / 255."""


class Bench:
    """One made-up device: its file of behaviour, its log, and drivers on it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "hailo.json"
        self.monitor = directory / "monitor"
        self.monitor.mkdir(parents=True)
        (directory / "dev").mkdir()
        self.node = directory / "dev" / "hailo0"
        self.node.touch()
        self._drivers: list[HailoAccelerator] = []
        self._told: dict[str, Any] = {"monitor": str(self.monitor)}
        self.say()

    def say(self, **told: Any) -> None:
        """How the device is from now on."""
        self._told |= told
        made = self.file.with_suffix(".new")
        made.write_text(json.dumps(self._told))
        made.rename(self.file)

    def driver(self, **wanted: Any) -> HailoAccelerator:
        """A driver that is closed at the end."""
        environ = {**os.environ, "PYTHONPATH": str(STAND_IN), "FAKE_HAILO": str(self.file)}
        wanted = {"python": sys.executable, "stall_seconds": 10.0, "root": self.directory, "monitor": self.monitor, **wanted}
        made = HailoAccelerator(**{"environ": environ, **wanted})
        self._drivers.append(made)
        return made

    def calls(self) -> list[str]:
        """What the package was asked to do, in order."""
        log = self.file.with_suffix(".log")
        return [line.split(" ", 1)[1] for line in log.read_text().splitlines()] if log.exists() else []

    def pids(self) -> set[int]:
        """Of the workers so far."""
        log = self.file.with_suffix(".log")
        return {int(line.split()[0]) for line in log.read_text().splitlines()} if log.exists() else set()

    def end(self) -> None:
        for driver in self._drivers:
            driver.close()


def halves(path: Path, architecture: str = "HAILO8", **about: Any) -> Path:
    """A HEF that gives half of its input and the mean of each colour; quantised in steps of 1 and of 0.5."""
    height, width, colours = SHAPE
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "half"], ["y"]),
            helper.make_node("ReduceMean", ["x"], ["z"], axes=[2, 3], keepdims=0),
        ],
        "halves",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, colours, height, width])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, colours, height, width]),
            helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, colours]),
        ],
        [numpy_helper.from_array(np.array([0.5], np.float32), "half")],
    )
    told = {
        "inputs": [{"name": "net/input_layer1", "onnx": "x", "shape": list(SHAPE), "quant": [1.0, 0.0]}],
        "outputs": [
            {"name": "net/conv1", "onnx": "y", "shape": list(SHAPE), "quant": [0.5, 0.0]},
            {"name": "net/fc1", "onnx": "z", "shape": [colours], "quant": [1.0, 0.0]},
        ],
        **about,
    }
    return hefs.write(path, told, _model(graph), architecture)


def boxes(path: Path, order: str = "HAILO_NMS_BY_CLASS") -> Path:
    """A HEF that ends in NMS."""
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Div", ["mean", "most"], ["share"]),
            helper.make_node("Mul", ["scores", "share"], ["sure"]),
            helper.make_node("Concat", ["corners", "sure"], ["y"], axis=3),
        ],
        "boxes",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, *BOXES.shape])],
        [
            numpy_helper.from_array(np.array([255], np.float32), "most"),
            numpy_helper.from_array(BOXES[None, :, :, 4:], "scores"),
            numpy_helper.from_array(BOXES[None, :, :, :4], "corners"),
        ],
    )
    told = {
        "inputs": [{"name": "net/input_layer1", "onnx": "x", "shape": list(SHAPE), "quant": [1.0, 0.0]}],
        "outputs": [
            {"name": "net/nms", "onnx": "y", "classes": 3, "boxes": 2, "order": order, "dtype": "float32", "quant": [1.0, 0.0]}
        ],
    }
    return hefs.write(path, told, _model(graph))


def _model(graph: Any) -> bytes:
    data: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9).SerializeToString()
    return data


def picture(seed: int = 0, count: int = 1) -> np.ndarray:
    """Random bytes as N×H×W×C."""
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), np.uint8)

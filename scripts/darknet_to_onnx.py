"""Turns a Darknet network (.cfg and .weights) into an ONNX graph; batch normalisation is folded into the convolutions.

Covers the layers of the YOLOv3 family: convolutional, maxpool, route, upsample, yolo. Outputs are the raw maps of the
yolo layers, N × (anchors · (5 + classes)) × H × W, decoded by the appliance.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Section = dict[str, str]
EPSILON = 1e-5
"""What Darknet adds to the variance."""


def parse_cfg(text: str) -> list[Section]:
    """The sections of a .cfg file in order, each with its kind under "kind"."""
    sections: list[Section] = []
    for raw in text.splitlines():
        line = raw.split("#")[0].strip()
        if line.startswith("["):
            sections.append({"kind": line.strip("[]")})
        elif line:
            name, _, value = line.partition("=")
            sections[-1][name.strip()] = value.strip()
    return sections


@dataclass
class Builder:
    """The graph as it grows."""

    weights: npt.NDArray[np.float32]
    position: int = 0
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    tensors: list[str] = field(default_factory=list)
    """Name of each layer's output."""
    channels: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    """Layers whose output leaves the graph."""

    def take(self, count: int) -> npt.NDArray[np.float32]:
        """The next weights. Raises ValueError where the file ends."""
        taken = self.weights[self.position : self.position + count]
        if len(taken) < count:
            raise ValueError(f"the weights end after {self.position + len(taken)} values; {count - len(taken)} more are needed")
        self.position += count
        return taken

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        """Add an initialiser."""
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node."""
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def push(self, tensor: str, channels: int) -> None:
        """Record a layer's output."""
        self.tensors.append(tensor)
        self.channels.append(channels)


def convolutional(build: Builder, section: Section, index: int, source: str, channels: int) -> None:
    """Convolution with folded batch normalisation and leaky activation."""
    filters, size, stride = int(section["filters"]), int(section["size"]), int(section["stride"])
    bias = build.take(filters).copy()
    scale = np.ones(filters, np.float32)
    if section.get("batch_normalize") == "1":
        gamma, mean, variance = build.take(filters), build.take(filters), build.take(filters)
        scale = gamma / np.sqrt(variance + EPSILON)
        bias -= mean * scale
    kernel = build.take(filters * channels * size * size).reshape(filters, channels, size, size) * scale[:, None, None, None]
    inputs = [source, build.constant(f"w{index}", kernel.astype(np.float32)), build.constant(f"b{index}", bias)]
    pad = size // 2 if section.get("pad") == "1" else 0
    out = build.node("Conv", inputs, f"conv{index}", kernel_shape=[size, size], strides=[stride, stride], pads=[pad] * 4)
    if section["activation"] == "leaky":
        out = build.node("LeakyRelu", [out], f"leaky{index}", alpha=0.1)
    elif section["activation"] != "linear":
        raise ValueError(f"activation {section['activation']} is not known")
    build.push(out, filters)


def maxpool(build: Builder, section: Section, index: int, source: str, channels: int) -> None:
    """Max pooling as Darknet does it: with stride 1 the map keeps its size, padded at the far side."""
    size, stride = int(section["size"]), int(section["stride"])
    pads = [0, 0, size - 1, size - 1] if stride == 1 else [0, 0, 0, 0]
    build.push(
        build.node("MaxPool", [source], f"pool{index}", kernel_shape=[size, size], strides=[stride, stride], pads=pads),
        channels,
    )


def route(build: Builder, section: Section, index: int) -> None:
    """Earlier layers' outputs, joined along the channels."""
    layers = [int(part) for part in section["layers"].split(",")]
    layers = [layer if layer >= 0 else index + layer for layer in layers]
    channels = sum(build.channels[layer] for layer in layers)
    if len(layers) == 1:
        build.push(build.tensors[layers[0]], channels)
        return
    build.push(build.node("Concat", [build.tensors[layer] for layer in layers], f"route{index}", axis=1), channels)


def upsample(build: Builder, section: Section, index: int, source: str, channels: int) -> None:
    """Nearest-neighbour enlargement."""
    factor = float(section["stride"])
    scales = build.constant(f"scales{index}", np.array([1, 1, factor, factor], np.float32))
    out = build.node("Resize", [source, "", scales], f"up{index}", mode="nearest", nearest_mode="floor",
                     coordinate_transformation_mode="asymmetric")  # fmt: skip
    build.push(out, channels)


def add_layer(build: Builder, section: Section, index: int, source: str, channels: int) -> None:
    """One section of the .cfg file."""
    kind = section["kind"]
    if kind == "convolutional":
        convolutional(build, section, index, source, channels)
    elif kind == "maxpool":
        maxpool(build, section, index, source, channels)
    elif kind == "route":
        route(build, section, index)
    elif kind == "upsample":
        upsample(build, section, index, source, channels)
    elif kind == "yolo":
        build.outputs.append(index - 1)
        build.push(source, channels)
    else:
        raise ValueError(f"layer kind {kind} is not known")


def convert(cfg: str, weights: bytes) -> onnx.ModelProto:
    """The network as an ONNX model with one input "images" (N × 3 × height × width, float32, RGB, 0 to 1).

    Raises:
        ValueError: A layer is not known, or the weights do not fit the network.
    """
    sections = parse_cfg(cfg)
    net, layers = sections[0], sections[1:]
    header = 20 if int.from_bytes(weights[4:8], "little") >= 2 else 16
    build = Builder(np.frombuffer(weights, np.float32, offset=header))
    source, channels = "images", 3
    for index, section in enumerate(layers):
        add_layer(build, section, index, source, channels)
        source, channels = build.tensors[-1], build.channels[-1]
    if build.position != len(build.weights):
        raise ValueError(f"{len(build.weights) - build.position} weights are left over: the network is another one")
    return _model(build, int(net["height"]), int(net["width"]))


def _model(build: Builder, height: int, width: int) -> onnx.ModelProto:
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, height, width])
    maps = [
        helper.make_tensor_value_info(build.tensors[layer], TensorProto.FLOAT, ["batch", build.channels[layer], None, None])
        for layer in build.outputs
    ]
    graph = helper.make_graph(build.nodes, "darknet", [image], maps, build.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="darknet_to_onnx")
    onnx.checker.check_model(model)
    return model


def yolo_layers(cfg: str) -> list[dict[str, Any]]:
    """Anchors (pixels) of each yolo layer, in the order of the model's outputs."""
    found = []
    for section in parse_cfg(cfg):
        if section["kind"] == "yolo":
            flat = [int(part) for part in section["anchors"].replace(" ", "").split(",")]
            pairs = list(zip(flat[::2], flat[1::2], strict=True))
            found.append({"anchors": [list(pairs[int(pick)]) for pick in section["mask"].split(",")]})
    return found


def convert_files(cfg: Path, weights: Path, target: Path) -> None:
    """Convert files; the target is whole or not there."""
    temporary = target.with_suffix(".part")
    onnx.save(convert(cfg.read_text(), weights.read_bytes()), str(temporary))
    temporary.replace(target)

"""Builds EfficientNet-Lite0 as an ONNX graph from its PyTorch weights (Tan and Le, arXiv:1905.11946; the "lite" form has no
squeeze-and-excitation, and ReLU6 for swish); batch normalisation is folded into the convolutions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Weights = dict[str, npt.NDArray[Any]]
STAGES = ((1, 3, 1), (2, 3, 2), (2, 5, 2), (3, 3, 2), (3, 5, 1), (4, 5, 2), (1, 3, 1))
"""Blocks, side of the kernel, and stride of the first block, for each stage."""
EPSILON = 1e-3
"""Added to the variance."""
SIDE = 224


@dataclass
class Graph:
    """The graph as it grows."""

    weights: Weights
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        """Add an initialiser."""
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
        return name

    def node(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Add a node with one output, which has its name."""
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def convolution(self, source: str, name: str, norm: str, *, side: int = 1, stride: int = 1, groups: int = 1) -> str:
        """A convolution with its normalisation; padded as TensorFlow does ("SAME"), where the weights come from."""
        scale = self.weights[f"{norm}.weight"] / np.sqrt(self.weights[f"{norm}.running_var"] + np.float32(EPSILON))
        kernel = self.weights[f"{name}.weight"] * scale[:, None, None, None]
        shift = self.weights[f"{norm}.bias"] - self.weights[f"{norm}.running_mean"] * scale
        inputs = [source, self.constant(f"{name}.kernel", kernel), self.constant(f"{name}.shift", shift)]
        total = side - stride if stride > 1 else side - 1  # every map's side divides by the stride
        before, after = total // 2, total - total // 2
        return self.node("Conv", inputs, name, kernel_shape=[side, side], strides=[stride, stride], group=groups,
                         pads=[before, before, after, after])  # fmt: skip

    def relu6(self, source: str) -> str:
        """Between 0 and 6."""
        return self.node("Clip", [source, "zero", "six"], f"{source}.relu6")


def block(graph: Graph, source: str, index: int, side: int, stride: int) -> str:
    """One inverted bottleneck."""
    name = f"_blocks.{index}."
    out = source
    if f"{name}_expand_conv.weight" in graph.weights:
        out = graph.relu6(graph.convolution(out, f"{name}_expand_conv", f"{name}_bn0"))
    groups = len(graph.weights[f"{name}_depthwise_conv.weight"])
    out = graph.convolution(out, f"{name}_depthwise_conv", f"{name}_bn1", side=side, stride=stride, groups=groups)
    kernel = graph.weights[f"{name}_project_conv.weight"]
    out = graph.convolution(graph.relu6(out), f"{name}_project_conv", f"{name}_bn2")
    expand = graph.weights.get(f"{name}_expand_conv.weight")
    entered = expand.shape[1] if expand is not None else groups
    return graph.node("Add", [out, source], f"{name}sum") if stride == 1 and entered == len(kernel) else out


def convert(weights: Weights) -> onnx.ModelProto:
    """The network: "images" (N × 3 × 224 × 224) to "logits" (N × 1000)."""
    graph = Graph(weights)
    graph.constants += [numpy_helper.from_array(np.array(value, np.float32), name) for value, name in ((0, "zero"), (6, "six"))]
    out = graph.relu6(graph.convolution("images", "_conv_stem", "_bn0", side=3, stride=2))
    index = 0
    for blocks, side, stride in STAGES:
        for place in range(blocks):
            out = block(graph, out, index, side, stride if place == 0 else 1)
            index += 1
    out = graph.relu6(graph.convolution(out, "_conv_head", "_bn1"))
    out = graph.node("Flatten", [graph.node("GlobalAveragePool", [out], "pool")], "features")
    inputs = [out, graph.constant("fc.kernel", weights["_fc.weight"]), graph.constant("fc.shift", weights["_fc.bias"])]
    graph.node("Gemm", inputs, "logits", transB=1)
    used = helper.make_graph(
        graph.nodes, "efficientnet-lite0",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(weights["_fc.bias"])])], graph.constants,
    )  # fmt: skip
    model = helper.make_model(used, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="prime-spark")
    onnx.checker.check_model(model)
    return model

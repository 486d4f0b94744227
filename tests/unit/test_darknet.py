"""The converter of Darknet networks, held against another reader of the same files: OpenCV's."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from scripts.darknet_to_onnx import convert, convert_files, yolo_layers

CFG = """
[net]
width=32
height=32
channels=3
# every kind of layer that YOLOv3 tiny has
[convolutional]
batch_normalize=1
filters=8
size=3
stride=1
pad=1
activation=leaky
[maxpool]
size=2
stride=2
[convolutional]
batch_normalize=1
filters=6
size=3
stride=1
pad=1
activation=leaky
[maxpool]
size=2
stride=1
[convolutional]
filters=14
size=1
stride=1
pad=1
activation=linear
[yolo]
mask=1,2
anchors=4,6, 8,8, 12,10
classes=2
num=3
[route]
layers=-3
[convolutional]
batch_normalize=1
filters=4
size=1
stride=1
pad=1
activation=leaky
[upsample]
stride=2
[route]
layers=-1,0
[convolutional]
filters=7
size=1
stride=1
pad=1
activation=linear
[yolo]
mask=0
anchors=4,6, 8,8, 12,10
classes=2
num=3
"""
COUNT = (4 * 8 + 8 * 3 * 9) + (4 * 6 + 6 * 8 * 9) + (14 + 14 * 6) + (4 * 4 + 4 * 6) + (7 + 7 * 12)
"""Weights of the network above."""


def weights(count: int = COUNT) -> bytes:
    """A file with random weights; they are positive, so that variances are."""
    header = np.array([0, 2, 0], np.int32).tobytes() + np.array([0], np.int64).tobytes()
    return header + np.random.default_rng(3).uniform(0.05, 1.0, count).astype(np.float32).tobytes()


def picture() -> npt.NDArray[np.float32]:
    return np.random.default_rng(4).uniform(0, 1, (1, 3, 32, 32)).astype(np.float32)


def test_the_converted_network_computes_what_opencv_computes() -> None:
    body = weights()
    network = cv2.dnn.readNetFromDarknet(np.frombuffer(CFG.encode(), np.uint8), np.frombuffer(body, np.uint8))
    network.setInput(picture())
    names = network.getLayerNames()
    convolutions = [name for name in names if name.startswith("conv_")]
    wanted = network.forward([convolutions[2], convolutions[4]])
    session = onnxruntime.InferenceSession(convert(CFG, body).SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"images": picture()})
    for expected, got in zip(wanted, found, strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-4, atol=1e-4)


def test_anchors_are_those_of_each_mask() -> None:
    assert yolo_layers(CFG) == [{"anchors": [[8, 8], [12, 10]]}, {"anchors": [[4, 6]]}]


@pytest.mark.parametrize(("change", "told"), [(-1, "1 more are needed"), (1, "1 weights are left over")])
def test_weights_of_another_network_are_refused(change: int, told: str, tmp_path: Path) -> None:
    (tmp_path / "a.cfg").write_text(CFG)
    (tmp_path / "a.weights").write_bytes(weights(COUNT + change))
    with pytest.raises(ValueError, match=told):
        convert_files(tmp_path / "a.cfg", tmp_path / "a.weights", tmp_path / "a.onnx")
    assert not (tmp_path / "a.onnx").exists()


@pytest.mark.parametrize(("old", "new"), [("[upsample]", "[reorg]"), ("activation=linear", "activation=mish")])
def test_layers_that_are_not_known_are_refused(old: str, new: str) -> None:
    with pytest.raises(ValueError, match="not known"):
        convert(CFG.replace(old, new), weights())

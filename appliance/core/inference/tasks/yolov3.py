"""Detection with YOLOv3 heads (Redmon and Farhadi, arXiv:1804.02767), as Darknet reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from appliance.core.inference.manifest import Yolov3
from appliance.core.inference.model import Findings
from appliance.core.inference.tasks.boxes import Found, to_boxes
from appliance.core.inference.tasks.outputs import Array, misfit, sigmoid
from appliance.core.inference.tasks.place import OneRun, Place


class Yolov3Detection(OneRun[Yolov3]):
    """Boxes out of raw maps (implements model.Task)."""

    def read(self, outputs: list[Array], names: tuple[str, ...], place: Place, threshold: float) -> Findings:
        """Boxes of at least the threshold. Raises ModelError."""
        self._check(outputs)
        size = (self.wanted.width, self.wanted.height)
        corners, scores, classes = decode(outputs, self.head.layers, size, threshold)
        found = Found(corners, scores, classes, np.empty((len(scores), 0), np.float32)).best(self.head.overlap)
        boxes, _ = to_boxes(found, self.manifest.labels, place)
        return Findings(boxes=boxes)

    def _check(self, maps: Sequence[Any]) -> None:
        layers, labels = self.head.layers, len(self.manifest.labels)
        shapes = [tuple(each.shape) for each in maps]
        expected = [len(anchors) * (5 + labels) for anchors in layers]
        if [shape[1] if len(shape) == 4 else 0 for shape in shapes] != expected:
            raise misfit(self.manifest, shapes, f"{labels} labels and its anchors ask for {expected} channels")


def decode(
    maps: Sequence[Array],
    anchors: Sequence[Sequence[tuple[float, float]]],
    size: tuple[int, int],
    threshold: float,
) -> tuple[Array, Array, Array]:
    """Raw maps to candidate boxes.

    Args:
        maps: Per head 1 × (anchors · (5 + classes)) × rows × columns.
        anchors: Per head, (width, height) in pixels of the input.
        size: (width, height) of the input, pixels.
        threshold: Least score (objectness · class probability).

    Returns:
        Boxes n × 4 (x_min, y_min, x_max, y_max, pixels of the input), scores n, classes n.
    """
    parts = [_decode_head(head, pairs, size, threshold) for head, pairs in zip(maps, anchors, strict=True)]
    boxes, scores, classes = (np.concatenate(column) for column in zip(*parts, strict=True))
    return boxes, scores, classes


def _decode_head(
    head: Array, anchors: Sequence[tuple[float, float]], size: tuple[int, int], threshold: float
) -> tuple[Array, Array, Array]:
    rows, columns = head.shape[2:]
    cells = head[0].reshape(len(anchors), -1, rows, columns)
    objectness = sigmoid(cells[:, 4])
    anchor, row, column = np.nonzero(objectness >= threshold)
    picked = cells[anchor, :, row, column]
    probabilities = sigmoid(picked[:, 5:]) * objectness[anchor, row, column][:, None]
    index, classes = np.nonzero(probabilities >= threshold)
    scores = probabilities[index, classes]
    picked, anchor, row, column = picked[index], anchor[index], row[index], column[index]
    centre_x = (sigmoid(picked[:, 0]) + column) / columns * size[0]
    centre_y = (sigmoid(picked[:, 1]) + row) / rows * size[1]
    extent = np.exp(np.minimum(picked[:, 2:4], 20)) * np.asarray(anchors, np.float32)[anchor]
    half_width, half_height = extent[:, 0] / 2, extent[:, 1] / 2
    boxes = np.stack([centre_x - half_width, centre_y - half_height, centre_x + half_width, centre_y + half_height], axis=1)
    return boxes, scores, classes

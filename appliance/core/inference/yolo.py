"""Decodes the output maps of YOLOv3 heads (Redmon and Farhadi, arXiv:1804.02767) and suppresses double boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def decode(
    maps: Sequence[npt.NDArray[np.float32]],
    anchors: Sequence[Sequence[tuple[float, float]]],
    size: tuple[int, int],
    threshold: float,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Raw maps to candidate boxes.

    Args:
        maps: Per head 1 × (anchors · (5 + classes)) × rows × columns.
        anchors: Per head, (width, height) in pixels of the input.
        size: (width, height) of the input, pixels.
        threshold: Least score (objectness · class probability).

    Returns:
        Boxes n × 4 (x_min, y_min, x_max, y_max, pixels of the input), scores n, classes n.
    """
    import numpy as np

    parts = [_decode_head(head, pairs, size, threshold) for head, pairs in zip(maps, anchors, strict=True)]
    boxes, scores, classes = (np.concatenate(column) for column in zip(*parts, strict=True))
    return boxes, scores, classes


def _decode_head(
    head: npt.NDArray[np.float32], anchors: Sequence[tuple[float, float]], size: tuple[int, int], threshold: float
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    import numpy as np

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


def sigmoid(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """1 / (1 + e^-x), without overflow."""
    import numpy as np

    result: npt.NDArray[Any] = 0.5 * (1 + np.tanh(0.5 * values))
    return result


def suppress(boxes: npt.NDArray[Any], scores: npt.NDArray[Any], classes: npt.NDArray[Any], overlap: float) -> list[int]:
    """Non-maximum suppression within each class.

    Args:
        boxes: n × 4, corners.
        scores: n.
        classes: n.
        overlap: Intersection over union from which the lower-scored box goes.

    Returns:
        Indices of the boxes that stay, best score first.
    """
    import numpy as np

    order = np.argsort(-scores, kind="stable")
    area = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    kept: list[int] = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        low, high = np.maximum(boxes[best, :2], boxes[rest, :2]), np.minimum(boxes[best, 2:], boxes[rest, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        union = area[best] + area[rest] - shared
        same = classes[rest] == classes[best]
        order = rest[~(same & (shared > overlap * union))]
    return kept

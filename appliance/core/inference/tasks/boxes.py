"""From corners in the model's input to boxes in the picture; and double boxes away."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from appliance.core.findings import Box
from appliance.core.inference.tasks.outputs import Array
from appliance.core.inference.tasks.place import Place

MOST = 100
"""Boxes reported of one picture."""
CANDIDATES = 3000
"""The best so many are looked at for doubles; a picture with more candidates has none that matter behind them."""


@dataclass(frozen=True)
class Found:
    """Candidates of a picture, row by row.

    Attributes:
        corners: n × 4: x_min, y_min, x_max, y_max in pixels of the input.
        scores: n, 0…1.
        classes: n, index of the label.
        extra: n × anything: what belongs to each (key points, coefficients).
    """

    corners: Array
    scores: Array
    classes: Array
    extra: Array

    def take(self, rows: Array) -> Found:
        """Some of the rows."""
        return Found(self.corners[rows], self.scores[rows], self.classes[rows], self.extra[rows])

    def best(self, overlap: float) -> Found:
        """Without doubles of a class, best first, MOST of them."""
        order = np.argsort(-self.scores, kind="stable")[:CANDIDATES]
        first = self.take(order)
        return first.take(suppress(first.corners, first.classes, overlap, MOST))


def suppress(corners: Array, classes: Array, overlap: float, most: int) -> Array:
    """Non-maximum suppression within each class.

    Args:
        corners: n × 4, best score first.
        classes: n.
        overlap: Intersection over union above which the later box goes.
        most: Stop after so many.

    Returns:
        Rows of the boxes that stay, in their order.
    """
    corners = corners.astype(np.float32, copy=False)
    area = np.prod(np.maximum(corners[:, 2:] - corners[:, :2], 0), axis=1)
    alive = np.arange(len(corners))
    kept: list[int] = []
    while alive.size and len(kept) < most:
        best, rest = alive[0], alive[1:]
        kept.append(int(best))
        low = np.maximum(corners[best, :2], corners[rest, :2])
        high = np.minimum(corners[best, 2:], corners[rest, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        union = area[best] + area[rest] - shared
        alive = rest[(classes[rest] != classes[best]) | (shared <= overlap * union)]
    return np.asarray(kept, np.intp)


def to_boxes(found: Found, labels: list[str], place: Place) -> tuple[tuple[Box, ...], Array]:
    """Boxes in pixels of the original picture, cut at its edges; and the rows of those of which a tenth of one is left."""
    corners = np.round(place.corners(found.corners).astype(np.float64), 1)
    rows = np.flatnonzero((corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1]))
    values = corners[rows].tolist()
    scores = np.round(found.scores[rows].astype(np.float64), 4).tolist()
    names = [labels[int(label)] for label in found.classes[rows]]
    return tuple(Box(name, score, *box) for name, score, box in zip(names, scores, values, strict=True)), rows

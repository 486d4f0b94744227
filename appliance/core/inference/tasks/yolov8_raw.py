"""The raw maps of anchor-free heads: distances as distributions, classes as logits, per stride."""

from __future__ import annotations

import numpy as np

from appliance.core.inference.manifest import Input, Manifest, Yolov8
from appliance.core.inference.tasks.boxes import Found
from appliance.core.inference.tasks.outputs import Array, misfit, probable, sigmoid, softmax


class RawMaps:
    """Sorts maps by their shapes, and reads them.

    Args:
        manifest: The model's.
        wanted: Its input.
        head: Of the manifest.
    """

    def __init__(self, manifest: Manifest, wanted: Input, head: Yolov8) -> None:
        self._manifest = manifest
        self._wanted = wanted
        self._head = head
        labels, points = len(manifest.labels), 3 * len(head.keypoints)
        self._parts = tuple(width for width in (4 * head.bins, labels, points, head.masks) if width)
        self._labels, self._points = labels, points

    def decode(self, outputs: list[Array], threshold: float) -> tuple[Found, Array | None]:
        """Candidates of all strides, and the prototypes where the head has masks. Raises ModelError."""
        rest = list(outputs)
        found = []
        for stride in self._head.strides:
            table = self._table(rest, stride, [each.shape for each in outputs])
            found.append(self._read(table, stride, threshold))
        joined = Found(
            np.concatenate([each.corners for each in found]),
            np.concatenate([each.scores for each in found]),
            np.concatenate([each.classes for each in found]),
            np.concatenate([each.extra for each in found]),
        )
        return joined, rest[0] if rest else None

    def _table(self, rest: list[Array], stride: int, shapes: list[tuple[int, ...]]) -> Array:
        """The maps of a stride as places × values; they are taken out of `rest`."""
        rows, columns = self._wanted.height // stride, self._wanted.width // stride
        total = sum(self._parts)
        for index, each in enumerate(rest):
            if (flat := _flat(each, total, rows, columns)) is not None:
                rest.pop(index)
                return flat
        parts = []
        for width in self._parts:
            flats = ((index, _flat(each, width, rows, columns)) for index, each in enumerate(rest))
            index, flat = next(((index, flat) for index, flat in flats if flat is not None), (0, None))
            if flat is None:
                raise misfit(self._manifest, shapes, f"stride {stride} asks for maps of {rows} x {columns} x {self._parts}")
            rest.pop(index)
            parts.append(flat)
        return np.concatenate(parts, axis=1)

    def _read(self, table: Array, stride: int, threshold: float) -> Found:
        columns, sides = self._wanted.width // stride, 4 * self._head.bins
        scores = table[:, sides : sides + self._labels]
        best = scores.max(axis=1)
        sure = sigmoid(best) if self._head.logits else probable(best, self._manifest)
        picked = np.flatnonzero(sure >= threshold)
        table, scores, sure = table[picked], scores[picked], sure[picked]
        cells = np.stack([picked % columns, picked // columns], axis=1).astype(np.float32)
        spread = softmax(table[:, :sides].reshape(-1, 4, self._head.bins))
        distances = spread @ np.arange(self._head.bins, dtype=np.float32)
        low, high = cells + 0.5 - distances[:, :2], cells + 0.5 + distances[:, 2:]
        extra = table[:, sides + self._labels :].copy()
        if self._points:
            points = extra[:, : self._points].reshape(len(extra), self._points // 3, 3)
            points[..., :2] = (points[..., :2] * 2 + cells[:, None]) * stride
            points[..., 2] = sigmoid(points[..., 2])
        return Found(
            np.concatenate([low, high], axis=1) * stride,
            sure,
            scores.argmax(axis=1),
            extra,
        )


def _flat(each: Array, width: int, rows: int, columns: int) -> Array | None:
    """A map as places × values, whichever way it lies; None where it is another one."""
    flat: Array | None = None
    if each.shape == (1, width, rows, columns):
        flat = each[0].reshape(width, -1).T
    elif each.shape == (1, rows, columns, width):
        flat = each[0].reshape(-1, width)
    return flat

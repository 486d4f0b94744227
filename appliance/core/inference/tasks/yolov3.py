"""Detection with YOLOv3 heads (Redmon and Farhadi, arXiv:1804.02767), as Darknet reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from appliance.core.inference.manifest import Manifest, Yolov3
from appliance.core.inference.model import Findings, Prepared
from appliance.core.inference.tasks.boxes import Found, to_boxes
from appliance.core.inference.tasks.outputs import arrays, misfit
from appliance.core.inference.tasks.place import Pictures
from appliance.core.inference.yolo import decode


class Yolov3Detection(Pictures):
    """Boxes out of raw maps (implements model.Task)."""

    def __init__(self, manifest: Manifest, kind: str, head: Yolov3) -> None:
        super().__init__(manifest, kind)
        self._head = head

    def finish(
        self, answers: Sequence[Sequence[Any]], names: tuple[str, ...], prepared: Prepared, threshold: float
    ) -> Findings:
        """Boxes of at least the threshold. Raises ModelError."""
        maps = arrays(answers[0], self.manifest)
        self._check(maps)
        size = (self.wanted.width, self.wanted.height)
        corners, scores, classes = decode(maps, self._head.layers, size, threshold)
        found = Found(corners, scores, classes, np.empty((len(scores), 0), np.float32)).best(self._head.overlap)
        boxes, _ = to_boxes(found, self.manifest.labels, prepared.context)
        return Findings(boxes=boxes)

    def _check(self, maps: Sequence[Any]) -> None:
        layers, labels = self._head.layers, len(self.manifest.labels)
        shapes = [tuple(each.shape) for each in maps]
        expected = [len(anchors) * (5 + labels) for anchors in layers]
        if [shape[1] if len(shape) == 4 else 0 for shape in shapes] != expected:
            raise misfit(self.manifest, shapes, f"{labels} labels and its anchors ask for {expected} channels")

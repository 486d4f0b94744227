"""Detection, poses and instances with anchor-free heads of YOLOv8's kind.

One output of N × (4 + classes + extra) × places holds centres and sizes in pixels of the input, probabilities, and for poses
three values a key point or for instances the coefficients of the prototypes. The raw form comes as maps per stride: 4 · bins
values whose softmax is the distribution of each distance to the box's sides (distribution focal loss: Li et al.,
arXiv:2006.04388), and classes before the sigmoid.
"""

from __future__ import annotations

import numpy as np

from appliance.core.findings import Keypoint, Mask, Pose
from appliance.core.inference.manifest import Manifest, Yolov8
from appliance.core.inference.model import Findings
from appliance.core.inference.tasks.boxes import Found, to_boxes
from appliance.core.inference.tasks.masks import instances
from appliance.core.inference.tasks.outputs import Array, count, misfit, probable
from appliance.core.inference.tasks.place import OneRun, Place
from appliance.core.inference.tasks.yolov8_raw import RawMaps


class Yolov8Heads(OneRun[Yolov8]):
    """Boxes, and what belongs to them (implements model.Task)."""

    def __init__(self, manifest: Manifest, kind: str, head: Yolov8) -> None:
        super().__init__(manifest, kind, head)
        self._labels = len(manifest.labels)
        self._extra = 3 * len(head.keypoints) + head.masks
        self._raw = RawMaps(manifest, self.wanted, head) if head.raw else None

    def read(self, outputs: list[Array], names: tuple[str, ...], place: Place, threshold: float) -> Findings:
        """Boxes of at least the threshold, with key points or masks. Raises ModelError."""
        if self._raw is not None:
            candidates, prototypes = self._raw.decode(outputs, threshold)
        else:
            candidates, prototypes = self._decode(outputs, threshold)
        found = candidates.best(self.head.overlap)
        boxes, rows = to_boxes(found, self.manifest.labels, place)
        found = found.take(rows)
        poses = self._poses(found.extra, place) if self.head.keypoints else ()
        masks: tuple[Mask, ...] = ()
        if self.head.masks:
            names_of = [box.label for box in boxes]
            masks = instances(found, names_of, prototypes, (self.wanted.width, self.wanted.height), place)
        return Findings(boxes=boxes, poses=poses, masks=masks)

    def _decode(self, outputs: list[Array], threshold: float) -> tuple[Found, Array | None]:
        count(outputs, 2 if self.head.masks else 1, self.manifest)
        rows = 4 + self._labels + self._extra
        index = next((i for i, each in enumerate(outputs) if each.ndim == 3 and rows in each.shape[1:]), None)
        if index is None:
            asked = f"{self._labels} labels and its head ask for {rows} values a place"
            raise misfit(self.manifest, [each.shape for each in outputs], asked)
        table = outputs[index][0] if outputs[index].shape[1] == rows else outputs[index][0].T
        scores = table[4 : 4 + self._labels]
        best = probable(scores.max(axis=0), self.manifest)
        picked = np.flatnonzero(best >= threshold)
        centres, halves = table[:2, picked].T, table[2:4, picked].T / 2
        found = Found(
            np.concatenate([centres - halves, centres + halves], axis=1),
            best[picked],
            scores[:, picked].argmax(axis=0),
            np.ascontiguousarray(table[4 + self._labels :, picked].T),
        )
        return found, next((each for i, each in enumerate(outputs) if i != index), None)

    def _poses(self, extra: Array, place: Place) -> tuple[Pose, ...]:
        points = extra[:, : 3 * len(self.head.keypoints)].reshape(len(extra), len(self.head.keypoints), 3).astype(np.float64)
        points[..., :2] = place.points(points[..., :2])
        points = np.round(points, 4)
        return tuple(
            Pose(tuple(Keypoint(name, *point) for name, point in zip(self.head.keypoints, body, strict=True)))
            for body in points.tolist()
        )

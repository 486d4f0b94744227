"""Faces and their landmarks out of heat maps (Xu et al., CenterFace, arXiv:1911.03599)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from appliance.core.findings import Keypoint, Pose
from appliance.core.inference.manifest import Heatmaps, Manifest
from appliance.core.inference.model import Findings, Prepared
from appliance.core.inference.tasks.boxes import Found, to_boxes
from appliance.core.inference.tasks.outputs import Array, arrays, count, misfit
from appliance.core.inference.tasks.place import Pictures, Place


class HeatmapPoses(Pictures):
    """Boxes and key points around centres (implements model.Task). A key point has its centre's score, for want of its own."""

    def __init__(self, manifest: Manifest, kind: str, head: Heatmaps) -> None:
        super().__init__(manifest, kind)
        self._head = head

    def finish(
        self, answers: Sequence[Sequence[Any]], names: tuple[str, ...], prepared: Prepared, threshold: float
    ) -> Findings:
        """Boxes of at least the threshold, with their key points. Raises ModelError."""
        heat, sizes, offsets, landmarks = self._maps(arrays(answers[0], self.manifest), names)
        classes, rows, columns = np.nonzero(heat >= threshold)
        spread = np.exp(np.minimum(sizes[:, rows, columns], 20)) * self._head.stride
        centres = (np.stack([rows, columns]) + offsets[:, rows, columns] + 0.5) * self._head.stride
        limit = np.array([[self.wanted.height], [self.wanted.width]])
        low = np.clip(centres - spread / 2, 0, limit)
        corners = np.concatenate([low[::-1], np.minimum(low + spread, limit)[::-1]]).T
        extra = np.empty((len(rows), 0))
        if landmarks is not None:
            points = landmarks[:, rows, columns].reshape(len(self._head.keypoints), 2, len(rows)) * spread + low
            extra = points[:, ::-1].transpose(2, 0, 1).reshape(len(rows), 2 * len(self._head.keypoints))
        found = Found(corners, heat[classes, rows, columns], classes, extra).best(self._head.overlap)
        boxes, kept = to_boxes(found, self.manifest.labels, prepared.context)
        return Findings(boxes=boxes, poses=self._poses(found.take(kept), prepared.context))

    def _maps(self, outputs: list[Array], names: tuple[str, ...]) -> tuple[Array, Array, Array, Array | None]:
        """Heat, sizes, offsets, landmarks without their leading axis. Raises ModelError."""
        widths = [len(self.manifest.labels), 2, 2, *([2 * len(self._head.keypoints)] if self._head.keypoints else [])]
        count(outputs, len(widths), self.manifest)
        if self._head.maps:
            by_name = dict(zip(names, outputs, strict=False))
            if missing := [name for name in self._head.maps if name not in by_name]:
                raise misfit(self.manifest, [each.shape for each in outputs], f"no output is called {', '.join(missing)}")
            outputs = [by_name[name] for name in self._head.maps]
        side = (self.wanted.height // self._head.stride, self.wanted.width // self._head.stride)
        shapes = [each.shape for each in outputs[: len(widths)]]
        if shapes != [(1, width, *side) for width in widths]:
            raise misfit(self.manifest, shapes, f"{widths} channels of {side[0]} x {side[1]} are asked for")
        maps = [each[0] for each in outputs]
        return maps[0], maps[1], maps[2], maps[3] if len(widths) == 4 else None

    def _poses(self, found: Found, place: Place) -> tuple[Pose, ...]:
        if not self._head.keypoints:
            return ()
        points = np.round(place.points(found.extra.reshape(len(found.scores), len(self._head.keypoints), 2)), 1).tolist()
        scores = np.round(found.scores.astype(np.float64), 4).tolist()
        return tuple(
            Pose(tuple(Keypoint(name, x, y, score) for name, (x, y) in zip(self._head.keypoints, body, strict=True)))
            for body, score in zip(points, scores, strict=True)
        )

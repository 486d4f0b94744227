"""Faces and their landmarks out of heat maps (Xu et al., CenterFace, arXiv:1911.03599)."""

from __future__ import annotations

import numpy as np

from appliance.core.findings import Keypoint, Pose
from appliance.core.inference.manifest import Heatmaps
from appliance.core.inference.model import Findings
from appliance.core.inference.tasks.boxes import Found, to_boxes
from appliance.core.inference.tasks.outputs import Array, count, misfit, probable
from appliance.core.inference.tasks.place import OneRun, Place


class HeatmapPoses(OneRun[Heatmaps]):
    """Boxes and key points around centres (implements model.Task). A key point has its centre's score, for want of its own."""

    def read(self, outputs: list[Array], names: tuple[str, ...], place: Place, threshold: float) -> Findings:
        """Boxes of at least the threshold, with their key points. Raises ModelError."""
        heat, sizes, offsets, landmarks = self._maps(outputs, names)
        heat = probable(heat, self.manifest)
        classes, rows, columns = np.nonzero(heat >= threshold)
        spread = np.exp(np.minimum(sizes[:, rows, columns], 20)) * self.head.stride
        centres = (np.stack([rows, columns]) + offsets[:, rows, columns] + 0.5) * self.head.stride
        limit = np.array([[self.wanted.height], [self.wanted.width]])
        low = np.clip(centres - spread / 2, 0, limit)
        corners = np.concatenate([low[::-1], np.minimum(low + spread, limit)[::-1]]).T
        extra = np.empty((len(rows), 0))
        if landmarks is not None:
            points = landmarks[:, rows, columns].reshape(len(self.head.keypoints), 2, len(rows)) * spread + low
            extra = points[:, ::-1].transpose(2, 0, 1).reshape(len(rows), 2 * len(self.head.keypoints))
        found = Found(corners, heat[classes, rows, columns], classes, extra).best(self.head.overlap)
        boxes, kept = to_boxes(found, self.manifest.labels, place)
        return Findings(boxes=boxes, poses=self._poses(found.take(kept), place))

    def _maps(self, outputs: list[Array], names: tuple[str, ...]) -> tuple[Array, Array, Array, Array | None]:
        """Heat, sizes, offsets, landmarks without their leading axis. Raises ModelError."""
        widths = [len(self.manifest.labels), 2, 2, *([2 * len(self.head.keypoints)] if self.head.keypoints else [])]
        count(outputs, len(widths), self.manifest)
        if self.head.maps:
            by_name = dict(zip(names, outputs, strict=False))
            if missing := [name for name in self.head.maps if name not in by_name]:
                raise misfit(self.manifest, [each.shape for each in outputs], f"no output is called {', '.join(missing)}")
            outputs = [by_name[name] for name in self.head.maps]
        side = (self.wanted.height // self.head.stride, self.wanted.width // self.head.stride)
        shapes = [each.shape for each in outputs[: len(widths)]]
        if shapes != [(1, width, *side) for width in widths]:
            raise misfit(self.manifest, shapes, f"{widths} channels of {side[0]} x {side[1]} are asked for")
        maps = [each[0] for each in outputs]
        return maps[0], maps[1], maps[2], maps[3] if len(widths) == 4 else None

    def _poses(self, found: Found, place: Place) -> tuple[Pose, ...]:
        if not self.head.keypoints:
            return ()
        points = np.round(place.points(found.extra.reshape(len(found.scores), len(self.head.keypoints), 2)), 1).tolist()
        scores = np.round(found.scores.astype(np.float64), 4).tolist()
        return tuple(
            Pose(tuple(Keypoint(name, x, y, score) for name, (x, y) in zip(self.head.keypoints, body, strict=True)))
            for body, score in zip(points, scores, strict=True)
        )

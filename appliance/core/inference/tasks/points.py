"""One body's key points as a plain list of numbers (BlazePose's way, arXiv:2006.10204)."""

from __future__ import annotations

import numpy as np

from appliance.core.findings import Box, Keypoint, Pose
from appliance.core.inference.manifest import Points
from appliance.core.inference.model import Findings
from appliance.core.inference.tasks.outputs import Array, misfit, sigmoid
from appliance.core.inference.tasks.place import OneRun, Place

VALUES = 5
"""x, y, z, visibility, presence; the last two before the sigmoid."""


class PointPose(OneRun[Points]):
    """One pose, and the box around its points (implements model.Task)."""

    def read(self, outputs: list[Array], names: tuple[str, ...], place: Place, threshold: float) -> Findings:
        """The pose, if its points are there with at least the threshold on average. Raises ModelError."""
        wanted = len(self.head.keypoints)
        flat = next((each.reshape(-1) for each in outputs if each.size % VALUES == 0 and each.size >= VALUES * wanted), None)
        if flat is None or not wanted:
            raise misfit(self.manifest, [each.shape for each in outputs], f"{wanted} points of {VALUES} values are asked for")
        table = flat.reshape(-1, VALUES)[:wanted].astype(np.float64)
        scores = sigmoid(table[:, 3:]).min(axis=1)
        sure = float(scores.mean())
        if sure < threshold:
            return Findings()
        points = place.points(table[:, :2])
        x_min, y_min = np.clip(points.min(axis=0), 0, (place.width, place.height)).tolist()
        x_max, y_max = np.clip(points.max(axis=0), 0, (place.width, place.height)).tolist()
        label = self.manifest.labels[0] if self.manifest.labels else "body"
        rows = zip(self.head.keypoints, np.round(points, 1).tolist(), np.round(scores, 4).tolist(), strict=True)
        pose = Pose(tuple(Keypoint(name, x, y, score) for name, (x, y), score in rows))
        box = Box(label, round(sure, 4), *(round(side, 1) for side in (x_min, y_min, x_max, y_max)))
        seen = box.x_max > box.x_min and box.y_max > box.y_min
        return Findings(boxes=(box,) if seen else (), poses=(pose,))

"""YOLOv3 detectors of pictures as a task (implements model.Task)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from appliance.core.inference.letterbox import letterbox
from appliance.core.inference.manifest import Manifest, Yolov3
from appliance.core.inference.model import Findings, Prepared, Sample
from appliance.core.inference.yolo import decode, suppress
from appliance.core.model import Box
from appliance.errors import ImageError, ModelError

MOST = 100


class YoloTask:
    """One manifest's.

    Args:
        manifest: Of a YOLOv3 detector. Raises ModelError where it is none.
    """

    def __init__(self, manifest: Manifest) -> None:
        if manifest.input is None or not isinstance(manifest.decode, Yolov3):
            raise ModelError(f"{manifest.name} is not a YOLOv3 detector of pictures.", "choose another model.")
        self._input, self._head, self._labels, self._name = manifest.input, manifest.decode, manifest.labels, manifest.name

    def prepare(self, sample: Sample) -> Prepared:
        """See model.Task."""
        if not hasattr(sample, "rgb"):
            raise ImageError("The input is no picture.", "give a picture.")
        wanted = self._input
        tensor, fit = letterbox(sample.rgb, wanted.width, wanted.height, wanted.scale, wanted.grey)
        return Prepared(({wanted.name: tensor},), (fit, sample.rgb.shape[1], sample.rgb.shape[0]))

    def finish(
        self, answers: Sequence[Sequence[Any]], names: tuple[str, ...], prepared: Prepared, threshold: float
    ) -> Findings:
        """See model.Task."""
        maps, (fit, wide, tall) = answers[0], prepared.context
        shapes = [tuple(head.shape) for head in maps]
        expected = [len(anchors) * (5 + len(self._labels)) for anchors in self._head.layers]
        if [shape[1] for shape in shapes if len(shape) == 4] != expected:
            raise ModelError(
                f"{self._name} gives maps of {shapes}; {len(self._labels)} labels and its anchors ask for {expected} channels.",
                "mend the manifest's labels or layers.",
            )
        boxes, scores, classes = decode(maps, self._head.layers, (self._input.width, self._input.height), threshold)
        found = []
        for index in suppress(boxes, scores, classes, self._head.overlap)[:MOST]:
            left, right = (min(max((float(x) - fit.left) / fit.scale, 0.0), float(wide)) for x in boxes[index][[0, 2]])
            top, bottom = (min(max((float(y) - fit.top) / fit.scale, 0.0), float(tall)) for y in boxes[index][[1, 3]])
            corners = (round(value, 1) for value in (left, top, right, bottom))
            found.append(Box(self._labels[classes[index]], round(float(scores[index]), 4), *corners))
        return Findings(boxes=tuple(box for box in found if box.x_max > box.x_min and box.y_max > box.y_min))

"""One model ready to detect: picture in, boxes in its own pixels out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.core.inference import manifest as manifests
from appliance.core.inference.image import DecodedPicture
from appliance.core.inference.letterbox import Fit, letterbox
from appliance.core.inference.manifest import Manifest, Yolov3
from appliance.core.inference.yolo import decode, suppress
from appliance.core.model import Box
from appliance.core.ports import Accelerator, AcceleratorModel
from appliance.errors import ModelError

if TYPE_CHECKING:
    import numpy.typing as npt

MOST = 100
"""Boxes reported of one picture."""


@dataclass(frozen=True)
class Detection:
    """The boxes, and how long the model alone took (milliseconds)."""

    boxes: tuple[Box, ...]
    inference_time_ms: float


class Detector:
    """A loaded detection model. All methods block.

    Args:
        manifest: What it is.
        model: Loaded into an accelerator.
        backend: The accelerator's name in results.
    """

    def __init__(self, manifest: Manifest, model: AcceleratorModel, backend: str) -> None:
        self.manifest = manifest
        self.backend = backend
        self._model = model
        if manifest.input is None or not isinstance(manifest.decode, Yolov3):
            raise ModelError(f"{manifest.name} is not a YOLOv3 detector of pictures.", "choose another model.")
        self._wanted, self._head = manifest.input, manifest.decode

    def detect(self, picture: DecodedPicture, threshold: float) -> Detection:
        """Find objects. Raises ModelError where the model's outputs do not fit its manifest."""
        wanted, head = self._wanted, self._head
        tensor, fit = letterbox(picture.rgb, wanted.width, wanted.height, wanted.scale, wanted.grey)
        began = time.perf_counter()
        maps = self._model.infer({wanted.name: tensor})
        elapsed = (time.perf_counter() - began) * 1000
        self._check(maps)
        boxes, scores, classes = decode(maps, head.layers, (wanted.width, wanted.height), threshold)
        kept = suppress(boxes, scores, classes, head.overlap)[:MOST]
        tall, wide = picture.rgb.shape[:2]
        found = (self._box(boxes[index], scores[index], classes[index], fit, wide, tall) for index in kept)
        return Detection(tuple(box for box in found if box.x_max > box.x_min and box.y_max > box.y_min), elapsed)

    def _check(self, maps: Any) -> None:
        layers, classes = self._head.layers, len(self.manifest.labels)
        shapes = [tuple(head.shape) for head in maps]
        expected = [len(anchors) * (5 + classes) for anchors in layers]
        if [shape[1] for shape in shapes if len(shape) == 4] != expected:
            raise ModelError(
                f"{self.manifest.name} gives maps of {shapes}; {classes} labels and its anchors ask for {expected} channels.",
                "mend the manifest's labels or layers.",
            )

    def _box(self, corners: npt.NDArray[Any], score: float, label: int, fit: Fit, wide: int, tall: int) -> Box:
        x_min, x_max = (min(max((float(x) - fit.left) / fit.scale, 0.0), float(wide)) for x in corners[[0, 2]])
        y_min, y_max = (min(max((float(y) - fit.top) / fit.scale, 0.0), float(tall)) for y in corners[[1, 3]])
        return Box(self.manifest.labels[label], round(float(score), 4), *(round(v, 1) for v in (x_min, y_min, x_max, y_max)))

    def close(self) -> None:
        """Free the model."""
        self._model.close()


def load(directory: Path, accelerator: Accelerator) -> Detector:
    """Load the model of a directory, if its file is the one its manifest names. Raises ModelError."""
    manifest = manifests.load(directory)
    path = manifests.verify(manifest, directory)
    model = accelerator.load(str(path))
    return Detector(manifest, model, accelerator.backend)


def choose(directories: list[Path], name: str) -> Path:
    """The directory of the wanted model (of the first one where no name is given); one that cannot be read is passed over.

    Raises:
        ModelError: A model of that name is not there; it names those that cannot be read.
    """
    names, broken = [], []
    for directory in manifests.find(directories):
        try:
            found = manifests.load(directory).name
        except ModelError as error:
            broken.append(error.message)
            continue
        if not name or found == name:
            return directory
        names.append(found)
    there = "; ".join([f"there are: {', '.join(names) or 'none'}", *broken])
    wanted = f"No model is called {name!r}" if name else "No model can be used"
    raise ModelError(f"{wanted}; {there}.".replace("..", "."), "set inference.model, mend what is broken, or add the model.")

"""How a picture lies in a model's input, and the way back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from appliance.core.inference.letterbox import Fit, fit_picture
from appliance.core.inference.manifest import Input, Manifest
from appliance.core.inference.model import Findings, Prepared, Sample
from appliance.core.inference.tasks.outputs import arrays, count
from appliance.errors import ImageError, ModelError

Array = npt.NDArray[Any]
Head = TypeVar("Head")


@dataclass(frozen=True)
class Place:
    """Where the picture is in the input.

    Attributes:
        fit: input = pixel · scale + offset, for the pixels that were there.
        width: Of the original picture, pixels.
        height: Of the original picture, pixels.
        across: Original pixels for each one that was there.
        down: Likewise.
    """

    fit: Fit
    width: int
    height: int
    across: float
    down: float

    def points(self, points: Array) -> Array:
        """Points … × 2 (x, y) of the input in the original picture, not cut."""
        scale = np.array([self.across / self.fit.scale, self.down / self.fit.down])
        result: Array = (points - np.array([self.fit.left, self.fit.top])) * scale
        return result

    def corners(self, corners: Array) -> Array:
        """Boxes n × 4 of the input in the original picture, cut at its edges."""
        moved = self.points(corners.reshape(-1, 2, 2))
        result: Array = np.clip(moved, 0, (self.width, self.height)).reshape(-1, 4)
        return result


class Pictures:
    """Pictures in: the half of a task that all tasks of pictures share.

    Args:
        manifest: The model's.
        kind: "onnx" or "hef": of the file that will run.
    """

    def __init__(self, manifest: Manifest, kind: str) -> None:
        self.manifest = manifest
        self.wanted = wanted_input(manifest, kind)

    def prepare(self, sample: Sample) -> Prepared:
        """Fit the picture. Raises ImageError where the sample is none."""
        rgb = getattr(sample, "rgb", None)
        if not isinstance(rgb, np.ndarray) or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
            raise ImageError(f"{self.manifest.name} looks at pictures, and this is none.", "give a picture.")
        tensor, fit = fit_picture(rgb, self.wanted)
        tall, wide = rgb.shape[:2]
        width, height = getattr(sample, "width", wide), getattr(sample, "height", tall)
        batch: Mapping[str, Array] = {self.wanted.name: tensor}
        return Prepared((batch,), Place(fit, width, height, width / wide, height / tall))


class OneRun(Pictures, Generic[Head]):
    """Pictures in, and one run's outputs read: what all heads share whose outputs are arrays.

    Args:
        manifest: The model's.
        kind: "onnx" or "hef": of the file that will run.
        head: Of the manifest.
    """

    least = 1
    """Outputs that the head needs."""

    def __init__(self, manifest: Manifest, kind: str, head: Head) -> None:
        super().__init__(manifest, kind)
        self.head = head

    def finish(
        self, answers: Sequence[Sequence[Any]], names: tuple[str, ...], prepared: Prepared, threshold: float
    ) -> Findings:
        """See model.Task. Raises ModelError."""
        outputs = arrays(answers[0], self.manifest)
        count(outputs, self.least, self.manifest)
        return self.read(outputs, names, prepared.context, threshold)

    @abstractmethod
    def read(self, outputs: list[Array], names: tuple[str, ...], place: Place, threshold: float) -> Findings:
        """What the outputs say. Raises ModelError where they do not fit the manifest."""


def wanted_input(manifest: Manifest, kind: str) -> Input:
    """What the file of a kind takes. Raises ModelError where the manifest does not say."""
    if manifest.input is None:
        raise ModelError(f"The manifest of {manifest.name} has no [input].", "mend the manifest.")
    if kind != "hef":
        return manifest.input
    return manifest.hef_input or _bytes_of(manifest.input)


def _bytes_of(wanted: Input) -> Input:
    """The same picture as bytes, row by row: the device normalises."""
    import msgspec

    return msgspec.structs.replace(wanted, dtype="uint8", layout="NHWC", scale=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

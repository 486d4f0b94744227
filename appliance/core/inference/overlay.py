"""Paints masks and key points onto a picture, before it is made small for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from appliance.core.findings import Mask, Pose
from appliance.core.inference.draw import PALETTE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SURE = 0.3
"""Points of which a model is less sure are left out."""
POINT = (255, 69, 58)
SHARE = 80
"""A point is the picture's longer side divided by this wide."""


def overlay(
    rgb: npt.NDArray[np.uint8], size: tuple[int, int], masks: Sequence[Mask], poses: Sequence[Pose]
) -> npt.NDArray[np.uint8]:
    """The picture with what was found on it; the same array where nothing was.

    Args:
        rgb: Rows × columns × 3; it may be a reduced one, and is not changed.
        size: Width and height of the whole picture, pixels, in which masks and points are told.
        masks: Tinted, a colour a label.
        poses: Their points, those that the model is sure of.
    """
    if not masks and not poses:
        return rgb
    painted = rgb.copy()
    labels = sorted({mask.label for mask in masks})
    for mask in masks:
        _tint(painted, mask, PALETTE[labels.index(mask.label) % len(PALETTE)])
    for pose in poses:
        for point in pose.keypoints:
            if point.score >= SURE:
                _dot(painted, point.x * rgb.shape[1] / size[0], point.y * rgb.shape[0] / size[1])
    return painted


def _tint(rgb: npt.NDArray[np.uint8], mask: Mask, colour: tuple[int, int, int]) -> None:
    """Half the picture, half the colour, where the mask is."""
    import numpy as np

    from appliance.core.inference.tasks.masks import pixels

    rows = np.arange(rgb.shape[0]) * mask.height // rgb.shape[0]
    columns = np.arange(rgb.shape[1]) * mask.width // rgb.shape[1]
    inside = pixels(mask)[rows][:, columns]
    rgb[inside] = (rgb[inside].astype(np.uint16) + np.asarray(colour, np.uint16)) // 2


def _dot(rgb: npt.NDArray[np.uint8], x: float, y: float) -> None:
    half = max(1, max(rgb.shape[:2]) // SHARE // 2)
    top, left = max(0, round(y) - half), max(0, round(x) - half)
    bottom, right = max(0, round(y) + half + 1), max(0, round(x) + half + 1)  # it may lie outside of the picture
    rgb[top:bottom, left:right] = POINT

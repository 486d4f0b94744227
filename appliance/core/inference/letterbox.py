"""Fits a picture into a model's input without changing its proportions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

GREY = 127
"""Of the margins where nothing else is said: Darknet's."""


@dataclass(frozen=True)
class Fit:
    """How a picture lies in the input: input = picture · scale + offset, in pixels."""

    scale: float
    left: float
    top: float


def letterbox(
    rgb: npt.NDArray[np.uint8], width: int, height: int, divisor: float, grey: int = GREY
) -> tuple[npt.NDArray[np.float32], Fit]:
    """Scale, centre on grey, normalise.

    Args:
        rgb: height × width × 3, uint8.
        width: Of the input, pixels.
        height: Of the input, pixels.
        divisor: Values are divided by it.
        grey: Value (0…255) of the margins.

    Returns:
        1 × 3 × height × width, float32, C-contiguous; and how the picture lies in it.
    """
    import numpy as np
    from PIL import Image

    tall, wide = rgb.shape[:2]
    scale = min(width / wide, height / tall)
    inner = (max(1, round(wide * scale)), max(1, round(tall * scale)))
    resized = Image.fromarray(rgb).resize(inner, Image.Resampling.BILINEAR, reducing_gap=2.0)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    canvas = np.full((height, width, 3), grey, np.uint8)
    canvas[top : top + inner[1], left : left + inner[0]] = np.asarray(resized)
    tensor = np.ascontiguousarray(canvas.transpose(2, 0, 1)[None], np.float32)
    tensor /= np.float32(divisor)
    return tensor, Fit(scale, left, top)

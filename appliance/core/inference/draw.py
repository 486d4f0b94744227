"""Draws boxes with their labels onto a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from appliance.core.model import Box

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

PALETTE = ((255, 214, 10), (48, 209, 88), (100, 210, 255), (255, 105, 97), (191, 90, 242), (255, 159, 10))
"""One colour a label, by the label's place in the alphabet of the labels seen."""


def colours(boxes: Sequence[Box]) -> dict[str, tuple[int, int, int]]:
    """A colour for each label."""
    return {label: PALETTE[index % len(PALETTE)] for index, label in enumerate(sorted({box.label for box in boxes}))}


def shrink(rgb: npt.NDArray[np.uint8], width: int, height: int) -> Image:
    """The picture resized to width × height pixels."""
    from PIL import Image

    return Image.fromarray(rgb).resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)


def with_boxes(rgb: npt.NDArray[np.uint8], boxes: Sequence[Box], width: int, height: int, *, text: bool) -> Image:
    """The picture at width × height pixels with the outlines of the boxes, and their labels where `text`."""
    from PIL import ImageDraw, ImageFont

    image = shrink(rgb, width, height)
    pen = ImageDraw.Draw(image)
    palette = colours(boxes)
    across, down = width / rgb.shape[1], height / rgb.shape[0]
    line = max(1, min(width, height) // 200)
    for box in reversed(boxes):
        left, top = box.x_min * across, box.y_min * down
        right, bottom = min(box.x_max * across, width - 1), min(box.y_max * down, height - 1)
        pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=palette[box.label], width=line)
        if text:
            font = ImageFont.load_default(size=max(10, height // 30))
            caption = f"{box.label} {box.score:.2f}"
            at = max(0.0, min(left + 2, width - 1 - pen.textlength(caption, font=font))), top + 2
            pen.rectangle(pen.textbbox(at, caption, font=font), fill=palette[box.label])
            pen.text(at, caption, font=font, fill=(0, 0, 0))
    return image

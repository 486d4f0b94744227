"""Draws boxes with their labels onto a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from appliance.core.model import Box

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

LINE = 1.3
"""Height of a caption in its font's size."""
PALETTE = ((255, 214, 10), (48, 209, 88), (100, 210, 255), (255, 105, 97), (191, 90, 242), (255, 159, 10))
"""One colour a label, by the label's place in the alphabet of the labels seen."""


def colours(boxes: Sequence[Box]) -> dict[str, tuple[int, int, int]]:
    """A colour for each label."""
    return {label: PALETTE[index % len(PALETTE)] for index, label in enumerate(sorted({box.label for box in boxes}))}


def caption(box: Box) -> str:
    """What is written beside a box."""
    return f"{box.label} {box.score:.2f}"


def surest(boxes: Sequence[Box]) -> list[Box]:
    """The boxes in the order in which their captions get a place."""
    return sorted(boxes, key=lambda box: -box.score)


def apart(wanted: Sequence[tuple[float, float, float]], height: float, bottom: float) -> list[float | None]:
    """Tops of captions, so that none lies over another: the wanted one, or one nearby; None where all of those are taken.

    Args:
        wanted: (left, top, width) of each, the most important first.
        height: Of each.
        bottom: Of the picture.
    """
    places: list[float | None] = []
    for left, top, width in wanted:
        there = [(x, y, wide) for (x, _, wide), y in zip(wanted, places, strict=False) if y is not None]
        near = [y for y in (top, top + height, top - height, top + 2 * height) if 0 <= y <= max(0.0, bottom - height)]
        free = (
            y for y in near if not any(x < left + width and left < x + wide and abs(y - z) < height for x, z, wide in there)
        )
        places.append(next(free, None))
    return places


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
        size = max(10, height // 30)
        font = ImageFont.load_default(size=size)
        told = surest(boxes)
        widths = [pen.textlength(caption(box), font=font) for box in told]
        lefts = [max(0.0, min(box.x_min * across + 2, width - 1 - wide)) for box, wide in zip(told, widths, strict=True)]
        wanted = [(left, box.y_min * down + 2, wide) for box, left, wide in zip(told, lefts, widths, strict=True)]
        for box, left, top in zip(told, lefts, apart(wanted, size * LINE, height), strict=True):
            if top is not None:
                pen.rectangle(pen.textbbox((left, top), caption(box), font=font), fill=palette[box.label])
                pen.text((left, top), caption(box), font=font, fill=(0, 0, 0))
    return image

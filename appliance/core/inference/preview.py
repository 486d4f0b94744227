"""Draws a past result for a terminal. Blocks."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from appliance.core.inference.image import DecodedPicture, decode, read_file
from appliance.core.inference.overlay import overlay
from appliance.core.model import Box, InferenceResult
from appliance.errors import ImageError

CHANGED = "run the inference again."


def draw(result: InferenceResult, cells: tuple[int, int], mode: str, limits: tuple[int, int]) -> dict[str, Any]:
    """{"text": …} and, for cell modes, {"rows": cells}.

    Args:
        result: What to draw.
        cells: Columns and rows.
        mode: "half-blocks", "console", "kitty" or "sixel".
        limits: Largest file in bytes, largest picture in pixels.

    Raises:
        ImageError: The file is gone, is another picture by now, or none.
    """
    from appliance.core.inference import render

    columns, rows = cells
    data = read_file(Path(result.source), limits[0])
    if result.sha256 and result.sha256 != hashlib.sha256(data).hexdigest():
        raise ImageError(f"{result.source} is another picture than the one that was looked at.", CHANGED)
    picture = decode(data, result.source, limits[1], 2 * render.pixels_needed(mode, columns, rows))
    boxes = _scaled(result, picture)
    rgb = overlay(picture.rgb, (result.width, result.height), result.masks, result.poses)
    if mode in {"kitty", "sixel"}:
        paint_all = render.kitty if mode == "kitty" else render.sixel
        return {"text": paint_all(rgb, boxes, columns, rows), "rows": []}
    paint = render.half_blocks if mode == "half-blocks" else render.console
    drawn = paint(rgb, boxes, columns, rows)
    return {"text": render.ansi(drawn), "rows": drawn}


def _scaled(result: InferenceResult, picture: DecodedPicture) -> tuple[Box, ...]:
    """The boxes in pixels of the picture, which may be a reduced one. Raises ImageError where it is another one."""
    if (picture.width, picture.height) != (result.width, result.height):
        raise ImageError(f"{result.source} is another picture than the one that was looked at.", CHANGED)
    across, down = picture.rgb.shape[1] / result.width, picture.rgb.shape[0] / result.height
    return tuple(
        Box(box.label, box.score, box.x_min * across, box.y_min * down, box.x_max * across, box.y_max * down)
        for box in result.boxes
    )

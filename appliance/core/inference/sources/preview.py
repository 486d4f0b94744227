"""What a source saw last, small, with boxes, track numbers and zones, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from appliance.core.inference import render
from appliance.core.inference.sources.definition import Zone
from appliance.core.inference.sources.frames import Frame
from appliance.core.inference.sources.model import Track
from appliance.core.model import Box

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SIDE = 960
"""Longest side of the frame that is held, pixels."""
EDGE = (255, 214, 10)
"""Of zones."""


@dataclass(frozen=True)
class View:
    """A frame with what was found in it.

    Attributes:
        rgb: Reduced.
        boxes: In pixels of `rgb`; labels with track numbers.
        zones: Of the source.
        taken: Monotonic seconds.
        wall: Seconds since the epoch.
        width: Of the whole frame, pixels.
        height: Of the whole frame, pixels.
    """

    rgb: npt.NDArray[np.uint8]
    boxes: tuple[Box, ...]
    zones: tuple[Zone, ...]
    taken: float
    wall: float
    width: int
    height: int


def view(frame: Frame, boxes: Sequence[Box], tracks: Sequence[Track], zones: tuple[Zone, ...]) -> View:
    """Reduce a frame; blocks for some milliseconds.

    Args:
        frame: What was looked at.
        boxes: What was found, pixels of the frame.
        tracks: What of it is followed.
        zones: Of the source.
    """
    factor = max(1, -(-max(frame.width, frame.height) // SIDE))
    rgb = frame.rgb[::factor, ::factor].copy() if factor > 1 else frame.rgb
    names = {track.box: f"{track.label} #{track.track_id}" for track in tracks}
    small = tuple(
        Box(names.get(box, box.label), box.score, *(side / factor for side in (box.x_min, box.y_min, box.x_max, box.y_max)))
        for box in boxes
    )
    return View(rgb, small, zones, frame.taken, frame.wall, frame.width, frame.height)


def draw(seen: View, columns: int, rows: int, mode: str) -> dict[str, Any]:
    """A view for a terminal: {"text": …} and, for cell modes, {"rows": cells}; blocks.

    Args:
        seen: What to draw.
        columns: Width, cells.
        rows: Height, cells.
        mode: "half-blocks", "console", "kitty" or "sixel".
    """
    rgb = with_zones(seen)
    if mode in {"kitty", "sixel"}:
        paint = render.kitty if mode == "kitty" else render.sixel
        return {"text": paint(rgb, seen.boxes, columns, rows), "rows": []}
    cells = (render.half_blocks if mode == "half-blocks" else render.console)(rgb, seen.boxes, columns, rows)
    return {"text": render.ansi(cells), "rows": cells}


def with_zones(seen: View) -> npt.NDArray[np.uint8]:
    """The picture with the outlines of the zones."""
    if not seen.zones:
        return seen.rgb
    import numpy as np
    from PIL import Image, ImageDraw

    image = Image.fromarray(seen.rgb)
    pen = ImageDraw.Draw(image)
    width, height = image.size
    for zone in seen.zones:
        corners = [(x * (width - 1), y * (height - 1)) for x, y in zone.points]
        pen.line([*corners, corners[0]], fill=EDGE, width=max(2, min(width, height) // 150))
    return np.asarray(image)

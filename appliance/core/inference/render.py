"""Pictures with boxes as terminal output: half-blocks, 16 console colours, the kitty protocol, or sixel.

A cell is (character, foreground, background); a colour is (red, green, blue), or 0…15 on the console.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from appliance.core.inference.draw import apart, caption, colours, surest, with_boxes
from appliance.core.model import Box

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Colour = tuple[int, int, int] | int
Cell = tuple[str, Colour, Colour]
CONSOLE = (
    (0, 0, 0), (170, 0, 0), (0, 170, 0), (170, 85, 0), (0, 0, 170), (170, 0, 170), (0, 170, 170), (170, 170, 170),
    (85, 85, 85), (255, 85, 85), (85, 255, 85), (255, 255, 85), (85, 85, 255), (255, 85, 255), (85, 255, 255), (255, 255, 255),
)  # fmt: skip
"""The Linux console's 16 colours (drivers/tty/vt/vt.c)."""
SHADES = ((" ", 0.0), ("░", 0.25), ("▒", 0.5), ("█", 1.0))
"""Characters of the console's fonts, and how much of the cell they fill."""
CELL_ASPECT = 2.0
"""Height of a cell in its widths."""


def pixels_needed(mode: str, columns: int, rows: int) -> int:
    """Pixels along the longer side of a picture that a drawing in so many cells can show."""
    across, down = (10, 20) if mode in {"kitty", "sixel"} else (1, 2)
    return max(columns * across, rows * down)


def fit(wide: int, tall: int, columns: int, rows: int) -> tuple[int, int]:
    """Cells (columns, rows) that the picture fills at most, with its proportions kept."""
    across = min(columns, rows * CELL_ASPECT * wide / tall)
    return max(1, round(across)), max(1, min(rows, round(across * tall / wide / CELL_ASPECT)))


def half_blocks(rgb: npt.NDArray[np.uint8], boxes: Sequence[Box], columns: int, rows: int) -> list[list[Cell]]:
    """Two pixels a cell, 24-bit colour."""
    import numpy as np

    across, down = fit(rgb.shape[1], rgb.shape[0], columns, rows)
    pixels = np.asarray(with_boxes(rgb, boxes, across, down * 2, text=False)).tolist()
    cells: list[list[Cell]] = [
        [("▀", tuple(upper), tuple(lower)) for upper, lower in zip(pixels[2 * y], pixels[2 * y + 1], strict=True)]
        for y in range(down)
    ]
    return captioned(cells, boxes, rgb.shape[1], rgb.shape[0], lambda colour: (colour, (0, 0, 0)))


def console(rgb: npt.NDArray[np.uint8], boxes: Sequence[Box], columns: int, rows: int) -> list[list[Cell]]:
    """One pixel a cell: the mix of two of 16 colours, by a shade character, that comes nearest."""
    import numpy as np

    across, down = fit(rgb.shape[1], rgb.shape[0], columns, rows)
    pixels = np.asarray(with_boxes(rgb, boxes, across, down, text=False), np.float32)
    mixes = [(char, fore, back, share) for char, share in SHADES for fore in range(16) for back in range(8)]
    palette = np.asarray(CONSOLE, np.float32)
    table = np.asarray([palette[fore] * share + palette[back] * (1 - share) for _, fore, back, share in mixes], np.float32)
    nearest = np.stack([((row[:, None, :] - table) ** 2).sum(axis=-1).argmin(axis=-1) for row in pixels])
    cells: list[list[Cell]] = [[mixes[pick][:3] for pick in row] for row in nearest.tolist()]
    return captioned(cells, boxes, rgb.shape[1], rgb.shape[0], lambda _: (15, 0))


def captioned(
    cells: list[list[Cell]],
    boxes: Sequence[Box],
    wide: int,
    tall: int,
    style: Callable[[tuple[int, int, int]], tuple[Colour, Colour]],
) -> list[list[Cell]]:
    """Write each box's label and score over the cells at its upper left corner, or left of it where the picture ends.

    A caption that would lie over that of a surer box goes a line or two lower or higher, or is left out.
    """
    palette = colours(boxes)
    rows, columns = len(cells), len(cells[0])
    told = surest(boxes)
    texts = [caption(box)[:columns] for box in told]
    lefts = [min(columns - len(text), int(box.x_min / wide * columns)) for box, text in zip(told, texts, strict=True)]
    tops = [min(rows - 1, int(box.y_min / tall * rows)) for box in told]
    wanted = [(left, top, len(text) + 1) for left, top, text in zip(lefts, tops, texts, strict=True)]
    for box, text, left, row in zip(told, texts, lefts, apart(wanted, 1, rows), strict=True):
        fore, back = style(palette[box.label])
        for offset, char in enumerate(text if row is not None else ""):
            cells[int(row or 0)][left + offset] = (char, fore, back)
    return cells


def ansi(cells: list[list[Cell]]) -> str:
    """Cells as text with SGR sequences (ECMA-48)."""
    lines = []
    for row in cells:
        line, before = "", None
        for char, fore, back in row:
            if (fore, back) != before:
                line += f"\x1b[{_sgr(fore, back)}m"
                before = (fore, back)
            line += char
        lines.append(line + "\x1b[0m")
    return "\n".join(lines)


def _sgr(fore: Colour, back: Colour) -> str:
    if isinstance(fore, int) and isinstance(back, int):
        bold = "1;" if fore > 7 else "22;"
        return f"{bold}{30 + fore % 8};{40 + back}"
    red, green, blue = fore  # type: ignore[misc]
    return f"38;2;{red};{green};{blue};48;2;{back[0]};{back[1]};{back[2]}"  # type: ignore[index]


def _pixels(rgb: npt.NDArray[np.uint8], boxes: Sequence[Box], columns: int, rows: int) -> Any:
    across, down = fit(rgb.shape[1], rgb.shape[0], columns, rows)
    return with_boxes(rgb, boxes, across * 10, down * 20, text=True)


KITTY_PIXELS = 300_000
"""Pixels that are sent at most: about 250 kB, which a slow line can still carry."""


def kitty(rgb: npt.NDArray[np.uint8], boxes: Sequence[Box], columns: int, rows: int) -> str:
    """The kitty graphics protocol: PNG in chunks of 4096 bytes of base64, stretched to whole cells, answered with nothing."""
    across, down = fit(rgb.shape[1], rgb.shape[0], columns, rows)
    finer = min(1.0, (KITTY_PIXELS / (across * 10 * down * 20)) ** 0.5)
    size = max(1, round(across * 10 * finer)), max(1, round(down * 20 * finer))
    stream = io.BytesIO()
    with_boxes(rgb, boxes, *size, text=True).quantize(256).save(stream, "PNG")
    text = base64.b64encode(stream.getvalue()).decode()
    chunks = [text[start : start + 4096] for start in range(0, len(text), 4096)]
    last = len(chunks) - 1
    heads = [f"a=T,f=100,c={across},r={down},q=2," if index == 0 else "" for index in range(len(chunks))]
    return "".join(f"\x1b_G{heads[index]}m={int(index < last)};{chunk}\x1b\\" for index, chunk in enumerate(chunks))


def sixel(rgb: npt.NDArray[np.uint8], boxes: Sequence[Box], columns: int, rows: int) -> str:
    """Sixel graphics (DEC STD 070) with up to 64 colours."""
    import numpy as np

    image = _pixels(rgb, boxes, columns, rows).quantize(64)
    flat = image.getpalette()[: 64 * 3]
    out = [f'\x1bPq"1;1;{image.width};{image.height}']
    out += [
        f"#{i};2;{flat[3 * i] * 100 // 255};{flat[3 * i + 1] * 100 // 255};{flat[3 * i + 2] * 100 // 255}"
        for i in range(len(flat) // 3)
    ]
    pixels = np.asarray(image)
    for top in range(0, image.height, 6):
        band = pixels[top : top + 6]
        weights = (1 << np.arange(band.shape[0]))[:, None]
        lines = [
            f"#{colour}{_run_lengths(((band == colour) * weights).sum(axis=0).tolist())}" for colour in np.unique(band).tolist()
        ]
        out.append("$".join(lines) + "-")
    return "".join(out) + "\x1b\\"


def _run_lengths(bits: list[int]) -> str:
    text, index = "", 0
    while index < len(bits):
        end = index
        while end < len(bits) and bits[end] == bits[index]:
            end += 1
        char = chr(63 + bits[index])
        text += f"!{end - index}{char}" if end - index > 3 else char * (end - index)
        index = end
    return text

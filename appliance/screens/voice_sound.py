"""The sound of the last moment as lines: level with its peak, spectrum, where the speech came from."""

from __future__ import annotations

import math
from collections.abc import Sequence

from appliance.core.voice.model import SoundLevel
from appliance.screens import format as f
from appliance.screens.glyphs import Glyphs
from appliance.screens.themes import Role
from appliance.screens.widgets.charts import columns
from appliance.screens.widgets.lines import Line, Piece

QUIET, LOUD = -72.0, 0.0
"""dBFS at both ends of the level's bar."""
LOW, HIGH = -84.0, -18.0
"""dBFS at the foot and the top of the spectrum."""
WARM, HOT = -12.0, -3.0
"""dBFS from which the peak is near to clipping, and all but there."""
STALE = 3.0
"""Seconds after which a level is nothing of now."""
SECTORS = 16
BANDS = 16
PEAK, HERE, THERE = "┃", "●", "·"
TELLS = {
    "silent": "digital silence: switched off?",
    "clipped": "too loud: turn the gain down",
    "offset": "off centre (DC): see its wiring",
}
LABEL = 7
LEAST = 12
"""Cells of the ring."""


def is_stale(level: SoundLevel | None, age: float | None) -> bool:
    """Whether there is no level of now, so that no meter may seem alive."""
    return level is None or age is None or age > STALE


def sound_lines(
    level: SoundLevel | None, age: float | None, why: str, width: int, height: int, glyphs: Glyphs, *, origin: bool = True
) -> list[Line]:
    """All of the box.

    Args:
        level: The newest.
        age: Seconds since it came; None where it never did.
        why: What is said where there is none of now.
        width: Cells.
        height: Lines.
        glyphs: Of the session.
        origin: Say where it came from.
    """
    if level is None or is_stale(level, age):
        return [((f" {why}", "muted"),)]
    bottom: list[Line] = [from_line(level.direction, width)] if origin else []
    top = [level_line(level, width, glyphs), peak_line(level)]
    top += [((f" {TELLS.get(level.problem, level.problem)}", "warn"),)] if level.problem else []
    room = height - len(top) - len(bottom)
    chart = spectrum(level.bands, width, room - 1, glyphs) if room > 4 else spectrum(level.bands, width, room, glyphs)
    axis: list[Line] = [axis_line(width)] if room > 4 and chart else []
    return [*top, *chart, *axis, *bottom]


def _db(value: float) -> str:
    return f"{value:.0f} dB"


def share(value: float, low: float, high: float) -> float:
    """Where a value lies between two others, 0 to 1."""
    return max(0.0, min(1.0, (value - low) / (high - low)))


def level_line(level: SoundLevel, width: int, glyphs: Glyphs) -> Line:
    """The bar of the mean level, with a mark at the peak."""
    room = max(4, width - LABEL - 8)
    filled = round(share(level.rms_db, QUIET, LOUD) * room)
    peak = min(room - 1, int(share(level.peak_db, QUIET, LOUD) * room))
    role: Role = "bad" if level.peak_db >= HOT else "warn" if level.peak_db >= WARM else "ok"
    cells = [(glyphs.fill, role) if at < filled else (glyphs.track, "track") for at in range(room)]
    cells[peak] = (PEAK, role)
    return ((f" {'level':<{LABEL - 1}}", "muted"), *_joined(cells), (f" {_db(level.rms_db):>6}", "text"))


def _joined(cells: Sequence[tuple[str, Role | str]]) -> list[Piece]:
    pieces: list[Piece] = []
    for text, role in cells:
        if pieces and pieces[-1][1] == role:
            pieces[-1] = (pieces[-1][0] + text, pieces[-1][1])
        else:
            pieces.append((text, role))  # type: ignore[arg-type]
    return pieces


def peak_line(level: SoundLevel) -> Line:
    """Peak, clipped samples, how much it sounds like speech."""
    clipped: Role = "bad" if level.clipped > 0 else "muted"
    speech: Role = "ok" if level.speech >= 0.5 else "text"
    return (
        (f" {'peak':<{LABEL - 1}}", "muted"), (f"{level.peak_db:.0f}", "text"), ("  clipped ", "muted"),
        (_share(level.clipped), clipped), ("  speech ", "muted"), (_share(level.speech), speech),
    )  # fmt: skip


def _share(value: float) -> str:
    return "<1 %" if 0 < value < 0.005 else f"{100 * value:.0f} %"


def spectrum(bands: Sequence[float], width: int, height: int, glyphs: Glyphs) -> list[Line]:
    """The bands as columns, low ones left; nothing where there is no room or there are none."""
    if not bands or height < 1:
        return []
    cell = max(1, (width - 2) // len(bands))
    body = max(1, cell - 1)
    drawn = columns(list(bands), height, LOW, HIGH, glyphs)
    return [((" " + "".join(char * body + " " * (cell - body) for char in line), "spark"),) for line in drawn]


def axis_line(width: int) -> Line:
    """Frequencies below the columns."""
    room = max(1, (width - 2) // BANDS) * BANDS
    octaves = math.log2(8000 / 60)
    line = [" "] * (room + 8)
    for hertz, text in ((60, "60"), (250, "250"), (1000, "1k"), (4000, "4k")):
        at = round(math.log2(hertz / 60) / octaves * room)
        line[at : at + len(text)] = text
    line[room - 4 : room] = "8 kHz"[:4] if room < 32 else "8kHz"
    return ((" " + "".join(line).rstrip(), "muted"),)


def sector(direction: int) -> int:
    """Which of the sectors an angle is in; the first is about 0 degrees."""
    return round(direction / 360 * SECTORS) % SECTORS


def from_line(direction: int | None, width: int) -> Line:
    """The direction on one line: a mark among the sectors, and degrees."""
    head: Piece = (f" {'from':<{LABEL - 1}}", "muted")
    if direction is None:
        return (head, (f.NONE, "muted"))
    at = sector(direction)
    strip = (THERE * at, "muted"), (HERE, "accent"), (THERE * (SECTORS - 1 - at), "muted")
    told: Piece = (f" {direction}°", "text")
    return (head, *strip, told) if width >= LABEL + SECTORS + 5 else (head, told)  # type: ignore[return-value]


def dial(direction: int | None, age: str, why: str, width: int, height: int) -> list[Line]:
    """A ring of sectors, 0 degrees at the top, clockwise; the last speech came from the mark.

    Args:
        direction: Degrees; None where it is not known.
        age: How old it is.
        why: What is said where there is none.
        width: Cells.
        height: Lines.
    """
    if direction is None:
        return [((" ", "text"), (why, "muted"))]
    rows = height - 1 if height % 2 == 0 else height
    if rows < 3 or width < LEAST:
        return [from_line(direction, width)]
    across, down = min((width - 3) // 2, rows * 2), (rows - 1) / 2
    grid: list[list[Piece]] = [[(" ", "text")] * width for _ in range(rows)]
    middle = (width - 1) // 2
    for number in range(SECTORS):
        turn = 2 * math.pi * number / SECTORS
        column, row = middle + round(across * math.sin(turn)), round(down - down * math.cos(turn))
        here = number == sector(direction)
        grid[row][max(0, min(width - 1, column))] = (HERE, "accent") if here else (THERE, "muted")
    told = f"{direction}°"
    _put(grid[rows // 2], middle, told, "title")
    if rows >= 5:
        _put(grid[rows // 2 + 1], middle, age, "muted")
    return [tuple(_joined(row)) for row in grid]


def _put(row: list[Piece], middle: int, text: str, role: Role) -> None:
    begin = max(0, middle - len(text) // 2)
    for at, char in enumerate(text[: len(row) - begin]):
        row[begin + at] = (char, role)

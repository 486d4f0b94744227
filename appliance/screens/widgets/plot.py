"""Lines of values over time, as lines of text: one dot a cell on a console, eight (braille) where the font has them.

A gap stays a gap: only values of buckets that follow each other are joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.cells import cell_len

from appliance.screens.themes import Role
from appliance.screens.units import Unit
from appliance.screens.widgets.axes import time_label, time_ticks, value_range, value_ticks
from appliance.screens.widgets.lines import Line, Piece

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a braille character, by row and column."""
LEAST = (16, 3)
"""Cells below which nothing is drawn."""
BETWEEN_MARKS = 14
"""Cells from one letter on a line to the next."""
PER_LABEL = 11
"""Cells that a label of the axis of time takes with the room around it."""


@dataclass(frozen=True)
class Plotted:
    """One line.

    Attributes:
        mark: A letter that stands on the line here and there; "" for none.
        role: Its colour.
        points: (moment, value), oldest first; None where there is none.
        step: Seconds from one bucket to the next: what is further apart is not joined.
    """

    mark: str
    role: Role
    points: Sequence[tuple[float, float | None]]
    step: float


@dataclass(frozen=True)
class Frame:
    """Where things lie in a drawn plot.

    Attributes:
        left: Cells left of it, for the labels of the values.
        width: Cells for values.
        height: Lines for values.
    """

    left: int
    width: int
    height: int
    since: float
    until: float
    low: float
    high: float
    step: float

    def column(self, moment: float, dots: int = 1) -> int:
        """The column of dots that a moment lies in."""
        share = (moment - self.since) / max(1e-9, self.until - self.since)
        return int(share * self.width * dots) if share >= 0 else -1

    def row(self, value: float, dots: int = 1) -> int:
        """The row of dots that a value lies in, from the top."""
        rows = self.height * dots - 1
        return max(0, min(rows, round((self.high - value) / (self.high - self.low) * rows)))


Cells = dict[tuple[int, int], Piece]
"""(row, column) → what stands there."""


def frame_of(lines: Sequence[Plotted], since: float, until: float, width: int, height: int, unit: Unit) -> Frame | None:
    """Lay a plot out; None where there is no room.

    Args:
        lines: What it shows.
        since: Of the axis of time, seconds since the epoch.
        until: The same.
        width: Cells for everything.
        height: Lines for everything: two of them are the axis of time.
        unit: Of the values.
    """
    rows = height - 2
    values = [value for line in lines for _, value in line.points if value is not None]
    low, high, step = value_range(values, max(1, rows // 3), binary=unit.is_binary)
    left = 1 + max(cell_len(unit.tick(value, step)) for value in value_ticks(low, high, step))
    room = width - left - 1
    if room < LEAST[0] or rows < LEAST[1]:
        return None
    return Frame(left, room, rows, since, until, low, high, step)


def draw(lines: Sequence[Plotted], frame: Frame, unit: Unit, *, fine: bool, cursor: float | None = None) -> list[Line]:
    """The plot with its axes.

    Args:
        lines: The first one is drawn over the others.
        frame: As `frame_of` says.
        unit: Of the values.
        fine: The terminal has braille.
        cursor: The moment that is looked at.
    """
    cells: Cells = {}
    for line in reversed(lines):
        _braille(line, frame, cells) if fine else _strokes(line, frame, cells)
    for index, line in enumerate(lines):
        _marks(line, frame, cells, index * BETWEEN_MARKS // max(1, len(lines)))
    if cursor is not None:
        _cursor(lines, frame, cells, cursor)
    labels = {frame.row(value): unit.tick(value, frame.step) for value in value_ticks(frame.low, frame.high, frame.step)}
    drawn = [_text_row(row, labels.get(row, ""), frame, cells) for row in range(frame.height)]
    return [*drawn, *_time_axis(frame)]


def _runs(line: Plotted) -> list[list[tuple[float, float]]]:
    """The points in parts without a gap."""
    runs: list[list[tuple[float, float]]] = []
    before: float | None = None
    for moment, value in line.points:
        if value is None:
            before = None
            continue
        if before is None or moment - before > 1.5 * line.step:
            runs.append([])
        runs[-1].append((moment, value))
        before = moment
    return runs


def _strokes(line: Plotted, frame: Frame, cells: Cells) -> None:
    for run in _runs(line):
        reach = _reach(run, frame)
        if len(reach) == 1:
            ((column, (top, bottom, _, _)),) = reach.items()
            for row in range(top, bottom + 1):
                cells[row, column] = ("│" if top != bottom else "•", line.role)
            continue
        columns = sorted(reach)
        for column, following in pairwise(columns):
            _stroke(reach[column], reach[following], column, line.role, cells)
        top, bottom, _, last = reach[columns[-1]]
        _upright(top, bottom, columns[-1], line.role, cells)
        if top == bottom:
            cells[last, columns[-1]] = ("─", line.role)


Reach = dict[int, tuple[int, int, int, int]]
"""Column → (highest row, lowest row, first row, last row)."""


def _reach(run: Sequence[tuple[float, float]], frame: Frame) -> Reach:
    """The rows that a line passes in each column; between two points on the straight line."""
    reach: Reach = {}

    def pass_by(column: int, row: int) -> None:
        if 0 <= column < frame.width:
            top, bottom, first, _ = reach.get(column, (row, row, row, row))
            reach[column] = (min(top, row), max(bottom, row), first, row)

    for moment, value in run[:1]:
        pass_by(frame.column(moment), frame.row(value))
    for (start, low), (end, high) in pairwise(run):
        left, right = frame.column(start), frame.column(end)
        for column in range(max(0, left + 1), min(right, frame.width)):
            pass_by(column, frame.row(low + (high - low) * (column - left) / (right - left)))
        pass_by(right, frame.row(high))
    return reach


def _stroke(here: tuple[int, int, int, int], there: tuple[int, int, int, int], column: int, role: Role, cells: Cells) -> None:
    """One column of a line on its way to the next column."""
    top, bottom, _, last = here
    goal = there[2]
    if top != bottom:
        _upright(min(top, goal), max(bottom, goal), column, role, cells)
    elif last == goal:
        cells[last, column] = ("─", role)
    else:
        _upright(min(last, goal), max(last, goal), column, role, cells)
        cells[last, column] = ("╮" if goal > last else "╯", role)
        cells[goal, column] = ("╰" if goal > last else "╭", role)


def _upright(top: int, bottom: int, column: int, role: Role, cells: Cells) -> None:
    for row in range(top, bottom + 1):
        cells[row, column] = ("│", role)


def _braille(line: Plotted, frame: Frame, cells: Cells) -> None:
    bits: dict[tuple[int, int], int] = {}

    def dot(column: int, row: int) -> None:
        if 0 <= column < frame.width * 2:
            at = (row // 4, column // 2)
            bits[at] = bits.get(at, 0) | DOTS[row % 4][column % 2]

    for run in _runs(line):
        spots = [(frame.column(moment, 2), frame.row(value, 4)) for moment, value in run]
        for column, row in spots[:1]:
            dot(column, row)
        for start, end in pairwise(spots):
            for column, row in _straight(start, end):
                dot(column, row)
    for at, bit in bits.items():
        under = cells.get(at)
        joined = bit | (ord(under[0]) - 0x2800 if under is not None else 0)
        cells[at] = (chr(0x2800 + joined), line.role)


def _straight(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    """The dots between two dots."""
    (left, top), (right, bottom) = start, end
    count = max(abs(right - left), abs(bottom - top), 1)
    return [(left + round((right - left) * at / count), top + round((bottom - top) * at / count)) for at in range(count + 1)]


def _marks(line: Plotted, frame: Frame, cells: Cells, offset: int) -> None:
    """The line's letter on it, where it has values."""
    if not line.mark:
        return
    rows = {frame.column(moment): frame.row(value) for run in _runs(line) for moment, value in run}
    following = offset
    for column in sorted(rows):
        if following <= column < frame.width:
            cells[rows[column], column] = (line.mark, line.role)
            following = column + BETWEEN_MARKS


def _cursor(lines: Sequence[Plotted], frame: Frame, cells: Cells, cursor: float) -> None:
    column = frame.column(cursor)
    if not 0 <= column < frame.width:
        return
    for row in range(frame.height):
        cells.setdefault((row, column), ("│", "muted"))
    for line in reversed(lines):
        value = next((value for moment, value in line.points if abs(moment - cursor) < line.step / 2), None)
        if value is not None:
            cells[frame.row(value), column] = ("●", line.role)


def _text_row(row: int, label: str, frame: Frame, cells: Cells) -> Line:
    pieces: list[Piece] = [(label.rjust(frame.left - 1) + " ", "muted"), ("┤" if label else "│", "border")]
    text, role = "", "text"
    for column in range(frame.width):
        sign, its = cells.get((row, column), (" ", role))
        if its != role and text:
            pieces.append((text, role))  # type: ignore[arg-type]
            text = ""
        text, role = text + sign, its
    return (*pieces, (text, role))  # type: ignore[arg-type]


def _time_axis(frame: Frame) -> list[Line]:
    ticks, step = time_ticks(frame.since, frame.until, max(1, frame.width // PER_LABEL))
    columns = {frame.column(moment): time_label(moment, step) for moment in ticks}
    line = "".join("┴" if column in columns else "─" for column in range(frame.width))
    text = ""
    for column, label in sorted(columns.items()):
        start = max(0, min(frame.width - len(label), column - len(label) // 2))
        if start >= len(text) + (1 if text else 0):
            text += " " * (start - len(text)) + label
    return [((" " * frame.left + "└" + line, "border"),), ((" " * (frame.left + 1) + text, "muted"),)]

"""A widget that is lines of text with roles; a line that did not change is not painted again."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from appliance.core.printable import printable
from appliance.screens.glyphs import FULL, Glyphs
from appliance.screens.themes import DARK, Look, Role, style_of

Piece = tuple[str, Role]
Line = tuple[Piece, ...]
"""Pieces of text, left to right."""


def width_of(line: Line) -> int:
    """Cells that a line takes."""
    return sum(cell_len(printable(text)) for text, _ in line)


def cut(text: str, width: int) -> str:
    """The text in exactly `width` cells, its control characters made visible; one that is cut ends in "…"."""
    if width <= 0:
        return ""
    text = printable(text)
    if cell_len(text) > width:
        return set_cell_size(text, width - 1) + "…"
    return set_cell_size(text, width)


class LineView(Widget):
    """Lines in a box with a title, or bare.

    Args:
        title: Shown in the upper border; None for no box.
        role: Of the empty space.
        counts: The lower border says how many lines there is no room for.
    """

    def __init__(
        self, title: str | None = None, *, role: Role = "text", id: str | None = None, classes: str | None = None,
        counts: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(id=id, classes=classes)
        self.box_title = title
        self.box_note = ""
        self._role = role
        self._counts = counts
        self._lines: tuple[Line, ...] = ()
        self.first = 0
        """Index of the line at the top."""

    @property
    def look(self) -> Look:
        """The session's look."""
        return getattr(self.app, "look", DARK)

    @property
    def glyphs(self) -> Glyphs:
        """The session's glyphs."""
        return getattr(self.app, "glyphs", FULL)

    @property
    def inner_width(self) -> int:
        """Cells for text."""
        return max(0, self.size.width - (2 if self.box_title is not None else 0))

    @property
    def inner_height(self) -> int:
        """Lines for text."""
        return max(0, self.size.height - (2 if self.box_title is not None else 0))

    @property
    def lines(self) -> tuple[Line, ...]:
        """All lines."""
        return self._lines

    def set_lines(self, lines: Sequence[Line]) -> None:
        """Show other lines; repaints those that differ."""
        before, self._lines = self._lines, tuple(lines)
        self.first = max(0, min(self.first, len(self._lines) - self.inner_height))
        top = 1 if self.box_title is not None else 0
        for row in range(self.inner_height):
            index = self.first + row
            if _at(before, index) != _at(self._lines, index):
                self.repaint(top + row)
        if self._counts and len(before) != len(self._lines):
            self.repaint(self.size.height - 1)

    def set_note(self, note: str) -> None:
        """Show another text at the right of the title, such as the age."""
        if note != self.box_note:
            self.box_note = note
            if self.box_title is not None:
                self.repaint(0)

    def repaint(self, row: int) -> None:
        """Have one row painted again."""
        self.refresh(Region(0, row, max(1, self.size.width), 1))

    def scroll_lines(self, first: int) -> None:
        """Show from another line on."""
        first = max(0, min(first, len(self._lines) - self.inner_height))
        if first != self.first:
            self.first = first
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """One row of the widget (Textual's line API)."""
        width = self.size.width
        if self.box_title is None:
            return self._strip(self.line_at(self.first + y), width)
        if y == 0:
            return self._strip(self._top(width), width)
        if y == self.size.height - 1:
            return self._strip(self._bottom(width), width)
        inner = self._strip(self.line_at(self.first + y - 1), max(0, width - 2))
        edge = Segment("│", style_of(self.look, "border"))
        return Strip([edge, *inner, edge], max(2, width))

    def line_at(self, index: int) -> Line:
        """The line to paint at an index; empty past the end."""
        return _at(self._lines, index) or ()

    def _top(self, width: int) -> Line:
        title = f" {self.box_title} "
        note = f" {self.box_note} " if self.box_note else ""
        room = width - 4 - cell_len(title) - cell_len(note)
        if room < 0:
            note, room = "", max(0, width - 4 - cell_len(title))
        return (("┌─", "border"), (title, "title"), ("─" * room, "border"), (note, "muted"), ("─┐", "border"))

    def _bottom(self, width: int) -> Line:
        below = len(self._lines) - self.first - self.inner_height
        note = f" {below} more {'line' if below == 1 else 'lines'} " if self._counts and below > 0 else ""
        room = width - 4 - cell_len(note)
        if not note or room < 0:
            return (("└" + "─" * max(0, width - 2) + "┘", "border"),)
        return (("└─" + "─" * room, "border"), (note, "warn"), ("─┘", "border"))

    def _strip(self, line: Line, width: int) -> Strip:
        segments: list[Segment] = []
        left = width
        for raw, role in line:
            if left <= 0:
                break
            text = printable(raw)
            used = cell_len(text)
            shown = text if used <= left else cut(text, left)
            segments.append(Segment(shown, style_of(self.look, role)))
            left -= min(used, left)
        if left > 0:
            segments.append(
                Segment(" " * left, style_of(self.look, line[-1][1] if line and line[-1][1] in FILLING else self._role))
            )
        return Strip(segments, width)


FILLING = {"selected", "bar"}
"""Roles whose background goes on to the end of the line."""


def _at(lines: tuple[Line, ...], index: int) -> Line | None:
    return lines[index] if 0 <= index < len(lines) else None

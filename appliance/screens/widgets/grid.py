"""A live table with a cursor: rows are known by key, and only a changed row is painted."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from rich.cells import cell_len
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from appliance.core.printable import printable
from appliance.screens.themes import Role
from appliance.screens.widgets.lines import Line, LineView, cut

Cell = tuple[str, Role] | str


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        title: In the header row.
        width: Cells; 0 shares what is left over.
        align: Of its cells.
        least: The terminal's width from which it is shown.
    """

    title: str
    width: int = 0
    align: Literal["left", "right"] = "left"
    least: int = 0


@dataclass(frozen=True)
class Row:
    """One row; the key stays while its values change."""

    key: str
    cells: tuple[Cell, ...]


class Grid(LineView, can_focus=True):
    """The table.

    Args:
        columns: Left to right.
        title: Of the box, or None.
        empty: Shown where there is no row.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False), Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False), Binding("pagedown", "page(1)", show=False),
        Binding("home", "to(0)", show=False), Binding("end,G", "to(-1)", show=False),
        Binding("enter", "choose", show=False),
    ]  # fmt: skip

    @dataclass
    class Selected(Message):
        """The cursor moved to another row."""

        grid: Grid
        key: str

    @dataclass
    class Chosen(Message):
        """Enter or a click on the row under the cursor."""

        grid: Grid
        key: str

    def __init__(
        self,
        columns: Sequence[Column],
        title: str | None = None,
        *,
        empty: str = "nothing to show",
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(title, id=id, classes=classes)
        self._columns = tuple(columns)
        self._empty = empty
        self._rows: tuple[Row, ...] = ()
        self.cursor = 0
        self.highlight = False
        """Show the cursor without the focus."""

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows."""
        return self._rows

    @property
    def key(self) -> str:
        """The key of the row under the cursor, or ""."""
        return self._rows[self.cursor].key if 0 <= self.cursor < len(self._rows) else ""

    def set_rows(self, rows: Sequence[Row]) -> None:
        """Show other rows; the cursor stays on its key."""
        key = self.key
        self._rows = tuple(rows)
        keys = [row.key for row in self._rows]
        self.cursor = keys.index(key) if key in keys else max(0, min(self.cursor, len(keys) - 1))
        self._lay_out()

    def set_empty(self, text: str) -> None:
        """What to show where there is no row."""
        self._empty = text
        self._lay_out()

    def move_to(self, index: int) -> None:
        """Put the cursor on a row."""
        if not self._rows:
            return
        index = max(0, min(index, len(self._rows) - 1))
        if index != self.cursor:
            self.cursor = index
            self._lay_out()
            self.post_message(self.Selected(self, self.key))

    def action_move(self, step: int) -> None:
        """Up or down."""
        self.move_to(self.cursor + step)

    def action_page(self, step: int) -> None:
        """A screenful up or down."""
        self.move_to(self.cursor + step * max(1, self.inner_height - 2))

    def action_to(self, index: int) -> None:
        """To the first (0) or last (-1) row."""
        self.move_to(index if index >= 0 else len(self._rows) - 1)

    def action_choose(self) -> None:
        """Enter."""
        if self.key:
            self.post_message(self.Chosen(self, self.key))

    def on_click(self, event: events.Click) -> None:
        """Select the row; on the selected one, choose it."""
        index = self.first + event.y - (1 if self.box_title is not None else 0) - 1
        if 0 <= index < len(self._rows):
            if index == self.cursor:
                self.action_choose()
            else:
                self.move_to(index)

    def on_mouse_scroll_down(self) -> None:
        """The wheel."""
        self.action_move(3)

    def on_mouse_scroll_up(self) -> None:
        """The wheel."""
        self.action_move(-3)

    def on_resize(self) -> None:
        """Lay the columns out anew."""
        self._lay_out()

    def on_focus(self) -> None:
        """Show the cursor."""
        self._lay_out()

    def on_blur(self) -> None:
        """Hide the cursor."""
        self._lay_out()

    def line_at(self, index: int) -> Line:
        """The header, then the rows that are seen: no others are laid out."""
        at = index - self.first
        return self._lines[at] if 0 <= at < len(self._lines) else ()

    def _lay_out(self) -> None:
        room = max(1, self.inner_height - 1)
        top = min(max(self.first, self.cursor - room + 1), self.cursor)
        before, first = self._lines, max(0, min(top, len(self._rows) - room))
        widths = self._widths()
        seen = enumerate(self._rows[first : first + room], first)
        lines = [self._header(widths), *(self._line(row, widths, index == self.cursor) for index, row in seen)]
        if not self._rows:
            lines += [((f" {part}", "muted"),) for part in textwrap.wrap(self._empty, max(1, self.inner_width - 1))]
        self._lines, self.first = tuple(lines), first
        above = 1 if self.box_title is not None else 0
        for row, (old, new) in enumerate(itertools.zip_longest(before, lines)):
            if old != new and row < self.inner_height:
                self.repaint(above + row)

    def _widths(self) -> list[int]:
        shown = [column if self.size.width >= column.least else None for column in self._columns]
        fixed = sum(column.width + 1 for column in shown if column is not None)
        flexible = sum(column is not None and not column.width for column in shown)
        share, extra = divmod(max(0, self.inner_width - fixed - 1), flexible) if flexible else (0, 0)
        widths = []
        for column in shown:
            if column is None:
                widths.append(0)
            elif column.width:
                widths.append(column.width)
            else:
                widths.append(share + (1 if extra > 0 else 0))
                extra -= 1
        return widths

    def _header(self, widths: list[int]) -> Line:
        return (
            (" ", "head"),
            *((self._fit(column.title, column, width), "head") for column, width in zip(self._columns, widths, strict=True)),
        )

    def _line(self, row: Row, widths: list[int], at_cursor: bool) -> Line:
        marked = at_cursor and (self.has_focus or self.highlight)
        pieces: list[tuple[str, Role]] = [("▶" if marked else " ", "selected" if marked else "text")]
        for cell, column, width in zip(row.cells, self._columns, widths, strict=True):
            role: Role = "text" if isinstance(cell, str) else cell[1]
            pieces.append((self._fit(text_of(cell), column, width), "selected" if marked else role))
        return tuple(pieces)

    def _fit(self, text: str, column: Column, width: int) -> str:
        if not width:
            return ""
        if column.align == "right" and cell_len(text) < width:
            text = " " * (width - cell_len(text)) + text
        return cut(text, width) + " "


def text_of(cell: Cell) -> str:
    """The cell's text, on one line, its control characters made visible."""
    return printable((cell if isinstance(cell, str) else cell[0]).replace("\n", " "))

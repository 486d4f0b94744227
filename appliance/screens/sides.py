"""Two versions beside each other, or above each other on a narrow screen; marks say what differs, and who changed it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from rich.cells import cell_len, chop_cells
from textual.binding import Binding, BindingType

from appliance.core.printable import printable
from appliance.screens.themes import Role
from appliance.screens.widgets.lines import Line, LineView, cut

MARKS = MappingProxyType({"same": " ", "changed": "|", "left": "<", "right": ">"})
"""As sdiff has them."""
BY = MappingProxyType({"": " ", "mine": "m", "theirs": "t", "both": "!"})
GUTTER = 4
WIDE = 60
"""Cells of one side from which lines that are longer still stand beside each other."""
LEGEND = "| differs  < mine  > theirs  changed by m, t, ! both"


class Sides(LineView, can_focus=True):
    """Both sides; they scroll together, below a header that stays."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "scroll(-1)", show=False), Binding("down,j", "scroll(1)", show=False),
        Binding("pageup", "scroll(-8)", show=False), Binding("pagedown,space", "scroll(8)", show=False),
        Binding("home", "scroll(-1000000)", show=False), Binding("end,G", "scroll(1000000)", show=False),
    ]  # fmt: skip

    def show_sides(self, lines: Sequence[Line], *, anew: bool) -> None:
        """Show a header and lines below it; from the top on where they are another conflict's."""
        if anew:
            self.first = 0
        if tuple(lines) != self.lines:
            self.set_lines(lines)
            self.refresh()

    def line_at(self, index: int) -> Line:
        """The header stays at the top."""
        return super().line_at(0 if index == self.first else index)

    def action_scroll(self, by: int) -> None:
        """Up or down."""
        self.scroll_lines(self.first + by)

    def on_mouse_scroll_down(self) -> None:
        """The wheel."""
        self.action_scroll(3)

    def on_mouse_scroll_up(self) -> None:
        """The wheel."""
        self.action_scroll(-3)


def side_lines(rows: Sequence[Mapping[str, Any]], width: int, mine: str, theirs: str) -> list[Line]:
    """A header, then every row; lines that are too long go on below.

    Args:
        rows: As `sync.conflict` has them.
        width: Cells for text.
        mine: Header of the left side.
        theirs: Header of the right side.
    """
    side = max(1, (width - GUTTER) // 2)
    longest = max((cell_len(printable(row[name] or "")) for row in rows for name in ("left", "right")), default=0)
    if side < WIDE and longest > side:
        head: Line = ((f"< {mine}   ", "head"), (f"> {theirs}", "head"))
        return [head, *(line for row in rows for line in _above(row, max(1, width - GUTTER)))]
    head = ((cut(mine, side), "head"), (" " * GUTTER, "head"), (cut(theirs, side), "head"))
    return [head, *(line for row in rows for line in _beside(row, side))]


def _beside(row: Mapping[str, Any], side: int) -> list[Line]:
    mark = f" {MARKS[row['mark']]}{BY[row['by']]} "
    left, right = _wrapped(row["left"], side), _wrapped(row["right"], side)
    lines: list[Line] = []
    for one, other in itertools.zip_longest(left, right, fillvalue=""):
        roles = _roles(row["mark"])
        lines.append(((cut(one, side), roles[0]), (mark, "warn"), (cut(other, side), roles[1])))
        mark = " " * GUTTER
    return lines


def _above(row: Mapping[str, Any], width: int) -> list[Line]:
    if row["mark"] == "same":
        return [((" " * GUTTER, "text"), (part, "text")) for part in _wrapped(row["left"], width)]
    lines: list[Line] = []
    for name, sign, role in zip(("left", "right"), "<>", _roles(row["mark"]), strict=True):
        mark = f" {sign}{BY[row['by']]} "
        for part in _wrapped(row[name], width):
            lines.append(((mark, "warn"), (part, role)))
            mark = " " * GUTTER
    return lines


def _roles(mark: str) -> tuple[Role, Role]:
    return ("text", "text") if mark == "same" else ("ok", "accent")


def _wrapped(text: str | None, width: int) -> list[str]:
    """Nothing where there is no line; an empty line is one."""
    if text is None:
        return []
    return chop_cells(printable(text), width) or [""]

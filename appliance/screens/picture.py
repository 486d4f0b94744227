"""A panel with a picture that an action draws: as cells, or through the kitty protocol where the terminal speaks that."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from appliance.errors import ApplianceError
from appliance.screens.glyphs import Colours
from appliance.screens.page import Page
from appliance.screens.widgets.lines import Line, LineView

CONSOLE_NAMES = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
LEAST = (4, 2)
"""Cells across and down below which nothing is drawn."""


@dataclass(frozen=True)
class Wanted:
    """What is to be drawn.

    Attributes:
        action: Draws it; it takes columns, rows and mode, and returns {"text", "rows"}.
        args: Its other arguments.
        stamp: What the picture depends on: the same one at the same size is not drawn again.
        note: At the right of the title.
    """

    action: str
    args: Mapping[str, Any]
    stamp: str
    note: str = ""


class PictureView(LineView):
    """A picture, or lines that tell why there is none.

    Args:
        title: Of the box.
    """

    def __init__(self, title: str = "Picture", *, id: str | None = None) -> None:
        super().__init__(title, id=id)
        self._cells: Sequence[Sequence[Any]] = ()
        self._wanted: Wanted | None = None
        self._drawn = ""
        self._busy = False

    @property
    def mode(self) -> str:
        """How this terminal shows pictures."""
        caps = self._page.spark.caps
        if caps.images == "kitty":
            return "kitty"
        return "half-blocks" if caps.full_glyphs and caps.colours is not Colours.console else "console"

    @property
    def _page(self) -> Page:
        page = self.screen
        if not isinstance(page, Page):
            raise TypeError("a picture belongs to a page")
        return page

    def want(self, wanted: Wanted) -> None:
        """Draw this, unless that is what is seen; of pictures that are wanted while one is drawn, the newest counts."""
        self._wanted = wanted
        if not self._busy and self._is_due():
            self._busy = True
            self.run_worker(self._draw_wanted(), name="picture", group="picture", exit_on_error=False)

    def tell(self, lines: Sequence[Line], note: str = "") -> None:
        """Show lines in the place of a picture."""
        self.forget()
        self._set_cells(())
        self.set_lines(lines)
        self.set_note(note)

    def forget(self) -> None:
        """What is seen holds no longer: the next picture is drawn in any case."""
        self._wanted, self._drawn = None, ""
        self._page.spark.overlay.clear()

    def _is_due(self) -> bool:
        """Something else is wanted than what is seen, and there is a place for it."""
        seen = self.display and self._page.is_current and self.inner_width >= LEAST[0] and self.inner_height >= LEAST[1]
        return self._wanted is not None and seen and self._key(self._wanted) != self._drawn

    def _key(self, wanted: Wanted) -> str:
        return f"{wanted.action} {wanted.stamp} {self.inner_width} {self.inner_height}"

    async def _draw_wanted(self) -> None:
        try:
            while self._is_due() and (wanted := self._wanted) is not None:
                self._drawn = key = self._key(wanted)
                await self._draw(wanted, key)
        finally:
            self._busy = False

    async def _draw(self, wanted: Wanted, key: str) -> None:
        mode = self.mode
        args = {**wanted.args, "columns": self.inner_width, "rows": self.inner_height, "mode": mode}
        try:
            drawn = await self._page.console.invoke(wanted.action, args)
        except ApplianceError as error:
            if key == self._drawn:
                self._say(f"not drawn: {error}")
                self.set_note(wanted.note)
            return
        if key != self._drawn or not self._page.is_current:
            return
        self.set_lines(())
        self._set_cells(drawn["rows"])
        self.set_note(wanted.note)
        if mode == "kitty":
            self._page.spark.overlay.place(drawn["text"], self.region.x + 1, self.region.y + 1)

    def _say(self, text: str) -> None:
        self._page.spark.overlay.clear()
        self._set_cells(())
        self.set_lines([((f" {part}", "muted"),) for part in textwrap.wrap(text, max(1, self.inner_width - 1))])

    def _set_cells(self, cells: Sequence[Sequence[Any]]) -> None:
        """Paint the rows that differ."""
        before, self._cells = self._cells, cells
        for row in range(max(len(before), len(cells))):
            if row >= min(len(before), len(cells)) or before[row] != cells[row]:
                self.repaint(row + 1)

    def render_line(self, y: int) -> Strip:
        """Cells inside the box."""
        row = y - 1
        if not 0 <= row < min(len(self._cells), self.inner_height):
            return super().render_line(y)
        cells = self._cells[row][: self.inner_width]
        edge = self._strip((("│", "border"),), 1)
        body = [
            Segment("".join(char for char, _, _ in same), cell_style(*colours))
            for colours, group in groupby(cells, lambda cell: (cell[1], cell[2]))
            for same in (list(group),)
        ]
        blank = self._strip(((" " * (self.inner_width - len(cells)), "text"),), self.inner_width - len(cells))
        return Strip([*edge, *body, *blank, *edge], self.size.width)


def cell_style(fore: Any, back: Any) -> Style:
    """Of a cell with these colours."""
    return Style.from_color(colour(fore), colour(back))


def colour(value: Any) -> Color:
    """A cell's colour: 0…15 on the console, else (red, green, blue)."""
    return _console_colour(value) if isinstance(value, int) else Color.from_rgb(*value)


@lru_cache(maxsize=16)
def _console_colour(value: int) -> Color:
    return Color.parse(("bright_" if value > 7 else "") + CONSOLE_NAMES[value % 8])

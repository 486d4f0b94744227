"""Every page with its keys: a letter goes there."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical

from appliance.screens.dialogs import Dialog
from appliance.screens.tabs import ABOUT, LETTERS, TABS, key_name
from appliance.screens.widgets.grid import Column, Grid, Row

TOP = "g"
"""`g` twice is the top of the table."""
AROUND = 2
"""Lines of the box around the list; where not all pages fit, it goes along with the cursor."""


class GoTo(Dialog):
    """The list of pages; dismissed with the name of one, or `TOP`, or None.

    Args:
        current: The page that is open.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", show=False, priority=True), Binding("down", "move(1)", show=False, priority=True),
        Binding("enter", "choose", show=False, priority=True),
    ]  # fmt: skip
    AUTO_FOCUS = ""

    def __init__(self, current: str) -> None:
        super().__init__()
        self._current = current

    def compose(self) -> ComposeResult:
        """One row a page."""
        with Vertical(id="box") as box:
            box.border_title = "Go to"
            box.border_subtitle = Text("a letter or the page's own key goes there; g: top of the table; Esc")
            grid = Grid((Column("key", 4), Column("", 4), Column("page", 12), Column("what it shows")), id="list")
            grid.can_focus = False
            grid.highlight = True
            yield grid

    def on_mount(self) -> None:
        """The cursor stands on the open page."""
        grid = self.query_one(Grid)
        rows = [
            Row(page, ((f"g {LETTERS[page]}", "accent"), (key_name(key), "accent"), title, (ABOUT[page], "muted")))
            for key, page, title in TABS
        ]
        grid.styles.height = max(2, min(len(rows) + 1, self.app.size.height - AROUND))
        grid.set_rows(rows)
        self.call_after_refresh(grid.move_to, [row.key for row in rows].index(self._current))

    def action_move(self, by: int) -> None:
        """Up or down."""
        self.query_one(Grid).action_move(by)

    def action_choose(self) -> None:
        """Go to the page under the cursor."""
        self.dismiss(self.query_one(Grid).key or None)

    def on_grid_chosen(self, message: Grid.Chosen) -> None:
        """Go there with the mouse."""
        self.dismiss(message.key)

    def on_key(self, event: events.Key) -> None:
        """A letter, or the page's own key."""
        known = {letter: page for page, letter in LETTERS.items()} | {key: page for key, page, _ in TABS if key} | {TOP: TOP}
        if event.key in known:
            event.stop()
            self.dismiss(known[event.key])

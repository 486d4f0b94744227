"""A long list to pick from: typing narrows it down, Space marks where more than one may be picked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input

from appliance.core.printable import printable
from appliance.screens.dialogs import Dialog
from appliance.screens.widgets.grid import Column, Grid, Row


class Pick(Dialog):
    """Names to pick from; dismissed with a tuple of those that were picked.

    Args:
        title: Of the box.
        names: All that there are, with what is said of each.
        picked: Those that are picked now.
        many: More than one may be; none means all.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", show=False, priority=True), Binding("down", "move(1)", show=False, priority=True),
        Binding("pageup", "move(-12)", show=False, priority=True), Binding("pagedown", "move(12)", show=False, priority=True),
        Binding("space", "mark", show=False, priority=True),
    ]  # fmt: skip
    AUTO_FOCUS = "Input"

    def __init__(self, title: str, names: Sequence[tuple[str, str]], picked: Iterable[str] = (), *, many: bool = False) -> None:
        super().__init__()
        self._title = title
        self._names = tuple(names)
        self._picked = set(picked)
        self._many = many

    def compose(self) -> ComposeResult:
        """An input above the list."""
        hint = (
            "type to narrow down, Space marks, Enter takes the marked ones"
            if self._many
            else "type to narrow down, Enter takes"
        )
        with Vertical(id="box") as box:
            box.border_title = Text(printable(self._title))
            yield Input(placeholder=hint, id="typed")
            yield Grid((Column("", 1), Column("name"), Column("", 24)), id="list", empty="nothing fits")

    def on_mount(self) -> None:
        """Show all, the cursor on what is picked."""
        grid = self.query_one(Grid)
        grid.can_focus = False
        grid.highlight = True
        self._narrow("")
        at = next((index for index, (name, _) in enumerate(self._names) if name in self._picked), 0)
        self.call_after_refresh(grid.move_to, at)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Narrow the list down."""
        self._narrow(event.value)

    def _narrow(self, typed: str) -> None:
        words = typed.lower().split()
        sign = self.query_one(Grid).glyphs.ok
        self.query_one(Grid).set_rows(
            [
                Row(name, ((sign if name in self._picked else "", "ok"), name, (about, "muted")))
                for name, about in self._names
                if all(word in name.lower() for word in words)
            ]
        )

    def action_move(self, by: int) -> None:
        """Move the cursor while typing goes on."""
        self.query_one(Grid).action_move(by)

    def action_mark(self) -> None:
        """Mark the name under the cursor, or unmark it."""
        key = self.query_one(Grid).key
        if self._many and key:
            self._picked ^= {key}
            self._narrow(self.query_one(Input).value)

    def on_input_submitted(self) -> None:
        """Take them."""
        self._take(self.query_one(Grid).key)

    def on_grid_chosen(self, message: Grid.Chosen) -> None:
        """Take one with the mouse."""
        self._take(message.key)

    def _take(self, key: str) -> None:
        known = [name for name, _ in self._names if name in self._picked]
        if self._many:
            self.dismiss(tuple(known))
        elif key:
            self.dismiss((key,))

"""Dialogs: confirm, ask for values, pick an action, show a text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.await_complete import AwaitComplete
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from appliance.core.actions import ActionInfo
from appliance.core.printable import printable
from appliance.screens.values import wrap
from appliance.screens.widgets.grid import Column, Grid, Row
from appliance.screens.widgets.lines import Line, LineView

ResultOf = Any


class Dialog(ModalScreen[ResultOf]):
    """Base: a box in the middle; Esc leaves it with None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", show=False)]

    _left = False

    def dismiss(self, result: ResultOf | None = None) -> AwaitComplete:
        """Leave it, once: of keys that come faster than it goes, the first one counts."""
        if self._left:
            return AwaitComplete()
        self._left = True
        return super().dismiss(result)

    def action_cancel(self) -> None:
        """Leave it."""
        self.dismiss(None)


class Choice(Dialog):
    """A question answered by one key.

    Args:
        title: Of the box.
        text: What will happen.
        choices: Key → what it stands for; the key is the answer.
    """

    def __init__(self, title: str, text: str, choices: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._title = title
        self._text = text
        self._choices = tuple(choices)

    def compose(self) -> ComposeResult:
        """The text, then the keys."""
        with Vertical(id="box") as box:
            box.border_title = Text(printable(self._title))
            text = LineView(id="text")
            lines: list[Line] = [((line, "text"),) for line in textwrap.wrap(self._text, 70)]
            keys: list[Line] = [
                ((f" {key} ", "tab-on"), (f" {meaning}", "text")) for key, meaning in (*self._choices, ("Esc", "cancel"))
            ]
            shown = [*lines, (), *keys]
            text.set_lines(shown)
            text.styles.height = len(shown)
            yield text

    def on_key(self, event: events.Key) -> None:
        """The answer."""
        if event.key in {key for key, _ in self._choices}:
            event.stop()
            self.dismiss(event.key)


class Palette(Dialog):
    """All actions and pages, narrowed by typing; dismissed with the chosen one's name.

    Args:
        actions: Those that this reader may invoke.
        pages: (name, what it shows).
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", show=False, priority=True),
        Binding("down", "move(1)", show=False, priority=True),
        Binding("pageup", "move(-12)", show=False, priority=True),
        Binding("pagedown", "move(12)", show=False, priority=True),
    ]
    AUTO_FOCUS = "Input"

    def __init__(self, actions: Sequence[ActionInfo], pages: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__()
        told = [(a.name, a.summary + (" (asks first)" if a.dangerous else "")) for a in actions if not a.hidden]
        self._offered = sorted((*told, *pages))

    def compose(self) -> ComposeResult:
        """An input above the list."""
        with Vertical(id="box") as box:
            box.border_title = "Commands"
            yield Input(placeholder="type to narrow down, Enter to run, Esc to leave", id="typed")
            yield Grid((Column("action", 24), Column("what it does")), id="list", empty="no action fits")

    def on_mount(self) -> None:
        """Show all."""
        self._narrow("")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Narrow the list down."""
        self._narrow(event.value)

    def _narrow(self, typed: str) -> None:
        words = typed.lower().replace(":", " ").split()
        found = [each for each in self._offered if all(word in " ".join(each).lower() for word in words)]
        found.sort(key=lambda each: _rank(each[0].lower(), words))
        grid = self.query_one(Grid)
        grid.set_rows([Row(name, ((name.replace(".", ": "), "accent"), about)) for name, about in found])
        grid.highlight = True
        grid.move_to(0)  # what fits best, not what fitted when less had been typed

    def action_move(self, by: int) -> None:
        """Move the cursor while typing goes on."""
        self.query_one(Grid).action_move(by)

    def on_input_submitted(self) -> None:
        """Choose."""
        self.dismiss(self.query_one(Grid).key or None)

    def on_grid_chosen(self, message: Grid.Chosen) -> None:
        """Choose with the mouse."""
        self.dismiss(message.key)


def _rank(name: str, words: Sequence[str]) -> int:
    """What begins so comes before what is called so, and that before what tells of it."""
    if name.replace(".", " ").startswith(" ".join(words)):
        return 0
    return 1 if all(word in name for word in words) else 2


class Reader(Dialog):
    """A text to read; scrolls.

    Args:
        title: Of the box.
        lines: Already laid out.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,enter,question_mark", "cancel", show=False),
        Binding("up,k", "scroll(-1)", show=False),
        Binding("down,j", "scroll(1)", show=False),
        Binding("pageup", "scroll(-10)", show=False),
        Binding("pagedown,space", "scroll(10)", show=False),
    ]

    def __init__(self, title: str, lines: Sequence[Line]) -> None:
        super().__init__(classes="wide")
        self._title = title
        self._lines = tuple(lines)

    def compose(self) -> ComposeResult:
        """The text fills the screen."""
        with Vertical(id="box") as box:
            box.border_title = Text(printable(self._title))
            box.border_subtitle = "Esc to leave, arrows to scroll"
            yield LineView(id="text")

    def on_resize(self) -> None:
        """Lay the text out for the width that there is."""
        self.call_after_refresh(self._lay_out)

    def _lay_out(self) -> None:
        view = self.query_one("#text", LineView)
        if view.inner_width:
            view.set_lines([part for line in self._lines for part in wrap(line, view.inner_width)])

    def action_scroll(self, by: int) -> None:
        """Up or down."""
        view = self.query_one("#text", LineView)
        view.scroll_lines(view.first + by)

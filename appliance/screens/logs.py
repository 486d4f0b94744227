"""Logs: follow, level, filter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input

from appliance.core.model import LogLine
from appliance.screens import format as f
from appliance.screens.page import Page
from appliance.screens.themes import Role
from appliance.screens.widgets.grid import Column, Grid, Row

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
ROLES: dict[str, Role] = {"WARNING": "warn", "ERROR": "bad", "CRITICAL": "bad", "DEBUG": "muted"}
SHOWN = 500


class LogGrew(Message):
    """There are new lines."""

    def can_replace(self, message: Message) -> bool:
        """One is enough."""
        return isinstance(message, LogGrew)


class Logs(Page):
    """The appliance's own log."""

    page = "logs"
    keys = (("f", "Follow"), ("l", "Level"), ("/", "Filter"), ("Enter", "All of it"))
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "follow", show=False), Binding("l", "level", show=False), Binding("slash", "filter", show=False),
    ]  # fmt: skip

    _level = 1
    _follow = True
    _text = ""
    _end: Callable[[], None] | None = None

    def body(self) -> Iterable[Widget]:
        """The table, and the filter's line."""
        yield Grid(
            (Column("time", 11), Column("level", 7), Column("from", 22, least=100), Column("message")),
            "Log",
            id="log",
            empty="no lines at this level",
        )
        yield Input(placeholder="text that lines must contain; Enter keeps it, Esc clears it", id="filter")

    def on_screen_resume(self) -> None:
        """Follow the log's ring too."""
        super().on_screen_resume()
        if self._end is None:
            self._end = self.console.logs.listen(self._post_growth)

    def _post_growth(self) -> None:
        self.post_message(LogGrew())

    def unsubscribe(self) -> None:
        """Wake no more."""
        super().unsubscribe()
        if self._end is not None:
            self._end()
            self._end = None

    def refresh_all(self) -> None:
        """Show the lines."""
        super().refresh_all()
        self._show_lines()

    def on_log_grew(self) -> None:
        """Show new lines."""
        self._show_lines()

    def _show_lines(self) -> None:
        kept = set(LEVELS[self._level :]) | {"CRITICAL"}
        lines = [line for line in self.console.logs.lines() if line.level in kept and self._text in line.message.lower()][
            -SHOWN:
        ]
        grid = self.query_one(Grid)
        grid.set_rows([row_of(line) for line in lines])
        if self._follow:
            grid.move_to(len(lines) - 1)
        words = [LEVELS[self._level].lower() + " and above", "following" if self._follow else "held"]
        grid.set_note(", ".join([*words, f"/{self._text}"] if self._text else words))

    def on_grid_chosen(self, message: Grid.Chosen) -> None:
        """Show all of a line."""
        line = next((line for line in self.console.logs.lines() if str(line.seq) == message.key), None)
        if line is not None:
            self.spark.flows.start(self.spark.flows.show(f"Line {line.seq}", line), "line")

    def action_follow(self) -> None:
        """Hold, or follow again."""
        self._follow = not self._follow
        self._show_lines()

    def action_level(self) -> None:
        """The next level."""
        self._level = (self._level + 1) % len(LEVELS)
        self._show_lines()

    def action_filter(self) -> None:
        """Type a filter."""
        line = self.query_one("#filter", Input)
        line.add_class("on")
        line.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Narrow down while typing."""
        self._text = event.value.lower()
        self._show_lines()

    def on_input_submitted(self) -> None:
        """Keep the filter."""
        self._close_filter()

    def on_key(self, event: events.Key) -> None:
        """Esc clears the filter."""
        line = self.query_one("#filter", Input)
        if event.key == "escape" and line.has_class("on"):
            line.value = ""
            self._close_filter()

    def _close_filter(self) -> None:
        self.query_one("#filter", Input).remove_class("on")
        self.query_one(Grid).focus()


def row_of(line: LogLine) -> Row:
    """One line as a row."""
    role = ROLES.get(line.level, "text")
    return Row(
        str(line.seq),
        (
            (f.clock(line.time), "muted"),
            (line.level, role),
            (line.logger, "muted"),
            (line.message, role if role != "muted" else "text"),
        ),
    )

"""Pages with a line to type a filter into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.widgets import Input

from appliance.screens.page import Page
from appliance.screens.widgets.grid import Row, text_of


def narrowed(rows: Sequence[Row], text: str) -> list[Row]:
    """The rows that have every word of a filter in one of their cells; all of them where there is none."""
    words = text.lower().split()
    return [row for row in rows if not words or _has(row, words)]


def _has(row: Row, words: Sequence[str]) -> bool:
    told = " ".join(text_of(cell) for cell in row.cells).lower()
    return all(word in told for word in words)


class Filtering(Page):
    """Base of those pages: `/` opens the line, Enter keeps the filter, Esc clears it. They have an Input `filter`."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("slash", "filter", show=False)]

    @property
    def filter_text(self) -> str:
        """The filter that holds now."""
        raise NotImplementedError

    def filtered(self, text: str) -> None:
        """Another filter holds."""
        raise NotImplementedError

    def leave_filter(self) -> None:
        """Typing has ended: the focus goes on."""
        raise NotImplementedError

    def escaped(self) -> None:
        """Esc while no filter holds."""

    def action_filter(self) -> None:
        """Type a filter."""
        line = self.query_one("#filter", Input)
        line.value = self.filter_text
        line.add_class("on")
        line.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Narrow down while typing."""
        self.filtered(event.value.strip())

    def on_input_submitted(self) -> None:
        """Keep the filter."""
        self.close_filter()
        self.leave_filter()

    def on_key(self, event: events.Key) -> None:
        """Esc clears the filter."""
        if event.key != "escape":
            return
        line = self.query_one("#filter", Input)
        if line.has_class("on") or self.filter_text:
            line.value = ""
            self.filtered("")
            self.close_filter()
            self.leave_filter()
        else:
            self.escaped()

    def close_filter(self) -> None:
        """Put the line away."""
        self.query_one("#filter", Input).remove_class("on")

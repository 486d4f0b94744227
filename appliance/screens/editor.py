"""A value to edit."""

from __future__ import annotations

import json
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import TextArea

from appliance.core.printable import printable
from appliance.screens.dialogs import Dialog
from appliance.screens.widgets.lines import Line, LineView


class Editor(Dialog):
    """A text in an editor; dismissed with the text as it was left, or None.

    Args:
        title: Of the box.
        text: To begin with; without control characters but newlines and tabs.
        is_json: Only JSON is taken.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s,f5", "done", show=False, priority=True), Binding("escape", "cancel", show=False, priority=True),
    ]  # fmt: skip
    AUTO_FOCUS = "TextArea"

    def __init__(self, title: str, text: str, *, is_json: bool) -> None:
        super().__init__(classes="wide")
        self._title = title
        self._text = text
        self._is_json = is_json

    def compose(self) -> ComposeResult:
        """The editor above the keys."""
        with Vertical(id="box") as box:
            box.border_title = Text(printable(self._title))
            yield TextArea(self._text, tab_behavior="indent", soft_wrap=True)
            note = LineView(id="note")
            note.set_lines([(), keys_line(self._is_json)])
            yield note

    def action_done(self) -> None:
        """Take the text, where it can be."""
        text = self.query_one(TextArea).text
        try:
            if self._is_json:
                json.loads(text)
        except ValueError as error:
            self.query_one("#note", LineView).set_lines([((f" That is no JSON: {error}", "bad"),), keys_line(self._is_json)])
            return
        self.dismiss(text)


def keys_line(is_json: bool) -> Line:
    """What the keys do."""
    return (
        (" Ctrl-S ", "tab-on"), (" or ", "muted"), (" F5 ", "tab-on"), (" take it   ", "text"),
        (" Esc ", "tab-on"), (" cancel   ", "text"), ("JSON" if is_json else "text", "muted"),
    )  # fmt: skip

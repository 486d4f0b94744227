"""A topic as its messages come: filter, hold, read one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec
from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input

from appliance.core.console import Console
from appliance.core.printable import printable
from appliance.core.streams.model import Tailed
from appliance.errors import ApplianceError
from appliance.screens import format as f
from appliance.screens.dialogs import Dialog, Reader
from appliance.screens.entries import value_lines
from appliance.screens.widgets.grid import Column, Grid, Row
from appliance.screens.widgets.lines import Line

COLUMNS = (
    Column("time", 11), Column("key", 14), Column("type", 16, least=100), Column("part", 4, "right", 100),
    Column("offset", 9, "right", 100), Column("size", 9, "right", 100), Column("message"),
)  # fmt: skip
EVERY = 1.0
"""Seconds between two readings."""
AT_ONCE = 200
"""Messages of one reading."""
KEPT = 1000
"""Messages that are kept; older ones go."""


class Tail(Dialog):
    """The newest messages of a topic, live while it is seen.

    Args:
        console: The appliance.
        topic: Its name.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space,f", "hold", show=False), Binding("slash", "filter", show=False), Binding("q", "cancel", show=False),
        Binding("x", "clear", show=False),
    ]  # fmt: skip
    AUTO_FOCUS = "Grid"

    def __init__(self, console: Console, topic: str) -> None:
        super().__init__(classes="wide")
        self.spark = console
        self.stamp = f.Stamp()
        self._topic = topic
        self._seen: tuple[Tailed, ...] = ()
        self._after: int | None = None
        self._held = False
        self._filter = ""
        self._fault = ""
        self._missed = 0

    def compose(self) -> ComposeResult:
        """The messages, and the line to type a filter into."""
        with Vertical(id="box") as box:
            box.border_subtitle = Text("Space hold  / filter  Enter all of it  x clear  Esc leave")
            yield Grid(COLUMNS, id="list", empty="waiting for messages")
            yield Input(placeholder="text that messages must contain; Enter keeps it, Esc clears it", id="filter")

    def on_mount(self) -> None:
        """Read from now on, once a second."""
        self.set_interval(EVERY, self._due, name="tail")
        self._due()

    def _due(self) -> None:
        self._show()
        busy = any(worker.group == "tail" and not worker.is_finished for worker in self.workers)
        if not self._held and not busy:
            self.run_worker(self._read(), name="tail", group="tail", exit_on_error=False)

    async def _read(self) -> None:
        asked = self._filter
        args: dict[str, Any] = {"topic": self._topic, "limit": AT_ONCE, "filter": asked}
        try:
            found = await self.spark.invoke("streams.tail", args | ({"after": self._after} if self._after is not None else {}))
        except ApplianceError as error:
            self._fault = str(error)
        else:
            if asked == self._filter:
                self._take(msgspec.convert(msgspec.to_builtins(found), list[Tailed]))
        self.stamp.set()
        self._show()

    def _take(self, found: Sequence[Tailed]) -> None:
        self._fault = ""
        if not found:
            return
        self._after = max(message.number for message in found)
        self._seen = (*self._seen, *found)[-KEPT:]

    def _show(self) -> None:
        grid = self.query_one(Grid)
        grid.set_empty(self._fault or ("nothing fits the filter yet" if self._filter else "waiting for messages"))
        rows = [message_row(message) for message in self._seen]
        if tuple(rows) != grid.rows:
            grid.set_rows(rows)
            if not self._held:
                grid.move_to(len(rows) - 1)
        words = [
            self._fault if self._seen else "", f"/{self._filter}" if self._filter else "", f"{len(self._seen)} kept",
            "HELD, Space goes on" if self._held else "following", f.age(self.stamp.age),
        ]  # fmt: skip
        said = Text(printable(f"Tail of {self._topic}: {', '.join(word for word in words if word)}"))
        box = self.query_one("#box")
        if box.border_title != said.markup:
            box.border_title = said

    def action_hold(self) -> None:
        """Hold, or follow again."""
        self._held = not self._held
        self._due()

    def action_clear(self) -> None:
        """Forget what was seen."""
        self._seen = ()
        self._show()

    def action_filter(self) -> None:
        """Type a filter."""
        line = self.query_one("#filter", Input)
        line.add_class("on")
        line.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Other messages are wanted: begin anew."""
        self._filter, self._seen, self._after = event.value, (), None
        self._due()

    def on_input_submitted(self) -> None:
        """Keep the filter."""
        self._close_filter()

    def action_cancel(self) -> None:
        """Esc clears the filter, where one is typed, else leaves."""
        line = self.query_one("#filter", Input)
        if line.has_class("on"):
            line.value = ""
            self._close_filter()
        else:
            self.dismiss(None)

    def _close_filter(self) -> None:
        self.query_one("#filter", Input).remove_class("on")
        self.query_one(Grid).focus()

    def on_key(self, event: events.Key) -> None:
        """Moving the cursor up holds: nobody reads what runs away."""
        if event.key in {"up", "k", "pageup", "home"} and not self._held:
            self._held = True
            self._show()

    def on_grid_chosen(self, message: Grid.Chosen) -> None:
        """Show all of a message."""
        found = next((each for each in self._seen if str(each.number) == message.key), None)
        if found is not None:
            self.app.push_screen(
                Reader(f"{self._topic} {found.partition}/{found.offset}", message_lines(found, self.size.width - 6))
            )


def message_row(message: Tailed) -> Row:
    """One message."""
    kind = str((message.document or {}).get("type", ""))
    return Row(
        str(message.number),
        (
            (f.clock(message.time), "muted"), (message.key, "accent"), (kind, "muted"), (str(message.partition), "muted"),
            (str(message.offset), "muted"), (f.size(message.size), "muted"), gist(message),
        ),
    )  # fmt: skip


def gist(message: Tailed) -> str:
    """What a message is about: the data of an envelope, else all of its text."""
    if message.document is None or "data" not in message.document:
        return message.text
    return json.dumps(message.document["data"], ensure_ascii=False, separators=(", ", ": "))


def message_lines(message: Tailed, width: int) -> list[Line]:
    """All of a message."""
    facts = [
        ("time", f.clock(message.time)), ("key", message.key or f.NONE),
        ("place", f"partition {message.partition}, offset {message.offset}"), ("size", f"{f.size(message.size)}"),
    ]  # fmt: skip
    shown = message.text if message.document is None else json.dumps(message.document, ensure_ascii=False, indent=2)
    head: list[Line] = [((f" {name:<8}", "muted"), (text, "text")) for name, text in facts]
    return [*head, (), *value_lines(shown.split("\n"), max(1, width))]

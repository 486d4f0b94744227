"""All that a machine said in an operation, or what a service writes: it is followed while it goes on."""

from __future__ import annotations

import logging
from collections import deque
from typing import ClassVar

import msgspec
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input

from appliance.core.console import Console
from appliance.core.printable import printable
from appliance.errors import ApplianceError
from appliance.screens import fleet_calls as calls
from appliance.screens import format as f
from appliance.screens.dialogs import Dialog
from appliance.screens.values import wrap
from appliance.screens.widgets.lines import Line, LineView

log = logging.getLogger(__name__)

EVERY = 0.5
"""Seconds between two looks."""
KEPT = 5000
"""Lines that are kept here; those before are counted."""
WIDEST = 2000
"""Characters of a line that are shown."""


class Part(msgspec.Struct, frozen=True):
    """A piece of output, as `fleet.operation-output` has it."""

    text: str
    after: int
    next: int
    dropped: int = 0
    ended: bool = False


class Follow(Dialog):
    """A machine's output in an operation.

    Args:
        console: The appliance.
        operation_id: The operation.
        node: The machine.
        title: Of the box.
        stop: Ends the operation with the dialog: it is there for this look only.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "cancel", show=False), Binding("space", "hold", show=False), Binding("slash", "filter", show=False),
        Binding("up,k", "scroll(-1)", show=False), Binding("down,j", "scroll(1)", show=False),
        Binding("pageup", "scroll(-10)", show=False), Binding("pagedown", "scroll(10)", show=False),
        Binding("home", "to(0)", show=False), Binding("end,G", "to(1)", show=False),
    ]  # fmt: skip
    AUTO_FOCUS = ""

    def __init__(self, console: Console, operation_id: str, node: str, title: str, *, stop: bool = False) -> None:
        super().__init__(classes="wide")
        self.spark = console
        self._operation_id = operation_id
        self._node = node
        self._title = title
        self._stop = stop
        self._lines: deque[str] = deque(maxlen=KEPT)
        self._after = 0
        self._lost = 0
        """Bytes that the appliance did not keep."""
        self._count = 0
        self._ended = self._held = False
        self._fault = self._filter = ""
        self.stamp = f.Stamp()

    def compose(self) -> ComposeResult:
        """The text fills the screen."""
        with Vertical(id="box") as box:
            box.border_title = Text(printable(self._title))
            box.border_subtitle = Text("Space hold  / filter  arrows, Home, End  Esc leave")
            yield LineView(id="text")
            yield LineView(id="note")
            yield Input(placeholder="text that lines must contain; Enter keeps it, Esc clears it", id="filter")

    def on_mount(self) -> None:
        """Read from its beginning."""
        self.set_interval(EVERY, self._due, name="output")
        self._due()

    def on_resize(self) -> None:
        """Lay the text out for the width that there is."""
        self.call_after_refresh(self._show)

    def _due(self) -> None:
        self._show_note()
        busy = any(worker.group == "output" and not worker.is_finished for worker in self.workers)
        if not self._ended and not busy:
            self.run_worker(self._read(), name="output", group="output", exit_on_error=False)

    async def _read(self) -> None:
        before = -1
        while not self._ended and before != self._after:
            before = self._after
            args = calls.operation(self._operation_id, node=self._node, after=self._after)
            try:
                found = await self.spark.invoke("fleet.operation-output", args)
            except ApplianceError as error:
                self._fault = str(error)
                break
            self._take(msgspec.convert(msgspec.to_builtins(found), Part))
        self.stamp.set()
        self._show()

    def _take(self, part: Part) -> None:
        self._fault, self._after, self._ended = "", part.next, part.ended
        if part.dropped:
            self._lost += part.dropped
            self._lines.append(f"… {f.size(part.dropped)} are not kept …")
        lines = part.text.removesuffix("\n").split("\n") if part.text else []
        self._count += len(lines)
        self._lines.extend(line[:WIDEST] for line in lines)

    def _show(self) -> None:
        view = self.query_one("#text", LineView)
        if not view.inner_width:
            return
        shown: list[Line] = [((line.expandtabs(), "text"),) for line in self._lines if self._filter in line.lower()]
        nothing = self._fault or ("it said nothing" if self._ended else "it has said nothing yet")
        lines = [part for line in shown or [((nothing, "muted"),)] for part in wrap(line, view.inner_width)]
        view.set_lines(lines)
        if not self._held:
            view.scroll_lines(len(lines))
        self._show_note()

    def _show_note(self) -> None:
        words = [
            self._fault if self._lines else "", f"/{self._filter}" if self._filter else "", f.counted(self._count, "line"),
            f"{self._count - KEPT} earlier ones are gone from here" if self._count > KEPT else "",
            f"{f.size(self._lost)} not kept" if self._lost else "",
            "ended" if self._ended else "HELD, Space goes on" if self._held else "following", f.age(self.stamp.age),
        ]  # fmt: skip
        told: Line = ((", ".join(word for word in words if word), "bad" if self._fault else "muted"),)
        self.query_one("#note", LineView).set_lines(wrap(told, max(1, self.query_one("#text").size.width)))

    def action_hold(self) -> None:
        """Hold, or follow again."""
        self._held = not self._held
        self._show()

    def action_scroll(self, by: int) -> None:
        """Up or down; going up holds: nobody reads what runs away."""
        self._held = self._held or by < 0
        view = self.query_one("#text", LineView)
        view.scroll_lines(view.first + by)
        self._show_note()

    def action_to(self, end: int) -> None:
        """To the beginning, or to the end."""
        self._held = not end
        view = self.query_one("#text", LineView)
        view.scroll_lines(len(view.lines) if end else 0)
        self._show_note()

    def action_filter(self) -> None:
        """Type a filter."""
        line = self.query_one("#filter", Input)
        line.add_class("on")
        line.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Only lines that contain it."""
        self._filter = event.value.lower()
        self._show()

    def on_input_submitted(self) -> None:
        """Keep the filter."""
        self._close_filter()

    def action_cancel(self) -> None:
        """Esc clears the filter, where one is typed, else leaves."""
        line = self.query_one("#filter", Input)
        if line.has_class("on"):
            line.value = ""
            self._close_filter()
            return
        if self._stop and not self._ended:
            self.run_worker(self._end(), name="end", exit_on_error=False)
        else:
            self.dismiss(None)

    async def _end(self) -> None:
        """End what is only there to be followed."""
        try:
            await self.spark.invoke("fleet.operation-cancel", calls.operation(self._operation_id))
        except ApplianceError as error:
            log.info("what was followed had ended: %s", error.message)
        self.dismiss(None)

    def _close_filter(self) -> None:
        self.query_one("#filter", Input).remove_class("on")
        self.set_focus(None)

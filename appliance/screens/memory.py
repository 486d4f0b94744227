"""Memory: the tiers, and every key with where it lies; read, keep, pin, promote, evict, delete."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Input

from appliance.core.console import Console
from appliance.core.memory.model import MemoryStatus, TierStatus
from appliance.core.state import Section
from appliance.errors import ApplianceError
from appliance.screens import entries, tiers
from appliance.screens import format as f
from appliance.screens.memory_acts import Acts
from appliance.screens.page import Page
from appliance.screens.values import wrap
from appliance.screens.widgets.grid import Grid, Row
from appliance.screens.widgets.lines import Line, LineView

SHOWN = 100
"""Keys on a page of the listing."""
EVERY = 10.0
"""Seconds after which the listing is read again though nothing seems to have changed."""
PAUSE = 20
"""Times what a reading of the listing took that pass before the next one."""
LONGEST = 5.0
"""Seconds that pass at most before it."""


class Memory(Page):
    """Tiers above, keys below."""

    page = "memory"
    sections = frozenset({Section.memory})
    keys = (
        ("Enter", "Value"), ("a", "Add"), ("e", "Evict"), ("d", "Delete"), ("p", "Pin"), ("m", "Promote"), ("/", "Search"),
        ("n", "Namespace"), ("< >", "Pages of keys"), ("Tab", "Tiers"),
    )  # fmt: skip
    AUTO_FOCUS = "#entries"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "key('add')", show=False), Binding("e", "key('evict')", show=False),
        Binding("d,delete", "key('delete')", show=False), Binding("p", "key('pin')", show=False),
        Binding("m,P", "key('promote')", show=False), Binding("slash", "search", show=False),
        Binding("n", "namespace", show=False), Binding("greater_than_sign,full_stop", "turn(1)", show=False),
        Binding("less_than_sign,comma", "turn(-1)", show=False),
    ]  # fmt: skip

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.stamp = f.Stamp()
        self.acts = Acts(self)
        self._entries: tuple[dict[str, Any], ...] = ()
        self._namespace: str | None = None
        self._search = ""
        self._cursors = [""]
        self._next = ""
        self._reading = self._stale = False
        self._due = 0.0

    def body(self) -> Iterable[Widget]:
        """The tiers with their summary, the keys with the legend, the line to type into."""
        yield Grid(tiers.COLUMNS, "Memory", id="tiers", empty="the memory is starting")
        yield LineView(id="summary")
        yield Grid(entries.COLUMNS, "Keys", id="entries", empty="reading")
        yield LineView(id="legend")
        yield Input(placeholder="part of a key; Enter keeps the search, Esc ends it", id="filter")

    @property
    def statuses(self) -> tuple[TierStatus, ...]:
        """As they were last seen, fastest first."""
        status = self.console.get(Section.memory).value
        return status.tiers if isinstance(status, MemoryStatus) else ()

    def show(self, sections: frozenset[Section]) -> None:
        """Show the tiers; the keys are read again soon."""
        status = self.console.get(Section.memory).value
        if isinstance(status, MemoryStatus):
            table = self.query_one("#tiers", Grid)
            table.set_rows([Row(tier.name, tiers.tier_cells(tier, self.spark.glyphs)) for tier in status.tiers])
            table.styles.height = 3 + max(1, len(status.tiers))
            self._fit("#legend", tiers.legend([tier.name for tier in status.tiers], self.size.width))
            self._show_summary(status)
        self._stale = True
        self._read_if_due()

    def _show_summary(self, status: MemoryStatus) -> None:
        table = self.query_one("#tiers", Grid)
        selected = table.key if table.has_focus else ""
        self._fit("#summary", tiers.summary_lines(status, self.size.width, self.spark.glyphs, selected))

    def _fit(self, view: str, lines: Sequence[Line]) -> None:
        panel = self.query_one(view, LineView)
        panel.styles.height = len(lines)
        panel.set_lines(lines)

    def on_grid_selected(self, message: Grid.Selected) -> None:
        """Tell of the tier under the cursor."""
        self._tell(message.grid)

    def on_descendant_focus(self) -> None:
        """Tell of the tier under the cursor while the tiers have the focus."""
        self._tell(self.query_one("#tiers", Grid))

    def _tell(self, grid: Grid) -> None:
        status = self.console.get(Section.memory).value
        if grid.id == "tiers" and isinstance(status, MemoryStatus):
            self._show_summary(status)

    def show_ages(self) -> None:
        """How old everything is; read the keys again where that is due."""
        self.query_one("#tiers", Grid).set_note(f.age(self.console.age(Section.memory)))
        self._show_entries()
        self._stale = self._stale or (self.stamp.age or 0.0) > EVERY
        self._read_if_due()

    def on_resize(self) -> None:
        """Lay it out anew."""
        self.call_after_refresh(self.refresh_all)

    def _show_entries(self) -> None:
        names, elapsed, grid = [tier.name for tier in self.statuses], self.stamp.age or 0.0, self.query_one("#entries", Grid)
        rows = tuple(entries.entry_row(entry, names, elapsed) for entry in self._entries)
        if rows != grid.rows:
            grid.set_rows(rows)
        words = (
            f"namespace {self._namespace}" if self._namespace is not None else "",
            f"/{self._search}" if self._search else "",
            f"page {len(self._cursors)}" if len(self._cursors) > 1 else "",
            "more: >" if self._next else "",
            f.age(self.stamp.age),
        )
        grid.set_note(", ".join(word for word in words if word))

    def _read_if_due(self) -> None:
        if self._stale and not self._reading and time.monotonic() >= self._due:
            self.read()

    def read(self) -> None:
        """Read the keys; what is asked for meanwhile is read afterwards."""
        self._stale = True
        if not self._reading:
            self._reading = True
            self.run_worker(self._read(), name="entries", group="entries", exit_on_error=False)

    async def _read(self) -> None:
        try:
            while self._stale:
                self._stale, began = False, time.monotonic()
                await self._read_once()
                self._due = time.monotonic() + min(LONGEST, max(1.0, PAUSE * (time.monotonic() - began)))
        finally:
            self._reading = False

    async def _read_once(self) -> None:
        wanted: dict[str, Any] = {"namespace": self._namespace, "search": self._search, "limit": SHOWN}
        try:
            page = await self.console.invoke("memory.list", {**wanted, "cursor": self._cursors[-1]})
        except ApplianceError as error:
            self._entries, self._next = (), ""
            self.query_one("#entries", Grid).set_empty(str(error))
        else:
            self._entries, self._next = tuple(page["entries"]), page["cursor"]
            self.query_one("#entries", Grid).set_empty("no such key" if self._search else "no keys yet; a keeps a value")
            if not self._entries and len(self._cursors) > 1:
                self._cursors.pop()
                self._stale = True
        self.stamp.set()
        self._show_entries()

    def action_turn(self, by: int) -> None:
        """To the next page of keys, or back."""
        if by > 0 and self._next:
            self._cursors.append(self._next)
        elif by < 0 and len(self._cursors) > 1:
            self._cursors.pop()
        else:
            self.say("there are no more keys")
            return
        self.query_one("#entries", Grid).action_to(0)
        self.read()

    def _narrow(self, namespace: str | None, search: str) -> None:
        self._namespace, self._search, self._cursors = namespace, search, [""]
        self.read()

    def action_namespace(self) -> None:
        """Only the next namespace; after the last one, all."""
        self.spark.flows.start(self._next_namespace(), "namespace")

    async def _next_namespace(self) -> None:
        names = [None, *(row["namespace"] for row in await self.console.invoke("memory.namespaces"))]
        at = names.index(self._namespace) if self._namespace in names else 0
        self._narrow(names[(at + 1) % len(names)], self._search)

    def action_search(self) -> None:
        """Type what keys must have in them."""
        line = self.query_one("#filter", Input)
        line.add_class("on")
        line.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Search while typing."""
        self._narrow(self._namespace, event.value)

    def on_input_submitted(self) -> None:
        """Keep the search."""
        self._end_search()

    def on_key(self, event: events.Key) -> None:
        """Esc ends the search."""
        line = self.query_one("#filter", Input)
        if event.key == "escape" and line.has_class("on"):
            line.value = ""
            self._end_search()

    def _end_search(self) -> None:
        self.query_one("#filter", Input).remove_class("on")
        self.query_one("#entries", Grid).focus()

    def on_grid_chosen(self, message: Grid.Chosen) -> None:
        """All of a tier, or a key with its value."""
        if message.grid.id == "entries":
            self.acts.inspect(message.key)
        elif (tier := next((tier for tier in self.statuses if tier.name == message.key), None)) is not None:
            lines = [part for line in tiers.tier_lines(tier) for part in wrap(line, max(1, self.size.width - 6))]
            self.spark.flows.start(self.spark.flows.read(tier.name, lines), "tier")

    def action_key(self, what: str) -> None:
        """One of the page's own keys on values."""
        entry = next((entry for entry in self._entries if entry["key"] == self.query_one("#entries", Grid).key), None)
        self.acts.do(what, entry, self._namespace)

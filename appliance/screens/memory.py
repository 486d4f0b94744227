"""Memory: the tiers, and every key with where it lies; read, keep, pin, promote, evict, delete."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Input

from appliance.core.console import Console
from appliance.core.memory.model import EntryStat, MemoryStatus, TierStatus
from appliance.core.state import Section
from appliance.errors import ApplianceError
from appliance.screens import entries, tiers
from appliance.screens import format as f
from appliance.screens.page import Page
from appliance.screens.widgets.grid import Grid, Row
from appliance.screens.widgets.lines import LineView

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
        Binding("a", "add", show=False), Binding("e", "evict", show=False), Binding("d,delete", "delete", show=False),
        Binding("p", "pin", show=False), Binding("m,P", "promote", show=False), Binding("slash", "search", show=False),
        Binding("n", "namespace", show=False), Binding("greater_than_sign,full_stop", "turn(1)", show=False),
        Binding("less_than_sign,comma", "turn(-1)", show=False),
    ]  # fmt: skip

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.stamp = f.Stamp()
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
            self.query_one("#summary", LineView).set_lines(tiers.summary_lines(status, self.size.width, self.spark.glyphs))
            self.query_one("#legend", LineView).set_lines([tiers.legend([tier.name for tier in status.tiers])])
        self._stale = True
        self._read_if_due()

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
            self.spark.flows.start(self._inspect(message.key), "value")
        elif (tier := next((tier for tier in self.statuses if tier.name == message.key), None)) is not None:
            self.spark.flows.start(self.spark.flows.read(tier.name, tiers.tier_lines(tier)), "tier")

    async def _inspect(self, key: str) -> None:
        stat = await self.console.invoke("memory.stat", {"key": key})
        width = max(1, self.size.width - 6)
        try:
            value = entries.value_lines(await self.console.invoke("memory.show", {"key": key}), width)
        except ApplianceError as error:
            value = [((f" {self.spark.glyphs.bad} {error}", "bad"),)]
        self.read()
        await self.spark.flows.read(key, entries.entry_lines(stat, value, self.statuses))

    def action_add(self) -> None:
        """Keep a value."""
        self.spark.flows.start(self._add(), "add")

    async def _add(self) -> None:
        answer = await self.spark.flows.ask("Keep a value", entries.form(self._namespace), ["key", "kind", "durability"])
        if answer is None:
            return
        value = answer.pop("value", "")
        answer["json_text" if answer.pop("kind") == "json" else "value"] = value
        await self._do("memory.set", answer, f"{answer['key']} is kept, durability {answer['durability']}")

    async def _do(self, name: str, args: dict[str, Any], done: str) -> None:
        """Invoke, tell where the key lies now, and read the keys again."""
        result = await self.spark.flows.invoke(name, args)
        held = [copy.tier for copy in result.copies if copy.state == "held"] if isinstance(result, EntryStat) else []
        self.say(f"{done}; held by {', '.join(held)}" if held else done, "ok")
        self.read()

    def _start(self, name: str, done: str) -> None:
        if key := self.query_one("#entries", Grid).key:
            self.spark.flows.start(self._do(name, {"key": key}, f"{key} {done}"), name)

    def action_pin(self) -> None:
        """Pin the key under the cursor, or unpin it."""
        key = self.query_one("#entries", Grid).key
        pinned = any(entry["key"] == key and entry["pinned"] for entry in self._entries)
        self._start("memory.unpin" if pinned else "memory.pin", "is not pinned any more" if pinned else "is pinned")

    def action_promote(self) -> None:
        """Bring the value into every faster tier."""
        self._start("memory.promote", "is in every faster tier")

    def action_evict(self) -> None:
        """Take the value out of fast tiers."""
        if key := self.query_one("#entries", Grid).key:
            self.spark.flows.start(self._evict(key), "evict")

    async def _evict(self, key: str) -> None:
        tier: str | None = "1"
        if self.spark.flows.may("memory.evict"):  # else the dispatcher says why not
            tier = await self.app.push_screen_wait(entries.which_tier(key, self.statuses))
        if tier is not None:
            out = "tier 1" if tier == "1" else "tier 1 and off the disk"
            await self._do("memory.evict", {"key": key, "tier": int(tier)}, f"{key} is out of {out}")

    def action_delete(self) -> None:
        """Delete the key under the cursor."""
        if key := self.query_one("#entries", Grid).key:
            self.spark.flows.start(self._delete(key), "delete")

    async def _delete(self, key: str) -> None:
        await self.spark.flows.confirm("memory.delete", "Delete", entries.loss(key), "yes, delete it")
        await self._do("memory.delete", {"key": key}, f"{key} is deleted")

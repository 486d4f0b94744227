"""Conflicts: what both sides changed, side by side; the operator decides. And how the synchronisation goes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import msgspec
from textual.binding import Binding, BindingType
from textual.widget import Widget

from appliance.core.console import Console
from appliance.core.memory.model import MemoryStatus
from appliance.core.state import Section
from appliance.errors import ApplianceError
from appliance.screens import deciding
from appliance.screens import format as f
from appliance.screens.chrome import Footer
from appliance.screens.editor import Editor
from appliance.screens.page import COMMON, Page
from appliance.screens.sides import LEGEND, Sides, side_lines
from appliance.screens.values import wrap
from appliance.screens.widgets.grid import Column, Grid, Row
from appliance.screens.widgets.lines import Line, LineView

EVERY = 10.0
"""Seconds after which the list is read again though nothing seems to have changed."""


class Waiting(Grid):
    """The list, where `k` keeps mine."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("k", "screen.decide('mine')", show=False)]


class Conflicts(Page):
    """Runs above, conflicts below, the two sides of the one under the cursor at the bottom."""

    page = "conflicts"
    sections = frozenset({Section.sync, Section.memory})
    keys = (("k", "Keep mine"), ("t", "Theirs"), ("b", "Both"), ("m", "Merged"), ("e", "Edit"), ("v", "View base"),
            ("r", "Run sync"), ("Tab", "Sides"))  # fmt: skip
    AUTO_FOCUS = "#conflicts"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("k", "decide('mine')", show=False), Binding("t", "decide('theirs')", show=False),
        Binding("b", "decide('both')", show=False), Binding("m", "decide('merged')", show=False),
        Binding("e", "edit", show=False), Binding("v", "view", show=False), Binding("r", "run", show=False),
    ]  # fmt: skip

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.stamp = f.Stamp()
        self._rows: tuple[dict[str, Any], ...] = ()
        self._compared: dict[str, Any] | None = None
        self._interval: float | None = None
        self._reading = self._stale = False

    def body(self) -> Iterable[Widget]:
        """Runs, list, sides."""
        yield LineView("Synchronisation", id="runs")
        yield Waiting(
            (
                Column("key"), Column("tier", 9), Column("mine"), Column("theirs"), Column("found", 11, least=100),
            ),
            "Conflicts",
            id="conflicts",
            empty="reading",
        )  # fmt: skip
        yield LineView(id="why")
        yield Sides("Sides", id="sides")

    def show(self, sections: frozenset[Section]) -> None:
        """Show the runs; the list is read again."""
        self._show_runs()
        self.read()

    def show_ages(self) -> None:
        """How old everything is; read the list again where that is due."""
        self.query_one("#runs", LineView).set_note(f.age(self.console.age(Section.sync)))
        self.query_one("#conflicts", Grid).set_note(f.age(self.stamp.age))
        self._show_runs()
        if (self.stamp.age or 0.0) > EVERY:
            self.read()

    def on_resize(self) -> None:
        """Lay it out anew."""
        self.set_class(self.size.height >= 40, "tall")
        self.call_after_refresh(self._show_sides, anew=True)
        self.call_after_refresh(self.refresh_all)

    def _show_runs(self) -> None:
        status = self.console.get(Section.memory).value
        cloud = [tier for tier in status.tiers if tier.level == 3] if isinstance(status, MemoryStatus) else []
        runs = {run["tier"]: run for run in msgspec.to_builtins(self.console.get(Section.sync).value or ())}
        told = [deciding.run_line(tier, runs.get(tier.name), self._interval, self.spark.glyphs) for tier in cloud]
        panel = self.query_one("#runs", LineView)
        lines = [part for line in told for part in wrap(line, max(1, self.size.width - 2))]
        panel.styles.height = 2 + max(1, len(lines))
        panel.set_lines(lines or [((" no cloud tier is configured: set s3.endpoint or documents.url", "muted"),)])

    def read(self) -> None:
        """Read the conflicts; what changes meanwhile is read afterwards."""
        self._stale = True
        if not self._reading:
            self._reading = True
            self.run_worker(self._read(), name="conflicts", group="conflicts", exit_on_error=False)

    async def _read(self) -> None:
        grid = self.query_one("#conflicts", Grid)
        try:
            while self._stale:
                self._stale = False
                self._interval = (await self.console.invoke("sync.status"))["interval_s"]
                self._rows = tuple(await self.console.invoke("sync.conflicts"))
                grid.set_empty("no conflicts: both sides agree")
                self.stamp.set()
                self._show_rows()
                await self._compare()
        except ApplianceError as error:
            self._rows, self._compared = (), None
            grid.set_empty(str(error))
            self._show_rows()
        finally:
            self._reading = False

    def _show_rows(self) -> None:
        grid = self.query_one("#conflicts", Grid)
        rows = tuple(Row(row["conflict_id"], deciding.conflict_cells(row)) for row in self._rows)
        if rows != grid.rows:
            grid.set_rows(rows)
        why = deciding.why_lines(self._current(), self.size.width)
        view = self.query_one("#why", LineView)
        view.styles.height = len(why)
        view.set_lines(why)

    async def _compare(self) -> None:
        """Read both sides of the conflict under the cursor, where they are not known yet."""
        row = self._current()
        before = self._compared
        if row is None:
            self._compared = None
        elif before is None or {name: before[name] for name in row} != row:
            try:
                self._compared = await self.console.invoke("sync.conflict", {"conflict_id": row["conflict_id"]})
            except ApplianceError as error:
                self._compared = None
                self.say(str(error), "bad")
        anew = (before or {}).get("conflict_id") != (self._compared or {}).get("conflict_id")
        if anew or before is not self._compared:
            self._show_sides(anew=anew)

    def _current(self) -> dict[str, Any] | None:
        key = self.query_one("#conflicts", Grid).key
        return next((row for row in self._rows if row["conflict_id"] == key), None)

    def _show_sides(self, *, anew: bool) -> None:
        sides, one = self.query_one("#sides", Sides), self._compared
        lines: list[Line] = []
        if one is not None:
            lines = side_lines(one["rows"], sides.inner_width, deciding.side(one, "mine"), deciding.side(one, "theirs"))
        sides.show_sides(lines, anew=anew)
        sides.set_note(f"{LEGEND}{deciding.base(one)}" if one is not None else "")
        offered = deciding.offered(one)
        self.query_one(Footer).set_keys([*(key for key in self.keys if key[0] in offered), *COMMON])

    def on_grid_selected(self) -> None:
        """Another conflict."""
        self.read()

    def action_run(self) -> None:
        """Synchronise now."""
        self.spark.flows.start(self.spark.flows.do("sync.run", {}, "synchronising; Jobs shows how it goes"), "sync")

    def action_view(self) -> None:
        """Show the base, and the clean merge."""
        if self._compared is not None:
            lines = deciding.base_lines(self._compared, self.size.width - 6)
            self.spark.flows.start(self.spark.flows.read("Base and merge", lines), "base")

    def action_decide(self, choice: str) -> None:
        """Settle the conflict under the cursor, after a confirmation."""
        one = self._compared
        if one is None:
            return
        if why_not := deciding.refusal(one, choice):
            self.say(why_not, "warn")
        else:
            self.spark.flows.start(self._decide(one, choice, None), "decide")

    async def _decide(self, one: dict[str, Any], choice: str, value: str | None) -> None:
        text = deciding.consequence(one, choice, value)
        await self.spark.flows.confirm("sync.resolve", "Decide", text, f"yes, {deciding.NAMES[choice]}")
        args = {"conflict_id": one["conflict_id"], "keep": choice, "seen": one["seen"]}
        args |= {} if value is None else {"value": value}
        try:
            await self.spark.flows.do("sync.resolve", args, f"{one['key']} is settled: {deciding.NAMES[choice]}")
        finally:
            self.read()

    def action_edit(self) -> None:
        """Write what both sides shall have."""
        one = self._compared
        if one is None:
            return
        if why_not := deciding.refusal(one, "value"):
            self.say(why_not, "warn")
        else:
            self.spark.flows.start(self._edit(one, one["editable"]), "edit")

    async def _edit(self, one: dict[str, Any], text: str) -> None:
        if self.spark.flows.may("sync.resolve"):
            text = await self.app.push_screen_wait(Editor(one["key"], text, is_json=one["kind"] == "json"))
            if text is None:
                return
        await self._decide(one, "value", text)

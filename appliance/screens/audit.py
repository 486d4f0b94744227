"""Audit: who did what, and whether the log is whole."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget

from appliance.core.console import Console
from appliance.core.model import AuditEntry
from appliance.errors import ApplianceError
from appliance.screens import format as f
from appliance.screens.page import Page
from appliance.screens.widgets.charts import badge
from appliance.screens.widgets.grid import Column, Grid, Row

EVERY = 5
"""Seconds between two looks while the page is seen."""


class Audit(Page):
    """The newest rows."""

    page = "audit"
    keys = (("v", "Verify"), ("Enter", "Detail"))
    BINDINGS: ClassVar[list[BindingType]] = [Binding("v", "verify", show=False)]

    _entries: tuple[AuditEntry, ...] = ()
    _ticks = 0
    _problem = ""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.stamp = f.Stamp()

    def body(self) -> Iterable[Widget]:
        """The table."""
        columns = (
            Column("no.", 6, "right"),
            Column("time", 11),
            Column("who", 10),
            Column("via", 8, least=100),
            Column("action", 20),
            Column("outcome", 10),
            Column("detail"),
        )
        yield Grid(columns, "Audit", id="audit", empty="reading")

    def refresh_all(self) -> None:
        """Read the rows."""
        super().refresh_all()
        self._look()

    def show_ages(self) -> None:
        """Read again now and then."""
        self._ticks += 1
        if self._ticks % EVERY == 0:
            self._look()
        self._note()

    def _note(self) -> None:
        self.query_one(Grid).set_note(f.age(self.stamp.age) + (f", {self._problem}" if self._problem else ""))

    def _look(self) -> None:
        self.run_worker(self._read(), name="audit", group="audit", exclusive=True, exit_on_error=False)

    async def _read(self) -> None:
        try:
            self._entries = tuple(await self.console.invoke("audit.list", {"limit": 300}))
        except ApplianceError as error:
            self._problem = f"not read: {error.message}"
            self.query_one(Grid).set_empty(str(error))
            self._note()
            return
        self._problem = ""
        self.stamp.set()
        self._note()
        self.query_one(Grid).set_empty("no rows yet")
        self.query_one(Grid).set_rows([row_of(entry, badge(entry.outcome, self.spark.glyphs)) for entry in self._entries])

    def on_grid_chosen(self, message: Grid.Chosen) -> None:
        """Show all of a row."""
        entry = next((entry for entry in self._entries if str(entry.seq) == message.key), None)
        if entry is not None:
            self.spark.flows.start(self.spark.flows.show(f"Row {entry.seq}", entry), "row")

    def action_verify(self) -> None:
        """Check the chain."""
        self.spark.flows.start(self._verify(), "verify")

    async def _verify(self) -> None:
        verdict = await self.console.invoke("audit.verify")
        if verdict.intact:
            self.say(f"intact: {verdict.rows} rows, {verdict.first_seq} to {verdict.last_seq}", "ok")
        else:
            self.say(f"ALTERED: {verdict.problem}", "bad")


def row_of(entry: AuditEntry, outcome: object) -> Row:
    """One entry as a row."""
    args = " ".join(f"{name}={value}" for name, value in entry.args.items())
    cells = (
        str(entry.seq),
        (f.clock(entry.time), "muted"),
        entry.actor,
        (entry.via, "muted"),
        (entry.action, "accent"),
        outcome,
        entry.detail or args,
    )
    return Row(str(entry.seq), cells)  # type: ignore[arg-type]

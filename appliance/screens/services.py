"""Services: health, reason, next step, restart."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget

from appliance.core.model import ServiceStatus
from appliance.core.state import Section
from appliance.screens import format as f
from appliance.screens.page import Page
from appliance.screens.rows import service_cells
from appliance.screens.values import wrap
from appliance.screens.widgets.grid import Column, Grid, Row
from appliance.screens.widgets.lines import Line, LineView


class Services(Page):
    """Every supervised service."""

    page = "services"
    sections = frozenset({Section.services})
    keys = (("r", "Restart"), ("Enter", "All of it"))
    needs = MappingProxyType({"r": "service.restart"})
    BINDINGS: ClassVar[list[BindingType]] = [Binding("r", "restart", show=False)]

    def body(self) -> Iterable[Widget]:
        """The table, and all of the one under the cursor."""
        yield Grid(
            (
                Column("service", 10),
                Column("health", 11),
                Column("reason"),
                Column("phase", 8),
                Column("restarts", 8, "right", 100),
                Column("since", 11),
                Column("checked", 8, "right", 100),
            ),
            "Services",
            id="services",
            empty="starting",
        )
        yield LineView("Detail", id="detail")

    def show(self, sections: frozenset[Section]) -> None:
        """Show the rows and the detail."""
        rows = []
        for status in self.console.get(Section.services).value or ():
            tail = (
                status.phase.value,
                str(status.restarts),
                (f.clock(status.since), "muted"),
                (f.clock(status.checked), "muted"),
            )
            rows.append(Row(status.name, (*service_cells(status, self.spark.glyphs), *tail)))  # type: ignore[arg-type]
        self.query_one("#services", Grid).set_rows(rows)
        self._detail()

    def show_ages(self) -> None:
        """How old the table is."""
        self.query_one("#services", Grid).set_note(f.age(self.console.age(Section.services)))

    def on_grid_selected(self) -> None:
        """Another row."""
        self._detail()

    def _current(self) -> ServiceStatus | None:
        key = self.query_one("#services", Grid).key
        return next((status for status in self.console.get(Section.services).value or () if status.name == key), None)

    def _detail(self) -> None:
        status = self._current()
        if status is None:
            return
        details = ", ".join(f"{name} {value}" for name, value in status.details.items())
        lines: list[Line] = [
            ((f" {status.name}: ", "title"), (status.summary, "text")),
            ((" reason    ", "muted"), (status.reason, "text")),
            ((" next step ", "muted"), (status.next_step or f.NONE, "warn" if status.next_step else "muted")),
            (
                (" needs     ", "muted"),
                (", ".join(status.depends) or "nothing", "text"),
                ("   restarts ", "muted"),
                (str(status.restarts), "text"),
                (f"   {details}", "muted"),
            ),
        ]
        panel = self.query_one("#detail", LineView)
        panel.set_lines([part for line in lines for part in wrap(line, max(1, panel.inner_width))])

    def on_grid_chosen(self) -> None:
        """Show all of one."""
        if (status := self._current()) is not None:
            self.spark.flows.start(self.spark.flows.show(status.name, status), "service")

    def on_resize(self) -> None:
        """Lay the detail out anew."""
        self.call_after_refresh(self._detail)

    def action_restart(self) -> None:
        """Restart the one under the cursor."""
        status = self._current()
        if status is not None:
            self.say(f"restarting {status.name}")
            self.spark.flows.start(
                self.spark.flows.do("service.restart", {"name": status.name}, f"{status.name} was restarted"), "restart"
            )

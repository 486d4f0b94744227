"""Jobs: progress, cancel, result."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget

from appliance.core.state import Section
from appliance.screens import format as f
from appliance.screens.page import Page
from appliance.screens.rows import job_cells
from appliance.screens.widgets.grid import Column, Grid, Row


class Jobs(Page):
    """Every job that is kept, newest first."""

    page = "jobs"
    sections = frozenset({Section.jobs})
    keys = (("Enter", "Result"), ("c", "Cancel"))
    needs = MappingProxyType({"c": "job.cancel"})
    BINDINGS: ClassVar[list[BindingType]] = [Binding("c", "cancel", show=False)]

    def body(self) -> Iterable[Widget]:
        """The table."""
        columns = (
            Column("job"),
            Column("state", 13),
            Column("done", 6, "right"),
            Column("owner", 8),
            Column("created", 11),
            Column("now", 0),
        )
        yield Grid(columns, "Jobs", id="jobs", empty="no jobs yet; try the command inference: run")

    def show(self, sections: frozenset[Section]) -> None:
        """Show the rows."""
        self.query_one(Grid).set_rows(
            [Row(job.job_id, job_cells(job, self.spark.glyphs)) for job in self.console.get(Section.jobs).value or ()]
        )

    def show_ages(self) -> None:
        """How old the table is."""
        self.query_one(Grid).set_note(f.age(self.console.age(Section.jobs)))

    def on_grid_chosen(self, message: Grid.Chosen) -> None:
        """Show all of a job."""
        job = next((job for job in self.console.get(Section.jobs).value or () if job.job_id == message.key), None)
        if job is not None:
            self.spark.flows.start(self.spark.flows.show(job.name, job), "job")

    def action_cancel(self) -> None:
        """Cancel the one under the cursor."""
        key = self.query_one(Grid).key
        if key:
            self.spark.flows.start(self.spark.flows.do("job.cancel", {"job_id": key}, "cancelled"), "cancel")

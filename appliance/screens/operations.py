"""Operations: what is planned, done and was done on machines, how far it is on each, and what it would change there."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget

from appliance.core.clock import monotonic
from appliance.core.console import Console
from appliance.core.fleet.operations.model import NodeRun, OperationStatus
from appliance.core.state import Section
from appliance.screens import format as f
from appliance.screens import operations_view as view
from appliance.screens.fleet_acts import Back
from appliance.screens.operations_acts import Acts
from appliance.screens.page import Page
from appliance.screens.panelled import own_keys
from appliance.screens.values import wrap
from appliance.screens.widgets.grid import Grid
from appliance.screens.widgets.lines import LineView

TALL = 36
"""Lines from which what is known of the machine under the cursor is seen too."""
MOST_HEAD = 6
"""Lines about the operation."""
NOTHING = "nothing was done yet: r on the Fleet page runs a command on machines"
PANELS = ("operations", "runs")


class Operations(Page):
    """All operations above, the machines of one below; belongs to the Fleet page.

    Args:
        console: The appliance.
        operation_id: The one to look at first.
        back: Makes the page that Esc leads to.
    """

    page = "fleet"
    inner = True
    sections = frozenset({Section.operations})
    keys = (
        ("Enter", "Output"), ("y", "Carry out"), ("x", "Stop"), ("u", "Take back"), ("i", "Changes"), ("Tab", "Next panel"),
        ("Esc", "Back"),
    )  # fmt: skip
    needs = MappingProxyType({"y": "fleet.apply", "x": "fleet.operation-cancel", "u": "fleet.operation-undo"})
    AUTO_FOCUS = "#operations"
    BINDINGS: ClassVar[list[BindingType]] = [
        *own_keys((("y", "apply"), ("x", "cancel"), ("u", "undo"), ("i", "changes"), ("escape", "back"))),
        Binding("tab,shift+tab", "panel", show=False),
    ]

    def __init__(self, console: Console, operation_id: str = "", back: Back | None = None) -> None:
        super().__init__(console)
        self.acts = Acts(self, back)
        self._goal = operation_id
        """An operation that the cursor goes to as soon as it is there."""

    def body(self) -> Iterable[Widget]:
        """The operations, one of them in a few lines, its machines, one of these."""
        yield Grid(
            view.OPERATIONS, "Operations", id="operations", empty="nothing was done yet: r on the Fleet page runs a command"
        )
        yield LineView(id="head")
        yield Grid(view.RUNS, "Machines", id="runs", empty="no operation is chosen")
        yield LineView("Machine", id="detail")

    @property
    def all(self) -> tuple[OperationStatus, ...]:
        """All that are known, newest first."""
        return self.console.get(Section.operations).value or ()

    @property
    def operation(self) -> OperationStatus | None:
        """The one under the cursor."""
        key = self.query_one("#operations", Grid).key
        return next((each for each in self.all if each.operation_id == key), None)

    @property
    def run(self) -> NodeRun | None:
        """The machine under the cursor."""
        operation, key = self.operation, self.query_one("#runs", Grid).key
        return next((each for each in operation.runs if each.node == key), None) if operation is not None else None

    def choose(self, operation_id: str) -> None:
        """Look at another one as soon as it is there."""
        self._goal = operation_id
        self.show(self.sections)

    def show(self, sections: frozenset[Section]) -> None:
        """Show what is now."""
        grid = self.query_one("#operations", Grid)
        grid.highlight = True
        rows = view.operation_rows(self.all, self.spark.glyphs)
        grid.set_rows(rows)
        keys = [row.key for row in rows]
        if self._goal in keys:
            grid.move_to(keys.index(self._goal))
            self._goal = ""
            self.query_one("#runs", Grid).focus()
        self._show_operation()

    def _show_operation(self) -> None:
        operation, head, runs = self.operation, self.query_one("#head", LineView), self.query_one("#runs", Grid)
        lines = [] if operation is None else view.head_lines(operation, monotonic(), self.spark.glyphs)
        shown = [part for line in lines for part in wrap(line, max(1, self.size.width - 1))][:MOST_HEAD]
        head.styles.height = len(shown)
        head.set_lines(shown)
        runs.set_rows([] if operation is None else view.run_rows(operation, self.spark.glyphs))
        self._show_run()

    def _show_run(self) -> None:
        panel, run, operation = self.query_one("#detail", LineView), self.run, self.operation
        if panel.display:
            lines = [] if run is None or operation is None else view.run_lines(run, operation, self.spark.glyphs)
            panel.set_lines([part for line in lines for part in wrap(line, max(1, panel.inner_width - 1))])

    def show_ages(self) -> None:
        """How old the tables are; what is under way counts on."""
        for name in PANELS:
            self.query_one(f"#{name}", Grid).set_note(f.age(self.console.age(Section.operations)))
        operation = self.operation
        if operation is not None and operation.stage in view.UNDER_WAY:
            self._show_operation()

    def on_resize(self) -> None:
        """Lay it out anew."""
        self.set_class(self.size.height >= TALL, "tall")
        self.query_one("#detail").display = self.size.height >= TALL
        self.call_after_refresh(self.refresh_all)

    def on_grid_selected(self, message: Grid.Selected) -> None:
        """Another operation, or another machine."""
        if message.grid.id == "operations":
            self._show_operation()
        else:
            self._show_run()

    def on_grid_chosen(self, message: Grid.Chosen) -> None:
        """To the operation's machines, or to all that one of them said."""
        if message.grid.id == "operations":
            self.query_one("#runs", Grid).focus()
        else:
            self.acts.do("output")

    def action_panel(self) -> None:
        """To the other table."""
        here = self.focused.id if self.focused is not None else ""
        self.query_one(f"#{PANELS[1] if here == PANELS[0] else PANELS[0]}", Grid).focus()

    def action_do(self, what: str) -> None:
        """One of the page's own keys."""
        self.acts.do(what)

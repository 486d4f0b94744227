"""Tasks: the queue by priority, what has ended, the workers, the schedules."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import ClassVar

from textual.binding import BindingType
from textual.widget import Widget

from appliance.core.clock import monotonic
from appliance.core.console import Console
from appliance.core.state import Section
from appliance.core.tasks.model import TasksStatus
from appliance.screens import format as f
from appliance.screens import tasks_view as view
from appliance.screens.panelled import Panelled, own_keys
from appliance.screens.streams_view import flow
from appliance.screens.tasks_acts import Acts
from appliance.screens.widgets.grid import Grid
from appliance.screens.widgets.lines import LineView


class Tasks(Panelled):
    """How much waits above; queue, history, workers and schedules below."""

    page = "tasks"
    titles = MappingProxyType({"queue": "Queue", "history": "History", "workers": "Workers", "schedules": "Schedules"})
    homes = MappingProxyType({name: frozenset({name}) for name in titles})
    lists = MappingProxyType({name: name for name in titles})
    room = (100, 36)
    sections = frozenset({Section.tasks})
    keys = (
        ("Tab", "Next panel"), ("n", "Submit"), ("x", "Cancel"), ("y", "Retry"), ("a", "Schedule"), ("e", "On/off"),
        ("r", "Run now"), ("d", "Remove"), ("Enter", "All"),
    )  # fmt: skip
    needs = MappingProxyType({
        "n": "task.submit", "x": "task.cancel", "y": "task.retry", "a": "schedule.add", "e": "schedule.enable",
        "r": "schedule.run", "d": "schedule.remove",
    })  # fmt: skip
    AUTO_FOCUS = "#queue"
    BINDINGS: ClassVar[list[BindingType]] = own_keys((
        ("n", "submit"), ("x", "cancel"), ("y", "retry"), ("a", "add"), ("e", "switch"), ("r", "run"), ("d,delete", "remove"),
    ))  # fmt: skip

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.acts = Acts(self)

    def body(self) -> Iterable[Widget]:
        """One line, what is wrong, four tables."""
        yield LineView(id="head")
        yield LineView(id="trouble")
        yield Grid(view.QUEUE, self.titles["queue"], id="queue", empty="nothing waits and nothing runs; n submits a task")
        yield Grid(view.HISTORY, self.titles["history"], id="history", empty="no task has ended yet")
        yield Grid(view.WORKERS, self.titles["workers"], id="workers", empty="no worker is known")
        yield Grid(view.SCHEDULES, self.titles["schedules"], id="schedules", empty="nothing is scheduled; a adds one")

    @property
    def status(self) -> TasksStatus:
        """As it was put last."""
        found = self.console.get(Section.tasks).value
        return found if isinstance(found, TasksStatus) else TasksStatus()

    @property
    def chosen(self) -> tuple[str, str]:
        """(panel, key of the row under its cursor)."""
        focused = self.focused
        grid = focused if isinstance(focused, Grid) else self.query_one(f"#{self.panel}", Grid)
        return grid.id or "", grid.key

    def show(self, sections: frozenset[Section]) -> None:
        """Show what is now."""
        status = self.status
        self.query_one("#head", LineView).set_lines([view.head_line(status, self.spark.glyphs)])
        lines = flow(view.trouble(status), max(1, self.size.width))[:2]
        trouble = self.query_one("#trouble", LineView)
        trouble.styles.height = len(lines)
        trouble.set_lines(lines)
        self._show_rows(status)

    def _show_rows(self, status: TasksStatus) -> None:
        self.query_one("#queue", Grid).set_rows(view.queue_rows(status))
        self.query_one("#history", Grid).set_rows(view.history_rows(status))
        self.query_one("#workers", Grid).set_rows(view.worker_rows(status, monotonic(), self.spark.glyphs))
        self.query_one("#schedules", Grid).set_rows(view.schedule_rows(status))

    def show_ages(self) -> None:
        """How old everything is."""
        age = f.age(self.console.age(Section.tasks))
        for name in self.titles:
            self.query_one(f"#{name}", LineView).set_note(age)
        self._show_rows(self.status)

"""Analytics: one metric over time, as lines to compare, zoom, move, read to the value, and take away as a file."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

import msgspec
from textual.binding import Binding, BindingType
from textual.widget import Widget

from appliance.core.analytics.model import Answer, QualityFinding
from appliance.core.console import Console
from appliance.core.state import Section
from appliance.errors import ApplianceError
from appliance.screens import analytics_view as view
from appliance.screens import format as f
from appliance.screens.analytics_acts import Acts
from appliance.screens.analytics_ask import BUCKETS, Ask, first_of
from appliance.screens.page import Page
from appliance.screens.streams_view import flow
from appliance.screens.units import unit_of
from appliance.screens.widgets.grid import Grid
from appliance.screens.widgets.lines import Line, LineView

GUTTER = 14
"""Cells beside the values, about."""
AGAIN = 3.0
"""Seconds after which is asked again what was not answered."""


class Analytics(Page):
    """The question above, the plot, its lines as a table, and where the answer comes from."""

    page = "analytics"
    sections = frozenset({Section.quality})
    keys = (
        ("m", "Metric"), ("t", "Time"), ("d", "Devices"), ("c", "Compare"), ("+ -", "Zoom"), ("< >", "Move"), ("x", "Export"),
        ("a", "Aggregation"), ("b", "Bucket"), ("← →", "Cursor: the value of a bucket; Shift: ten"), ("n", "Up to now"),
        ("f", "Findings about the data"), ("r", "Read anew, not from the cache"), ("Enter", "The line as a table"),
    )  # fmt: skip
    AUTO_FOCUS = "#series"
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key, f"do('{name}')", show=False) for key, name in (
            ("m", "metric"), ("t", "time"), ("d", "devices"), ("a", "aggregation"), ("b", "bucket"), ("x", "export"),
            ("f", "findings"),
        )),
        Binding("c", "compare", show=False), Binding("n", "now", show=False), Binding("r", "anew", show=False),
        Binding("plus,equals_sign", "zoom(0.5)", show=False), Binding("minus,underscore", "zoom(2)", show=False),
        Binding("less_than_sign,comma", "move(-0.5)", show=False),
        Binding("greater_than_sign,full_stop", "move(0.5)", show=False),
        Binding("left", "cursor(-1)", show=False), Binding("right", "cursor(1)", show=False),
        Binding("shift+left", "cursor(-10)", show=False), Binding("shift+right", "cursor(10)", show=False),
        Binding("escape", "cursor(0)", show=False),
    ]  # fmt: skip

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.acts = Acts(self)
        self.ask = Ask()
        self.answer: Answer | None = None
        self.devices: int | None = None
        self.cursor: float | None = None
        self._stamp = f.Stamp()
        self._tried = 0.0
        self._fault: ApplianceError | None = None
        self._reading = self._again = self._fresh = False

    def body(self) -> Iterable[Widget]:
        """The question, the plot, the table, the source."""
        yield LineView(id="question")
        yield LineView("Plot", id="plot")
        yield Grid(view.SERIES, "Lines", id="series", empty="nothing was found")
        yield LineView(id="source")

    @property
    def columns(self) -> int:
        """Points that a line has room for."""
        cells = max(20, self.size.width - GUTTER - 2)
        return cells if self.spark.caps.is_console else 2 * cells

    @property
    def step(self) -> float:
        """Seconds of a bucket of the answer."""
        name = self.answer.query.bucket if self.answer is not None else ""
        return float(dict(BUCKETS).get(name) or self.ask.width_of(self.columns)[1])

    @property
    def findings(self) -> tuple[QualityFinding, ...]:
        """What is wrong with the data, as it was last told."""
        return tuple(self.console.get(Section.quality).value or ())

    def show(self, sections: frozenset[Section]) -> None:
        """Show what is there, and ask where nothing was asked yet."""
        self.draw()
        if not self.answer:
            self.read()

    def show_ages(self) -> None:
        """How old the answer is; ask again where the range goes on and it is time."""
        self._show_source()
        note = "range ends now" if self.ask.until is None else "held; n: up to now"
        self.query_one("#plot", LineView).set_note(f"{note}, {f.age(self._stamp.age)}")
        pause = self.ask.pause(self.columns) if self.answer is not None else AGAIN
        if self.ask.until is None and time.monotonic() - self._tried >= pause:
            self.read()

    def on_resize(self) -> None:
        """Another width takes another bucket."""
        self.set_class(self.size.height >= 40, "tall")
        self.call_after_refresh(self.refresh_all)
        self.call_after_refresh(self.read)

    def set_ask(self, ask: Ask) -> None:
        """Ask something else."""
        self.ask = ask
        self.read()
        self.draw()

    def read(self, *, fresh: bool = False) -> None:
        """Ask; what is changed meanwhile is asked afterwards."""
        self._again, self._fresh = True, self._fresh or fresh
        if not self._reading:
            self._reading = True
            self.run_worker(self._read(), name="analytics", group="analytics", exit_on_error=False)

    async def _read(self) -> None:
        try:
            while self._again:
                self._again = False
                self._tried = time.monotonic()
                await self._read_once()
        finally:
            self._reading = False
        self.draw()

    async def _read_once(self) -> None:
        fresh, self._fresh = self._fresh, False
        try:
            if not self.ask.metric:
                await self._begin()
            if self.devices is None:
                self.devices = len(await self.console.invoke("analytics.devices", {"metric": self.ask.metric}))
            asked = self.ask
            args = asked.arguments(time.time(), self.columns) | {"fresh": fresh}
            found = msgspec.convert(msgspec.to_builtins(await self.console.invoke("analytics.query", args)), Answer)
        except ApplianceError as error:
            self._fault, self.answer, self._stamp.at = error, None, None
            return
        if asked == self.ask:
            self._fault, self.answer = None, found
            self._stamp.set()

    async def _begin(self) -> None:
        """Take a first metric."""
        known = list(await self.console.invoke("analytics.metrics"))
        if not (first := first_of(known)):
            raise ApplianceError("There are no readings yet.", "they come a few seconds after the start; look at Services.")
        self.ask = replace(self.ask, metric=first)

    def draw(self) -> None:
        """Show the question and its answer."""
        if not self.is_attached:
            return
        unit = unit_of(self.ask.metric, self.ask.aggregation)
        bucket = self.answer.query.bucket if self.answer is not None else self.ask.width_of(self.columns)[0]
        self._show_question(bucket)
        grid = self.query_one("#series", Grid)
        rows = view.series_rows(self.answer, unit, self.cursor, self.step) if self.answer is not None else []
        grid.set_empty("no answer" if self._fault is not None else "no readings in this range")
        grid.styles.height = 3 + max(1, len(rows))
        grid.set_rows(rows)
        self._show_plot()
        self._show_source()

    def _show_question(self, bucket: str) -> None:
        lines = flow(view.question_pieces(self.ask, bucket, self.devices), self.size.width)
        question = self.query_one("#question", LineView)
        question.styles.height = max(1, len(lines))
        question.set_lines(lines)

    def _show_plot(self) -> None:
        panel = self.query_one("#plot", LineView)
        title = view.plot_title(self.ask, self.cursor, self.step)
        if panel.box_title != title:
            panel.box_title = title
            panel.repaint(0)
        panel.set_lines(self._plot_lines(panel.inner_width, panel.inner_height))

    def _plot_lines(self, width: int, height: int) -> list[Line]:
        if self._fault is not None:
            return view.fault_lines(self._fault, width)
        unit = unit_of(self.ask.metric, self.ask.aggregation)
        fine = not self.spark.caps.is_console
        return view.plot_lines(self.answer, unit, self.cursor, self.step, width, height, fine=fine)

    def _show_source(self) -> None:
        if self.answer is None:
            self.query_one("#source", LineView).set_lines([])
            return
        age = max(0.0, time.time() - self.answer.as_of)
        pieces = view.answer_pieces(self.answer, age, self.spark.glyphs)
        pieces.append(view.quality_piece(self.findings, self.ask.metric, self.spark.glyphs))
        lines = flow(pieces, self.size.width)
        source = self.query_one("#source", LineView)
        source.styles.height = max(1, len(lines))
        source.set_lines(lines)

    def on_grid_chosen(self, message: Grid.Chosen) -> None:
        """A line as a table."""
        if self.answer is not None:
            series = self.answer.series[int(message.key)]
            self.spark.flows.start(self.spark.flows.show(view.name_of(series), view.table_of(series, self.ask)), "line")

    def action_do(self, what: str) -> None:
        """Change a part of the question, or take the answer away."""
        self.acts.do(what)

    def action_compare(self) -> None:
        """One line for each device, or one for all."""
        self.set_ask(replace(self.ask, compare=not self.ask.compare))

    def action_now(self) -> None:
        """Let the range end now."""
        self.set_ask(replace(self.ask, until=None))

    def action_anew(self) -> None:
        """Ask the store, not the cache."""
        self.read(fresh=True)

    def action_zoom(self, factor: float) -> None:
        """More or less time, about the cursor, else about the end."""
        now = time.time()
        around = self.cursor if self.cursor is not None else self.ask.window(now)[1]
        self.set_ask(self.ask.zoomed(factor, around, now))

    def action_move(self, by: float) -> None:
        """Earlier or later."""
        self.set_ask(self.ask.moved(by, time.time()))

    def action_cursor(self, by: int) -> None:
        """To the next bucket, or the one before; 0 takes the cursor away."""
        if self.answer is None or not by:
            self.cursor = None
        else:
            self.cursor = view.moved_cursor(self.cursor, by, self.answer.query, self.step)
        self.draw()

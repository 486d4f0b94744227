"""Inference: drivers, what goes through them, the last results of all tasks, latency, cache, fallbacks."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import Any, ClassVar

from textual.binding import BindingType
from textual.containers import Horizontal
from textual.widget import Widget

from appliance.core.console import Console
from appliance.core.inference.status import InferenceStatus
from appliance.core.model import InferenceResult
from appliance.core.state import Section
from appliance.screens import format as f
from appliance.screens import inference_view as view
from appliance.screens.inference_acts import Acts
from appliance.screens.inference_found import fact_lines, finding_lines, found
from appliance.screens.panelled import ALL, Panelled, own_keys
from appliance.screens.picture import PictureView, Wanted
from appliance.screens.streams_view import flow
from appliance.screens.values import wrap
from appliance.screens.widgets.grid import Grid, Row
from appliance.screens.widgets.lines import LineView

__all__ = ["Inference", "PictureView"]

MOST = 5
"""Lines that tell of troubles with drivers at most: the panels below need room too."""
BESIDE = 8
"""Cells that a dialog has beside its text."""


class Inference(Panelled):
    """Drivers and figures above; one of the panels below, all of them where there is room."""

    page = "inference"
    titles = MappingProxyType({"results": "Results", "work": "Latency", "fallbacks": "Fallbacks"})
    homes = MappingProxyType({
        "first": frozenset({"results"}), "second": frozenset({"work", "fallbacks"}), "work": frozenset({"work"}),
        "flow": frozenset({"work"}), "fallbacks": frozenset({"fallbacks"}), "findings": frozenset(),
    })  # fmt: skip
    lists = MappingProxyType({"results": "results", "fallbacks": "fallbacks"})
    room = (110, 44)
    sections = frozenset({Section.inference, Section.results, Section.jobs})
    keys = (
        ("Tab", "Next panel"), ("o", "Open"), ("O", "Open with options"), ("Enter", "All findings"), ("d", "Drivers"),
        ("b", "Benchmark"), ("x", "Empty cache"), ("i", "All figures"),
    )  # fmt: skip
    needs = MappingProxyType({
        "o": "inference.run", "O": "inference.run", "b": "model.bench", "x": "inference.cache-clear",
    })  # fmt: skip
    AUTO_FOCUS = "#results"
    BINDINGS: ClassVar[list[BindingType]] = own_keys((
        ("o", "open"), ("O", "options"), ("d", "drivers"), ("b", "bench"), ("x", "clear"), ("i", "all"),
    ))  # fmt: skip

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.acts = Acts(self)
        self.awaited = ""
        """The result that the reader asked for and that is not in the table yet."""

    def body(self) -> Iterable[Widget]:
        """The drivers, lines about them, panels."""
        drivers = Grid(view.DRIVERS, "Drivers", id="drivers", empty="not read yet: inference is starting")
        drivers.can_focus = False
        yield drivers
        yield LineView(id="trouble")
        yield LineView(id="figures")
        with Horizontal(id="first"):
            yield Grid(view.RESULTS, self.titles["results"], id="results", empty="press o and name a picture or a recording")
            yield PictureView(id="picture")
            yield LineView("Findings", id="findings")
        with Horizontal(id="second"):
            yield LineView(self.titles["work"], id="work")
            yield LineView("Throughput and cache", id="flow")
            none = "none: every request ran where it should"
            yield Grid(view.FALLBACKS, self.titles["fallbacks"], id="fallbacks", empty=none)

    @property
    def status(self) -> InferenceStatus | None:
        """Inference as it was last seen."""
        status = self.console.get(Section.inference).value
        return status if isinstance(status, InferenceStatus) else None

    @property
    def results(self) -> tuple[InferenceResult, ...]:
        """Newest first."""
        return self.console.get(Section.results).value or ()

    @property
    def result(self) -> InferenceResult | None:
        """The one under the cursor."""
        key = self.query_one("#results", Grid).key
        return next((each for each in self.results if each.result_id == key), None)

    def show(self, sections: frozenset[Section]) -> None:
        """Show what changed."""
        if (status := self.status) is not None and sections & {Section.inference, Section.jobs}:
            self._show_status(status)
        if Section.results in sections:
            cells = {each.result_id: self._cells(each) for each in self.results}
            self.query_one("#results", Grid).set_rows([Row(key, row) for key, row in cells.items()])
            self.go_to_awaited()
            self._show_result()

    def _cells(self, result: InferenceResult) -> Any:
        on = ("cache", "ok") if result.cached else (result.backend, "warn" if result.fell_back else "muted")
        return ((f.clock(result.time), "muted"), (f.ms(result.total_time_ms), "muted"), on, found(result))

    def _show_status(self, status: InferenceStatus) -> None:
        glyphs, engine, width = self.spark.glyphs, status.engine, max(1, self.size.width)
        drivers = self.query_one("#drivers", Grid)
        drivers.set_rows(view.driver_rows(engine, glyphs))
        drivers.set_empty("no driver: see Services for why")
        drivers.styles.height = 3 + max(1, len(engine.devices))
        jobs = self.console.get(Section.jobs).value or ()
        running = [*view.job_pieces(jobs, "infer ", glyphs), *view.job_pieces(jobs, "bench ", glyphs)]
        short = not self.has_class(ALL)
        parts = (view.work_pieces(status, short=short), view.queue_pieces(engine, short=short), running)
        self._fill("trouble", flow(view.trouble_pieces(engine, glyphs), width)[:MOST])
        self._fill("figures", [line for part in parts for line in flow(part, width)])
        work, rest = self.query_one("#work", LineView), self.query_one("#flow", LineView)
        room = (work.inner_width, work.inner_height)
        work.set_lines(view.histogram_lines(status.histogram, status.p50_ms, room, glyphs))
        figures = view.figure_lines(status, glyphs)
        rest.set_lines([part for line in figures for part in wrap(line, max(1, rest.inner_width))])
        self.query_one("#fallbacks", Grid).set_rows(view.fallback_rows(engine.last_fallbacks))

    def _fill(self, name: str, lines: list[Any]) -> None:
        shown = self.query_one(f"#{name}", LineView)
        shown.styles.height = len(lines)
        shown.set_lines(lines)

    def go_to_awaited(self) -> None:
        """Put the cursor on the result that the reader asked for, as soon as it is there."""
        grid = self.query_one("#results", Grid)
        index = next((index for index, row in enumerate(grid.rows) if row.key == self.awaited), None)
        if index is not None:
            self.awaited = ""
            grid.move_to(index)

    def show_ages(self) -> None:
        """How old the figures and the results are."""
        age, old = f.age(self.console.age(Section.inference)), f.age(self.console.age(Section.results))
        for name in ("drivers", "work", "flow"):
            self.query_one(f"#{name}", LineView).set_note(age)
        tab = "" if self.has_class(ALL) else f"Tab: {self.titles[self.next_panel()].lower()}, "
        self.query_one("#results", Grid).set_note(tab + old if self.size.width >= self.room[0] or not tab else old)
        fallbacks = self.query_one("#fallbacks", Grid)
        if (status := self.status) is not None:
            fallbacks.set_rows(view.fallback_rows(status.engine.last_fallbacks))
        fallbacks.set_note(age)

    def lay_out(self) -> None:
        """As every page with panels; the picture is drawn anew for its place."""
        self.query_one(PictureView).forget()
        super().lay_out()

    def on_screen_suspend(self) -> None:
        """Another page or a dialog is over this one: no picture may lie over that."""
        self.query_one(PictureView).forget()

    def on_grid_selected(self, message: Grid.Selected) -> None:
        """Another result."""
        if message.grid.id == "results":
            self._show_result()

    def _show_result(self) -> None:
        """The picture and the findings of the result under the cursor."""
        result, picture = self.result, self.query_one(PictureView)
        findings = self.query_one("#findings", LineView)
        if result is None:
            picture.tell([])
            findings.set_lines([])
            return
        name, width = result.source.rpartition("/")[2], findings.inner_width
        if result.width:
            picture.want(Wanted("inference.preview", {"result_id": result.result_id}, result.result_id, name))
        else:
            picture.tell(self.all_of(result, picture.inner_width), name)
        findings.set_lines(self.all_of(result, width))

    def all_of(self, result: InferenceResult, width: int = 0) -> list[Any]:
        """A result with all its findings as lines."""
        room = max(1, width or self.size.width - BESIDE)
        facts = [part for line in fact_lines(result, room) for part in wrap(line, room)]
        return [*facts, (), *finding_lines(result, room, self.spark.glyphs)]

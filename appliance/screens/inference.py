"""Inference: run the model on pictures of this machine; results, with the picture and its boxes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from types import MappingProxyType
from typing import Any, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.strip import Strip
from textual.widget import Widget

from appliance.core.model import InferenceResult, InferenceStats
from appliance.core.state import Section
from appliance.errors import ApplianceError
from appliance.screens import format as f
from appliance.screens.glyphs import Colours
from appliance.screens.page import Page
from appliance.screens.widgets.grid import Column, Grid, Row
from appliance.screens.widgets.lines import Line, LineView

CONSOLE_NAMES = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")


class PictureView(LineView):
    """A picture as cells."""

    def __init__(self, id: str) -> None:
        super().__init__("Picture", id=id)
        self._cells: list[Any] = []

    def set_cells(self, cells: list[Any]) -> None:
        """Show another picture; none where empty."""
        self._cells = cells
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Cells inside the box."""
        row = y - 1
        if not 0 <= row < min(len(self._cells), self.inner_height):
            return super().render_line(y)
        pad = max(0, self.inner_width - len(self._cells[row]))
        edge = self._strip((("│", "border"),), 1)
        blank = self._strip(((" " * pad, "text"),), pad)
        body = [
            Segment(char, Style(color=colour(fore), bgcolor=colour(back)))
            for char, fore, back in self._cells[row][: self.inner_width]
        ]
        return Strip([*edge, *body, *blank, *edge], self.size.width)


def colour(value: Any) -> str:
    """A cell's colour as rich has it."""
    if isinstance(value, int):
        return ("bright_" if value > 7 else "") + CONSOLE_NAMES[value % 8]
    return f"rgb({value[0]},{value[1]},{value[2]})"


class Inference(Page):
    """Results to the left, the picture to the right."""

    page = "inference"
    sections = frozenset({Section.inference, Section.results})
    keys = (("o", "Open pictures"), ("Enter", "All boxes"), ("i", "Models"))
    needs = MappingProxyType({"o": "inference.run"})
    BINDINGS: ClassVar[list[BindingType]] = [Binding("o", "open", show=False), Binding("i", "models", show=False)]

    _drawn = ""
    _awaited = ""
    """The result that the reader asked for and that is not in the table yet."""

    def body(self) -> Iterable[Widget]:
        """Counters above, results and picture below."""
        yield LineView("Model", id="stats")
        with Horizontal():
            yield Grid((Column("time", 8), Column("found")), "Results", id="results", empty="press o and name a picture")
            yield PictureView("picture")

    def show(self, sections: frozenset[Section]) -> None:
        """Show what changed."""
        if Section.inference in sections:
            self._show_stats()
        if Section.results in sections:
            results = self.console.get(Section.results).value or ()
            self.query_one("#results", Grid).set_rows(
                [Row(r.result_id, ((f.clock(r.time), "muted"), found(r))) for r in results]
            )
            self._go_to_awaited()
            self._draw()

    def _go_to_awaited(self) -> None:
        """Put the cursor on the result that the reader asked for, as soon as it is there."""
        grid = self.query_one("#results", Grid)
        index = next((index for index, row in enumerate(grid.rows) if row.key == self._awaited), None)
        if index is not None:
            self._awaited = ""
            grid.move_to(index)

    def show_ages(self) -> None:
        """How old the counters and the results are."""
        self.query_one("#stats", LineView).set_note(f.age(self.console.age(Section.inference)))
        self.query_one("#results", Grid).set_note(f.age(self.console.age(Section.results)))

    def on_resize(self) -> None:
        """Draw for the new size."""
        self._drawn = ""
        self.spark.overlay.clear()
        self.call_after_refresh(self._draw)

    def on_screen_suspend(self) -> None:
        """Another page or a dialog is over this one: no picture may lie over that."""
        self._drawn = ""
        self.spark.overlay.clear()

    def _show_stats(self) -> None:
        stats = self.console.get(Section.inference).value
        lines: list[Line] = [((" no model: see Services for why", "warn"),)]
        if isinstance(stats, InferenceStats):
            lines = [
                (
                    (f" {stats.model}", "title"),
                    (f" on {stats.backend}", "text"),
                    ("   since start ", "muted"),
                    (f"{stats.total} results, {stats.errors} failures", "text"),
                ),
                (
                    (" time for a picture ", "muted"),
                    (f"p50 {f.milliseconds(stats.p50_ms)}, p95 {f.milliseconds(stats.p95_ms)}", "text"),
                ),
            ]
        self.query_one("#stats", LineView).set_lines(lines)

    def _current(self) -> InferenceResult | None:
        key = self.query_one("#results", Grid).key
        return next((result for result in self.console.get(Section.results).value or () if result.result_id == key), None)

    def on_grid_selected(self) -> None:
        """Another result."""
        self._draw()

    def on_grid_chosen(self) -> None:
        """Show every box."""
        if (result := self._current()) is not None:
            lines: list[Line] = [
                ((result.source, "title"),),
                (
                    (
                        (
                            f"{result.width} x {result.height}, {result.model} {result.model_version} on {result.backend}, "
                            f"model {result.inference_time_ms:.0f} ms, in all {result.total_time_ms:.0f} ms"
                        ),
                        "muted",
                    ),
                ),
                (),
            ]
            lines += [
                (
                    (f"{box.score:5.2f}  ", "accent"),
                    (f"{box.label:<16}", "text"),
                    (f"{box.x_min:6.0f} {box.y_min:6.0f} {box.x_max:6.0f} {box.y_max:6.0f}", "muted"),
                )
                for box in result.boxes
            ]
            self.spark.flows.start(self.spark.flows.read("Result", lines), "result")

    def _draw(self) -> None:
        result, view = self._current(), self.query_one("#picture", PictureView)
        wanted = "" if result is None else f"{result.result_id} {view.inner_width} {view.inner_height}"
        if result is None or wanted == self._drawn or not self.is_current or view.inner_width < 4 or view.inner_height < 2:
            return
        self._drawn = wanted
        self.run_worker(self._read_picture(result, view), name="picture", group="picture", exclusive=True, exit_on_error=False)

    async def _read_picture(self, result: InferenceResult, view: PictureView) -> None:
        mode = self._mode()
        args = {
            "result_id": result.result_id,
            "columns": view.inner_width,
            "rows": view.inner_height,
            "mode": mode,
        }
        try:
            drawn = await self.console.invoke("inference.preview", args)
        except ApplianceError as error:
            self.spark.overlay.clear()
            view.set_cells([])
            told = textwrap.wrap(f"not drawn: {error}", max(1, view.inner_width - 1))
            view.set_lines([((f" {part}", "muted"),) for part in told])
        else:
            view.set_lines([])
            view.set_cells(drawn["rows"])
            if mode == "kitty" and self.is_current:
                self.spark.overlay.place(drawn["text"], view.region.x + 1, view.region.y + 1)
        view.set_note(result.source.rpartition("/")[2])

    def _mode(self) -> str:
        """How this terminal shows pictures."""
        caps = self.spark.caps
        if caps.images == "kitty":
            return "kitty"
        return "half-blocks" if caps.full_glyphs and caps.colours is not Colours.console else "console"

    def action_open(self) -> None:
        """Run the model on pictures."""
        self.spark.flows.start(self._open(), "open")

    async def _open(self) -> None:
        kind = {"type": "array", "items": {"type": "string"}, "description": "files on this machine, with commas between them"}
        done = await self.spark.flows.fill_in("inference.run", "Detect objects", {"paths": kind})
        if done is None:
            return
        job = done[1]
        self.say(f"{job.name}: running")
        ended = await self.console.invoke("job.wait", {"job_id": job.job_id})
        bad = [outcome for outcome in ended.result or () if "error" in outcome]
        self._awaited = next((outcome["result"]["result_id"] for outcome in ended.result or () if "result" in outcome), "")
        self._go_to_awaited()
        if ended.error or bad:
            self.say(ended.error or f"{bad[0]['error']} {bad[0].get('next_step', '')}", "bad")
        else:
            self.say(f"{job.name}: done", "ok")

    def action_models(self) -> None:
        """Show the models."""
        self.spark.flows.start(self._models(), "models")

    async def _models(self) -> None:
        await self.spark.flows.show("Models", await self.console.invoke("model.list"))


def found(result: InferenceResult) -> str:
    """Labels with their counts: "person x4, bus"."""
    counts: dict[str, int] = {}
    for box in result.boxes:
        counts[box.label] = counts.get(box.label, 0) + 1
    return ", ".join(label if count == 1 else f"{label} x{count}" for label, count in counts.items()) or "nothing found"

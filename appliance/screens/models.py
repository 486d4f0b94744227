"""Models: versions and which of them serves, splits, drift, benchmarks, what was offered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import msgspec
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.widget import Widget

from appliance.core.console import Console
from appliance.core.inference.status import InferenceStatus, SplitRow, VersionRow
from appliance.core.state import Section
from appliance.errors import ApplianceError
from appliance.screens import format as f
from appliance.screens import models_view as view
from appliance.screens.models_acts import Acts
from appliance.screens.panelled import ALL, Panelled, own_keys
from appliance.screens.streams_view import flow
from appliance.screens.values import wrap
from appliance.screens.widgets.grid import Grid
from appliance.screens.widgets.lines import Line, LineView

EVERY = 5.0
"""Seconds after which the offers are read again."""


class Models(Panelled):
    """All versions above; the one under the cursor, benchmarks, offers below."""

    page = "models"
    titles = MappingProxyType({"version": "Version", "bench": "Benchmarks", "offers": "Offers"})
    homes = MappingProxyType({
        "below": frozenset({"version", "bench"}), "version": frozenset({"version"}), "bench": frozenset({"bench"}),
        "offers": frozenset({"offers"}),
    })  # fmt: skip
    lists = MappingProxyType({"version": "versions", "bench": "versions", "offers": "offers"})
    sections = frozenset({Section.inference, Section.jobs})
    keys = (
        ("Tab", "Next panel"), ("a", "Activate"), ("r", "Roll back"), ("v", "Verify"), ("b", "Bench"), ("s", "Split"),
        ("n", "Add"), ("d", "Remove"), ("e", "End split"), ("x", "Archive"), ("c", "Cancel bench"), ("i", "Install offer"),
        ("Enter", "All"),
    )  # fmt: skip
    needs = MappingProxyType({
        "a": "model.activate", "r": "model.rollback", "v": "model.verify", "b": "model.bench", "s": "model.split",
        "n": "model.add", "d": "model.remove", "e": "model.split-end", "x": "model.archive", "c": "job.cancel",
        "i": "model.install",
    })  # fmt: skip
    AUTO_FOCUS = "#versions"
    BINDINGS: ClassVar[list[BindingType]] = own_keys((
        ("a", "activate"), ("r", "rollback"), ("v", "verify"), ("b", "bench"), ("s", "split"), ("n", "add"),
        ("d,delete", "remove"), ("e", "end_split"), ("x", "archive"), ("c", "cancel"), ("i", "install"),
    ))  # fmt: skip

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.acts = Acts(self)
        self._read_at = f.Stamp()
        self._reading = False

    def body(self) -> Iterable[Widget]:
        """The versions, a line about all, panels."""
        yield Grid(view.VERSIONS, "Models", id="versions", empty="not read yet: inference is starting")
        yield LineView(id="store")
        with Horizontal(id="below"):
            yield LineView(self.titles["version"], id="version")
            yield LineView(self.titles["bench"], id="bench")
        yield Grid(view.OFFERS, self.titles["offers"], id="offers", empty="reading")

    @property
    def status(self) -> InferenceStatus | None:
        """Inference as it was last seen."""
        status = self.console.get(Section.inference).value
        return status if isinstance(status, InferenceStatus) else None

    @property
    def row(self) -> VersionRow | None:
        """The version under the cursor."""
        key = self.query_one("#versions", Grid).key
        return next((each for each in (self.status.models if self.status else ()) if view.key_of(each) == key), None)

    @property
    def split(self) -> SplitRow | None:
        """The split of the name under the cursor."""
        row, status = self.row, self.status
        splits = status.splits if status is not None else ()
        return next((each for each in splits if row is not None and each.name == row.name), None)

    def show(self, sections: frozenset[Section]) -> None:
        """Show what changed."""
        if (status := self.status) is not None and Section.inference in sections:
            grid, store = self.query_one("#versions", Grid), self.query_one("#store", LineView)
            grid.set_empty("no model is on this machine; n adds one, `prime-spark model add ORIGIN` does too")
            grid.set_rows(view.version_rows(status, self.spark.glyphs))
            most = 12 if self.has_class(ALL) else 5
            grid.styles.height = 3 + max(2, min(most, len(status.models)))
            lines = flow(view.store_pieces(status, self.spark.glyphs), max(1, self.size.width))
            store.styles.height = len(lines)
            store.set_lines(lines)
        self._show_version()
        if Section.jobs in sections:
            jobs = self.console.get(Section.jobs).value or ()
            self._lines("bench", view.bench_lines(jobs, self.spark.glyphs))

    def _show_version(self) -> None:
        row = self.row
        self._lines("version", [] if row is None else view.version_lines(row, self.split, self.spark.glyphs))

    def _lines(self, name: str, lines: list[Line]) -> None:
        shown = self.query_one(f"#{name}", LineView)
        width = max(1, shown.inner_width - 1)
        shown.set_lines([part for line in lines for part in wrap(line, width)])

    def show_ages(self) -> None:
        """How old everything is; read the offers again where they are old."""
        age = f.age(self.console.age(Section.inference))
        for name in ("versions", "version"):
            self.query_one(f"#{name}", LineView).set_note(age)
        self.query_one("#bench", LineView).set_note(f.age(self.console.age(Section.jobs)))
        self.query_one("#offers", Grid).set_note(f.age(self._read_at.age))
        if self._read_at.age is None or self._read_at.age > EVERY:
            self.read()

    def read(self) -> None:
        """Read the offers, one time at a time."""
        if not self._reading:
            self._reading = True
            self.run_worker(self._read(), name="offers", group="offers", exit_on_error=False)

    async def _read(self) -> None:
        grid = self.query_one("#offers", Grid)
        found: list[Mapping[str, Any]] = []
        try:
            found = msgspec.to_builtins(await self.console.invoke("model.offers"))
            grid.set_empty("no model was offered over models.updates")
        except ApplianceError as error:
            grid.set_empty(str(error))
        finally:
            self._reading = False
        self._read_at.set()
        grid.set_rows(view.offer_rows(found, self.spark.glyphs))
        grid.set_note(f.age(self._read_at.age))

    def on_grid_selected(self, message: Grid.Selected) -> None:
        """Another version."""
        if message.grid.id == "versions":
            self._show_version()

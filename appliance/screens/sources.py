"""Sources: how each is, what it sees now, what is followed in it, what happened."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import ClassVar

from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from appliance.core.console import Console
from appliance.core.inference.sources.model import SourceStatus
from appliance.core.state import Section
from appliance.screens import format as f
from appliance.screens import sources_view as view
from appliance.screens.panelled import ALL, Panelled, own_keys
from appliance.screens.picture import PictureView, Wanted
from appliance.screens.sources_acts import Acts
from appliance.screens.streams_view import flow
from appliance.screens.values import wrap
from appliance.screens.widgets.grid import Grid
from appliance.screens.widgets.lines import LineView

SLOW = 2.0
"""Seconds between two pictures through the kitty protocol, which are large."""


class Sources(Panelled):
    """All sources above; what the one under the cursor sees now, and what is known of it, below."""

    page = "sources"
    titles = MappingProxyType({"facts": "Source", "tracks": "Tracks", "events": "Events"})
    homes = MappingProxyType({name: frozenset({name}) for name in titles})
    lists = MappingProxyType({"facts": "sources", "tracks": "sources", "events": "events"})
    sections = frozenset({Section.sources})
    keys = (
        ("Tab", "Next panel"), ("s", "Start/stop"), ("n", "Add"), ("p", "Snapshot"), ("z", "Zone"), ("t", "Rule"),
        ("c", "Change"), ("d", "Remove"), ("Z", "Remove a zone"), ("T", "Remove a rule"), ("m", "Cameras"), ("Enter", "All"),
    )  # fmt: skip
    needs = MappingProxyType({
        "s": "source.start", "n": "source.add", "p": "source.snapshot", "z": "source.set-zone", "t": "source.set-rule",
        "c": "source.change", "d": "source.remove", "Z": "source.remove-zone", "T": "source.remove-rule",
    })  # fmt: skip
    AUTO_FOCUS = "#sources"
    BINDINGS: ClassVar[list[BindingType]] = own_keys((
        ("s", "switch"), ("n", "add"), ("p", "snapshot"), ("z", "zone"), ("t", "rule"), ("c", "change"),
        ("d,delete", "remove"), ("Z", "drop_zone"), ("T", "drop_rule"), ("m", "cameras"),
    ))  # fmt: skip

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.acts = Acts(self)
        self._drawn = f.Stamp()

    def body(self) -> Iterable[Widget]:
        """The sources, a line about what is wrong, a picture, panels."""
        empty = "no source yet: n adds a camera, a stream, a video, a picture or a folder; m lists the cameras"
        yield Grid(view.SOURCES, "Sources", id="sources", empty=empty)
        yield LineView(id="trouble")
        with Horizontal(id="below"):
            yield PictureView("Live", id="live")
            with Vertical(id="side"):
                yield LineView(self.titles["facts"], id="facts")
                yield Grid(view.TRACKS, self.titles["tracks"], id="tracks", empty="nothing is followed")
                yield Grid(view.EVENTS, self.titles["events"], id="events", empty="no event yet; t adds a rule")

    @property
    def sources(self) -> tuple[SourceStatus, ...]:
        """By name."""
        return self.console.get(Section.sources).value or ()

    @property
    def source(self) -> SourceStatus | None:
        """The one under the cursor."""
        key = self.query_one("#sources", Grid).key
        return next((each for each in self.sources if each.name == key), None)

    def show(self, sections: frozenset[Section]) -> None:
        """Show what is now."""
        self._show_rows()
        self._show_source()

    def _show_rows(self) -> None:
        put = self.console.age(Section.sources)
        grid, most = self.query_one("#sources", Grid), 9 if self.has_class(ALL) else 4
        grid.styles.height = 3 + max(2, min(most, len(self.sources)))
        grid.set_rows(view.source_rows(self.sources, put, self.spark.glyphs))

    def _show_source(self) -> None:
        """What the source under the cursor sees, and what is known of it."""
        source, trouble = self.source, self.query_one("#trouble", LineView)
        lines = [] if source is None else flow(view.trouble(source), max(1, self.size.width))
        trouble.styles.height = len(lines)
        trouble.set_lines(lines)
        facts = self.query_one("#facts", LineView)
        room = max(1, facts.inner_width - 1)
        told = [] if source is None else [part for line in view.fact_lines(source) for part in wrap(line, room)]
        facts.set_lines(told)
        self.query_one("#tracks", Grid).set_rows(view.track_rows(source.tracks if source is not None else ()))
        self.query_one("#events", Grid).set_rows(view.event_rows(source.events if source is not None else ()))
        self._draw()

    def _draw(self) -> None:
        """The newest frame that was looked at, where it is another one than what is seen."""
        source, live = self.source, self.query_one(PictureView)
        if source is None:
            live.tell([])
        elif not source.inferred:
            live.tell([((" nothing seen yet", "muted"),)], source.name)
        elif live.mode != "kitty" or self._drawn.age is None or self._drawn.age >= SLOW:
            self._drawn.set()
            stamp = f"{source.name} {source.inferred} {source.zones}"
            live.want(Wanted("source.preview", {"name": source.name}, stamp, self._note(source)))

    def _note(self, source: SourceStatus) -> str:
        return f"{source.name}, {view.age_of(source, self.console.age(Section.sources))}"

    def show_ages(self) -> None:
        """How old everything is."""
        age = f.age(self.console.age(Section.sources))
        for name in ("sources", "facts", "tracks", "events"):
            self.query_one(f"#{name}", LineView).set_note(age)
        self._show_rows()
        if (source := self.source) is not None and source.inferred:
            self.query_one(PictureView).set_note(self._note(source))
            self._draw()

    def on_resize(self) -> None:
        """Lay it out anew, and draw the picture for its new place."""
        self._redraw()
        super().on_resize()

    def on_screen_suspend(self) -> None:
        """Another page or a dialog is over this one: no picture may lie over that."""
        self._redraw()

    def _redraw(self) -> None:
        self._drawn = f.Stamp()
        self.query_one(PictureView).forget()

    def on_grid_selected(self, message: Grid.Selected) -> None:
        """Another source."""
        if message.grid.id == "sources":
            self._drawn = f.Stamp()
            self._show_source()

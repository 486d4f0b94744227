"""Routing: the endpoints of the language models, where requests went and why, what left the house."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import ClassVar

from textual.binding import BindingType
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Input

from appliance.core.console import Console
from appliance.core.llm.model import EndpointStatus, LlmStatus, Routed
from appliance.core.power.model import PowerStatus
from appliance.core.state import Section
from appliance.screens import format as f
from appliance.screens import routing_view as view
from appliance.screens.filtering import Filtering, narrowed
from appliance.screens.panelled import ALL, Panelled, own_keys
from appliance.screens.routing_acts import Acts
from appliance.screens.streams_view import flow
from appliance.screens.values import wrap
from appliance.screens.widgets.grid import Grid
from appliance.screens.widgets.lines import Line, LineView

MOST_HEAD, MOST_TROUBLE = 4, 3
"""Lines of what holds now, and about the endpoint under the cursor."""
AROUND = 3
"""Lines of a table that are no rows."""


class Routing(Panelled, Filtering):
    """What holds now above; endpoints, decisions and the ledger below."""

    page = "routing"
    titles = MappingProxyType({"endpoints": "Endpoints", "decisions": "Decisions", "ledger": "Left the house, 24 h"})
    homes = MappingProxyType({
        "endpoints": frozenset({"endpoints"}), "trouble": frozenset({"endpoints", "decisions"}),
        "below": frozenset({"decisions", "ledger"}), "decisions": frozenset({"decisions"}), "ledger": frozenset({"ledger"}),
    })  # fmt: skip
    lists = MappingProxyType({"endpoints": "endpoints", "decisions": "decisions"})
    sections = frozenset({Section.llm, Section.power, Section.services})
    keys = (
        ("Tab", "Next panel"), ("Enter", "All"), ("d", "Drain"), ("h", "Halt"), ("r", "Resume"), ("p", "Probe"),
        ("s", "Strategy"), ("x", "Explain"), ("v", "Ledger"), ("/", "Filter"),
    )  # fmt: skip
    needs = MappingProxyType({
        "d": "llm.drain", "h": "llm.halt", "r": "llm.resume", "p": "llm.probe", "s": "config.set", "x": "llm.route",
        "v": "llm.ledger",
    })  # fmt: skip
    AUTO_FOCUS = "#endpoints"
    BINDINGS: ClassVar[list[BindingType]] = own_keys((
        ("d", "drain"), ("h", "halt"), ("r", "resume"), ("p", "probe"), ("s", "strategy"), ("x", "explain"), ("v", "ledger"),
    ))  # fmt: skip

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.acts: Acts = Acts(self)
        self._text = ""

    def body(self) -> Iterable[Widget]:
        """What holds now, endpoints with what is wrong with one, decisions, the ledger."""
        yield LineView(id="head")
        yield Input(placeholder="words that a row must have; Enter keeps the filter, Esc clears it", id="filter")
        yield Grid(view.ENDPOINTS, self.titles["endpoints"], id="endpoints", empty="reading")
        yield LineView(id="trouble")
        with Horizontal(id="below"):
            yield Grid(view.DECISIONS, self.titles["decisions"], id="decisions", empty="no request was routed yet")
            yield LineView(self.titles["ledger"], id="ledger")

    @property
    def status(self) -> LlmStatus | None:
        """None where there is no gateway."""
        found = self.console.get(Section.llm).value
        return found if isinstance(found, LlmStatus) else None

    @property
    def put_s(self) -> float | None:
        """Seconds since the status was put."""
        return self.console.age(Section.llm)

    @property
    def endpoint(self) -> EndpointStatus | None:
        """The one under the cursor."""
        key, status = self.query_one("#endpoints", Grid).key, self.status
        return next((each for each in status.endpoints if each.name == key), None) if status is not None else None

    def decision(self, key: str) -> Routed | None:
        """The one of a row."""
        status = self.status
        return next((each for each in status.decisions if view.key_of(each) == key), None) if status is not None else None

    def show(self, sections: frozenset[Section]) -> None:
        """Show what is now."""
        status, power, glyphs = self.status, self.console.get(Section.power).value, self.spark.glyphs
        width = max(1, self.size.width)
        told = flow(view.head_pieces(status, power if isinstance(power, PowerStatus) else None), width)
        told += flow(view.forbids_pieces(status, glyphs), width)
        self._fit("#head", [part for line in told for part in wrap(line, width)][:MOST_HEAD])
        if status is None:
            self.query_one("#endpoints", Grid).set_empty(view.absence(self.console.get(Section.services).value or ()))
        self._show_rows()
        ledger = self.query_one("#ledger", LineView)
        lines = view.ledger_lines(status.spent if status is not None else None, glyphs)
        ledger.set_lines([part for line in lines for part in wrap(line, max(1, ledger.inner_width - 1))])

    def _show_rows(self) -> None:
        """The tables, as far as the filter lets rows through, and the endpoint under the cursor."""
        status, glyphs, grid = self.status, self.spark.glyphs, self.query_one("#endpoints", Grid)
        rows = narrowed(view.endpoint_rows(status, self.put_s, glyphs), self._text)
        if status is not None:
            grid.set_empty(f"nothing fits /{self._text}: Esc clears the filter" if self._text else "no endpoint")
        grid.set_rows(rows)
        grid.styles.height = min(len(rows) + AROUND, self.size.height // 3) if self.has_class(ALL) else "1fr"
        self.query_one("#decisions", Grid).set_rows(narrowed(view.decision_rows(status, glyphs), self._text))
        self._show_trouble()

    def _show_trouble(self) -> None:
        """What is wrong with the endpoint under the cursor; why the decision under it, where that is the panel that is open."""
        each, width = self.endpoint, max(1, self.size.width)
        told = [] if each is None else flow(view.trouble(each), width)
        if self.panel == "decisions" and not self.has_class(ALL):
            decision = self.decision(self.query_one("#decisions", Grid).key)
            told = [] if decision is None else [((f" {decision.why}", "muted"),)]
        self._fit("#trouble", [part for line in told for part in wrap(line, width)][:MOST_TROUBLE])

    def _fit(self, name: str, lines: list[Line]) -> None:
        panel = self.query_one(name, LineView)
        panel.styles.height = len(lines)
        panel.set_lines(lines)

    def show_ages(self) -> None:
        """How old everything is."""
        told = ", ".join(word for word in (f"/{self._text}" if self._text else "", f.age(self.put_s)) if word)
        for name in self.titles:
            self.query_one(f"#{name}", LineView).set_note(told)
        self._show_rows()

    def on_grid_selected(self, message: Grid.Selected) -> None:
        """Another endpoint, or decision."""
        self._show_trouble()

    @property
    def filter_text(self) -> str:
        """See Filtering."""
        return self._text

    def filtered(self, text: str) -> None:
        """See Filtering."""
        self._text = text
        self.show_ages()

    def leave_filter(self) -> None:
        """See Filtering."""
        self.query_one(f"#{self.lists.get(self.panel, 'endpoints')}").focus()

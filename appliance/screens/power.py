"""Power: mains and battery, the UPSes, the plan with what would happen next, and what happened."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from appliance.core.console import Console
from appliance.core.power.model import PowerStatus
from appliance.core.state import Section
from appliance.screens import format as f
from appliance.screens import power_view as view
from appliance.screens.chrome import Footer
from appliance.screens.page import COMMON, Page
from appliance.screens.power_acts import Acts
from appliance.screens.streams_view import flow
from appliance.screens.values import wrap
from appliance.screens.widgets.grid import Grid
from appliance.screens.widgets.lines import LineView

PANELS = ("stages", "plot", "events", "upses")
TITLES = MappingProxyType({"stages": "Plan", "plot": "Charge, %", "events": "Events", "upses": "UPSes"})
TALL, WIDE = 36, 110
"""Lines and cells from which all panels are seen."""


class Power(Page):
    """The flow and the facts above; plan, history, events and UPSes below."""

    page = "power"
    sections = frozenset({Section.power})
    keys = (
        ("Tab", "Next panel"), ("m", "Mode"), ("s", "Simulate"), ("p", "Plan"), ("e", "Edit it"), ("x", "Abort it"),
        ("r", "Take back"), ("d", "Seen to"), ("v", "All"), ("Enter", "Open"),
    )  # fmt: skip
    needs = MappingProxyType({
        "m": "power.mode", "e": "power.plan-set", "x": "power.plan-abort", "r": "power.restore", "d": "power.acknowledge",
    })  # fmt: skip
    AUTO_FOCUS = "#stages"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "panel(1)", show=False), Binding("shift+tab", "panel(-1)", show=False),
        *(
            Binding(key, f"do('{what}')", show=False)
            for key, what in (
                ("m", "mode"), ("s", "simulate"), ("p", "plan"), ("e", "edit"), ("x", "abort"), ("r", "restore"),
                ("d", "acknowledge"), ("v", "all"),
            )
        ),
    ]  # fmt: skip

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.acts = Acts(self)
        self.panel = PANELS[0]

    def body(self) -> Iterable[Widget]:
        """The flow, what is wrong, the facts, panels."""
        yield LineView(id="flow")
        yield LineView(id="trouble")
        yield LineView("Power", id="facts")
        with Vertical(id="below"):
            with Horizontal(id="first"):
                yield Grid(view.STAGES, TITLES["stages"], id="stages", empty="no plan")
                yield LineView(TITLES["plot"], id="plot")
            with Horizontal(id="second"):
                yield Grid(view.EVENTS, TITLES["events"], id="events", empty="nothing has happened yet")
                yield Grid(view.UPSES, TITLES["upses"], id="upses", empty="no UPS was found")

    @property
    def status(self) -> PowerStatus | None:
        """As it was put last."""
        found = self.console.get(Section.power).value
        return found if isinstance(found, PowerStatus) else None

    def show(self, sections: frozenset[Section]) -> None:
        """Show what is now."""
        status = self.status
        if status is None:
            return
        glyphs, width = self.spark.glyphs, max(1, self.size.width)
        self.query_one("#flow", LineView).set_lines([view.flow_line(status, glyphs)])
        lines = flow(view.trouble(status), width)[: 4 if self.has_class("all") else 2]
        trouble = self.query_one("#trouble", LineView)
        trouble.styles.height = len(lines)
        trouble.set_lines(lines)
        facts = self.query_one("#facts", LineView)
        room = max(1, width - 3)  # the box is as wide as the page, also before it is laid out
        told = [part for line in view.fact_lines(status, glyphs) for part in wrap(line, room)]
        facts.styles.height = 2 + min(len(told), 14 if self.has_class("all") else 8)
        facts.set_lines(told)
        self.query_one("#stages", Grid).set_rows(view.stage_rows(status.plan, status.coming))
        self.query_one("#events", Grid).set_rows(view.event_rows(status.events))
        self.query_one("#upses", Grid).set_rows(view.ups_rows(status.upses, glyphs))
        self.query_one("#stages", Grid).set_note(view.plan_note(status.plan))
        self._draw(status)

    def _draw(self, status: PowerStatus) -> None:
        plot = self.query_one("#plot", LineView)
        fine = not self.spark.caps.is_console
        plot.set_lines(view.plot_lines(status, plot.inner_width, plot.inner_height, fine=fine))

    def show_ages(self) -> None:
        """How old everything is, by the clock as by the UPS."""
        age = f.age(self.console.age(Section.power))
        for name in ("facts", "events", "upses"):
            self.query_one(f"#{name}", LineView).set_note(age)
        if (status := self.status) is not None:
            self._draw(status)

    def on_resize(self) -> None:
        """Lay it out anew."""
        self.set_class(self.size.width >= WIDE and self.size.height >= TALL, "all")
        self._arrange()
        self.call_after_refresh(self.refresh_all)

    def _arrange(self) -> None:
        """Show the panel that is open; all where there is room."""
        everything = self.has_class("all")
        for name in PANELS:
            self.query_one(f"#{name}").display = everything or name == self.panel
        for name, those in (("first", PANELS[:2]), ("second", PANELS[2:])):
            self.query_one(f"#{name}").display = everything or self.panel in those
        following = TITLES[self._next(1)]
        keys = [(key, following if key == "Tab" else text) for key, text in self.offered()]
        self.query_one(Footer).set_keys([*keys, *COMMON])

    def _next(self, by: int) -> str:
        return PANELS[(PANELS.index(self.panel) + by) % len(PANELS)]

    def action_panel(self, by: int) -> None:
        """To the next panel."""
        self.panel = self._next(by)
        self._arrange()
        self.query_one(f"#{self.panel}").focus()
        self.call_after_refresh(self.refresh_all)

    def on_grid_chosen(self, message: Grid.Chosen) -> None:
        """Show all of what the cursor is on."""
        self.acts.open(message.grid.id or "", message.key)

    def action_do(self, what: str) -> None:
        """One of the page's own keys."""
        self.acts.do(what)

"""One machine: how it is, its services, its files, what was done on it; a shell, logs and the like by keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Input

from appliance.core.clock import monotonic
from appliance.core.console import Console
from appliance.core.fleet.model import FleetStatus, NodeStatus
from appliance.core.fleet.operations.model import OperationStatus
from appliance.core.state import Section
from appliance.screens import agents_view as agents
from appliance.screens import fleet_view as fleet
from appliance.screens import format as f
from appliance.screens import node_services as services
from appliance.screens import node_view as view
from appliance.screens import operations_view as operations
from appliance.screens.chrome import Footer
from appliance.screens.filtering import Filtering
from appliance.screens.fleet_acts import Back
from appliance.screens.node_acts import Acts
from appliance.screens.node_files import FILES, Folder
from appliance.screens.node_keys import BINDINGS, KEYS, NEEDS, PANELS
from appliance.screens.page import COMMON
from appliance.screens.panelled import ALL
from appliance.screens.values import wrap
from appliance.screens.widgets.grid import Grid
from appliance.screens.widgets.lines import Line, LineView, Piece

TALL, WIDE = 42, 110
"""Lines from which lists stand below the numbers, cells from which facts stand beside them."""


class Node(Filtering):
    """A line about it, the panels' names, one panel; belongs to the Fleet page.

    Args:
        console: The appliance.
        name: Of the machine.
        back: Makes the page that Esc leads to.
        panel: That is open first.
    """

    page = "fleet"
    inner = True
    sections = frozenset({Section.fleet, Section.operations, Section.agents})
    needs = NEEDS
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        *BINDINGS, Binding("tab", "panel(1)", show=False), Binding("shift+tab", "panel(-1)", show=False),
        Binding("up", "scroll(-1)", show=False),
        Binding("down", "scroll(1)", show=False), Binding("pageup", "scroll(-10)", show=False),
        Binding("pagedown", "scroll(10)", show=False),
    ]  # fmt: skip

    def __init__(self, console: Console, name: str, back: Back | None = None, panel: str = "overview") -> None:
        super().__init__(console)
        self.name_of = name
        self.acts = Acts(self, back)
        self.folder = Folder(self)
        self.panel = panel
        self._text = ""

    def body(self) -> Iterable[Widget]:
        """One line, the names of the panels, the panels."""
        yield LineView(id="head")
        yield LineView(id="panels")
        yield Input(placeholder="text that a row must contain; Enter keeps it, Esc clears it", id="filter")
        with Horizontal(id="overview"):
            yield LineView("Now", id="now")
            yield LineView("Facts", id="facts")
        with Horizontal(id="lists"):
            yield Grid(services.SERVICES, "Services and containers", id="services", empty="reading")
            yield Grid(FILES, "Files", id="files", empty="reading")
            yield Grid(operations.OPERATIONS, "What was done on it", id="history", empty="nothing yet")

    @property
    def node(self) -> NodeStatus | None:
        """None where the inventory has it no more."""
        found = self.console.get(Section.fleet).value
        nodes = found.nodes if isinstance(found, FleetStatus) else ()
        return next((each for each in nodes if each.node.name == self.name_of), None)

    @property
    def operations(self) -> list[OperationStatus]:
        """What was, and is, done on it; newest first."""
        known: tuple[OperationStatus, ...] = self.console.get(Section.operations).value or ()
        return [each for each in known if any(run.node == self.name_of for run in each.runs)]

    @property
    def under(self) -> str:
        """The machine that the keys are for."""
        return self.name_of

    def chosen(self) -> list[str]:
        """The machine that the keys are for."""
        return [self.name_of]

    def named(self, name: str) -> NodeStatus | None:
        """The machine by its name."""
        return self.node if name == self.name_of else None

    def again(self) -> Back:
        """Makes the same page anew."""
        console, name, back, panel = self.console, self.name_of, self.acts.back, self.panel
        return lambda: Node(console, name, back, panel)

    @property
    def row(self) -> str:
        """The key of the row under the cursor of the open panel."""
        return "" if self.panel == "overview" else self.query_one(f"#{self.panel}", Grid).key

    def offered(self) -> tuple[tuple[str, str], ...]:
        """The keys of the open panel that do something for this reader."""
        allowed = self.console.allowed()
        return tuple((key, text) for key, text in KEYS[self.panel] if self.needs.get(key, "") in {"", *allowed})

    def show(self, sections: frozenset[Section]) -> None:
        """Show what is now."""
        node, glyphs = self.node, self.spark.glyphs
        head = self.query_one("#head", LineView)
        if node is None:
            head.set_lines([((f" {self.name_of} is not in the inventory any more. ", "warn"), ("Esc leads back", "accent"))])
            return
        self._show_head(node)
        self._show_overview(node)
        self.query_one("#services", Grid).set_rows(services.service_rows(node, self._text, glyphs))
        self.query_one("#services", Grid).set_empty(services.no_services(node, self._text))
        self.query_one("#history", Grid).set_rows(operations.operation_rows(self.operations, glyphs))

    def _show_head(self, node: NodeStatus) -> None:
        glyphs = self.spark.glyphs
        health, link = fleet.health_badge(node, glyphs), fleet.link_badge(node, glyphs)
        busy = f"  {glyphs.warn} being changed" if node.busy else ""
        self.query_one("#head", LineView).set_lines(
            [((f" {node.node.name}  ", "title"), health, ("  ", "text"), link, (busy, "accent"), (f"  {node.reason}", "muted"))]
        )
        counts = {
            "services": len(services.service_rows(node, "", glyphs)) or "", "history": len(self.operations) or "",
            "files": self.folder.path,
        }  # fmt: skip
        line: list[Piece] = [(" ", "text")]
        for name, title in PANELS.items():
            line.append((f" {title} ", "tab-on" if name == self.panel else "tab"))
            line.append((f"{counts.get(name, '')}  ", "muted"))
        self.query_one("#panels", LineView).set_lines([tuple(line)])

    def _show_overview(self, node: NodeStatus) -> None:
        glyphs, now = self.spark.glyphs, monotonic()
        left, right = self.query_one("#now", LineView), self.query_one("#facts", LineView)
        room = max(1, left.inner_width - 1)
        told: list[Line] = [*view.state_lines(node, now, glyphs), (), *view.metric_lines(node, now, glyphs, room)]
        agent = agents.by_node(self.console.get(Section.agents).value).get(node.node.name)
        told += [(), *agents.lines(agent, self.console.get(Section.tasks).value, now, glyphs)]
        facts: list[Line] = [*view.fact_lines(node.facts), (), *view.entry_lines(node)]
        if not right.display:
            told, facts = [*told, (), *facts], []
        left.set_lines([part for line in told for part in wrap(line, room)])
        right.set_lines([part for line in facts for part in wrap(line, max(1, right.inner_width - 1))])

    def show_ages(self) -> None:
        """Every panel says how old it is."""
        node = self.node
        numbers, seldom = view.ages(node, monotonic())
        alone = not self.query_one("#facts").display
        self.query_one("#now", LineView).set_note(f"{numbers}, facts {seldom}" if alone else numbers)
        for name in ("facts", "services"):
            self.query_one(f"#{name}", LineView).set_note(seldom + (f", /{self._text}" if self._text else ""))
        self.query_one("#history", Grid).set_note(f.age(self.console.age(Section.operations)))
        self.query_one("#files", Grid).set_note(self.folder.note)
        if node is not None:
            self._show_head(node)
            self._show_overview(node)

    def on_resize(self) -> None:
        """Lay it out anew."""
        self.query_one("#facts").display = self.size.width >= WIDE
        self.set_class(self.size.width >= WIDE and self.size.height >= TALL, ALL)
        self.open_now()
        self.call_after_refresh(self.refresh_all)

    def open_now(self) -> None:
        """Show the open panel, and go there."""
        everything = self.has_class(ALL)
        seen = {"overview", "history", "files" if self.panel == "files" else "services"} if everything else {self.panel}
        for name in PANELS:
            self.query_one(f"#{name}").display = name in seen
        self.query_one("#lists").display = everything or self.panel != "overview"
        self.query_one(Footer).set_keys([*self.offered(), *COMMON])
        self.set_focus(None if self.panel == "overview" else self.query_one(f"#{self.panel}"))
        if self.panel == "files":
            self.folder.open()

    def action_panel(self, by: int) -> None:
        """To the next panel."""
        names = list(PANELS)
        self.open_panel(names[(names.index(self.panel) + by) % len(names)])

    def open_panel(self, name: str) -> None:
        """Show a panel and go there."""
        self.panel = name
        self.close_filter()
        self.open_now()
        self.call_after_refresh(self.refresh_all)

    def action_scroll(self, by: int) -> None:
        """Up or down in the overview."""
        for name in ("now", "facts"):
            panel = self.query_one(f"#{name}", LineView)
            panel.scroll_lines(panel.first + by)

    def on_grid_chosen(self, message: Grid.Chosen) -> None:
        """Show all of what the cursor is on."""
        self.acts.open(message.grid.id or "", message.key)

    def action_do(self, what: str) -> None:
        """One of the page's own keys."""
        self.acts.do(what)

    def action_filter(self) -> None:
        """Type a filter for the services."""
        if self.panel != "services":
            self.open_panel("services")
        super().action_filter()

    @property
    def filter_text(self) -> str:
        """See Filtering."""
        return self._text

    def filtered(self, text: str) -> None:
        """See Filtering."""
        self._text = text.lower()
        self.refresh_all()

    def leave_filter(self) -> None:
        """See Filtering."""
        self.open_now()

    def escaped(self) -> None:
        """Back to where the reader came from."""
        self.acts.do("back")

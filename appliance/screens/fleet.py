"""Fleet: every machine in one live table, and what is done on those that are marked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import ClassVar

from textual.binding import BindingType
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Input

from appliance.core.agents.model import Agent
from appliance.core.clock import monotonic
from appliance.core.console import Console
from appliance.core.fleet.model import FleetStatus, NodeStatus
from appliance.core.state import Section
from appliance.screens import agents_view, node_view
from appliance.screens import fleet_order as order
from appliance.screens import fleet_view as view
from appliance.screens import format as f
from appliance.screens import operations_view as operations
from appliance.screens.filtering import Filtering
from appliance.screens.fleet_acts import Acts, Back
from appliance.screens.fleet_keys import BINDINGS, EMPTY, KEYS, NEEDS
from appliance.screens.fleet_rows import Rows
from appliance.screens.streams_view import flow
from appliance.screens.values import wrap
from appliance.screens.widgets.grid import Grid
from appliance.screens.widgets.lines import Line, LineView

TALL, WIDE = 36, 110
"""Lines and cells from which the machine under the cursor and the last operations are seen too."""
BELOW, AROUND = 18, 6
"""Lines that the panels below need, and lines that are neither these nor the table."""
MOST_HEAD = 4
"""Lines about all machines."""
MOST_TROUBLE = 8
"""Lines about what is wrong."""


class Fleet(Filtering):
    """A line about all, the table, what is wrong with the one under the cursor.

    Args:
        console: The appliance.
        look: How the reader looked at it before.
    """

    page = "fleet"
    sections = frozenset({Section.fleet, Section.operations, Section.agents})
    keys = KEYS
    needs = NEEDS
    AUTO_FOCUS = "#nodes"
    BINDINGS: ClassVar[list[BindingType]] = list(BINDINGS)

    def __init__(self, console: Console, look: order.Look | None = None) -> None:
        super().__init__(console)
        self.acts = Acts(self)
        self.look = look or order.Look()
        self._rows = Rows()
        self._goal = self.look.at
        """A machine that the cursor goes to as soon as it is there."""

    def body(self) -> Iterable[Widget]:
        """One line, the filter, the table, trouble; the machine and operations where there is room."""
        yield LineView(id="head")
        yield Input(placeholder="name, group:…, tag:…, role:…, state:…, ! leaves out; Enter keeps it, Esc clears", id="filter")
        yield Grid(view.NODES, "Fleet", id="nodes", empty="the fleet is starting")
        yield LineView(id="trouble")
        with Horizontal(id="below"):
            yield LineView("Machine", id="facts")
            yield Grid(operations.OPERATIONS, "Operations", id="operations", empty="nothing was done yet: r runs a command")

    @property
    def status(self) -> FleetStatus | None:
        """None until it was read."""
        found = self.console.get(Section.fleet).value
        return found if isinstance(found, FleetStatus) else None

    @property
    def nodes(self) -> tuple[NodeStatus, ...]:
        """All machines, by name."""
        return self.status.nodes if self.status is not None else ()

    @property
    def _agents(self) -> object:
        return self.console.get(Section.agents).value

    def _agent(self, node: NodeStatus) -> Agent | None:
        return agents_view.by_node(self._agents).get(node.node.name)

    @property
    def node(self) -> NodeStatus | None:
        """The one under the cursor."""
        return self.named(self.query_one("#nodes", Grid).key)

    @property
    def under(self) -> str:
        """Its name; empty where the cursor is on none."""
        return self.node.node.name if self.node is not None else ""

    def named(self, name: str) -> NodeStatus | None:
        """A machine."""
        return next((each for each in self.nodes if each.node.name == name), None)

    def chosen(self) -> list[str]:
        """The marked machines; the one under the cursor, or those of the heading there, where none is marked."""
        marked = [each.node.name for each in self.nodes if each.node.name in self.look.marked]
        return marked or self._under(self.query_one("#nodes", Grid).key)

    def again(self) -> Back:
        """Makes the same page anew, as the reader looks at it now."""
        console, look = self.console, dataclasses.replace(self.look, at=self.query_one("#nodes", Grid).key or self.look.at)
        return lambda: Fleet(console, look)

    def _under(self, key: str) -> list[str]:
        if not key.startswith(order.HEADING):
            return [key] if key else []
        groups = dict(order.by_group(order.arranged(self.nodes, self.look)))
        return [each.node.name for each in groups.get(key.removeprefix(order.HEADING), [])]

    def show(self, sections: frozenset[Section]) -> None:
        """Show what is now."""
        if sections & {Section.fleet, Section.agents}:
            head, glyphs = self.query_one("#head", LineView), self.spark.glyphs
            told = [*view.head_pieces(self.status, glyphs), *agents_view.head_pieces(self._agents, glyphs)]
            lines = flow(told, max(1, self.size.width))[:MOST_HEAD]
            head.styles.height = len(lines)
            head.set_lines(lines)
            self.show_rows()
        if Section.operations in sections:
            known = self.console.get(Section.operations).value or ()
            rows = operations.operation_rows(known, self.spark.glyphs)
            self.query_one("#operations", Grid).set_rows(rows)

    def show_rows(self) -> None:
        """The table, as the reader wants it, and the machine under the cursor."""
        grid = self.query_one("#nodes", Grid)
        shown = order.arranged(self.nodes, self.look)
        rows = self._rows.of(shown, self.look, self.spark.glyphs, agents_view.by_node(self._agents))
        grid.set_empty(EMPTY if not self.nodes else f"nothing fits /{self.look.text}: Esc clears the filter")
        if tuple(rows) != grid.rows:
            grid.set_rows(rows)
            self._share_room(len(rows))
        keys = [row.key for row in rows]
        if self._goal in keys:
            grid.move_to(keys.index(self._goal))
            self._goal = ""
        self._show_node()

    def _share_room(self, rows: int) -> None:
        """What the table leaves goes to the panels below."""
        room = self.size.height - BELOW - AROUND
        self.query_one("#nodes", Grid).styles.height = min(rows + 3, room) if self.query_one("#below").display else "1fr"

    def choose(self, name: str) -> None:
        """Put the cursor on a machine that was just added: the next key is meant for it."""
        self._goal = name
        self.show_rows()

    def _show_node(self) -> None:
        node, line = self.node, self.query_one("#trouble", LineView)
        told = [] if node is None else flow(view.trouble(node, self._agent(node)), max(1, self.size.width))
        lines = [part for each in told for part in wrap(each, max(1, self.size.width))][:MOST_TROUBLE]
        line.styles.height = len(lines)
        line.set_lines(lines)
        panel = self.query_one("#facts", LineView)
        if panel.display:
            panel.set_lines(self._node_lines(node, max(1, panel.inner_width - 1)))

    def _node_lines(self, node: NodeStatus | None, width: int) -> list[Line]:
        if node is None:
            return []
        glyphs, now = self.spark.glyphs, monotonic()
        told = [
            *node_view.state_lines(node, now, glyphs), *node_view.metric_lines(node, now, glyphs, width),
            *agents_view.lines(self._agent(node), self.console.get(Section.tasks).value, now, glyphs)[:3],
            *node_view.fact_lines(node.facts, most=6),
        ]  # fmt: skip
        return [part for line in told for part in wrap(line, width)]

    def show_ages(self) -> None:
        """How old everything is, and how the reader looks at it."""
        look = self.look
        down = look.turned == (look.order in order.UP)
        words = [
            f"{len(look.marked)} marked" if look.marked else "", f"/{look.text}" if look.text else "",
            f"by {look.order} {'▼' if down else '▲'}", f.age(self.console.age(Section.fleet)),
        ]  # fmt: skip
        self.query_one("#nodes", Grid).set_note(", ".join(word for word in words if word))
        self.query_one("#operations", Grid).set_note(f.age(self.console.age(Section.operations)))
        numbers, facts = node_view.ages(self.node, monotonic())
        self.query_one("#facts", LineView).set_note("" if self.node is None else f"{numbers}, facts {facts}")
        self.show_rows()

    def on_resize(self) -> None:
        """Lay it out anew."""
        self.query_one("#below").display = self.size.width >= WIDE and self.size.height >= TALL
        self._share_room(len(self.query_one("#nodes", Grid).rows))
        self.call_after_refresh(self.refresh_all)

    def on_grid_selected(self, message: Grid.Selected) -> None:
        """Another machine."""
        if message.grid.id == "nodes":
            self._show_node()

    def on_grid_chosen(self, message: Grid.Chosen) -> None:
        """To the page of a machine, or of an operation."""
        self.acts.open(message.grid.id or "", message.key)

    def action_do(self, what: str) -> None:
        """One of the page's own keys."""
        self.acts.do(what)

    def change(self, look: order.Look) -> None:
        """Look at it in another way."""
        self.look = look
        self.show_ages()

    def _mark(self, names: frozenset[str]) -> None:
        marked = self.look.marked - names if names <= self.look.marked else self.look.marked | names
        self.change(dataclasses.replace(self.look, marked=marked))

    def action_mark(self) -> None:
        """Mark the one under the cursor, or those of a heading, and go on to the next; marked ones are let go."""
        grid = self.query_one("#nodes", Grid)
        self._mark(frozenset(self._under(grid.key)))
        grid.action_move(1)

    def action_mark_all(self) -> None:
        """Mark all that are shown; let them go where they are marked."""
        self._mark(frozenset(each.node.name for each in order.arranged(self.nodes, self.look)))

    def action_order(self) -> None:
        """Sort by the next column."""
        self.change(self.look.next_order())

    def action_turn(self) -> None:
        """Sort the other way round."""
        self.change(dataclasses.replace(self.look, turned=not self.look.turned))

    def action_group(self) -> None:
        """With headings of groups, or without."""
        self.change(dataclasses.replace(self.look, grouped=not self.look.grouped))

    @property
    def filter_text(self) -> str:
        """See Filtering."""
        return self.look.text

    def filtered(self, text: str) -> None:
        """See Filtering."""
        self.change(dataclasses.replace(self.look, text=text))

    def leave_filter(self) -> None:
        """See Filtering."""
        self.query_one("#nodes", Grid).focus()

    def escaped(self) -> None:
        """Let the marked ones go."""
        self.change(dataclasses.replace(self.look, marked=frozenset()))

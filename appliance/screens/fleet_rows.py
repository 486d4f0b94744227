"""The rows of the fleet table; one is made anew only where something that stands in it is another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from appliance.core.agents.model import Agent
from appliance.core.clock import monotonic
from appliance.core.fleet.model import NodeStatus
from appliance.screens import agents_view
from appliance.screens import fleet_order as order
from appliance.screens import fleet_view as view
from appliance.screens.glyphs import Glyphs
from appliance.screens.widgets.grid import Row

SPARE = 20
"""Rows of machines that are gone which may stay beyond as many as are there."""


class Rows:
    """Makes and keeps them."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[NodeStatus, tuple[object, ...], Row]] = {}

    def of(
        self, nodes: Sequence[NodeStatus], look: order.Look, glyphs: Glyphs, agents: Mapping[str, Agent]
    ) -> list[Row]:  # fmt: skip
        """A row each, below headings where the reader wants them.

        Args:
            nodes: In their order.
            look: How the reader looks at them.
            glyphs: Of the session.
            agents: By machine.
        """
        if len(self._kept) > 2 * len(nodes) + SPARE:
            self._kept.clear()
        now = monotonic()

        def row(node: NodeStatus) -> Row:
            return self._row(node, agents.get(node.node.name), look, glyphs, now)

        if not look.grouped:
            return [row(node) for node in nodes]
        rows: list[Row] = []
        for name, members in order.by_group(nodes):
            rows += [view.heading(name, members, look.marked), *(row(node) for node in members)]
        return rows

    def _row(self, node: NodeStatus, agent: Agent | None, look: order.Look, glyphs: Glyphs, now: float) -> Row:
        name = node.node.name
        ages = tuple(None if each is None else view.short(now - each.monotonic) for each in (node.metrics, node.facts))
        marked, kept = name in look.marked, self._kept.get(name)
        stamp = (*ages, marked, None if agent is None else agents_view.piece(agent, glyphs))
        if kept is None or kept[0] is not node or kept[1] != stamp:
            kept = (node, stamp, view.node_row(node, now, glyphs, marked=marked, agent=agent))
            self._kept[name] = kept
        return kept[2]

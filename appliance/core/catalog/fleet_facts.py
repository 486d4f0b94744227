"""Actions on how the machines are: their state, their facts, and a look at once."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from appliance.core.actions import Action, Invocation, Params
from appliance.core.fleet.model import Inventory, NodeStatus, Reach
from appliance.core.fleet.service import FleetService
from appliance.core.fleet.status import row
from appliance.core.model import Role
from appliance.core.ports import Clock

MOST = 256
"""Parts of a selection."""
WAIT = 40.0
"""Seconds that a look at once may take."""


class Selection(Params):
    """Which machines."""

    nodes: list[str] = Field([], max_length=MOST, description='Machines: names, "group:NAME", "tag:KEY=VALUE", "all"; all')


class Refreshing(Selection):
    """Which machines, and what of them."""

    facts: bool = Field(True, description="Ask for their facts too")


def fact_actions(service: FleetService, inventory: Inventory, clock: Clock) -> list[Action]:
    """Show the fleet, show facts, look now.

    Args:
        service: Knows how they are.
        inventory: Selects.
        clock: For ages.
    """

    def chosen(nodes: list[str]) -> list[NodeStatus]:
        wanted = {node.name for node in inventory.select(nodes)} if nodes else None
        return [each for each in service.nodes() if wanted is None or each.node.name in wanted]

    def rows(nodes: list[str]) -> dict[str, Any]:
        agents, now = service.agents(), clock.monotonic()
        return {"nodes": [row(each, now, agents.get(each.node.name)) for each in chosen(nodes)]}

    async def status(_: Invocation, params: Selection) -> dict[str, Any]:
        return rows(params.nodes)

    async def facts(_: Invocation, params: Selection) -> list[dict[str, Any]]:
        return [facts_of(each, clock.monotonic()) for each in chosen(params.nodes)]

    async def refresh(_: Invocation, params: Refreshing) -> dict[str, Any]:
        nodes = inventory.select(params.nodes) if params.nodes else inventory.all()
        await service.refresh([node.name for node in nodes], WAIT - 5, facts=params.facts)
        return rows(params.nodes)

    return [
        Action(
            "fleet.status", "Show how every machine is", status, params=Selection, query=True, role=Role.viewer,
            positional=("nodes",), brief=_brief,
        ),
        Action(
            "fleet.facts", "Show what a machine tells of itself", facts, params=Selection, query=True, role=Role.viewer,
            positional=("nodes",),
        ),
        Action(
            "fleet.refresh", "Look at machines now", refresh, params=Refreshing, query=True, role=Role.operator, timeout=WAIT,
            positional=("nodes",), brief=_brief,
        ),
    ]  # fmt: skip


def facts_of(status: NodeStatus, now: float) -> dict[str, Any]:
    """Facts of a node with their age; why what is missing was not told.

    Args:
        status: The node.
        now: Monotonic.
    """
    facts = status.facts
    if facts is None:
        why = status.link.reason or ("not asked yet" if status.link.reach is Reach.up else status.link.reach.value)
        return {"node": status.node.name, "age_s": None, "missing": {"all": why}}
    told = {name: getattr(facts, name) for name in facts.__struct_fields__ if name not in {"time", "monotonic"}}
    return {"node": status.node.name, "age_s": round(max(0.0, now - facts.monotonic), 1), **told}


def _brief(result: dict[str, Any]) -> str:
    nodes = result["nodes"]
    up = sum(each["link"] in {"up", "stale"} for each in nodes)
    ill = [each["node"] for each in nodes if each["health"] in {"unhealthy", "degraded"}]
    return f"{up} of {len(nodes)} nodes reached" + (f"; not well: {', '.join(ill[:8])}" if ill else "")

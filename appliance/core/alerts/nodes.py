"""What the rules measure of the other machines. Of one that cannot be asked, only that."""

from __future__ import annotations

from appliance.core.alerts.reading import Measure, Reading
from appliance.core.fleet.model import FleetStatus, NodeStatus, Reach
from appliance.core.state import LiveState, Section

SEEN = frozenset({Reach.up, Reach.stale})
GONE = frozenset({Reach.unreachable, Reach.refused, Reach.untrusted, Reach.changed})


def _nodes(state: LiveState) -> tuple[NodeStatus, ...]:
    status = state.get(Section.fleet).value
    return status.nodes if isinstance(status, FleetStatus) else ()


def reached(state: LiveState) -> list[Reading]:
    """1 for each that is wanted and not reached, 0 for each that is; nothing of one that is off, or was not tried yet."""
    return [_reached(each) for each in _nodes(state)] or [Reading("nodes", None, "no other machine is in the inventory")]


def _reached(node: NodeStatus) -> Reading:
    value = 1.0 if node.link.reach in GONE else 0.0 if node.link.reach in SEEN else None
    why = f": {node.link.reason}" if node.link.reason else ""
    return Reading(node.node.name, value, f"{node.node.name} is {node.link.reach.value}{why}")


def services(state: LiveState) -> list[Reading]:
    """1 for each expected service that does not run, 0 for each that does."""
    found = []
    for node in _nodes(state):
        seen = node.link.reach in SEEN
        for each in node.expected:
            value = float(not each.ok) if seen and each.ok is not None else None
            found.append(Reading(f"{node.node.name} {each.name}", value, f"{each.name} on {node.node.name}: {each.state}"))
    return found or [Reading("nodes", None, "no service is expected on any machine")]


def metric(name: str, unit: str) -> Measure:
    """Measure one number of each."""

    def measure(state: LiveState) -> list[Reading]:
        found = [_metric(each, name, unit) for each in _nodes(state)]
        return found or [Reading("nodes", None, "no other machine is in the inventory")]

    return measure


def _metric(node: NodeStatus, name: str, unit: str) -> Reading:
    value = getattr(node.metrics, name, None) if node.link.reach in SEEN else None
    told = "it was not told" if value is None else f"{round(value, 1):g} {unit}"
    return Reading(node.node.name, None if value is None else abs(value), f"{node.node.name}: {told}")

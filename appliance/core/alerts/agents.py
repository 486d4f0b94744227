"""What the rules measure of the agents: whether those that should give signs of life do."""

from __future__ import annotations

from appliance.core.agents.model import Agent, AgentsStatus, AgentState
from appliance.core.alerts.reading import Reading
from appliance.core.state import LiveState, Section

WELL = frozenset({AgentState.ready, AgentState.stopping})


def silent(state: LiveState) -> list[Reading]:
    """1 for each that is silent, 0 for each that is well; nothing of one that is not there, or cannot be heard."""
    status = state.get(Section.agents).value
    agents = status.agents if isinstance(status, AgentsStatus) else ()
    return [_reading(each) for each in agents] or [Reading("agents", None, "no agent is known")]


def _reading(agent: Agent) -> Reading:
    value = 1.0 if agent.state is AgentState.silent else 0.0 if agent.state in WELL else None
    name = agent.node or agent.worker
    return Reading(name, value, f"the agent of {name} is {agent.state.value}" + (f": {agent.reason}" if agent.reason else ""))

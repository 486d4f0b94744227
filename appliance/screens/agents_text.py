"""Words about agents that pages and the command line share; no widgets, which the command line does not load."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from appliance.core.agents.model import Agent, AgentState
from appliance.screens import format as f

SIGNS: Mapping[AgentState, str] = MappingProxyType({
    AgentState.ready: "ok", AgentState.stopping: "warn", AgentState.silent: "bad", AgentState.mute: "warn",
    AgentState.absent: "none", AgentState.unknown: "none",
})  # fmt: skip
"""State → name of its sign."""


def short(agent: Agent) -> str:
    """Version and state in few cells: "0.1.0 ready", "0.0.9 other" where its version is not the appliance's."""
    version = agent.version or agent.installed
    if version is None:
        return (
            "none" if agent.state is AgentState.absent else f.NONE if agent.state is AgentState.unknown else agent.state.value
        )
    word = "other" if agent.outdated and agent.state is AgentState.ready else agent.state.value
    return f"{version} {word}"


def sign(agent: Agent) -> str:
    """The name of its sign."""
    return "warn" if agent.outdated and agent.state is AgentState.ready else SIGNS[agent.state]


def ill(agent: Agent) -> bool:
    """Whether somebody should look at it."""
    return agent.state is AgentState.silent or (agent.state is AgentState.ready and bool(agent.next_step))

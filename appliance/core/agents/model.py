"""Values of the agents: which machine has one, of which version, what it can do and how it is. What nobody knows is None."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class AgentState(StrEnum):
    """How the agent of a machine is."""

    absent = "absent"
    """None is installed there."""
    unknown = "unknown"
    """Nobody has looked yet, or the machine does not answer."""
    ready = "ready"
    """It gives signs of life and takes tasks."""
    stopping = "stopping"
    silent = "silent"
    """It is installed, and has given no sign of life for longer than a lease."""
    mute = "mute"
    """It is installed, and signs of life cannot come: there is no Kafka here, or it is down."""


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """The agent of one machine."""

    node: str
    """Name in the fleet; empty for a worker of no machine of the fleet."""
    worker: str = ""
    """The name under which it takes tasks."""
    state: AgentState = AgentState.unknown
    installed: str | None = None
    """Version that lies there, as seen over SSH."""
    version: str | None = None
    """Version that runs, by its own word."""
    outdated: bool = False
    """It is of another version than this appliance."""
    capabilities: tuple[str, ...] = ()
    load: float | None = None
    """Its load average over its number of processors, 1 minute."""
    busy: int | None = None
    """Tasks that it has."""
    limit: int | None = None
    beat: float | None = None
    """Monotonic instant of its last sign of life here."""
    seen: float | None = None
    """Monotonic instant at which SSH last told what is installed."""
    reason: str = ""
    next_step: str = ""


class AgentsStatus(msgspec.Struct, frozen=True, kw_only=True):
    """All agents, by name of the machine."""

    agents: tuple[Agent, ...] = ()
    version: str = ""
    """Of this appliance: what an upgrade would bring."""

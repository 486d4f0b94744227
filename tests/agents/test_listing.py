"""`agent list`: numbers with their age, and what is wrong as sentences."""

from __future__ import annotations

from typing import Any

import msgspec
from rich.console import Console

from appliance.core.agents.model import Agent, AgentsStatus, AgentState
from appliance.core.clock import monotonic
from appliance.verbs.agents import listed


def text(*agents: Agent) -> str:
    value: dict[str, Any] = msgspec.to_builtins(AgentsStatus(agents=agents, version="0.1.0"))
    console = Console(width=160)
    with console.capture() as told:
        for block in listed(value, 160):
            console.print(block)
    return told.get()


def test_load_and_tasks_have_the_age_of_the_last_sign_of_life() -> None:
    old = Agent(
        node="pi", worker="pi", state=AgentState.silent, version="0.1.0", load=0.25, busy=1, limit=3, beat=monotonic() - 7200
    )
    own = Agent(node="hub", worker="hub", state=AgentState.ready, version="0.1.0", busy=0, limit=10)
    none = Agent(node="nas", state=AgentState.absent)
    head, *rows = text(old, own, none).splitlines()
    place = head.index("heard")
    assert [row[place:].split("  ")[0].strip() for row in rows[:3]] == ["2 h", "here", "–"]


def test_what_is_wrong_ends_before_the_next_step_begins() -> None:
    told = text(
        Agent(node="nas", state=AgentState.absent, reason="none is installed", next_step="prime-spark agent install nas")
    )
    assert "nas: none is installed. Next: prime-spark agent install nas" in told

"""The agents as cells and lines: version and state on the Fleet table, everything on a machine's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from appliance.core.agents.model import Agent, AgentsStatus, AgentState
from appliance.core.tasks.model import Task, TasksStatus
from appliance.screens import agents_text as text
from appliance.screens import format as f
from appliance.screens.glyphs import Glyphs
from appliance.screens.tasks_text import short
from appliance.screens.themes import Role
from appliance.screens.widgets.grid import Cell
from appliance.screens.widgets.lines import Line, Piece

LEAD = 12
MOST = 6
"""Tasks that are named."""
ROLES: Mapping[str, Role] = {"ok": "ok", "warn": "warn", "bad": "bad", "none": "muted"}


def by_node(status: object) -> dict[str, Agent]:
    """Machine → its agent, of what stands in the live state."""
    return {each.node: each for each in status.agents if each.node} if isinstance(status, AgentsStatus) else {}


def piece(agent: Agent, glyphs: Glyphs) -> Piece:
    """Version and state as sign and words."""
    told, sign = text.short(agent), text.sign(agent)
    return (told, "muted") if told == f.NONE else (f"{getattr(glyphs, sign)} {told}", ROLES[sign])


def cell(agent: Agent | None, installed: str | None, glyphs: Glyphs) -> Cell:
    """Of the Fleet table; before anything was joined, what the facts have."""
    return piece(agent, glyphs) if agent is not None else (installed or f.NONE, "muted")


def head_pieces(status: object, glyphs: Glyphs) -> list[Piece]:
    """What is to be seen of all of them in a few words; nothing where all is well."""
    agents = status.agents if isinstance(status, AgentsStatus) else ()
    silent = sum(each.state is AgentState.silent for each in agents)
    other = sum(each.outdated and each.state is not AgentState.absent for each in agents)
    stray = sum(not each.node for each in agents)
    found: list[tuple[int, str, Role]] = [
        (silent, f"{glyphs.bad} {f.counted(silent, 'agent')} silent", "bad"),
        (other, f"{glyphs.warn} {f.counted(other, 'agent')} of another version", "warn"),
        (stray, f"{glyphs.warn} {f.counted(stray, 'worker')} of no machine", "warn"),
    ]
    return [(f" {told} ", role) for number, told, role in found if number]


def trouble(agent: Agent | None) -> list[Piece]:
    """Why it should be looked at, and what to do; nothing where all is well."""
    if agent is None or not text.ill(agent):
        return []
    pieces: list[Piece] = [(f" Its agent: {agent.reason}.", "warn")]
    return [*pieces, (f" Next: {agent.next_step}", "accent")] if agent.next_step else pieces


def lines(agent: Agent | None, tasks: object, now: float, glyphs: Glyphs) -> list[Line]:
    """Everything of one.

    Args:
        agent: None where nothing was joined yet.
        tasks: TasksStatus, as it stands in the live state.
        now: Monotonic.
        glyphs: Of the session.
    """
    if agent is None:
        return [_line("agent", f.NONE, "muted")]
    found: list[Line] = [((f" {'agent':<{LEAD}}", "muted"), piece(agent, glyphs), (_reason(agent), "text"))]
    if agent.next_step:
        found.append(_line("next", agent.next_step, "accent"))
    if agent.installed is not None and agent.installed != (agent.version or agent.installed):
        found.append(_line("installed", agent.installed))
    if agent.worker:
        found += _working(agent, tasks, now)
    return found


def _working(agent: Agent, tasks: object, now: float) -> list[Line]:
    beat = "none since this appliance began" if agent.beat is None else f"{f.duration(max(0.0, now - agent.beat))} ago"
    if agent.beat is None and agent.state is AgentState.ready:
        beat = "here"
    many = f.NONE if agent.busy is None else f"{agent.busy} of {agent.limit}"
    known = tasks if isinstance(tasks, TasksStatus) else TasksStatus()
    own = [each for each in known.running if each.worker == agent.worker]
    load = f.NONE if agent.load is None else f"{agent.load:.2f}"
    return [
        _line("can do", ", ".join(agent.capabilities) or "nothing"), _line("tasks", f"{many}{_named(own)}"),
        _line("its load", load), _line("last sign", beat, "warn" if agent.state is AgentState.silent else "text"),
    ]  # fmt: skip


def _named(tasks: Sequence[Task]) -> str:
    if not tasks:
        return ""
    more = f", and {len(tasks) - MOST} more" if len(tasks) > MOST else ""
    return ": " + ", ".join(f"{each.type} {short(each.task_id)}" for each in tasks[:MOST]) + more


def _reason(agent: Agent) -> str:
    return f"  {agent.reason}" if agent.reason else ""


def _line(name: str, told: str, role: Role = "text") -> Line:
    return ((f" {name:<{LEAD}}", "muted"), (told, role))

"""Agents on the pages: version and state as sign and words, what is to be done, capabilities, load, tasks, last sign."""

from __future__ import annotations

import time
from typing import Any

import pytest
from rich.table import Table

from appliance.core.agents.model import Agent, AgentsStatus, AgentState
from appliance.core.fleet.status import row
from appliance.core.state import Section
from appliance.core.tasks.model import Task, TasksStatus, TaskState
from appliance.screens import agents_text as text
from appliance.screens import agents_view as view
from appliance.screens import fleet_view
from appliance.screens.glyphs import CONSOLE, Caps, Colours, unsafe
from appliance.screens.widgets.lines import Line
from appliance.verbs import fleet_status
from tests.screens.conftest import Bench, Seen
from tests.screens.machines import fleet, good
from tests.support import wait_for

PLAIN = Caps(Colours.console, full_glyphs=False, mouse=False)
WIDTH = next(column.width for column in fleet_view.NODES if column.title == "agent")


def agent(state: AgentState = AgentState.ready, **more: Any) -> Agent:
    values: dict[str, Any] = {"node": "pi", "worker": "pi", "version": "0.8.0", "capabilities": ("http", "command"), "limit": 5}
    return Agent(**{**values, "state": state, "busy": 2, "load": 0.25, "beat": 90.0, **more})


def plain(lines: list[Line]) -> str:
    return "\n".join("".join(piece for piece, _ in line) for line in lines)


@pytest.mark.parametrize("state", AgentState)
def test_every_state_is_a_sign_and_words_of_the_console(state: AgentState) -> None:
    told, role = view.piece(agent(state), CONSOLE)
    assert told.endswith(f"0.8.0 {state.value}")
    assert role != "text"
    assert len(told) <= WIDTH
    assert unsafe(told) == set()


def test_what_is_not_known_is_a_dash_and_what_is_not_there_is_none() -> None:
    assert view.piece(agent(AgentState.unknown, version=None, worker=""), CONSOLE) == ("–", "muted")
    assert view.piece(agent(AgentState.absent, version=None, worker=""), CONSOLE)[0] == "– none"
    assert view.cell(None, None, CONSOLE) == ("–", "muted")
    assert view.cell(None, "0.7.0", CONSOLE) == ("0.7.0", "muted"), "nothing was joined yet"


def test_another_version_says_so_without_colour() -> None:
    other = agent(
        outdated=True, version="0.7.0", reason="0.7.0 runs, this appliance is 0.8.0", next_step="prime-spark agent up"
    )
    assert view.piece(other, CONSOLE)[0] == "▲ 0.7.0 other"
    assert "Next: prime-spark agent up" in "".join(piece for piece, _ in view.trouble(other))
    assert view.trouble(agent()) == view.trouble(None) == view.trouble(agent(AgentState.mute, next_step="x")) == []


def test_the_head_counts_what_is_wrong() -> None:
    status = AgentsStatus(agents=(agent(AgentState.silent), agent(outdated=True), agent(node="", worker="x"), agent()))
    told = "".join(piece for piece, _ in view.head_pieces(status, CONSOLE))
    assert "1 agent silent" in told
    assert "1 agent of another version" in told
    assert "1 worker of no machine" in told
    assert view.head_pieces(AgentsStatus(agents=(agent(),)), CONSOLE) == view.head_pieces(None, CONSOLE) == []


def test_a_machine_s_page_has_all_of_it() -> None:
    running = tuple(Task(task_id=f"aaa00{n}", type="http", state=TaskState.in_progress, worker="pi") for n in range(8))
    told = plain(view.lines(agent(installed="0.9.0"), TasksStatus(running=running), 100.0, CONSOLE))
    for part in (
        "● 0.8.0 ready",
        "can do      http, command",
        "2 of 5: http aaa000",
        "and 2 more",
        "0.25",
        "10 s ago",
        "0.9.0",
    ):
        assert part in told, told
    assert "installed   0.9.0" in told
    bare = plain(view.lines(agent(AgentState.absent, version=None, worker="", next_step="install it"), None, 0.0, CONSOLE))
    assert "can do" not in bare
    assert "install it" in bare
    assert "–" in plain(view.lines(None, None, 0.0, CONSOLE))
    never = plain(view.lines(agent(AgentState.unknown, beat=None, busy=None, load=None), None, 0.0, CONSOLE))
    assert "none since this appliance began" in never
    assert "tasks       –" in never


def test_the_text_twin_has_version_state_and_what_to_do() -> None:
    now = time.monotonic()
    silent = agent(AgentState.silent, beat=now - 40, reason="no sign of life", next_step="look at it")
    found = row(good("pi"), now, silent)
    assert (found["agent"]["state"], found["agent"]["beat_s"], found["agent"]["seen_s"]) == ("silent", 40.0, None)
    assert row(good("pi"), now)["agent"] is None
    table, *rest = fleet_status.status({"nodes": [found, row(good("old"), now)]}, 160)
    assert isinstance(table, Table)
    cells = next(list(column.cells) for column in table.columns if column.header == "agent")
    assert [str(cell) for cell in cells] == ["0.8.0 silent", "–"]
    assert "pi, its agent: no sign of life. Next: look at it" in str(rest[0])
    assert text.ill(silent)


async def test_on_a_real_page_at_two_sizes(bench: Bench) -> None:
    state = bench.appliance.state
    wide = bench.open(PLAIN, (160, 48))
    narrow = bench.open(PLAIN)

    def shows(*texts: tuple[Seen, str]) -> bool:
        """Whether that stands on the consoles at once; the appliance's own services put what they know, so it is put again."""
        told = agent(AgentState.silent, reason="no sign of life", next_step="look at it")
        state.put(Section.fleet, fleet(good("pi")))
        state.put(Section.agents, AgentsStatus(agents=(told,)))
        return all(part in seen.display for seen, part in texts)

    await wide.press("gf", "Fleet")
    await narrow.press("gf", "Fleet")
    await wait_for(lambda: shows((wide, "0.8.0 silent"), (wide, "1 agent silent")), 60)
    await wait_for(lambda: shows((narrow, "Its agent: no sign of life"), (narrow, "1 agent silent")), 60)
    assert unsafe(narrow.display.replace("\n", "")) == set()

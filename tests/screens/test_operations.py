"""The Operations page: plans, progress on every machine, what comes next, and the output that is followed."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from appliance.core.fleet.operations.model import NodeRun, OperationStatus, RunState, Stage
from appliance.core.state import Section
from appliance.screens import operations_view as view
from appliance.screens.glyphs import CONSOLE, Caps, Colours, unsafe
from appliance.screens.operations import Operations
from appliance.screens.operations_output import KEPT, Follow, Part
from appliance.screens.widgets.lines import Line
from tests.screens.conftest import Bench, Seen
from tests.screens.machines import operation
from tests.support import wait_for

PLAIN = Caps(Colours.console, full_glyphs=False, mouse=False)
DIFF = "- active\n+ restarted"


def text_of(lines: list[Line]) -> str:
    return "\n".join("".join(piece for piece, _ in line) for line in lines)


def row(run: NodeRun, **more: Any) -> list[str]:
    (only,) = view.run_rows(operation(run, **more), CONSOLE)
    return [cell if isinstance(cell, str) else cell[0] for cell in only.cells]


@pytest.mark.parametrize("state", RunState)
def test_every_state_of_a_machine_has_a_sign_and_its_word(state: RunState) -> None:
    told = row(NodeRun("nas", state), stage=Stage.rest)[2]
    assert told.endswith(state.value)
    assert len(told) <= view.RUNS[2].width
    assert unsafe(told) == set()


@pytest.mark.parametrize("stage", Stage)
def test_every_stage_has_a_sign_and_its_word(stage: Stage) -> None:
    told, _ = view.stage(stage, CONSOLE)
    assert told.endswith(stage.value)
    assert len(told) <= view.OPERATIONS[1].width
    assert unsafe(told) == set()


def test_a_plan_tells_what_would_change_and_who_goes_first() -> None:
    planned = operation(
        NodeRun("a", diff=DIFF, canary=True), NodeRun("b", diff=DIFF), NodeRun("c", RunState.unreachable), soak=20.0
    )
    told = text_of(view.head_lines(planned, time.monotonic(), CONSOLE))
    assert "y carries it out (a first, watched for 20 s, then the other 1); x gives the plan up" in told
    assert row(NodeRun("a", diff=DIFF))[-1] == "+ restarted (and 1 more)"
    assert row(NodeRun("a", RunState.unchanged))[-1] == "nothing to change"


def test_the_countdown_of_the_watch_never_goes_below_zero() -> None:
    soaking = operation(NodeRun("a", RunState.ok, canary=True), NodeRun("b"), stage=Stage.soaking, soak_until=100.0)
    assert "watched for 12 s more, then the other 1" in text_of(view.head_lines(soaking, 88.0, CONSOLE))
    assert "watched for 0 s more" in text_of(view.head_lines(soaking, 103.0, CONSOLE))


def test_one_that_goes_alone_is_followed_by_no_others() -> None:
    for at, told in ((Stage.soaking, "watched for 12 s more. x stops it"), (Stage.canary, "a is at it. x stops it")):
        alone = operation(NodeRun("a", RunState.ok, canary=True), stage=at, soak_until=100.0)
        assert view.next_line(alone, 88.0) == told


def test_what_was_taken_back_by_wish_is_no_failure() -> None:
    for code, role in ((0, "warn"), (1, "bad")):
        undone = operation(NodeRun("a", RunState.undone, exit_status=code), stage=Stage.undone, reason="ada takes it back")
        assert view.head_lines(undone, 0.0, CONSOLE)[2] == ((" ada takes it back", role),)


def test_what_was_not_begun_has_no_duration_and_no_exit_status() -> None:
    assert row(NodeRun("a", RunState.unreachable, reason="no answer"), stage=Stage.failed)[3:5] == ["–", "–"]
    ended = NodeRun("a", RunState.failed, exit_status=3, started=time.time() - 9, ended=time.time() - 4)
    assert row(ended, stage=Stage.failed)[3:5] == ["3", "5 s"]


def test_what_went_first_stands_on_top() -> None:
    rows = view.run_rows(operation(NodeRun("a"), NodeRun("z", canary=True)), CONSOLE)
    assert [each.key for each in rows] == ["z", "a"]


def test_counts_say_what_came_of_it() -> None:
    runs = (NodeRun("a", RunState.ok), NodeRun("b", RunState.ok), NodeRun("c", RunState.unknown), NodeRun("d", RunState.failed))
    assert view.counts(operation(*runs, stage=Stage.failed)) == "2 ok, 1 failed, 1 unknown"


def test_only_what_can_be_taken_back_is_offered_so() -> None:
    done = operation(NodeRun("a", RunState.ok), stage=Stage.completed, undoable=True)
    assert view.next_line(done, 0.0) == "u takes back what it changed"
    assert view.next_line(msgspec.structs.replace(done, undoable=False), 0.0) == ""
    assert view.next_line(msgspec.structs.replace(done, stage=Stage.undone), 0.0) == ""


def page(seen: Seen) -> Operations:
    assert isinstance(seen.app.page, Operations)
    return seen.app.page


async def on_operations(bench: Bench, *known: OperationStatus, size: tuple[int, int] = (80, 24)) -> Seen:
    """A console on the page, with these operations."""
    seen = bench.open(PLAIN, size)
    await seen.press("gf", "by name")
    await seen.press("o", "Operations")
    bench.appliance.state.put(Section.operations, known)
    await wait_for(lambda: isinstance(seen.app.page, Operations))
    for each in known:
        await seen.shows(each.title)
    return seen


async def test_nothing_done_yet_says_how_to_begin(bench: Bench) -> None:
    seen = await on_operations(bench)
    await seen.shows("r on the Fleet page runs a command")
    await seen.press("\x1b", "by name")
    await seen.end()


async def test_what_cannot_be_taken_back_is_said_before_it_is_asked(bench: Bench) -> None:
    done = NodeRun("nas", RunState.ok, exit_status=0, cannot_undo="a restart is not taken back")
    seen = await on_operations(bench, operation(done, stage=Stage.completed))
    await seen.press("u", "it cannot be taken back: a restart is not taken back")
    await seen.end()


async def test_progress_is_seen_without_a_key(bench: Bench) -> None:
    waiting = NodeRun("nas", canary=True, diff=DIFF)
    seen = await on_operations(bench, operation(waiting, NodeRun("web1", diff=DIFF)))
    await seen.shows("y carries it out")
    running = NodeRun("nas", RunState.running, DIFF, started=time.time(), lines=4, last="stopping the unit", canary=True)
    bench.appliance.state.put(Section.operations, (operation(running, NodeRun("web1"), stage=Stage.canary),))
    await seen.shows("stopping the unit")
    await seen.shows("1 waiting, 1 running")
    failed = msgspec.structs.replace(running, state=RunState.undone, exit_status=1, reason="it did not come up")
    ended = operation(failed, NodeRun("web1", RunState.skipped), stage=Stage.undone, reason="nas failed first: taken back")
    bench.appliance.state.put(Section.operations, (ended,))
    await seen.shows("nas failed first: taken back")
    await seen.shows("it did not come up")
    assert unsafe(seen.display.replace("\n", "")) == set()
    await seen.end()


async def test_all_changes_are_read_with_one_key(bench: Bench) -> None:
    runs = (NodeRun("nas", diff=DIFF, cannot_undo="the old state is not kept"), NodeRun("web1", diff="- a\n+ b"))
    seen = await on_operations(bench, operation(*runs))
    await seen.press("i", "+ restarted")
    for text in ("cannot be taken back: the old state is not kept", "web1", "- a", "+ b"):
        await seen.shows(text)
    await seen.press("\x1b", "Machines")
    await seen.end()


async def test_wide_terminals_show_the_machine_under_the_cursor(bench: Bench) -> None:
    seen = await on_operations(bench, operation(NodeRun("nas", diff=DIFF), NodeRun("web1")), size=(160, 48))
    await seen.shows("would change:")
    await seen.shows("- active")
    await seen.end()


async def test_output_is_followed_and_what_was_lost_is_counted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dialog takes parts as the record gives them: what is not kept, or too much, is told."""
    seen = await on_operations(bench, operation(NodeRun("nas", RunState.running, started=time.time()), stage=Stage.rest))
    monkeypatch.setattr(Follow, "_due", Follow._show_note)  # no operation of that name runs here: parts come by hand
    seen.session.feed(b"\t")
    await wait_for(lambda: seen.app.focused is not None and seen.app.focused.id == "runs")
    await seen.press("\r", "nas: restart web.service")
    await wait_for(lambda: isinstance(seen.app.screen, Follow))
    dialog = seen.app.screen
    assert isinstance(dialog, Follow)
    dialog._take(Part(text="first\nsecond\n", after=0, next=13))
    dialog._show()
    await seen.shows("second")
    dialog._take(Part(text="".join(f"line {n}\n" for n in range(KEPT)), after=2061, next=70_000, dropped=2048, ended=True))
    dialog._show()
    await seen.shows(f"line {KEPT - 1}")
    await seen.shows("2 earlier ones are gone from here")
    await seen.shows("ended")
    await seen.press("/", "text that lines must contain")
    await seen.press("line 77\r", "line 770")
    assert f"line {KEPT - 1}" not in seen.display
    await seen.end()

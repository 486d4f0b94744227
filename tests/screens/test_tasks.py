"""The Tasks page on a real appliance: queue, history, workers, schedules, and its keys."""

from __future__ import annotations

from appliance.core.model import Actor, Role
from appliance.core.state import Section
from appliance.core.tasks.model import Capability, Schedule, Task, TasksStatus, TaskState, Urgency, Worker, WorkerState
from appliance.screens import tasks_view as view
from appliance.screens.glyphs import CONSOLE, Caps, Colours, unsafe
from appliance.screens.tasks import Tasks
from appliance.screens.widgets.grid import Row
from tests.screens.conftest import Bench, Seen
from tests.support import wait_for

PLAIN = Caps(Colours.console, full_glyphs=False, mouse=False)


def cells(row: Row) -> str:
    return " | ".join(cell if isinstance(cell, str) else cell[0] for cell in row.cells)


def test_what_is_not_known_is_a_dash() -> None:
    worker = Worker(name="far", capabilities=(Capability("http"),), limit=5, state=WorkerState.silent)
    status = TasksStatus(
        workers=(worker,), schedules=(Schedule(name="s", cron="* * * * *", zone="UTC", type="http", enabled=False),)
    )
    assert cells(view.worker_rows(status, 100.0, CONSOLE)[0]) == "far | ✗ silent | 0/5 | – | – | 0 | 0 | 0 | – | http"
    assert cells(view.schedule_rows(status)[0]) == "s | off | * * * * * | – | – | 0 | http | UTC"
    task = Task(task_id="0123456789", type="http", state=TaskState.pending, reason="no worker that does http is ready")
    assert cells(view.queue_rows(TasksStatus(waiting=(task,)))[0]).startswith(
        "456789 | http | pending | normal | – | – | – | no worker"
    )


def test_how_long_a_task_took_is_not_cut_off() -> None:
    for took, told in (
        (None, "–"),
        (37.0, "37 ms"),
        (999.6, "1.0 s"),
        (25_008.0, "25.0 s"),
        (59_960.0, "59 s"),
        (3_599_000.0, "59 min"),
    ):
        task = Task(task_id="0123456789", type="http", state=TaskState.completed, ended=1.0, duration_ms=took)
        shown = cells(view.history_rows(TasksStatus(history=(task,)))[0]).split(" | ")
        assert told in shown
        assert len(told) <= 7


def test_the_head_says_what_keeps_tasks_waiting() -> None:
    status = TasksStatus(depths={"urgent": 2, "low": 0}, workers=(Worker(name="far", state=WorkerState.silent, beat=90.0),))
    told = "".join(piece for piece, _ in view.head_line(status, CONSOLE))
    assert "2 waiting (2 urgent)" in told
    assert "0 of 1 worker ready" in told
    assert "no Kafka" in told
    assert unsafe(told) == set()
    assert ("".join(piece for piece, _ in view.trouble(status))) == " silent: far"
    assert "10 s" in cells(view.worker_rows(status, 100.0, CONSOLE)[0])


def page(seen: Seen) -> Tasks:
    found = seen.app.page
    assert isinstance(found, Tasks)
    return found


async def put(bench: Bench, key: str, value: str) -> None:
    await bench.invoke("task.submit", type="memory_management", payload={"do": "set", "key": key, "value": value})


def status(bench: Bench) -> TasksStatus:
    found: TasksStatus = bench.appliance.state.get(Section.tasks).value
    return found


async def test_a_task_and_a_schedule_by_their_keys(bench: Bench) -> None:
    seen = bench.open(PLAIN)
    await seen.press("gk", "nothing waits and nothing runs")
    await seen.press("n", "Submit a task")
    await seen.fill("type", "memory_management")
    await seen.fill("payload", '{"do": "set", "key": "colour", "value": "blue"}')
    for field in ("priority", "worker", "deadline", "limit", "attempts"):
        await seen.fill(field, "")
    await wait_for(lambda: [each.state for each in status(bench).history] == [TaskState.completed], 20)
    await put(bench, "colour", "green")
    await wait_for(lambda: len(status(bench).history) == 2, 20)
    await bench.invoke("task.submit", type="memory_management", payload={"do": "get"}, priority="urgent")
    await wait_for(lambda: len(status(bench).history) == 3, 20)
    await seen.press("\t", "History")
    await seen.shows("get needs a")
    await seen.press("\x1b[H\r", "attempt 1 begun")
    await seen.press("\x1b", "History")
    (failed,) = [each for each in status(bench).history if each.state is TaskState.failed]
    assert failed.priority is Urgency.urgent
    await seen.press("y", "waits again")
    await seen.press("\t", "control-pc")
    await seen.shows("memory_management")
    nightly = {"name": "nightly", "cron": "30 3 * * *", "type": "memory_management", "payload": {"do": "flush"}}
    await bench.appliance.dispatcher.invoke("schedule.add", nightly, Actor("ada", Role.admin, "console"))
    await seen.press("\t", "nightly")
    await seen.press("r", "submitted its task")
    await seen.press("e", "nightly rests")
    await seen.press("d", "Remove the schedule nightly")
    await seen.press("y", "nightly is removed")
    assert not status(bench).schedules or await wait_for(lambda: not status(bench).schedules)
    data = bytes(seen.channel.written).decode()
    assert unsafe("".join(sign for sign in data if sign.isprintable())) == set()
    await seen.end()
    await a_viewer_is_offered_nothing_that_changes_anything(bench)


async def a_viewer_is_offered_nothing_that_changes_anything(bench: Bench) -> None:
    seen = bench.open(PLAIN, (160, 48), Role.viewer)
    await seen.press("gk", "nothing waits and nothing runs")
    for text in ("get needs a key. Next: give key", "inference, memory_management", "nothing is scheduled"):
        await seen.shows(text)
    assert {key for key, _ in page(seen).offered()} == {"Tab", "Enter"}
    await seen.press("?", "Everywhere")
    await seen.end()

"""Tasks on this machine's own worker, without Kafka."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.core.metrics import samples
from appliance.core.model import Health
from appliance.core.state import Section
from appliance.core.tasks.model import TaskState, Urgency
from appliance.errors import ConflictError, InvalidArgumentsError
from tests.support import wait_for
from tests.tasks.rig import Echo, Paper, running


async def test_a_task_is_done_and_its_result_kept(tmp_path: Path) -> None:
    async with running(tmp_path, handlers=[Echo()]) as rig:
        task = await rig.ended(await rig.submit(payload={"n": 7}))
        detail = await rig.desk.book.show(task.task_id)
        assert (task.state, task.attempt, task.worker) == (TaskState.completed, 1, "control-pc")
        assert detail.result == {"back": {"n": 7}, "attempt": 1}
        assert [each["what"] for each in detail.history] == ["submitted by tester", "attempt 1 begun", "completed"]


async def test_a_thousand_tasks_at_once_are_each_done_once(tmp_path: Path) -> None:
    echo = Echo()
    async with running(tmp_path, handlers=[echo]) as rig:
        tasks = await asyncio.gather(*(rig.submit(payload={"n": number}) for number in range(1000)))
        await asyncio.gather(*(rig.ended(task) for task in tasks))
        assert sorted(echo.seen) == list(range(1000))
        assert rig.desk.counts["completed"] == 1000
        assert not rig.desk.live
        assert not rig.desk.flying


async def test_the_more_urgent_ones_go_first(tmp_path: Path) -> None:
    echo = Echo()
    async with running(tmp_path, handlers=[echo], limit=1) as rig:
        blocker = await rig.submit(payload={"n": "blocker", "wait": True})
        await wait_for(lambda: echo.seen)
        wanted = [Urgency.low, Urgency.urgent, Urgency.normal, Urgency.high, Urgency.low, Urgency.urgent]
        tasks = [await rig.submit(payload={"n": int(each)}, priority=each) for each in wanted]
        assert rig.desk.waiting.depths() == {"urgent": 2, "high": 1, "normal": 1, "low": 2}
        echo.gate.set()
        for task in (blocker, *tasks):
            await rig.ended(task)
        assert echo.seen == ["blocker", 4, 4, 3, 2, 1, 1]


async def test_a_low_one_that_waited_long_goes_before_a_young_urgent_one(tmp_path: Path) -> None:
    echo = Echo()
    async with running(tmp_path, handlers=[echo], limit=1, aging_seconds=1000) as rig:
        await rig.submit(payload={"n": "blocker", "wait": True})
        await wait_for(lambda: echo.seen)
        old = await rig.submit(payload={"n": "old"}, priority=Urgency.low)
        entry = rig.desk.live[old.task_id]
        rig.desk.waiting.remove(old.task_id)
        entry.since -= 3001
        rig.desk.queue(entry)
        young = await rig.submit(payload={"n": "young"}, priority=Urgency.urgent)
        echo.gate.set()
        await rig.ended(young)
        assert echo.seen == ["blocker", "old", "young"]


async def test_a_failing_task_is_tried_three_times_and_told(tmp_path: Path) -> None:
    async with running(tmp_path, handlers=[Echo()]) as rig:
        third = await rig.ended(await rig.submit(payload={"fail": 2}))
        never = await rig.ended(await rig.submit(payload={"fail": 9}))
        broken = await rig.ended(await rig.submit(payload={"break": True}, attempts=1))
        at_once = await rig.ended(await rig.submit(payload={"fail": 9, "final": True}))
    assert (third.state, third.attempt) == (TaskState.completed, 3)
    assert (never.state, never.attempt) == (TaskState.failed, 3)
    assert "it was asked to fail" in never.reason
    assert (broken.state, broken.attempt) == (TaskState.failed, 1)
    assert "ZeroDivisionError" in broken.reason
    assert (at_once.state, at_once.attempt) == (TaskState.failed, 1)
    assert [facts["task_id"] for event, facts in rig.told if event == "task.failed"] == [
        never.task_id, broken.task_id, at_once.task_id,
    ]  # fmt: skip


async def test_a_cancelled_one_never_runs_and_a_running_one_is_stopped(tmp_path: Path) -> None:
    echo = Echo()
    async with running(tmp_path, handlers=[echo], limit=1) as rig:
        runs = await rig.submit(payload={"n": "runs", "wait": True})
        await wait_for(lambda: echo.seen)
        waits = await rig.submit(payload={"n": "waits"})
        dispatcher = rig.service.dispatcher
        assert (await dispatcher.cancel(waits.task_id, "anna")).state is TaskState.cancelled
        assert (await dispatcher.cancel(runs.task_id, "anna")).reason == "cancelled by anna"
        await wait_for(lambda: echo.cancelled == [runs.task_id])
        last = await rig.ended(await rig.submit(payload={"n": "last"}))
        with pytest.raises(ConflictError, match="has ended"):
            await dispatcher.cancel(runs.task_id, "anna")
        assert last.state is TaskState.completed
        assert echo.seen == ["runs", "last"]
        again = await dispatcher.retry(waits.task_id, "anna")
        assert (await rig.ended(again)).state is TaskState.completed
        with pytest.raises(ConflictError, match="completed"):
            await dispatcher.retry(waits.task_id, "anna")


async def test_an_attempt_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    echo = Echo()
    async with running(tmp_path, handlers=[echo]) as rig:
        task = await rig.ended(await rig.submit(payload={"wait": True}, limit_s=0.05, attempts=2))
    assert (task.state, task.attempt) == (TaskState.failed, 2)
    assert "longer than 0.05 s" in task.reason
    assert len(echo.cancelled) == 2


async def test_a_deadline_ends_what_waits_and_what_runs(tmp_path: Path) -> None:
    echo = Echo()
    async with running(tmp_path, handlers=[echo], limit=1) as rig:
        runs = await rig.submit(payload={"wait": True}, deadline_s=0.3)
        await wait_for(lambda: echo.seen)
        waits = await rig.submit(deadline_s=0.1)
        assert [(await rig.ended(each)).reason for each in (waits, runs)] == ["its deadline passed"] * 2
        await wait_for(lambda: echo.cancelled == [runs.task_id])
        assert len(echo.seen) == 1


async def test_what_cannot_be_is_refused_with_the_next_step(tmp_path: Path) -> None:
    async with running(tmp_path, handlers=[Echo()], waiting=2, payload_kib=1) as rig:
        with pytest.raises(InvalidArgumentsError, match="No worker has ever told") as told:
            await rig.submit("ecko")
        assert told.value.next_step == "did you mean echo?"
        with pytest.raises(InvalidArgumentsError, match="1024 are the most") as told:
            await rig.submit(payload={"text": "x" * 10_000_000})
        assert "memory" in told.value.next_step
        with pytest.raises(InvalidArgumentsError, match="No worker is called"):
            await rig.submit(worker="nobody")
        for _ in range(2):
            await rig.submit(payload={"wait": True})
        with pytest.raises(ConflictError, match="2 tasks wait or run already"):
            await rig.submit()


async def test_a_type_that_nobody_does_now_waits_with_its_reason(tmp_path: Path) -> None:
    rare, echo = Echo("rare"), Echo()
    async with running(tmp_path, handlers=[echo]) as rig:
        paper = Paper(types=["rare"])
        await rig.service.dispatcher.hear(paper.beat(stopping=True), paper)
        stuck = await rig.submit("rare")
        assert [(each.task_id, each.reason) for each in rig.service.status().waiting] == [
            (stuck.task_id, "no worker that does rare is ready")
        ]
        report = await rig.service.health()
        assert (report.health, "no worker is ready for: rare" in report.reason) == (Health.degraded, True)
        assert (await rig.ended(await rig.submit())).state is TaskState.completed  # it holds up no other
        await rig.service.dispatcher.hear(paper.beat(), paper)
        await wait_for(lambda: paper.orders)
        assert rare.seen == []


async def test_a_result_beyond_its_bound_is_left_out_and_said_so(tmp_path: Path) -> None:
    async with running(tmp_path, handlers=[Echo()], result_kib=1) as rig:
        task = await rig.ended(await rig.submit(payload={"text": "x" * 5000}))
        assert "1024 are kept" in (await rig.desk.book.show(task.task_id)).result["left_out"]


async def test_the_live_state_shows_queue_workers_and_history(tmp_path: Path) -> None:
    echo = Echo()
    async with running(tmp_path, handlers=[echo], limit=1) as rig:
        task = await rig.submit(payload={"wait": True})
        behind = await rig.submit(priority=Urgency.high)
        await wait_for(lambda: rig.state.get(Section.tasks).value.running)
        shown = rig.state.get(Section.tasks).value
        assert [each.task_id for each in shown.running] == [task.task_id]
        assert [(each.task_id, each.reason) for each in shown.waiting] == [(behind.task_id, "all workers that do it are busy")]
        assert (shown.workers[0].name, shown.workers[0].busy, shown.workers[0].local) == ("control-pc", 1, True)
        numbers = {(each.name, *(value for _, value in each.labels)): each.value for each in samples(rig.state)}
        assert numbers["edge_tasks_waiting", "high"] == numbers["edge_tasks_with_workers",] == 1
        assert numbers["edge_tasks_total", "submitted"] == 2
        assert numbers["edge_task_worker_up", "control-pc"] == 1
        assert (await rig.service.health()).health is Health.healthy
        echo.gate.set()
        await rig.ended(behind)
        await wait_for(lambda: len(rig.state.get(Section.tasks).value.history) == 2)


async def test_ended_tasks_are_kept_up_to_a_bound(tmp_path: Path) -> None:
    async with running(tmp_path, handlers=[Echo()], keep=10) as rig:
        tasks = [await rig.ended(await rig.submit()) for _ in range(25)]
        assert [each.task_id for each in await rig.desk.book.ended(100)] == [each.task_id for each in reversed(tasks[-10:])]

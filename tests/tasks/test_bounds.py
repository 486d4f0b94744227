"""What grows has a bound, and what is shown is all there is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.core.tasks import desk
from appliance.core.tasks.model import Urgency
from appliance.core.tasks.roster import Roster
from appliance.core.tasks.waiting import Waiting
from tests.support import ManualClock, wait_for
from tests.tasks.rig import Echo, Paper, running


def test_what_was_cancelled_leaves_nothing_in_the_queue() -> None:
    waiting = Waiting(600.0)
    waiting.add("first", ("echo", ""), Urgency.urgent, 0.0, 0)
    for number in range(1, 20_000):
        waiting.add(str(number), ("echo", ""), Urgency.low, 1.0, number)
        waiting.remove(str(number))
    assert sum(len(each) for each in waiting._heaps.values()) < 1000
    assert waiting.first(9) == ["first"]


async def test_deadlines_of_what_has_ended_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "SLACK", 20)
    async with running(tmp_path, handlers=[Echo()]) as rig:
        tasks = await asyncio.gather(*(rig.submit(deadline_s=86400.0) for _ in range(60)))
        for each in tasks:
            await rig.desk.ended(each.task_id)
        await rig.submit(deadline_s=1.0)
        assert len(rig.desk.dues) < 30


def test_workers_that_never_come_back_are_forgotten_in_the_end() -> None:
    roster = Roster(20.0)
    for number in range(500):
        paper = Paper(f"w{number}")
        roster.hear(paper.beat(), paper, float(number))
    roster.silence(10_000.0)
    assert len(roster.members) <= 200
    assert "w499" in roster.members


async def test_a_worker_that_uses_the_control_pc_s_name_is_told_of(tmp_path: Path) -> None:
    async with running(tmp_path, run=False, clock=ManualClock(), handlers=[Echo()]) as rig:
        paper = Paper("control-pc")
        for _ in range(5):
            await rig.service.dispatcher.hear(paper.beat(), paper)
        assert "uses this name too" in rig.desk.roster.members["control-pc"].worker.note


async def test_all_that_workers_have_is_counted_not_only_what_is_shown(tmp_path: Path) -> None:
    echo = Echo()
    async with running(tmp_path, handlers=[echo], limit=150) as rig:
        for _ in range(150):
            await rig.submit(payload={"wait": True})
        await wait_for(lambda: len(echo.seen) == 150)
        status = rig.service.status()
        assert (len(status.running), status.with_workers) == (100, 150)
        echo.gate.set()
        await wait_for(lambda: not rig.desk.live)


async def test_what_waits_for_another_attempt_is_counted_among_what_waits(tmp_path: Path) -> None:
    async with running(tmp_path, handlers=[Echo()], retry_seconds=60.0, retry_longest_seconds=60.0) as rig:
        task = await rig.submit(payload={"fail": 1})
        await wait_for(lambda: rig.desk.later)
        status = rig.service.status()
        assert (sum(status.depths.values()), status.resting, status.with_workers) == (0, 1, 0)
        assert [each.task_id for each in status.waiting] == [task.task_id]
        assert "1 task waiting" in (await rig.service.health()).reason

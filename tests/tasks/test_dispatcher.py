"""What the dispatcher decides, with workers on paper and a clock that the test moves."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from appliance.core.store import Store
from appliance.core.tasks.model import TaskState, Urgency, WorkerState
from appliance.errors import ConflictError, DiskFullError
from tests.support import ManualClock, wait_for
from tests.tasks.rig import Paper, Rig, running

LEASE = 20.0


async def step(rig: Rig) -> None:
    """One round of the dispatcher."""
    await rig.service.dispatcher.look()
    while await rig.service.dispatcher._assigner.assign():
        pass


async def joined(rig: Rig, *papers: Paper) -> None:
    for paper in papers:
        await rig.service.dispatcher.hear(paper.beat(), paper)


async def test_a_silent_worker_loses_its_task_and_its_late_result_is_refused(tmp_path: Path) -> None:
    clock = ManualClock()
    one, two = Paper("one", limit=5), Paper("two")
    async with running(tmp_path, run=False, clock=clock) as rig:
        dispatcher = rig.service.dispatcher
        await joined(rig, one)
        task = await rig.submit()
        await step(rig)
        assert await dispatcher.begun(one.begun(one.orders[0]))
        clock.move(LEASE / 2)
        await joined(rig, two)
        clock.move(LEASE / 2 + 0.1)
        await step(rig)
        assert dispatcher.desk.roster.members["one"].worker.state is WorkerState.silent
        assert [event for event, _ in rig.told] == ["task.worker-silent"]
        clock.move(1)
        await joined(rig, two)
        await step(rig)
        assert [(each.task_id, each.lease, each.attempt) for each in two.orders] == [(task.task_id, 2, 2)]
        assert not await dispatcher.ended(one.result(one.orders[0], result="late"))
        assert rig.desk.counts["refused"] == 1
        assert rig.desk.roster.members["one"].worker.refused == 1
        await dispatcher.begun(two.begun(two.orders[0]))
        assert await dispatcher.ended(two.result(two.orders[0], result="in time"))
        assert not await dispatcher.ended(two.result(two.orders[0], result="in time"))
        assert (rig.desk.counts["duplicates"], rig.desk.counts["completed"]) == (1, 1)
        assert (await rig.desk.book.show(task.task_id)).result == "in time"


async def test_signs_of_life_renew_leases_for_as_long_as_they_name_the_task(tmp_path: Path) -> None:
    clock, one = ManualClock(), Paper("one")
    async with running(tmp_path, run=False, clock=clock) as rig:
        await joined(rig, one)
        task = await rig.submit()
        await step(rig)
        await rig.service.dispatcher.begun(one.begun(one.orders[0]))
        for _ in range(10):
            clock.move(LEASE * 0.9)
            await rig.service.dispatcher.hear(one.beat(*one.orders), one)
            await step(rig)
        assert rig.desk.live[task.task_id].task.state is TaskState.in_progress
        await rig.service.dispatcher.hear(one.beat(), one)  # it has it no more
        assert rig.desk.live[task.task_id].task.state is TaskState.pending
        assert "has it no more" in rig.desk.live[task.task_id].task.reason


async def test_no_wall_clock_has_a_say_in_leases_and_deadlines(tmp_path: Path) -> None:
    clock, one = ManualClock(), Paper("one")
    async with running(tmp_path, run=False, clock=clock) as rig:
        await joined(rig, one)
        task = await rig.submit(deadline_s=100)
        await step(rig)
        await rig.service.dispatcher.begun(one.begun(one.orders[0]))
        assert one.orders[0].left_s == 100
        for jump in (86400 * 365, -86400 * 730):
            clock.wall_now += jump
            await step(rig)
            assert rig.desk.live[task.task_id].task.state is TaskState.in_progress
        clock.monotonic_now += 100
        await step(rig)
        assert (await rig.task(task)).reason == "its deadline passed"
        assert [(stop.task_id, recall) for stop, recall in one.stops] == [(task.task_id, False)]


async def test_a_worker_that_was_started_anew_has_lost_everything(tmp_path: Path) -> None:
    clock, one = ManualClock(), Paper("one", limit=1)
    async with running(tmp_path, run=False, clock=clock) as rig:
        dispatcher = rig.service.dispatcher
        await joined(rig, one)
        first, second = await rig.submit(), await rig.submit()
        await step(rig)
        old = list(one.orders)
        await dispatcher.begun(one.begun(old[0]))
        late = one.beat(*old)
        await dispatcher.hear(one.beat(session="s2"), one)
        assert {rig.desk.live[each.task_id].task.state for each in (first, second)} == {TaskState.pending}
        await dispatcher.hear(late, one)  # of its earlier life
        assert rig.desk.roster.members["one"].worker.session == "s2"
        assert not await dispatcher.ended(one.result(old[0]))
        clock.move(1)
        await step(rig)
        fresh = one.orders[2:]
        assert [(each.task_id, each.session) for each in fresh] == [(second.task_id, "s2"), (first.task_id, "s2")] or [
            each.task_id for each in fresh
        ] == [first.task_id, second.task_id]
        attempts = {each.task_id: each.attempt for each in fresh}
        assert attempts == {first.task_id: 2, second.task_id: 1}  # what was never begun has lost no attempt


async def test_a_task_that_kills_its_workers_fails_after_its_attempts(tmp_path: Path) -> None:
    clock, one = ManualClock(), Paper("one")
    async with running(tmp_path, run=False, clock=clock) as rig:
        await joined(rig, one)
        task = await rig.submit()
        for life in range(3):
            await step(rig)
            await rig.service.dispatcher.begun(one.begun(one.orders[-1]))
            await rig.service.dispatcher.hear(one.beat(session=f"life {life}"), one)
            clock.move(1)
        ended = await rig.task(task)
        assert (ended.state, ended.attempt) == (TaskState.failed, 3)
        assert "its worker was started anew (attempt 3 of 3)" in ended.reason
        assert rig.told[-1][0] == "task.failed"
        assert len(one.orders) == 3


async def test_a_task_that_no_worker_ever_begins_fails_in_the_end(tmp_path: Path) -> None:
    clock, one = ManualClock(), Paper("one")
    async with running(tmp_path, run=False, clock=clock) as rig:
        task = None
        for _ in range(30):
            await joined(rig, one)
            task = task or await rig.submit()
            await step(rig)
            clock.move(LEASE + 1)
        ended = await rig.task(task)  # type: ignore[arg-type]
        assert (ended.state, ended.attempt, ended.deliveries) == (TaskState.failed, 0, 20)


async def test_while_nobody_can_be_heard_no_lease_runs_out(tmp_path: Path) -> None:
    clock, one = ManualClock(), Paper("one")
    async with running(tmp_path, run=False, clock=clock) as rig:
        await joined(rig, one)
        task, behind = await rig.submit(), None
        await step(rig)
        await rig.service.dispatcher.begun(one.begun(one.orders[0]))
        one.hears = False
        behind = await rig.submit()
        for _ in range(10):
            clock.move(LEASE)
            await step(rig)
        assert rig.desk.live[task.task_id].task.state is TaskState.in_progress
        assert rig.desk.live[behind.task_id].task.state is TaskState.pending
        one.hears = True
        await step(rig)
        assert await rig.service.dispatcher.ended(one.result(one.orders[0]))
        await joined(rig, one)
        await step(rig)
        assert one.orders[-1].task_id == behind.task_id


async def test_what_is_given_back_loses_no_attempt(tmp_path: Path) -> None:
    clock, one = ManualClock(), Paper("one")
    async with running(tmp_path, run=False, clock=clock) as rig:
        await joined(rig, one)
        task = await rig.submit()
        for _ in range(5):
            await joined(rig, one)
            await step(rig)
            await rig.service.dispatcher.begun(one.begun(one.orders[-1]))
            await rig.service.dispatcher.returned(one.begun(one.orders[-1]))
        assert rig.desk.live[task.task_id].task.attempt == 0
        assert [each.attempt for each in one.orders] == [1] * 5


async def test_what_stands_behind_others_is_called_back_for_who_is_free(tmp_path: Path) -> None:
    clock = ManualClock()
    busy, free = Paper("busy", limit=1), Paper("free", limit=1)
    async with running(tmp_path, run=False, clock=clock) as rig:
        await joined(rig, busy)
        await rig.submit()
        behind = await rig.submit()
        await step(rig)
        assert [each.task_id for each in busy.orders][1] == behind.task_id
        await rig.service.dispatcher.begun(busy.begun(busy.orders[0]))
        await joined(rig, free)
        await step(rig)
        assert [(stop.task_id, recall) for stop, recall in busy.stops] == [(behind.task_id, True)]
        await rig.service.dispatcher.returned(busy.begun(busy.orders[1]))
        await step(rig)
        assert [each.task_id for each in free.orders] == [behind.task_id]


async def test_the_least_burdened_worker_gets_the_next_one(tmp_path: Path) -> None:
    small, large = Paper("small", limit=2), Paper("large", limit=8)
    async with running(tmp_path, run=False, clock=ManualClock()) as rig:
        await joined(rig, small, large)
        for _ in range(10):
            await rig.submit()
        await step(rig)
        assert (len(small.orders), len(large.orders)) == (2, 8)


async def test_a_worker_that_stops_or_lacks_the_type_gets_nothing(tmp_path: Path) -> None:
    stops, other, able = Paper("stops"), Paper("other", types=["other"]), Paper("able", limit=9)
    async with running(tmp_path, run=False, clock=ManualClock()) as rig:
        await joined(rig, other, able)
        await rig.service.dispatcher.hear(stops.beat(stopping=True), stops)
        for _ in range(4):
            await rig.submit()
        await rig.submit(worker="able", priority=Urgency.low)
        await step(rig)
        assert (len(stops.orders), len(other.orders), len(able.orders)) == (0, 0, 5)


async def test_a_restart_keeps_leases_elsewhere_and_takes_back_what_ran_here(tmp_path: Path) -> None:
    clock, one = ManualClock(), Paper("one")
    async with running(tmp_path, run=False, clock=clock) as rig:
        await joined(rig, one)
        flies, waits = await rig.submit(), await rig.submit(worker="one", deadline_s=1000)
        gone = await rig.submit()
        await rig.service.dispatcher.cancel(gone.task_id, "anna")
        await step(rig)
        await rig.service.dispatcher.begun(one.begun(one.orders[0]))
        orders = list(one.orders)
        assert {each.task_id for each in orders} == {flies.task_id, waits.task_id}
    clock.move(5)
    clock.wall_now += 5000  # it was set meanwhile
    async with running(tmp_path, run=False, clock=clock) as rig:
        assert set(rig.desk.flying) == {flies.task_id, waits.task_id}
        assert gone.task_id not in rig.desk.live
        await rig.service.dispatcher.hear(one.beat(*orders), one)
        assert await rig.service.dispatcher.ended(one.result(orders[0], result="done while nobody looked"))
        assert (await rig.task(flies)).state is TaskState.completed
        clock.move(LEASE + 1)
        await step(rig)
        assert rig.desk.live[waits.task_id].task.state is TaskState.pending
        assert rig.desk.live[waits.task_id].due == pytest.approx(1000 + 1000)  # in the same run of the machine


async def test_a_disk_that_is_full_loses_nothing_and_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, one = ManualClock(), Paper("one")
    async with running(tmp_path, run=False, clock=clock) as rig:
        await joined(rig, one)
        runs, waits = await rig.submit(), await rig.submit(worker="one")
        await step(rig)
        await rig.service.dispatcher.begun(one.begun(one.orders[0]))
        third = await rig.submit()
        whole = Store.write

        async def full(*_: object) -> None:
            await asyncio.sleep(0)
            raise DiskFullError("No room.", "make some.")

        monkeypatch.setattr(Store, "write", full)
        for attempt in (
            rig.submit(), rig.service.dispatcher.cancel(waits.task_id, "anna"), step(rig),
            rig.service.dispatcher.ended(one.result(one.orders[0])), rig.service.dispatcher.begun(one.begun(one.orders[1])),
        ):  # fmt: skip
            with pytest.raises(DiskFullError):
                await attempt
        assert len(one.orders) == 2
        assert set(rig.desk.live) == {runs.task_id, waits.task_id, third.task_id}
        assert rig.desk.waiting.first(9) == [third.task_id]
        monkeypatch.setattr(Store, "write", whole)
        await step(rig)
        assert await rig.service.dispatcher.ended(one.result(one.orders[0]))
        assert await rig.service.dispatcher.begun(one.begun(one.orders[1]))
        assert one.orders[2].task_id == third.task_id


async def test_a_task_has_not_ended_before_its_end_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path, run=False, clock=ManualClock()) as rig:
        one = Paper("one")
        await joined(rig, one)
        task = await rig.submit()
        whole, gate = Store.write, asyncio.Event()

        async def slow(store: Store, work: Any) -> Any:
            await gate.wait()
            return await whole(store, work)

        monkeypatch.setattr(Store, "write", slow)
        ending = asyncio.create_task(rig.service.dispatcher.cancel(task.task_id, "anna"))
        waiting = asyncio.create_task(rig.ended(task))
        await wait_for(lambda: task.task_id in rig.desk.ending)
        with pytest.raises(ConflictError, match="has not ended"):
            await rig.service.dispatcher.retry(task.task_id, "anna")
        await step(rig)
        assert one.orders == []
        assert not waiting.done()
        gate.set()
        assert (await ending).state is (await waiting).state is TaskState.cancelled


async def test_an_older_lease_of_the_very_same_worker_does_not_count(tmp_path: Path) -> None:
    clock, one = ManualClock(), Paper("one")
    async with running(tmp_path, run=False, clock=clock) as rig:
        dispatcher = rig.service.dispatcher
        await joined(rig, one)
        task = await rig.submit()
        await step(rig)
        await dispatcher.begun(one.begun(one.orders[0]))
        await dispatcher.hear(one.beat(), one)  # it says that it has it no more, and gets it again
        clock.move(1)
        await step(rig)
        first, second = one.orders
        assert (first.session, first.lease + 1) == (second.session, second.lease)
        assert not await dispatcher.begun(one.begun(first))
        assert not await dispatcher.ended(one.result(first, result="old"))
        await dispatcher.returned(one.begun(first))
        assert rig.desk.live[task.task_id].task.state is TaskState.assigned
        assert await dispatcher.ended(one.result(second, result="new"))
        assert (await rig.desk.book.show(task.task_id)).result == "new"


async def test_two_workers_of_one_name_are_told_of(tmp_path: Path) -> None:
    one, other = Paper("one", "s1"), Paper("one", "s2")
    async with running(tmp_path, run=False, clock=ManualClock()) as rig:
        for _ in range(5):
            await joined(rig, one, other)
        worker = rig.desk.roster.members["one"].worker
        assert worker.session == "s2"  # the one that came later
        assert "another process uses this name too" in worker.note

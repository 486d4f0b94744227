"""What goes wrong between the writes: old news that comes again, callers that go away, writes that fail beside each other."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from appliance.core.store import Store
from appliance.core.tasks.model import TaskState
from appliance.errors import DiskFullError, LinkDownError, NotFoundError
from tests.support import ManualClock, wait_for
from tests.tasks.rig import Echo, Paper, running
from tests.tasks.test_dispatcher import LEASE, joined, step


async def test_a_retry_of_what_has_just_gone_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path, handlers=[Echo()], keep=10) as rig:
        old = await rig.ended(await rig.submit(payload={"fail": 9, "final": True}))
        for _ in range(9):
            await rig.ended(await rig.submit())
        whole = type(rig.desk.book).show

        async def slow(book: Any, task_id: str) -> Any:
            found = await whole(book, task_id)
            monkeypatch.setattr(type(rig.desk.book), "show", whole)
            await rig.ended(await rig.submit())
            return found

        monkeypatch.setattr(type(rig.desk.book), "show", slow)
        with pytest.raises(NotFoundError):
            await rig.service.dispatcher.retry(old.task_id, "anna")
        assert old.task_id not in rig.desk.live
        assert (await rig.ended(await rig.submit())).state is TaskState.completed


async def test_old_signs_of_life_that_come_again_after_a_restart_take_nothing_away(tmp_path: Path) -> None:
    clock, one = ManualClock(), Paper("one")
    async with running(tmp_path, run=False, clock=clock) as rig:
        await joined(rig, one)
        before = one.beat()
        task = await rig.submit()
        await step(rig)
        await rig.service.dispatcher.hear(before, one)
        await rig.service.dispatcher.begun(one.begun(one.orders[0]))
    async with running(tmp_path, run=False, clock=clock) as rig:
        await rig.service.dispatcher.hear(before, one)  # its offset was not committed yet
        assert rig.desk.live[task.task_id].task.state is TaskState.in_progress
        await rig.service.dispatcher.hear(one.beat(*one.orders), one)
        await rig.service.dispatcher.hear(one.beat(), one)
        assert rig.desk.live[task.task_id].task.state is TaskState.pending


async def test_signs_of_an_earlier_life_that_come_again_take_nothing_away(tmp_path: Path) -> None:
    clock, one = ManualClock(), Paper("one")
    async with running(tmp_path, run=False, clock=clock) as rig:
        await joined(rig, one)
        before = one.beat()
        await rig.service.dispatcher.hear(one.beat(session="s2"), one)
        task = await rig.submit()
        await step(rig)
        await rig.service.dispatcher.begun(one.begun(one.orders[0]))
    async with running(tmp_path, run=False, clock=clock) as rig:
        await rig.service.dispatcher.hear(before, one)
        assert rig.desk.live[task.task_id].task.state is TaskState.in_progress
        assert await rig.service.dispatcher.ended(one.result(one.orders[0]))


async def test_what_another_worker_got_meanwhile_stays_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, one, two = ManualClock(), Paper("one", limit=9), Paper("two", limit=9)
    async with running(tmp_path, run=False, clock=clock) as rig:
        await joined(rig, one)
        tasks = [await rig.submit() for _ in range(4)]
        await step(rig)
        await joined(rig, two)
        whole = type(rig.desk).lose
        moved: list[str] = []

        async def lose(desk: Any, entry: Any, why: str) -> None:
            await whole(desk, entry, why)
            if not moved:  # while this is written, the others are given back, and go to somebody else
                for order in one.orders:
                    if order.task_id != entry.task.task_id:
                        await rig.service.dispatcher.returned(one.begun(order))
                moved.append(entry.task.task_id)
                await rig.service.dispatcher._assigner.assign()

        monkeypatch.setattr(type(rig.desk), "lose", lose)
        await rig.service.dispatcher.hear(one.beat(session="s2", stopping=True), one)
        await step(rig)
        has = [rig.desk.live[each.task_id].task for each in tasks]
        assert {each.worker for each in has} == {"two"}
        assert rig.desk.counts["lost"] == 1


async def test_a_worker_that_missed_a_cancellation_is_told_again(tmp_path: Path) -> None:
    clock, one = ManualClock(), Paper("one")
    async with running(tmp_path, run=False, clock=clock) as rig:
        await joined(rig, one)
        runs, waits = await rig.submit(), await rig.submit()
        await step(rig)
        dispatcher = rig.service.dispatcher
        await dispatcher.begun(one.begun(one.orders[0]))
        whole = one.stop

        async def broken(*_: object, **__: object) -> None:
            raise LinkDownError("Kafka is away.")

        one.stop = broken  # type: ignore[method-assign]
        await dispatcher.cancel(runs.task_id, "anna")
        await dispatcher.cancel(waits.task_id, "anna")
        one.stop = whole  # type: ignore[method-assign]
        assert not await dispatcher.begun(one.begun(one.orders[1]))
        await dispatcher.hear(one.beat(one.orders[0]), one)
        assert {(each.task_id, each.lease, recall) for each, recall in one.stops} == {
            (order.task_id, order.lease, False) for order in one.orders
        }


async def test_a_caller_that_goes_away_leaves_no_task_that_only_the_disk_knows(tmp_path: Path) -> None:
    async with running(tmp_path, run=False, clock=ManualClock(), handlers=[Echo()]) as rig:
        whole, reached, gate = Store.write, asyncio.Event(), asyncio.Event()

        async def slow(store: Store, work: Any) -> Any:
            done = await whole(store, work)
            reached.set()
            await gate.wait()
            return done

        Store.write = slow  # type: ignore[method-assign,assignment]
        try:
            asking = asyncio.create_task(rig.submit())
            await reached.wait()
            asking.cancel()
            await asyncio.sleep(0)
            gate.set()
            await asyncio.wait({asking})
        finally:
            Store.write = whole  # type: ignore[method-assign]
        await wait_for(lambda: len(rig.desk.waiting) == 1)
        kept, _, _ = await rig.desk.book.open()
        assert {each.task.task_id for each in kept} == set(rig.desk.live)


async def test_who_waits_for_an_end_hears_of_it_over_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path, run=False, clock=ManualClock()) as rig:
        one = Paper("one")
        await joined(rig, one)
        task = await rig.submit()
        waiting = asyncio.create_task(rig.desk.ended(task.task_id))
        await asyncio.sleep(0)
        await rig.service.stop()
        await rig.service.start()
        await rig.service.dispatcher.cancel(task.task_id, "anna")
        async with asyncio.timeout(5):
            await waiting


async def test_what_could_not_be_written_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, one = ManualClock(), Paper("one")
    async with running(tmp_path, run=False, clock=clock) as rig:
        await joined(rig, one)
        task = await rig.submit()
        await step(rig)
        whole = Store.write

        async def full(*_: object) -> None:
            raise DiskFullError("No room.", "make some.")

        monkeypatch.setattr(Store, "write", full)
        clock.move(LEASE + 1)
        for _ in range(3):
            with pytest.raises(DiskFullError):
                await step(rig)
        monkeypatch.setattr(Store, "write", whole)
        await rig.service.dispatcher.look()
        assert rig.desk.counts["lost"] == 1
        assert rig.desk.live[task.task_id].task.state is TaskState.pending


async def test_an_end_and_a_loss_that_both_fail_leave_the_task_in_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, one = ManualClock(), Paper("one")
    async with running(tmp_path, run=False, clock=clock) as rig:
        await joined(rig, one)
        task = await rig.submit()
        await step(rig)
        whole, gate = Store.write, asyncio.Event()

        async def full(*_: object) -> None:
            await gate.wait()
            raise DiskFullError("No room.", "make some.")

        monkeypatch.setattr(Store, "write", full)
        losing = asyncio.create_task(rig.desk.lose(rig.desk.live[task.task_id], "test"))
        await asyncio.sleep(0)
        ending = asyncio.create_task(rig.service.dispatcher.cancel(task.task_id, "anna"))
        await asyncio.sleep(0)
        gate.set()
        await asyncio.wait({losing, ending})
        assert isinstance(losing.exception(), DiskFullError)
        assert isinstance(ending.exception(), DiskFullError)
        monkeypatch.setattr(Store, "write", whole)
        await joined(rig, one)
        clock.move(LEASE + 1)
        await joined(rig, one)
        await step(rig)
        entry = rig.desk.live[task.task_id]
        assert entry.in_flight
        assert task.task_id in rig.desk.flying


async def test_results_that_were_counted_before_a_restart_are_duplicates_not_late(tmp_path: Path) -> None:
    clock, one = ManualClock(), Paper("one", limit=300)
    async with running(tmp_path, run=False, clock=clock) as rig:
        await joined(rig, one)
        for _ in range(150):
            await rig.submit()
        await step(rig)
        for each in one.orders:
            await rig.service.dispatcher.ended(one.result(each))
    async with running(tmp_path, run=False, clock=clock) as rig:
        for each in one.orders:
            assert not await rig.service.dispatcher.ended(one.result(each))
        assert (rig.desk.counts["duplicates"], rig.desk.counts["refused"]) == (150, 0)


async def test_what_a_worker_can_do_is_written_when_the_disk_is_well_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Paper("one")
    async with running(tmp_path, run=False, clock=ManualClock()) as rig:
        whole = Store.write

        async def full(*_: object) -> None:
            raise DiskFullError("No room.", "make some.")

        monkeypatch.setattr(Store, "write", full)
        with pytest.raises(DiskFullError):
            await joined(rig, one)
        monkeypatch.setattr(Store, "write", whole)
        await joined(rig, one)
        assert [each.name for each in await rig.desk.book.workers()] == ["one"]

"""Durable events that are appended together: one write, and each caller its own answer."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.core.appends import MOST
from appliance.core.events import HealthChanged, Noted, rfc3339
from appliance.core.outbox import Outbox
from appliance.core.store import Store
from appliance.core.streams.model import Priority
from appliance.errors import DiskFullError, StoreError


def note(number: int) -> Noted:
    return Noted(time=float(number), event="e", severity="info", attributes={"n": number})


class Journal:
    """One, whose writes are counted and can be held up."""

    def __init__(self, home: Path) -> None:
        self.store = Store(home / "state.sqlite")
        self.store.open()
        self.box = Outbox(self.store, "pc")
        self.writes = 0
        self.told: list[int] = []
        self.box.watch(self.told.append)
        real = self.store.write

        async def counted(work: object) -> object:
            self.writes += 1
            return await real(work)  # type: ignore[arg-type]

        self.store.write = counted  # type: ignore[method-assign, assignment]

    async def books(self) -> None:
        """What is known of the journal is what is in it."""
        again = Outbox(self.store, "pc")
        await again.load()
        assert (self.box.head, self.box.bytes, self.box._count) == (again.head, again.bytes, again._count)
        assert [self.box.newest(each) for each in Priority] == [again.newest(each) for each in Priority]


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    made = Journal(tmp_path)
    await made.box.load()
    made.told.clear()
    yield made
    await asyncio.to_thread(made.store.close)


async def test_what_comes_in_one_turn_is_one_write_in_order(journal: Journal) -> None:
    events = [note(n) if n % 3 else HealthChanged(time=1.0, component="c", status="s", message="") for n in range(MOST)]
    numbers = await asyncio.gather(*(journal.box.append(each) for each in events))
    assert list(numbers) == list(range(1, MOST + 1))
    assert (journal.writes, journal.told) == (1, [MOST])
    assert [event.id for _, event in await journal.box.read(0, MOST)] == [each.id for each in events]
    await journal.books()
    await asyncio.gather(*(journal.box.append(note(n)) for n in range(MOST + 1)))
    assert journal.writes == 3  # two, and none of more than MOST
    await journal.books()


async def test_the_same_id_twice_in_one_turn_is_stored_once(journal: Journal) -> None:
    first, second = note(1), note(2)
    assert await journal.box.append(first) == 1
    numbers = await asyncio.gather(*(journal.box.append(each) for each in (second, first, second, note(3))))
    assert numbers[:3] == [2, 1, 2]
    assert numbers[3] == journal.box.head
    assert len(await journal.box.read(0)) == 3
    await journal.books()


async def test_who_is_cancelled_before_the_write_is_left_out_and_the_others_are_not(journal: Journal) -> None:
    writing, go_on = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        writing.set()
        assert go_on.wait(10)

    holding = asyncio.create_task(journal.store.write(hold))
    tasks = [asyncio.create_task(journal.box.append(note(n))) for n in range(4)]
    while not writing.is_set():
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    tasks[1].cancel()
    tasks[3].cancel()
    await asyncio.wait({tasks[1], tasks[3]})
    go_on.set()
    await holding
    assert [await tasks[0], await tasks[2]] == [1, 2]
    assert [event.data()["attributes"]["n"] for _, event in await journal.box.read(0)] == [0, 2]
    await journal.books()


async def test_an_error_is_told_to_each(journal: Journal) -> None:
    await journal.box.append(note(0))
    await journal.store.write(lambda c: c.execute(f"PRAGMA max_page_count = {c.execute('PRAGMA page_count').fetchone()[0]}"))
    large = [Noted(time=1.0, event="x" * 50_000, severity="info") for _ in range(3)]
    answers = await asyncio.gather(*(journal.box.append(each) for each in large), return_exceptions=True)
    assert [type(each) for each in answers] == [DiskFullError] * 3
    assert isinstance(journal.store.last_error, DiskFullError)
    await journal.books()
    await journal.store.write(lambda c: c.execute("PRAGMA max_page_count = 100000"))
    assert await journal.box.append(large[0]) == 2
    await asyncio.to_thread(journal.store.close)
    answers = await asyncio.gather(*(journal.box.append(note(n)) for n in range(3)), return_exceptions=True)
    assert [type(each) for each in answers] == [StoreError] * 3


async def test_an_event_that_cannot_be_stored_spoils_no_other(journal: Journal) -> None:
    bad = Noted(time=1.0, event="e", severity="info", id=5)  # type: ignore[arg-type]
    object_id = Noted(time=1.0, event="e", severity="info", id=[])  # type: ignore[arg-type]
    answers = await asyncio.gather(
        *(journal.box.append(each) for each in (note(1), object_id, note(2))), return_exceptions=True
    )
    assert [answers[0], answers[2]] == [1, 2]
    assert isinstance(answers[1], StoreError)
    assert await journal.box.append(bad) == 3  # SQLite takes it as text
    await journal.books()


def test_a_loop_that_ended_leaves_nothing_behind(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(journal.box.load())
    left = loop.create_task(journal.box.append(note(1)))
    loop.call_soon(loop.stop)
    loop.run_forever()
    left.cancel()
    assert asyncio.run(journal.box.append(note(2))) == 1
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    journal.store.close()


@given(st.floats(min_value=-6e10, max_value=2.5e11))
def test_moments_are_written_as_datetime_writes_them(moment: float) -> None:
    assert rfc3339(moment) == datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@pytest.mark.parametrize("moment", [float("nan"), float("inf"), 1e18])
def test_moments_that_are_none_are_refused_as_before(moment: float) -> None:
    with pytest.raises((ValueError, OverflowError, OSError)) as expected:
        datetime.fromtimestamp(moment, UTC)
    with pytest.raises(expected.type):
        rfc3339(moment)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks of Python 3.11 never begin at once")
async def test_where_tasks_begin_at_once_events_are_gathered_all_the_same(journal: Journal) -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined, unused-ignore]
    try:
        stored = await asyncio.gather(*(journal.box.append(note(number)) for number in range(5)))
    finally:
        loop.set_task_factory(None)
    assert sorted(stored) == [1, 2, 3, 4, 5]
    assert journal.writes == 1

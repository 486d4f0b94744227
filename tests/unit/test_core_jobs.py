"""Jobs in great number: what was acknowledged stays on disk until it has ended, whatever the clock says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.core import jobs as module
from appliance.core.jobs import JobHandle, Jobs
from appliance.core.model import JobState
from appliance.core.state import LiveState
from appliance.core.store import Store
from appliance.errors import ConflictError
from tests.support import ManualClock


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "state.sqlite")
    store.open()
    yield store
    await asyncio.to_thread(store.close)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a test reaches quickly."""
    monkeypatch.setattr(module, "KEEP", 5)
    monkeypatch.setattr(module, "QUEUE", 8)


async def kept(store: Store) -> list[str]:
    rows = await store.read(lambda c: c.execute("SELECT json_extract(body, '$.name') FROM jobs ORDER BY 1").fetchall())
    return [row[0] for row in rows]


async def endless(_: JobHandle) -> None:
    await asyncio.Event().wait()


async def quick(_: JobHandle) -> int:
    return 1


@pytest.mark.usefixtures("few")
async def test_a_job_that_has_not_ended_stays_on_disk_however_many_others_end(store: Store) -> None:
    clock = ManualClock()
    jobs = Jobs(store, LiveState(clock), clock)
    first = await jobs.submit("first", "ada", endless)
    for index in range(12):
        clock.move(1)
        await jobs.wait((await jobs.submit(f"quick {index:02}", "ada", quick)).job_id)
    assert await kept(store) == ["first", *(f"quick {index:02}" for index in range(7, 12))]
    assert sorted(job.name for job in jobs.all()) == await kept(store)
    again = Jobs(store, LiveState(clock), clock)
    await again.load()
    assert again.get(first.job_id).state is JobState.interrupted
    await jobs.stop(5)


@pytest.mark.usefixtures("few")
async def test_a_clock_that_went_back_deletes_no_job(store: Store) -> None:
    clock = ManualClock()
    jobs = Jobs(store, LiveState(clock), clock)
    for index in range(6):
        await jobs.wait((await jobs.submit(f"before {index}", "ada", quick)).job_id)
    clock.wall_now -= 86400
    await jobs.submit("endless", "ada", endless)
    await jobs.wait((await jobs.submit("quick", "ada", quick)).job_id)
    assert await kept(store) == ["before 2", "before 3", "before 4", "before 5", "endless", "quick"]
    await jobs.stop(5)


@pytest.mark.usefixtures("few")
async def test_the_result_of_a_long_job_is_kept_although_later_ones_ended_first(store: Store) -> None:
    jobs, gate = Jobs(store, LiveState(ManualClock()), ManualClock()), asyncio.Event()

    async def long(_: JobHandle) -> str:
        await gate.wait()
        return "worth it"

    job = await jobs.submit("long", "ada", long)
    for index in range(6):
        await jobs.wait((await jobs.submit(f"quick {index}", "ada", quick)).job_id)
    gate.set()
    assert (await jobs.wait(job.job_id)).result == "worth it"
    again = Jobs(store, LiveState(ManualClock()), ManualClock())
    await again.load()
    assert again.get(job.job_id).result == "worth it"


@pytest.mark.usefixtures("few")
async def test_more_jobs_than_can_wait_are_refused_and_none_is_lost(store: Store) -> None:
    jobs = Jobs(store, LiveState(ManualClock()), ManualClock())
    done = await asyncio.gather(*(jobs.submit(f"job {index}", "ada", endless) for index in range(12)), return_exceptions=True)
    assert [type(each) for each in done].count(ConflictError) == 4
    assert await kept(store) == [f"job {index}" for index in range(8)]
    await jobs.cancel(jobs.all()[0].job_id)
    await jobs.submit("room again", "ada", endless)
    with pytest.raises(ConflictError, match="8 jobs wait"):
        await jobs.submit("no room", "ada", endless)
    await jobs.stop(5)

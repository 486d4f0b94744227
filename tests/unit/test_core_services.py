"""Restarts, stops and dependencies when several things happen at once; state and jobs across them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.core.clock import SystemClock
from appliance.core.jobs import JobHandle, Jobs
from appliance.core.model import Health, HealthReport, JobState, Phase
from appliance.core.services import Supervisor, in_order
from appliance.core.state import LiveState, Section
from appliance.core.store import Store
from appliance.core.supervision import Policy
from appliance.errors import ConflictError, NotFoundError
from tests.support import ManualClock, wait_for

QUICK = Policy(
    start_deadline=0.5, stop_deadline=0.3, probe_interval=0.02, probe_deadline=0.1, backoff_base=0.01, backoff_cap=0.02,
    breaker_failures=3, breaker_rest=60, stable_after=5, absent_retry=0.05,
)  # fmt: skip


class Counting:
    """A service that counts how many of it run at a time."""

    summary = "test"

    def __init__(self, name: str = "one", depends: tuple[str, ...] = ()) -> None:
        self.name = name
        self.depends: tuple[str, ...] = depends
        self.running, self.most, self.starts = 0, 0, 0
        self.fails = False
        self.stop_hangs = False

    async def start(self) -> None:
        self.starts += 1
        await asyncio.sleep(0)
        if self.fails:
            raise OSError("no such port")

    async def run(self) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.Event().wait()
        finally:
            self.running -= 1

    async def stop(self) -> None:
        if self.stop_hangs:
            await asyncio.Event().wait()

    async def health(self) -> HealthReport:
        return HealthReport(Health.healthy, "fine")


class Slow(Counting):
    """A service whose end takes as long as it may: its run, then its stop."""

    def __init__(self) -> None:
        super().__init__()
        self.resource: object | None = None
        self.may_end = asyncio.Event()
        self.takes = 0.2
        self.stopped = 0

    async def start(self) -> None:
        await super().start()
        self.resource = object()

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            if self.takes:
                await asyncio.sleep(self.takes)
            else:
                await self.may_end.wait()

    async def stop(self) -> None:
        await asyncio.sleep(self.takes)
        self.resource = None
        self.stopped += 1


def supervisor(*services: Counting) -> Supervisor:
    made = Supervisor(services, LiveState(SystemClock()), SystemClock(), QUICK)
    made.start()
    return made


async def test_two_restarts_at_once_leave_one_running() -> None:
    service = Counting()
    kept = supervisor(service)
    await kept.settled()
    await wait_for(lambda: service.running == 1)
    await asyncio.gather(*(kept.restart("one") for _ in range(5)))
    await wait_for(lambda: service.running == 1)
    assert service.most == 1
    await kept.stop(2)
    assert service.running == 0


async def test_a_new_life_begins_only_after_the_old_one_ended() -> None:
    service = Slow()
    kept = supervisor(service)
    await kept.settled()
    await wait_for(lambda: service.running == 1)
    assert (await kept.restart("one")).health is Health.healthy
    await wait_for(lambda: service.running == 1)
    await wait_for(lambda: service.stopped == 1)
    assert (service.starts, service.most) == (2, 1)
    assert service.resource is not None
    await kept.stop(2)
    assert service.resource is None


async def test_a_life_that_does_not_end_is_told_and_gets_no_second_one_beside_it() -> None:
    service = Slow()
    kept = supervisor(service)
    await kept.settled()
    await wait_for(lambda: service.running == 1)
    service.takes = 0  # its run goes on after it was cancelled
    with pytest.raises(ConflictError, match="did not stop within"):
        await kept.restart("one")
    told = kept.statuses()[0]
    assert (told.phase, told.health, service.starts) == (Phase.stopping, Health.unhealthy, 1)
    service.may_end.set()
    assert (await kept.restart("one")).health is Health.healthy
    assert service.starts == 2
    await kept.stop(2)


async def test_a_restart_while_a_failed_life_is_cleaned_up_waits_for_it() -> None:
    class Failing(Slow):
        def __init__(self) -> None:
            super().__init__()
            self.stopping = asyncio.Event()

        async def start(self) -> None:
            await super().start()
            if self.starts == 1:
                raise OSError("no such port")

        async def stop(self) -> None:
            self.stopping.set()
            await super().stop()

    service = Failing()
    kept = supervisor(service)
    await service.stopping.wait()
    assert (await kept.restart("one")).health is Health.healthy
    assert service.stopped == 1
    await kept.stop(2)


async def test_a_stopped_supervisor_restarts_nothing() -> None:
    service = Counting()
    kept = supervisor(service)
    await kept.settled()
    await kept.stop(2)
    starts = service.starts
    with pytest.raises(ConflictError, match="stopping"):
        await kept.restart("one")
    with pytest.raises(NotFoundError, match="the services are: one"):
        await kept.restart("two")
    assert (service.running, service.starts) == (0, starts)
    assert kept.phase_of("one") is Phase.stopped


async def test_what_waits_for_a_broken_service_is_told_and_not_waited_for() -> None:
    base, middle, top = Counting("base"), Counting("middle", ("base",)), Counting("top", ("middle",))
    base.fails = True
    kept = supervisor(top, middle, base)
    await asyncio.wait_for(kept.settled(), 10)
    await wait_for(lambda: kept.phase_of("base") is Phase.resting)
    with pytest.raises(ConflictError, match="waits for base"):
        await asyncio.wait_for(kept.restart("middle"), 10)
    assert (middle.starts, top.starts) == (0, 0)
    base.fails = False
    assert (await kept.restart("base")).health is Health.healthy
    await asyncio.wait_for(kept.settled(), 10)
    assert {status.name: status.phase for status in kept.statuses()} == dict.fromkeys(("base", "middle", "top"), Phase.running)
    await kept.stop(2)


async def test_a_service_that_does_not_stop_holds_nobody_up() -> None:
    stuck, good = Counting("stuck"), Counting("good")
    stuck.stop_hangs = True
    kept = supervisor(stuck, good)
    await kept.settled()
    await asyncio.wait_for(kept.stop(5), 10)
    assert {status.phase for status in kept.statuses()} == {Phase.stopped}
    assert (stuck.running, good.running) == (0, 0)


async def test_a_change_of_health_is_told_once_and_not_while_stopping() -> None:
    told: list[tuple[str, Health, Health]] = []
    service = Counting()
    kept = Supervisor(
        [service], LiveState(SystemClock()), SystemClock(), QUICK, lambda a, b: told.append((b.name, a.health, b.health))
    )
    kept.start()
    await kept.settled()
    await kept.stop(2)
    assert told == [("one", Health.degraded, Health.healthy)]


def test_an_unknown_dependency_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing, which is not a service"):
        in_order([Counting("one", ("nothing",))])


async def test_a_closed_watch_is_never_called_again() -> None:
    state, calls, others = LiveState(ManualClock()), [], []  # type: ignore[var-annotated]
    watch = state.watch({Section.jobs}, calls.append, 0.01)
    state.watch({Section.jobs}, others.append, 0.01)
    state.put(Section.jobs, (1,))
    watch.close()
    watch.close()
    await wait_for(lambda: others)
    assert calls == []


async def test_a_watcher_that_fails_is_dropped_and_harms_no_other() -> None:
    state, calls = LiveState(ManualClock()), []  # type: ignore[var-annotated]

    def bad(_: frozenset[Section]) -> None:
        calls.append("bad")
        raise ValueError("my screen is gone")

    state.watch({Section.jobs}, bad, 0.0)
    state.watch({Section.jobs}, lambda _: calls.append("good"), 0.0)
    state.put(Section.jobs, 1)
    await wait_for(lambda: len(calls) == 2)
    state.put(Section.jobs, 2)
    await wait_for(lambda: len(calls) == 3)
    assert sorted(calls) == ["bad", "good", "good"]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "state.sqlite")
    store.open()
    yield store
    await asyncio.to_thread(store.close)


async def test_a_job_runs_on_while_the_store_is_opened_again(store: Store) -> None:
    jobs, gate = Jobs(store, LiveState(ManualClock()), ManualClock()), asyncio.Event()

    async def work(handle: JobHandle) -> str:
        handle.report(0.5, "half")
        await gate.wait()
        return "done"

    job = await jobs.submit("one", "ada", work)
    await wait_for(lambda: jobs.get(job.job_id).progress == 0.5)
    await asyncio.to_thread(store.close)
    store.open()
    await jobs.load()
    assert jobs.get(job.job_id).state is JobState.running
    gate.set()
    assert (await jobs.wait(job.job_id)).result == "done"
    with pytest.raises(ConflictError, match="has ended"):
        await jobs.cancel(job.job_id)


async def test_a_job_whose_end_cannot_be_kept_says_so(store: Store) -> None:
    jobs, gate = Jobs(store, LiveState(ManualClock()), ManualClock()), asyncio.Event()

    async def work(_: JobHandle) -> str:
        await gate.wait()
        return "done"

    job = await jobs.submit("one", "ada", work)
    await asyncio.to_thread(store.close)
    gate.set()
    assert "not kept" in (await jobs.wait(job.job_id)).error


async def test_jobs_queue_for_their_turn_and_all_end_at_stop(store: Store) -> None:
    jobs, running = Jobs(store, LiveState(ManualClock()), ManualClock()), 0

    async def work(_: JobHandle) -> None:
        nonlocal running
        running += 1
        await asyncio.Event().wait()

    for index in range(5):
        await jobs.submit(f"job {index}", "ada", work)
    await wait_for(lambda: running == 2)
    assert [job.state for job in jobs.all()].count(JobState.pending) == 3
    await jobs.stop(5)
    assert {job.state for job in jobs.all()} == {JobState.cancelled}
    again = Jobs(store, LiveState(ManualClock()), ManualClock())
    await again.load()
    assert {job.state for job in again.all()} == {JobState.cancelled}


async def test_a_job_whose_result_is_no_data_fails(store: Store) -> None:
    jobs = Jobs(store, LiveState(ManualClock()), ManualClock())

    async def work(_: JobHandle) -> object:
        return object()

    job = await jobs.wait((await jobs.submit("one", "ada", work)).job_id)
    assert job.state is JobState.failed
    assert "TypeError" in job.error

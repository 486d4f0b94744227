"""The spine on a real store: dispatch with its audit, the chain, the outbox, jobs, and what survives."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from appliance.core.actions import Action, ActionRegistry, NoParams, Params
from appliance.core.audit import AuditLog
from appliance.core.bus import Bus, DropPolicy
from appliance.core.dispatch import Dispatcher
from appliance.core.events import HostMetrics, Noted
from appliance.core.jobs import JobHandle, Jobs
from appliance.core.model import Actor, JobState, Role
from appliance.core.outbox import Outbox
from appliance.core.state import LiveState, Section
from appliance.core.store import Store
from appliance.errors import (
    ActionError,
    ActionTimeoutError,
    AuthError,
    ConfirmationRequiredError,
    DiskFullError,
    InvalidArgumentsError,
    NotAuthorizedError,
    PreconditionError,
    StoreError,
    UnknownActionError,
)
from tests.support import ManualClock, wait_for

KEY = b"k" * 32
ADMIN = Actor("ada", Role.admin, "socket")


class Named(Params):
    """One name and one secret."""

    name: str
    password: SecretStr = SecretStr("")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "state.sqlite")
    store.open()
    yield store
    await asyncio.to_thread(store.close)


@pytest.fixture
def audit(store: Store) -> AuditLog:
    return AuditLog(store, KEY, ManualClock(), keep=1000)


def dispatcher(audit: AuditLog, *actions: Action) -> Dispatcher:
    registry = ActionRegistry()
    registry.add(*actions)
    return Dispatcher(registry, audit)


async def hello(_: Any, params: Any) -> Any:
    return {"hello": getattr(params, "name", "")}


async def outcomes(audit: AuditLog) -> list[str]:
    return [entry.outcome for entry in reversed(await audit.entries())]


async def test_an_action_is_audited_before_and_after(audit: AuditLog) -> None:
    seen = dispatcher(audit, Action("thing.do", "Do", hello, params=Named))
    assert await seen.invoke("thing.do", {"name": "x", "password": "hunter22"}, ADMIN) == {"hello": "x"}
    rows = await audit.entries()
    assert [row.outcome for row in rows] == ["ok", "started"]
    assert "hunter22" not in str(rows)


async def test_refusals_are_told_and_audited(audit: AuditLog) -> None:
    blocked = Action("thing.wait", "Wait", hello, preconditions=(lambda: "the lid is open",))
    seen = dispatcher(audit, Action("thing.do", "Do", hello, params=Named, role=Role.operator), blocked)
    with pytest.raises(UnknownActionError, match=r"thing\.do"):
        await seen.invoke("thing.doo", {}, ADMIN)
    with pytest.raises(NotAuthorizedError, match="operator"):
        await seen.invoke("thing.do", {"name": "x"}, Actor("vic", Role.viewer, "ssh"))
    with pytest.raises(InvalidArgumentsError, match="name"):
        await seen.invoke("thing.do", {"nam": "x"}, ADMIN)
    with pytest.raises(PreconditionError, match="the lid is open"):
        await seen.invoke("thing.wait", {}, ADMIN)
    assert await outcomes(audit) == ["refused"] * 3


async def test_danger_needs_a_confirmation(audit: AuditLog) -> None:
    seen = dispatcher(audit, Action("thing.burn", "Burn", hello, params=Named, dangerous=True, confirm_text="Burn {name}?"))
    with pytest.raises(ConfirmationRequiredError, match=r"Burn x\?"):
        await seen.invoke("thing.burn", {"name": "x"}, ADMIN)
    assert await seen.invoke("thing.burn", {"name": "x"}, ADMIN, confirm=True) == {"hello": "x"}


async def test_slow_and_failing_handlers_end_as_told_errors(audit: AuditLog) -> None:
    async def slow(_: Any, __: Any) -> None:
        await asyncio.Event().wait()

    async def bad(_: Any, __: Any) -> None:
        raise ZeroDivisionError("by nought")

    async def own(_: Any, __: Any) -> None:
        raise AuthError("no", "yes")

    seen = dispatcher(audit, Action("a.slow", "S", slow, timeout=0.01), Action("a.bad", "B", bad), Action("a.own", "O", own))
    with pytest.raises(ActionTimeoutError):
        await seen.invoke("a.slow", {}, ADMIN)
    with pytest.raises(ActionError, match="by nought"):
        await seen.invoke("a.bad", {}, ADMIN)
    with pytest.raises(AuthError):
        await seen.invoke("a.own", {}, ADMIN)
    assert await outcomes(audit) == ["started", "timeout", "started", "failed", "started", "failed"]


async def test_queries_leave_no_row(audit: AuditLog) -> None:
    seen = dispatcher(audit, Action("thing.list", "List", hello, params=NoParams, query=True, role=Role.viewer))
    await seen.invoke("thing.list", {}, Actor("vic", Role.viewer, "ssh"))
    assert await audit.entries() == []


@pytest.mark.parametrize(
    ("tamper", "told"),
    [
        ("UPDATE audit SET actor = 'eve' WHERE seq = 2", "row 2"),
        ("UPDATE audit SET time = time + 1 WHERE seq = 5", "row 5"),
        ("DELETE FROM audit WHERE seq = 3", "row 3 is missing"),
        ("DELETE FROM audit WHERE seq = 5", "ends at row 4"),
        ("DELETE FROM audit WHERE seq = 1", "row 1 is missing"),
        ("UPDATE audit SET seq = 9 WHERE seq = 5", "row 5 is missing"),
        ("DELETE FROM audit; DELETE FROM audit_chain", "had come to row 5"),
    ],
)
async def test_tampering_with_the_audit_is_found(store: Store, audit: AuditLog, tamper: str, told: str) -> None:
    for index in range(5):
        await audit.record(ADMIN, "thing.do", {"index": index}, "ok", "")
    assert (await audit.verify()).intact
    with sqlite3.connect(store.path) as other:
        other.executescript(tamper)
    verdict = await audit.verify()
    assert told in verdict.problem
    assert not verdict.intact


async def test_pruning_keeps_the_chain_whole(store: Store) -> None:
    audit = AuditLog(store, KEY, ManualClock(), keep=100)
    for index in range(250):
        await audit.record(ADMIN, "thing.do", {"index": index}, "ok", "")
    verdict = await audit.verify()
    assert verdict.intact
    assert verdict.rows <= 101
    assert verdict.last_seq == 250


async def test_a_failing_write_spoils_no_other_in_its_group(store: Store) -> None:
    await store.write(lambda c: c.execute("CREATE TABLE t (x INTEGER PRIMARY KEY)"))

    def insert(value: int) -> Any:
        return lambda c: c.execute("INSERT INTO t VALUES (?)", (value,))

    done = await asyncio.gather(*(store.write(insert(value)) for value in [1, 2, 1, 3]), return_exceptions=True)
    assert [isinstance(each, StoreError) for each in done] == [False, False, True, False]
    assert await store.read(lambda c: c.execute("SELECT count(*) FROM t").fetchone()[0]) == 3


async def test_a_full_disk_is_told_and_passes(store: Store) -> None:
    await store.write(lambda c: c.execute("CREATE TABLE blobs (x BLOB)"))
    pages = await store.write(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
    await store.write(lambda c: c.execute(f"PRAGMA max_page_count = {pages + 2}").fetchone())
    with pytest.raises(DiskFullError, match="free space"):
        await store.write(lambda c: c.execute("INSERT INTO blobs VALUES (zeroblob(1000000))"))
    assert isinstance(store.last_error, DiskFullError)
    await store.write(lambda c: c.execute("PRAGMA max_page_count = 1000000").fetchone())
    await store.write(lambda c: c.execute("INSERT INTO blobs VALUES (zeroblob(1000000))"))
    assert store.last_error is None


def test_a_changed_migration_and_a_foreign_file_are_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.sqlite")
    store.open()
    store.close()
    with sqlite3.connect(store.path) as other:
        other.execute("UPDATE migrations SET sha256 = 'x'")
    with pytest.raises(StoreError, match="another content"):
        Store(store.path).open()
    with sqlite3.connect(store.path) as other:
        other.execute("INSERT INTO migrations (version, name, sha256) VALUES (9999, 'later.sql', 'x')")
    with pytest.raises(StoreError, match="9999"):
        Store(store.path).open()
    (tmp_path / "noise").write_bytes(b"this is no database at all, not even a little bit of one" * 100)
    with pytest.raises(StoreError, match="damaged"):
        Store(tmp_path / "noise").open()


async def test_durable_events_are_kept_once_in_order_and_bounded(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.sqlite")
    store.open()
    outbox = Outbox(store, "pc", capacity=100)
    await outbox.load()
    events = [Noted(time=float(index), event=f"e{index}", severity="info") for index in range(150)]
    for event in [*events, events[-1]]:
        await outbox.append(event)
    kept = [event for _, event in await outbox.read(0)]
    assert kept == events[-len(kept) :]
    assert outbox.dropped == 150 - len(kept) > 0
    store.close()
    store.open()
    again = Outbox(store, "pc", capacity=100)
    await again.load()
    assert again.dropped == outbox.dropped
    assert [event for _, event in await again.read(0)] == kept
    store.close()


async def test_full_queues_drop_by_their_policy_and_count(store: Store) -> None:
    outbox = Outbox(store, "pc")
    bus = Bus(outbox)
    old, new = (
        bus.subscribe("old", (HostMetrics,), 3, DropPolicy.oldest),
        bus.subscribe("new", (HostMetrics,), 3, DropPolicy.newest),
    )
    for index in range(5):
        await bus.publish(HostMetrics(time=float(index), metrics={}))
    await bus.publish(Noted(time=9.0, event="durable", severity="info"))
    assert [event.time for event in await old.batch()] == [2.0, 3.0, 4.0]
    assert [event.time for event in await new.batch()] == [0.0, 1.0, 2.0]
    assert {queue.name: queue.dropped for queue in bus.status()} == {"old": 2, "new": 2}
    assert [event.time for _, event in await outbox.read(0)] == [9.0]


async def test_a_durable_event_that_cannot_be_kept_is_told_to_nobody(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.sqlite")
    bus = Bus(Outbox(store, "pc"))
    queue = bus.subscribe("all")
    with pytest.raises(StoreError):
        await bus.publish(Noted(time=1.0, event="x", severity="info"))
    assert queue.status().depth == 0


async def test_state_wakes_watchers_once_and_only_for_changes() -> None:
    clock = ManualClock()
    state = LiveState(clock)
    calls: list[frozenset[Section]] = []
    state.watch({Section.host, Section.jobs}, calls.append, 0.01)
    state.put(Section.host, 1)
    state.put(Section.host, 2)
    state.put(Section.jobs, ())
    state.put(Section.queues, ())
    await wait_for(lambda: calls)
    assert calls == [frozenset({Section.host, Section.jobs})]
    version = state.get(Section.host).version
    clock.move(5)
    state.put(Section.host, 2)
    assert state.get(Section.host).version == version
    assert state.age(Section.host) == 0
    clock.move(7)
    clock.wall_now += 86400  # the wall clock is stepped by a day: ages do not care
    assert state.age(Section.host) == 7
    assert state.age(Section.rules) is None


async def test_jobs_tell_progress_end_and_interruption(store: Store) -> None:
    state, clock = LiveState(ManualClock()), ManualClock()
    jobs = Jobs(store, state, clock)
    gate = asyncio.Event()

    async def work(handle: JobHandle) -> list[int]:
        handle.report(0.5, "half")
        await gate.wait()
        return [1, 2]

    async def bad(_: JobHandle) -> None:
        raise ValueError("no luck")

    job = await jobs.submit("one", "ada", work)
    await wait_for(lambda: jobs.get(job.job_id).progress == 0.5)
    gate.set()
    assert (await jobs.wait(job.job_id)).result == [1, 2]
    assert "no luck" in (await jobs.wait((await jobs.submit("two", "ada", bad)).job_id)).error
    gate.clear()
    third = await jobs.submit("three", "ada", work)
    assert (await jobs.cancel(third.job_id)).state is JobState.cancelled
    fourth = await jobs.submit("four", "ada", work)
    again = Jobs(store, LiveState(ManualClock()), clock)
    await again.load()
    assert {each.name: each.state.value for each in again.all()} == {
        "one": "completed", "two": "failed", "three": "cancelled", "four": "interrupted",
    }  # fmt: skip
    await jobs.cancel(fourth.job_id)

"""The store on real disks: full ones, killed processes, and writes that misbehave."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from appliance.core import store as module
from appliance.core import storekeeper
from appliance.core.bus import Bus
from appliance.core.events import Noted
from appliance.core.jobs import Jobs
from appliance.core.migrations import scripts
from appliance.core.model import Health
from appliance.core.outbox import Outbox
from appliance.core.state import LiveState
from appliance.core.store import Store
from appliance.core.storekeeper import StoreService
from appliance.errors import DiskFullError, StoreError
from tests.support import ManualClock, wait_for, wait_for_sync

E = TypeVar("E", bound=StoreError)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "state.sqlite")
    store.open()
    await store.write(lambda c: c.execute("CREATE TABLE t (x)"))
    yield store
    await asyncio.to_thread(store.close)


def put(value: object) -> Any:
    return lambda c: c.execute("INSERT INTO t VALUES (?)", (value,)).rowcount


async def rows(store: Store) -> list[Any]:
    return [row[0] for row in await store.read(lambda c: c.execute("SELECT x FROM t ORDER BY rowid").fetchall())]


async def refusal(work: Awaitable[Any], kind: type[E]) -> E | None:
    """The error of that kind with which the work ended, or None where it was done."""
    try:
        await work
    except kind as error:
        return error
    return None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one mebibyte."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


async def test_a_disk_that_is_really_full_loses_nothing_acknowledged(small_disk: Path) -> None:
    store = Store(small_disk / "state.sqlite")
    store.open()
    await store.write(lambda c: c.execute("CREATE TABLE t (x)"))
    kept = 0
    error: DiskFullError | None = None
    while error is None:
        error = await refusal(store.write(put(b"x" * 5000)), DiskFullError)
        kept += error is None
    assert "No room" in error.message
    assert "free space" in error.next_step
    assert len(await rows(store)) == kept > 0
    await asyncio.to_thread(store.close)
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    store.open()
    assert len(await rows(store)) == kept
    await store.write(put("room again"))
    assert store.last_error is None
    await asyncio.to_thread(store.close)


async def test_writes_that_wait_share_commits_in_their_order(store: Store) -> None:
    gate, holding = asyncio.Event(), threading.Event()
    commits: list[str] = []

    def hold(connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
        holding.set()
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(10)

    loop = asyncio.get_running_loop()
    first = asyncio.create_task(store.write(hold))
    await wait_for(holding.is_set)
    others = [asyncio.create_task(store.write(put(value))) for value in range(50)]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, *others)
    assert await rows(store) == list(range(50))
    assert len(commits) == 2  # the one that held, and one for the fifty that waited


async def test_a_write_that_ends_the_transaction_is_told_and_harms_no_later_one(store: Store) -> None:
    with pytest.raises(StoreError):
        await store.write(lambda c: c.execute("ROLLBACK"))
    with pytest.raises(StoreError, match="broke its transaction"):
        await store.write(_roll_back_and_fail)
    await store.write(put("after"))
    assert await rows(store) == ["after"]


def _roll_back_and_fail(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO t VALUES ('lost')")
    connection.execute("ROLLBACK")
    raise ValueError("not an error of SQLite")


async def test_a_caller_that_went_away_spoils_nothing(store: Store) -> None:
    task = asyncio.create_task(store.write(put(1)))
    await asyncio.sleep(0)
    task.cancel()
    await store.write(put(2))
    assert (await rows(store))[-1] == 2
    assert task.cancelled()


class Held:
    """Keeps the writer's thread in a write until it is let go."""

    def __init__(self, store: Store) -> None:
        self._gate, self._inside = threading.Event(), threading.Event()
        self._task = asyncio.create_task(store.write(self._hold))

    def _hold(self, _: sqlite3.Connection) -> None:
        self._inside.set()
        assert self._gate.wait(30)

    async def __aenter__(self) -> Held:
        await wait_for(self._inside.is_set)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._gate.set()
        await self._task


async def test_a_write_that_was_cancelled_before_it_began_is_not_done(store: Store) -> None:
    async with Held(store):
        task = asyncio.create_task(store.write(put("cancelled")))
        other = asyncio.create_task(store.write(put("wanted")))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
    await other
    assert await rows(store) == ["wanted"]


def service(store: Store) -> StoreService:
    outbox, clock = Outbox(store, "pc"), ManualClock()
    return StoreService(store, outbox, Jobs(store, LiveState(clock), clock), Bus(outbox), clock)


async def test_a_writer_that_hangs_makes_the_store_unhealthy_until_it_goes_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storekeeper, "ANSWER", 0.05)
    keeper = service(store)
    assert (await keeper.health()).health is Health.healthy
    async with Held(store):
        report = await keeper.health()
    assert report.health is Health.unhealthy
    assert "no write was answered" in report.reason
    monkeypatch.setattr(storekeeper, "ANSWER", 10.0)
    assert (await keeper.health()).health is Health.healthy


async def test_a_resting_writer_is_asked_for_a_real_write_once_its_last_success_is_old(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = service(store)
    await wait_for(lambda: not store._busy)  # with what opened it
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # from now on no write gets through
    assert (await keeper.health()).health is Health.healthy
    monkeypatch.setattr(module, "PROVEN", 0.0)
    monkeypatch.setattr(storekeeper, "ANSWER", 0.05)
    assert (await keeper.health()).health is Health.unhealthy
    other.close()
    monkeypatch.setattr(storekeeper, "ANSWER", 10.0)
    assert (await keeper.health()).health is Health.healthy


async def test_a_restart_of_the_store_is_no_start_of_the_appliance(tmp_path: Path) -> None:
    store, clock = Store(tmp_path / "state.sqlite"), ManualClock()
    outbox = Outbox(store, "pc")
    keeper = StoreService(store, outbox, Jobs(store, LiveState(clock), clock), Bus(outbox), clock)
    for _ in range(2):
        await keeper.start()
        assert [event.event for _, event in await outbox.read(0) if isinstance(event, Noted)] == ["appliance.started"]
        await keeper.stop()


async def test_closing_does_not_wait_for_ever_for_a_writer_that_hangs(store: Store) -> None:
    async with Held(store):
        lost = asyncio.create_task(store.write(put("too late")))
        await asyncio.sleep(0)
        lost.cancel()
        await asyncio.wait_for(asyncio.to_thread(store.close, 0.05), 10)
        with pytest.raises(StoreError, match="not open"):
            await store.write(put("closed"))
        store.open()
    await store.write(put("after"))
    assert await rows(store) == ["after"]


async def test_closing_answers_every_write(store: Store) -> None:
    """No write waits for ever: each is on disk, or is told that the store is closed."""
    closing = asyncio.create_task(asyncio.to_thread(store.close))
    kept, error = 0, None
    while error is None:
        error = await refusal(asyncio.wait_for(store.write(put(kept)), 5), StoreError)
        kept += error is None
    assert "not open" in error.message
    await closing
    store.open()
    assert await rows(store) == list(range(kept))


async def test_reading_cannot_write(store: Store) -> None:
    with pytest.raises(StoreError):
        await store.read(put(1))
    assert await rows(store) == []


CHILD = """
import asyncio, sys
from pathlib import Path
from appliance.core.store import Store

async def main():
    store = Store(Path(sys.argv[1]))
    store.open()
    await store.write(lambda c: c.execute("CREATE TABLE IF NOT EXISTS t (x)"))
    async def one(number):
        await store.write(lambda c: c.execute("INSERT INTO t VALUES (?)", (number,)))
        print(number, flush=True)
    number = 0
    while True:
        await asyncio.gather(*(one(number + index) for index in range(20)))
        number += 20

asyncio.run(main())
"""


async def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    path, told = tmp_path / "state.sqlite", tmp_path / "told"
    with told.open("wb") as out:
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=out)
        try:
            wait_for_sync(lambda: told.read_bytes().count(b"\n") > 200, 30)
        finally:
            os.kill(child.pid, signal.SIGKILL)
            child.wait(10)
    acknowledged = {int(line) for line in told.read_text().rpartition("\n")[0].split()}
    store = Store(path)
    store.open()
    assert acknowledged <= set(await rows(store))
    await store.write(put("and on"))
    await asyncio.to_thread(store.close)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_refused_database_leaves_no_file_open(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.sqlite")
    store.open()
    store.close()
    with sqlite3.connect(store.path) as other:
        other.execute("INSERT INTO migrations (version, name, sha256) VALUES (9999, 'later.sql', 'x')")
    other.close()
    before = open_files()
    caught: list[StoreError] = []
    for _ in range(5):
        with pytest.raises(StoreError, match="9999") as error:
            store.open()
        caught.append(error.value)  # with its traceback, and so all that its frames hold
    assert open_files() == before


def test_a_migration_that_fails_leaves_the_database_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "state.sqlite")
    store.open()
    store.close()
    bad = (*scripts(), (50, "0050_bad.sql", "CREATE TABLE half (x); CREATE TABLE half (x);"))
    monkeypatch.setattr("appliance.core.migrations.scripts", lambda _: list(bad))
    with pytest.raises(StoreError, match="half already exists"):
        store.open()
    monkeypatch.undo()
    store.open()
    store.close()
    with sqlite3.connect(store.path) as other:
        assert other.execute("SELECT count(*) FROM sqlite_master WHERE name = 'half'").fetchone() == (0,)
    other.close()


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "state.sqlite").mkdir()
    with pytest.raises(StoreError, match="cannot be written") as caught:
        Store(tmp_path / "state.sqlite").open()
    assert str(tmp_path) in caught.value.next_step

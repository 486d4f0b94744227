"""The audit chain against somebody who has the database file, but not the key."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.core import audit as module
from appliance.core.audit import AuditLog, canonical, row_hash
from appliance.core.model import Actor, AuditEntry, Role
from appliance.core.store import Store
from appliance.core.watermark import Watermark
from tests.support import ManualClock, wait_for

KEY = b"k" * 32
EVE = b"e" * 32
ADMIN = Actor("ada", Role.admin, "socket")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "state.sqlite")
    store.open()
    yield store
    await asyncio.to_thread(store.close)


async def fill(audit: AuditLog, count: int) -> None:
    for index in range(count):
        await audit.record(ADMIN, "thing.do", {"index": index}, "ok", "")


def tamper(store: Store, script: str) -> None:
    connection = sqlite3.connect(store.path)
    connection.executescript(script)
    connection.close()


TAMPERINGS = {
    "cut off": "DELETE FROM audit WHERE seq > 6",
    "cut off, with the seal's number": "DELETE FROM audit WHERE seq > 6; UPDATE audit_chain SET head_seq = 6",
    "begun later": (
        "UPDATE audit_chain SET anchor_seq = 3, anchor_hash = (SELECT hash FROM audit WHERE seq = 3);"
        "DELETE FROM audit WHERE seq <= 3"
    ),
    "without its seal": "DELETE FROM audit_chain",
    "cut off, without its seal": "DELETE FROM audit WHERE seq > 6; DELETE FROM audit_chain",
    "emptied, but for the seal": "DELETE FROM audit",
    "emptied": "DELETE FROM audit; DELETE FROM audit_chain",
    "another seal": "UPDATE audit_chain SET head_mac = 'f00'",
    "altered": "UPDATE audit SET args = '{}' WHERE seq = 4",
    "hash altered": "UPDATE audit SET hash = 'f00' WHERE seq = 10",
    "two changed places": (
        "UPDATE audit SET seq = -1 WHERE seq = 4; UPDATE audit SET seq = 4 WHERE seq = 5; "
        "UPDATE audit SET seq = 5 WHERE seq = -1"
    ),
    "a copy put in": "INSERT INTO audit SELECT 11, time, actor, role, via, origin, action, args, outcome, detail, hash "
    "FROM audit WHERE seq = 10",
}


@pytest.mark.parametrize("what", TAMPERINGS)
async def test_tampering_is_told_at_once_and_after_further_rows(store: Store, what: str) -> None:
    audit = AuditLog(store, KEY, ManualClock())
    await fill(audit, 10)
    assert (await audit.verify()).intact
    tamper(store, TAMPERINGS[what])
    assert not (await audit.verify()).intact
    await fill(audit, 3)
    verdict = await audit.verify()
    assert not verdict.intact, "the next rows mended what was tampered with"
    assert verdict.problem
    assert [entry.args["index"] for entry in await audit.entries(3)] == [2, 1, 0]


WIPE = "DELETE FROM audit; DELETE FROM audit_chain"


async def marked(path: Path, seq: int) -> None:
    """Wait until the mark says that the log came to the row `seq`."""
    await wait_for(lambda: path.exists() and Watermark(path, KEY).seq() == seq)


async def test_a_log_that_was_emptied_between_two_lives_is_told(store: Store, tmp_path: Path) -> None:
    mark = tmp_path / "secrets/audit.mark"
    await fill(AuditLog(store, KEY, ManualClock(), mark=mark), 5)
    await marked(mark, 5)
    assert mark.stat().st_mode & 0o777 == 0o600
    tamper(store, WIPE)
    again = AuditLog(store, KEY, ManualClock(), mark=mark)
    assert "had come to row 5" in (await again.verify()).problem
    await fill(again, 2)
    await marked(mark, 7)
    assert not (await AuditLog(store, KEY, ManualClock(), mark=mark).verify()).intact


async def test_an_older_copy_of_the_database_is_told(tmp_path: Path) -> None:
    mark, store = tmp_path / "audit.mark", Store(tmp_path / "state.sqlite")
    copy = b""
    for _ in range(2):
        store.open()
        await fill(AuditLog(store, KEY, ManualClock(), mark=mark), 4)
        await asyncio.to_thread(store.close)
        copy = copy or store.path.read_bytes()
    await marked(mark, 8)
    store.path.write_bytes(copy)
    store.open()
    audit = AuditLog(store, KEY, ManualClock(), mark=mark)
    assert "ends at row 4, but it had come to row 8" in (await audit.verify()).problem
    await fill(audit, 10)
    assert "row 5 is missing" in (await audit.verify()).problem
    await asyncio.to_thread(store.close)


async def test_a_mark_that_was_altered_is_told_and_left(store: Store, tmp_path: Path) -> None:
    mark = tmp_path / "audit.mark"
    await fill(AuditLog(store, KEY, ManualClock(), mark=mark), 3)
    await marked(mark, 3)
    forged = mark.read_bytes().replace(b"3 ", b"1 ", 1)
    mark.write_bytes(forged)
    tamper(store, WIPE)
    again = AuditLog(store, KEY, ManualClock(), mark=mark)
    await fill(again, 1)
    assert "was altered" in (await again.verify()).problem
    assert mark.read_bytes() == forged


async def test_a_mark_that_cannot_be_written_stops_nobody(store: Store, tmp_path: Path) -> None:
    place = tmp_path / "audit.mark"
    audit = AuditLog(store, KEY, ManualClock(), mark=place)
    await fill(audit, 1)
    await marked(place, 1)
    place.unlink()
    place.mkdir()
    await fill(audit, 2)
    assert (await audit.verify()).intact
    place.rmdir()
    await fill(audit, 1)
    await marked(place, 4)


async def test_a_row_put_in_without_the_key_is_told(store: Store) -> None:
    audit = AuditLog(store, KEY, ManualClock())
    await fill(audit, 3)
    before = (await audit.entries(1))[0].hash
    values = (4, 1.0, "eve", "admin", "socket", "", "thing.do", "{}", "ok", "")
    digest = row_hash(EVE, before, values)
    await store.write(lambda c: c.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*values, digest)))
    assert (await audit.verify()).problem == "row 4 (thing.do by eve) was altered"


async def test_another_key_does_not_fit(store: Store) -> None:
    await fill(AuditLog(store, KEY, ManualClock()), 2)
    assert not (await AuditLog(store, EVE, ManualClock()).verify()).intact


async def test_a_new_log_is_whole(store: Store) -> None:
    verdict = await AuditLog(store, KEY, ManualClock()).verify()
    assert (verdict.intact, verdict.rows, verdict.problem) == (True, 0, "")


async def test_pruning_keeps_the_newest_and_stays_whole_over_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.sqlite")
    for start in range(4):
        store.open()
        audit = AuditLog(store, KEY, ManualClock(), keep=50)
        await fill(audit, 60)
        verdict = await audit.verify()
        assert (verdict.intact, verdict.last_seq) == (True, 60 * (start + 1))
        assert verdict.rows == verdict.last_seq - verdict.first_seq + 1
        assert 50 <= verdict.rows <= 51
        await asyncio.to_thread(store.close)


async def test_many_at_once_make_one_chain(store: Store) -> None:
    audit = AuditLog(store, KEY, ManualClock())
    await asyncio.gather(*(audit.record(ADMIN, f"thing.do{index}", {}, "ok", "") for index in range(200)))
    verdict = await audit.verify()
    assert (verdict.intact, verdict.rows) == (True, 200)


SHORT = st.text(max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | SHORT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SHORT, inner, max_size=4),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(max_size=10), JSON, max_size=3), st.text(max_size=50))
async def test_any_arguments_come_back_as_they_went(tmp_path: Path, args: dict[str, Any], detail: str) -> None:
    store = Store(tmp_path / "state.sqlite")
    store.open()
    try:
        audit = AuditLog(store, KEY, ManualClock())
        await audit.record(ADMIN, "thing.do", args, "ok", detail)
        entry = (await audit.entries(1))[0]
        assert (entry.args, entry.detail) == (args, detail)
        assert (await audit.verify()).intact
    finally:
        await asyncio.to_thread(store.close)


async def test_a_row_is_bounded_and_says_what_was_cut(store: Store) -> None:
    audit = AuditLog(store, KEY, ManualClock())
    long = {"paths": [f"/pictures/{index}.jpg" for index in range(5000)], "threshold": 0.5}
    many = {f"name {index}": "x" * 50 for index in range(500)}
    for args in (long, many):
        await audit.record(Actor("a" * 9999, Role.admin, "ssh", "o" * 9999), "thing.do", args, "failed", "why " * 9999)
    size = await store.read(
        lambda c: c.execute("SELECT max(length(actor) + length(origin) + length(args) + length(detail)) FROM audit").fetchone()
    )
    assert size[0] < 4096
    last, first = await audit.entries(2)
    assert first.args["threshold"] == 0.5
    assert first.args["paths"].startswith('["/pictures/0.jpg",')
    assert hashlib.sha256(canonical(long).encode()).hexdigest() in first.args["(cut)"]
    assert hashlib.sha256(canonical(many).encode()).hexdigest() in last.args["(cut)"]
    assert "(39996 characters)" in last.detail
    assert (await audit.verify()).intact


async def test_rows_become_values_in_the_readers_thread(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = AuditLog(store, KEY, ManualClock())
    await fill(audit, 3)
    threads: set[str] = set()
    plain = module.entry_of

    def noted(row: tuple[Any, ...]) -> AuditEntry:
        threads.add(threading.current_thread().name)
        return plain(row)

    monkeypatch.setattr(module, "entry_of", noted)
    assert len(await audit.entries()) == 3
    assert len(threads) == 1
    assert threads.pop().startswith("store-read")


def test_the_order_of_arguments_does_not_matter() -> None:
    assert canonical({"a": 1, "b": [1, {"y": 2, "x": 1}]}) == canonical({"b": [1, {"x": 1, "y": 2}], "a": 1})


async def test_text_without_a_form_in_utf_8_is_written_escaped(store: Store) -> None:
    audit = AuditLog(store, KEY, ManualClock())
    odd = "\ud800x"
    await audit.record(Actor(odd, Role.viewer, "kafka", odd), odd, {odd: odd}, "refused", odd)
    found = (await audit.entries())[0]
    assert (found.actor, found.origin, found.action, found.detail) == ("\\ud800x",) * 4
    assert (await audit.verify()).intact

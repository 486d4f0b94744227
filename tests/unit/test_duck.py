"""The embedded analytics: roll-ups are what a plain sum says, events are stored once, a kill loses nothing flushed."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.core.analytics.duck import DuckStore
from appliance.core.events import HostMetrics, Noted
from appliance.errors import StoreError

BASE = 1_790_000_000
SAMPLE = st.tuples(st.integers(0, 7200), st.floats(-1e6, 1e6))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 7200), st.floats(-1e6, 1e6)), min_size=1, max_size=12), min_size=1, max_size=5)
)
def test_roll_ups_equal_a_plain_recomputation(tmp_path: Path, batches: list[list[tuple[int, float]]]) -> None:
    store = DuckStore(tmp_path / f"{abs(hash(str(batches)))}.duckdb", "pc")
    store.open()
    for batch in batches:
        store.add_metrics([HostMetrics(time=float(BASE + offset), metrics={"m": value}) for offset, value in batch])
    for table, width in (("device_metrics_minute", 60), ("device_metrics_hourly", 3600)):
        plain: dict[int, list[float]] = defaultdict(list)
        for batch in batches:
            for offset, value in batch:
                plain[(BASE + offset) // width * width].append(value)
        found = store.trend("m", BASE - 86400, BASE + 86400, table)
        assert [at for at, _ in found] == sorted(plain)
        for at, value in found:
            assert value == pytest.approx(sum(plain[int(at)]) / len(plain[int(at)]), rel=1e-9, abs=1e-6)
    store.close()


def test_events_come_with_their_cursor_or_not_at_all(tmp_path: Path) -> None:
    store = DuckStore(tmp_path / "a.duckdb", "pc")
    store.open()
    event = Noted(time=1.0, event="x", severity="info")
    store.add_events("outbox", [(7, event)])
    assert store.cursor("outbox") == (7, event.id)
    with pytest.raises(StoreError):
        store.add_events("outbox", [(8, Noted(time=2.0, event="y", severity="info", id="no uuid"))])
    assert store.cursor("outbox") == (7, event.id)
    store.add_events("outbox", [(3, event)])  # the same one, from a journal with other numbers
    assert store.query("SELECT count(*) FROM analytics_events", []) == [(1,)]
    store.close()
    with pytest.raises(StoreError, match="not open"):
        store.metrics()


def test_what_was_flushed_survives_a_kill(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from appliance.core.analytics.duck import DuckStore; "
        "from appliance.core.events import HostMetrics; store = DuckStore(Path(sys.argv[1]), 'pc'); store.open(); "
        f"store.add_metrics([HostMetrics(time={BASE}.0, metrics={{'m': 4.0}})]); os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = tmp_path / "a.duckdb"
    subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    store = DuckStore(path, "pc")
    store.open()
    assert store.trend("m", BASE - 60, BASE + 60) == [(float(BASE // 60 * 60), 4.0)]
    assert store.recent(["m"], BASE - 1.0, BASE + 1.0, 5) == [("m", float(BASE), 4.0)]
    store.prune(30, BASE + 366 * 86400)
    assert store.metrics() == []
    store.close()


def test_the_newest_readings_up_to_a_moment(tmp_path: Path) -> None:
    store = DuckStore(tmp_path / "a.duckdb", "pc")
    store.open()
    assert store.stretch(BASE + 99.0, 60.0) == (None, None)
    store.add_metrics([HostMetrics(time=float(BASE + index), metrics={"m": float(index), "n": 0.0}) for index in range(10)])
    assert store.recent(["m"], BASE, BASE + 7.0, 3) == [("m", BASE + at, at) for at in (5.0, 6.0, 7.0)]
    assert store.stretch(BASE + 3.5, 7200.0) == (None, BASE + 3.0)
    later = BASE + 8 * 3600
    store.add_metrics([HostMetrics(time=float(later + index), metrics={"m": 1.0}) for index in (0, 5, 3600)])
    assert store.stretch(later + 7000.0, 7200.0) == (later // 3600 * 3600, later + 3600.0)
    assert store.stretch(BASE + 3.5, 7200.0) == (None, BASE + 3.0)
    store.close()


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.duckdb").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match="move"):
        DuckStore(tmp_path / "a.duckdb", "pc").open()


def test_a_file_of_the_first_schema_is_taken_on(tmp_path: Path) -> None:
    import duckdb

    with duckdb.connect(str(tmp_path / "a.duckdb")) as old:
        old.execute("CREATE TABLE cursors (journal VARCHAR PRIMARY KEY, seq BIGINT NOT NULL)")
        old.execute("INSERT INTO cursors VALUES ('outbox', 5)")
    store = DuckStore(tmp_path / "a.duckdb", "pc")
    store.open()
    assert store.cursor("outbox") == (5, "")
    assert store.cursor("other") == (0, "")
    store.close()


def test_what_a_long_pause_left_is_pruned_with_little_memory(tmp_path: Path) -> None:
    store = DuckStore(tmp_path / "a.duckdb", "pc")
    store.open()
    rows = "to_timestamp({0} + 60 * m), 'pc', 'metric_name_' || n, 1.0, 1.0, 1.0, 1 FROM range(1440) a(m), range(20) b(n)"
    for day in range(20):
        store.query(f"INSERT INTO device_metrics_minute SELECT {rows.format(BASE // 86400 * 86400 + 86400 * day)}", [])
    store.close()
    store.open()
    store.query("SET memory_limit = '24MB'", [])
    now = BASE // 86400 * 86400 + (90 + 19) * 86400
    store.prune(30, now)
    assert store.query("SELECT count(*), epoch(min(bucket)) FROM device_metrics_minute", []) == [(20 * 1440, now - 90 * 86400)]
    store.close()


def test_numbers_too_large_to_be_added_up_are_left_out(tmp_path: Path) -> None:
    store = DuckStore(tmp_path / "a.duckdb", "pc")
    store.open()
    for value in (1.7e308, 1.7e308, 9e149, 9e149, -1e150, 1.0):
        store.add_metrics([HostMetrics(time=float(BASE), metrics={"m": value, "n": 1.0})])
    ((_, mean),) = store.trend("m", BASE - 60, BASE)
    assert mean == pytest.approx(6e149)
    assert store.query("SELECT sum(count) FROM device_metrics_minute WHERE metric_name = 'n'", []) == [(6,)]
    store.close()

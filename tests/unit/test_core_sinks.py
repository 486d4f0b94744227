"""From the spine to the disk: telemetry with a clock that is stepped, the journal's readers, the analytics sink."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.core.analytics.duck import DuckStore, RejectedError
from appliance.core.analytics.pruning import EVERY, GAP, HOLD, PruneClock
from appliance.core.analytics.service import POINTS, AnalyticsService
from appliance.core.bus import Bus
from appliance.core.events import Event, HostMetrics, InferenceCompleted, Noted, envelope, from_envelope
from appliance.core.model import Box, Health, HealthReport, HostSample, InferenceResult
from appliance.core.outbox import Outbox
from appliance.core.state import LiveState, Section
from appliance.core.store import Store
from appliance.core.telemetry.service import TelemetryService, metrics_of
from appliance.errors import StoreError
from appliance.hw.host import PsutilHost
from tests.support import ManualClock, wait_for

RESULT = InferenceResult(
    "0190a8e4-0000-7000-8000-000000000001", 1_800_000_000.0, "bus.jpg", "m", "1", "detection", "cpu", 64, 48,
    (Box("bus", 0.9, 1, 2, 3, 4),), 5.0, 6.0,
)  # fmt: skip
RESULT_EVENT = InferenceCompleted.of(RESULT)


class Held(DuckStore):
    """A store whose next write of metrics waits until the test lets it go on."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "pc")
        self.writing, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        self.flushes = 0
        self.pruned = threading.Event()

    def prune(self, keep_days: int, now: float) -> None:
        super().prune(keep_days, now)
        self.pruned.set()

    def add_metrics(self, events: Sequence[HostMetrics]) -> int:
        self.writing.set()
        assert self.go_on.wait(10)
        self.flushes += 1
        return super().add_metrics(events)


class Bench:
    """Store, bus and analytics, wired as the appliance does it."""

    def __init__(self, home: Path) -> None:
        self.clock = ManualClock()
        self.store = Store(home / "state.sqlite")
        self.store.open()
        self.outbox = Outbox(self.store, "pc")
        self.bus = Bus(self.outbox)
        self.state = LiveState(self.clock)
        self.duck = Held(home / "analytics.duckdb")
        self.analytics = AnalyticsService(self.duck, self.bus, self.outbox, self.state, self.clock, 0.02, 30)
        self.run: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.outbox.load()
        await self.analytics.start()
        self.run = asyncio.create_task(self.analytics.run())

    async def stop(self) -> None:
        assert self.run is not None
        self.run.cancel()
        await asyncio.wait({self.run})
        await self.analytics.stop()

    def count(self, table: str) -> int:
        return int(self.duck.query(f"SELECT count(*) FROM {table}", [])[0][0])


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await asyncio.to_thread(bench.store.close)


def reading(clock: ManualClock, value: float) -> HostMetrics:
    return HostMetrics(time=clock.wall(), metrics={"cpu_usage": value})


async def test_a_flush_that_is_cut_short_writes_nothing_twice(bench: Bench) -> None:
    await bench.start()
    bench.duck.go_on.clear()
    await bench.bus.publish(reading(bench.clock, 40))
    await wait_for(bench.duck.writing.is_set)
    stopping = asyncio.create_task(bench.stop())
    await asyncio.sleep(0)
    bench.duck.go_on.set()
    await asyncio.wait_for(stopping, 10)
    await bench.start()
    assert bench.count("device_metrics") == 1
    assert bench.duck.query("SELECT sum_value, count FROM device_metrics_minute", []) == [(40.0, 1)]
    await bench.stop()


async def test_events_are_taken_over_once_whatever_is_restarted(bench: Bench) -> None:
    events = [Noted(time=bench.clock.wall() + index, event=f"e{index}", severity="info") for index in range(30)]
    for part in range(3):
        await bench.start()
        for event in events[part * 10 : part * 10 + 10]:
            await bench.bus.publish(event)
            await bench.outbox.append(event)  # the same one again
        if part == 1:  # and once with all of it taken over before the stop
            await wait_for(lambda: bench.analytics.cursor == bench.outbox.head)
        await bench.stop()
    await bench.start()
    await wait_for(lambda: bench.analytics.cursor == bench.outbox.head)
    found = bench.duck.query("SELECT event_id::VARCHAR FROM analytics_events ORDER BY time", [])
    assert [row[0] for row in found] == [event.id for event in events]
    await bench.stop()


def names(bench: Bench) -> list[str]:
    """Events that are in the analytics, oldest first."""
    rows = bench.duck.query("SELECT event_data->>'event' FROM analytics_events ORDER BY time", [])
    return [row[0] for row in rows]


async def note(bench: Bench, *events: str) -> None:
    for event in events:
        bench.clock.move(1)
        await bench.bus.publish(Noted(time=bench.clock.wall(), event=event, severity="info"))


@pytest.mark.parametrize("while_running", [False, True])
async def test_a_new_database_is_followed_from_its_beginning(bench: Bench, while_running: bool) -> None:
    """The repair that the store recommends: move the database away; the appliance makes a new one."""
    await bench.start()
    await note(bench, "a", "b", "c")
    await wait_for(lambda: names(bench) == ["a", "b", "c"])
    if not while_running:
        await bench.stop()
    await asyncio.to_thread(bench.store.close)
    bench.store.path.rename(bench.store.path.with_suffix(".away"))
    await asyncio.to_thread(bench.store.open)
    if while_running:
        await bench.outbox.load()
    else:
        await bench.start()
    await note(bench, "d")
    await wait_for(lambda: names(bench) == ["a", "b", "c", "d"])
    await wait_for(lambda: bench.analytics.status()[0].depth == 0)
    await bench.stop()


async def test_a_restored_database_is_taken_over_without_doubles(bench: Bench) -> None:
    await bench.start()
    await note(bench, "a", "b")
    await wait_for(lambda: len(names(bench)) == 2)
    await asyncio.to_thread(bench.store.close)
    backup = bench.store.path.read_bytes()
    await asyncio.to_thread(bench.store.open)
    await note(bench, "c", "d")
    await wait_for(lambda: len(names(bench)) == 4)
    await bench.stop()
    await asyncio.to_thread(bench.store.close)
    bench.store.path.write_bytes(backup)
    await asyncio.to_thread(bench.store.open)
    await bench.outbox.load()
    await note(bench, "e", "f", "g")  # with the numbers that c and d had
    await bench.start()
    await wait_for(lambda: names(bench) == list("abcdefg"))
    await bench.stop()


async def test_only_what_a_reader_missed_is_dropped(bench: Bench) -> None:
    async def append(outbox: Outbox, count: int) -> None:
        for _ in range(count):
            await outbox.append(Noted(time=1.0, event="x", severity="info"))

    outbox = Outbox(bench.store, "pc", capacity=100)
    await outbox.load()
    for _ in range(6):
        await append(outbox, 50)
        outbox.seen("analytics", outbox.head)
    assert (len(await outbox.read(0)), outbox.dropped, outbox.head) == (100, 0, 300)
    again = Outbox(bench.store, "pc", capacity=100)
    await again.load()
    await append(again, 20)  # before its reader has come back
    assert again.dropped == 0
    again.seen("fast", again.head)
    again.seen("analytics", 300)  # and then stands still
    await append(again, 120)
    assert again.dropped == 40
    assert again.status(300).dropped == 40
    last = Outbox(bench.store, "pc", capacity=100)
    await last.load()
    assert last.dropped == 40


GARBAGE = (
    b"no json",
    b"[1]",
    b'{"type": "no.such"}',
    b'{"type": "event.noted", "timestamp": "yesterday", "data": {}, "id": "x"}',
)


async def test_events_that_cannot_be_read_are_set_aside_and_the_others_go_on(bench: Bench) -> None:
    await bench.outbox.load()
    await note(bench, "a")
    bad_result = envelope(RESULT_EVENT, "pc") | {"id": "0190a8e4-0000-7000-8000-0000000000ff"}
    bad_result["data"] = {**bad_result["data"], "result": {"source": "x"}}
    bodies = [*GARBAGE, msgspec.json.encode(bad_result)]

    def spoil(connection: sqlite3.Connection) -> None:
        for index, body in enumerate(bodies * 200):  # more than one reading takes
            connection.execute("INSERT INTO outbox (id, type, envelope) VALUES (?, 'x', ?)", (f"bad {index}", body))

    await bench.store.write(spoil)
    await bench.outbox.append(Noted(time=bench.clock.wall() + 1, event="no uuid", severity="info", id="no uuid"))
    bench.clock.move(1)
    await note(bench, "b")
    await bench.start()
    await wait_for(lambda: names(bench) == ["a", "b"])
    report = await bench.analytics.health()
    assert report.health is Health.healthy
    assert report.details["set_aside"] == bench.outbox.unreadable == 1001
    aside = await bench.store.read(lambda c: c.execute("SELECT envelope, reason FROM outbox_unreadable").fetchall())
    assert len(aside) == 1000
    assert {body for body, _ in aside} >= set(bodies)
    assert all(reason for _, reason in aside)
    await bench.stop()
    again = Outbox(bench.store, "pc")
    await again.load()
    assert again.unreadable == 1001
    await bench.start()
    await note(bench, "c")
    await wait_for(lambda: names(bench) == ["a", "b", "c"])
    await bench.stop()


async def test_a_stored_result_that_cannot_be_read_is_passed_over(bench: Bench) -> None:
    await bench.start()
    await bench.bus.publish(RESULT_EVENT)
    await wait_for(lambda: bench.count("ai_inference_results") == 1)
    bench.duck.query(
        "INSERT INTO ai_inference_results SELECT time, device_id, model_name, 1, '{\"result\": {}}', NULL, uuid() "
        "FROM ai_inference_results", []
    )  # fmt: skip
    await bench.stop()
    await bench.start()
    assert len(bench.state.get(Section.results).value) == 1
    await bench.stop()


async def test_results_and_trends_come_back_after_a_restart(bench: Bench) -> None:
    result = RESULT
    await bench.start()
    await bench.bus.publish(RESULT_EVENT)
    await bench.bus.publish(reading(bench.clock, 41))
    await wait_for(lambda: bench.state.get(Section.results).value == (result,))
    await wait_for(lambda: (bench.state.get(Section.trends).value or {}).get("cpu_usage"))
    await bench.stop()
    bench.state = LiveState(bench.clock)
    bench.analytics = AnalyticsService(bench.duck, bench.bus, bench.outbox, bench.state, bench.clock, 0.02, 30)
    await bench.start()
    assert bench.state.get(Section.results).value == (result,)
    assert bench.state.get(Section.trends).value["cpu_usage"] == ((bench.clock.wall(), 41.0),)
    await bench.stop()


def trend(bench: Bench) -> tuple[tuple[float, float], ...]:
    found: tuple[tuple[float, float], ...] = (bench.state.get(Section.trends).value or {}).get("cpu_usage", ())
    return found


async def test_trends_stay_bounded_when_the_clock_is_set_back(bench: Bench) -> None:
    await bench.start()
    for value in (1.0, 2.0):
        bench.clock.move(5)
        await bench.bus.publish(reading(bench.clock, value))
    await wait_for(lambda: len(trend(bench)) == 2)
    bench.clock.wall_now -= 86400
    await bench.bus.publish(reading(bench.clock, 3.0))
    await wait_for(lambda: trend(bench) == ((bench.clock.wall(), 3.0),))
    for _ in range(POINTS + 50):
        bench.clock.move(0.1)
        await bench.bus.publish(reading(bench.clock, 4.0))
        await asyncio.sleep(0)
    await bench.bus.publish(reading(bench.clock, 5.0))
    await wait_for(lambda: trend(bench) and trend(bench)[-1][1] == 5.0)
    assert len(trend(bench)) == POINTS
    await bench.stop()
    bench.clock.wall_now -= 43200  # the readings of just now are later than now
    await bench.start()
    assert trend(bench) == ()
    await bench.stop()


async def test_a_start_in_a_far_year_deletes_nothing(bench: Bench) -> None:
    await bench.start()
    await bench.bus.publish(reading(bench.clock, 1.0))
    await wait_for(lambda: bench.duck.flushes)
    await bench.stop()
    bench.clock.wall_now += 40 * 365 * 86400
    bench.duck.pruned.clear()
    for start in (2, 3):  # and once more in that year
        await bench.start()
        await bench.bus.publish(reading(bench.clock, 2.0))
        await wait_for(lambda start=start: bench.count("device_metrics") == start)  # type: ignore[misc]
        await bench.stop()
        bench.clock.move(60)
    assert not bench.duck.pruned.is_set()
    bench.clock.wall_now -= 40 * 365 * 86400
    await bench.start()
    await wait_for(bench.duck.pruned.is_set)
    assert bench.count("device_metrics") == 3
    await bench.stop()


def test_a_doubtful_clock_has_to_go_on_evenly_first() -> None:
    clock = ManualClock()
    judge = PruneClock(clock, None, clock.wall() - 3600)
    assert judge.due()
    judge.done()
    clock.move(EVERY - 1)
    assert not judge.due()
    clock.move(1)
    assert judge.due()
    for step in (+86400.0, -86400.0):
        clock.wall_now += step
        assert not judge.due()
        clock.move(HOLD - 1)
        assert not judge.due()
        clock.move(1)
        assert judge.due()
    doubtful = PruneClock(clock, None, clock.wall() - GAP - 1)
    assert not doubtful.due()
    clock.move(HOLD)
    assert doubtful.due()
    assert PruneClock(clock, None, None).due()
    young = PruneClock(clock, clock.wall() - HOLD + 60, clock.wall())
    assert not young.due()
    clock.move(60)
    assert young.due()


async def test_a_sink_that_cannot_write_is_unhealthy_and_catches_up(bench: Bench) -> None:
    await bench.start()
    await wait_for(bench.duck.pruned.is_set)  # that would fail, too
    await asyncio.to_thread(bench.duck.close)
    await bench.bus.publish(reading(bench.clock, 42))

    async def health() -> Health:
        return (await bench.analytics.health()).health

    async def ill() -> bool:
        return await health() is Health.unhealthy

    async def well() -> bool:
        return await health() is Health.healthy

    await wait_for(ill)
    await asyncio.to_thread(bench.duck.open)
    await wait_for(well)
    assert bench.count("device_metrics") == 1
    await bench.stop()


async def test_a_reading_that_cannot_be_stored_holds_up_no_other(bench: Bench) -> None:
    await bench.start()
    bench.duck.go_on.clear()
    now = bench.clock.wall()
    bad = [
        HostMetrics(time=now, metrics={"a": 1.0}, tags={"x": "\ud800"}),
        HostMetrics(time=now, metrics={"\ud800": 1.0}),
        HostMetrics(time=now, metrics={"a": 1.0}, id="no uuid"),
        HostMetrics(time=1e18, metrics={"a": 1.0}),
    ]
    for index in range(20):
        await bench.bus.publish(reading(bench.clock, float(index)))
        if index % 5 == 2:
            await bench.bus.publish(bad[index // 5])
    bench.duck.go_on.set()
    await wait_for(lambda: bench.count("device_metrics") == 20)
    health = await bench.analytics.health()
    await wait_for(lambda: bench.analytics.status()[1].depth == 0)
    health = await bench.analytics.health()
    assert (health.health, health.details["refused"]) == (Health.healthy, 4)
    assert bench.duck.query("SELECT sum_value, count FROM device_metrics_minute", []) == [(190.0, 20)]
    await bench.stop()


async def test_an_event_that_is_no_text_is_set_aside(bench: Bench) -> None:
    await bench.start()
    good = [Noted(time=bench.clock.wall(), event=name, severity="info") for name in "ab"]
    bad = Noted(time=bench.clock.wall(), event="\ud800", severity="info")
    for seq, event in enumerate((good[0], bad, good[1]), 1):
        if event is bad:
            with pytest.raises(RejectedError):
                bench.duck.add_events("other", [(seq, event)])
        else:
            bench.duck.add_events("other", [(seq, event)])
    assert sorted(names(bench)) == ["a", "b"]
    await bench.stop()


async def test_what_cannot_be_deleted_degrades(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.core.analytics.service.LOOK", 0.01)
    await bench.start()
    await wait_for(bench.duck.pruned.is_set)
    bench.duck.query("ALTER TABLE analytics_events RENAME TO elsewhere", [])
    bench.clock.move(EVERY)

    async def health() -> Health:
        return (await bench.analytics.health()).health

    async def degraded() -> bool:
        return await health() is Health.degraded

    async def well() -> bool:
        return await health() is Health.healthy

    await wait_for(degraded)
    assert "cannot be deleted" in (await bench.analytics.health()).reason
    bench.duck.query("ALTER TABLE elsewhere RENAME TO analytics_events", [])
    await wait_for(well)
    await bench.stop()


async def test_a_stuck_journal_is_unhealthy_although_telemetry_is_written(bench: Bench) -> None:
    await bench.start()
    await wait_for(bench.duck.pruned.is_set)  # that would fail, too
    bench.duck.query("ALTER TABLE analytics_events RENAME TO elsewhere", [])
    await note(bench, "a")

    async def health() -> HealthReport:
        return await bench.analytics.health()

    async def ill() -> bool:
        return (await health()).health is Health.unhealthy

    async def well() -> bool:
        return (await health()).health is Health.healthy

    await wait_for(ill)
    for _ in range(3):
        flushes = bench.duck.flushes
        await bench.bus.publish(reading(bench.clock, 42))
        await wait_for(lambda flushes=flushes: bench.duck.flushes > flushes)  # type: ignore[misc]
        report = await health()
        assert report.health is Health.unhealthy
        assert "1 event waiting in the journal" in report.reason
    bench.duck.query("ALTER TABLE elsewhere RENAME TO analytics_events", [])
    await wait_for(well)
    assert names(bench) == ["a"]
    await bench.stop()


async def test_an_event_is_itself_again_after_the_envelope() -> None:
    event = Noted(time=1_800_000_000.25, event="x", severity="info", attributes={"a": [1, None, "ü"]})
    document: dict[str, Any] = envelope(event, "pc")
    assert document["timestamp"] == "2027-01-15T08:00:00.250000Z"
    assert from_envelope(document) == event


async def test_a_failed_append_is_not_in_the_journal(bench: Bench) -> None:
    await bench.outbox.load()
    await bench.outbox.append(Noted(time=1.0, event="kept", severity="info"))
    head = bench.outbox.head
    pages = await bench.store.write(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
    await bench.store.write(lambda c: c.execute(f"PRAGMA max_page_count = {pages}").fetchone())
    with pytest.raises(StoreError):
        await bench.outbox.append(Noted(time=2.0, event="x" * 10_000_000, severity="info"))
    assert bench.outbox.head == head
    assert [event.time for _, event in await bench.outbox.read(0)] == [1.0]


class FailingProbe:
    """The real host, which cannot be read at times."""

    def __init__(self, real: PsutilHost) -> None:
        self._real = real
        self.fails = False

    def read(self) -> HostSample:
        if self.fails:
            raise OSError("the disk is gone")
        return self._real.read()


async def test_a_stepped_clock_is_noted_and_readings_go_on(bench: Bench, tmp_path: Path) -> None:
    await bench.outbox.load()
    queue = bench.bus.subscribe("test", (Noted,))
    probe = FailingProbe(PsutilHost(tmp_path))
    service = TelemetryService(probe, bench.bus, bench.state, bench.clock, 0.0)
    await service.start()
    run = asyncio.create_task(service.run())
    bench.clock.move(1)  # time goes by: no step
    version = bench.state.get(Section.host).version
    await wait_for(lambda: bench.state.get(Section.host).version > version + 1)
    assert queue.status().depth == 0
    bench.clock.wall_now += 86400
    (forward,) = await asyncio.wait_for(queue.batch(), 10)
    bench.clock.wall_now -= 2 * 86400
    (back,) = await asyncio.wait_for(queue.batch(), 10)
    steps: list[Event] = [forward, back]
    assert [step.data()["attributes"]["seconds"] for step in steps] == [86400.0, -172800.0]
    probe.fails = True

    async def report() -> str:
        return (await service.health()).reason

    async def told() -> bool:
        return "the disk is gone" in await report()

    await wait_for(told)
    probe.fails = False

    async def well() -> bool:
        return "reading every" in await report()

    await wait_for(well)
    run.cancel()
    await asyncio.wait({run})


def test_what_the_machine_does_not_tell_is_no_metric(tmp_path: Path) -> None:
    metrics = metrics_of(PsutilHost(tmp_path).read())
    assert all(isinstance(value, float) for value in metrics.values())
    assert 0 < metrics["memory_usage"] <= 100
    assert "net_tx_rate" not in metrics  # a first reading has no rate


def test_an_event_of_another_type_is_refused() -> None:
    document = envelope(Noted(time=1.0, event="x", severity="info"), "pc")
    with pytest.raises(KeyError):
        from_envelope({**document, "type": "no.such"})


def test_the_journal_reads_what_any_sqlite_reads(tmp_path: Path) -> None:
    """The database is plain SQLite: another program sees the same rows."""

    async def write() -> None:
        store = Store(tmp_path / "state.sqlite")
        store.open()
        await Outbox(store, "pc").append(Noted(time=1.0, event="x", severity="info"))
        await asyncio.to_thread(store.close)

    asyncio.run(write())
    connection = sqlite3.connect(tmp_path / "state.sqlite")
    assert connection.execute("SELECT type FROM outbox").fetchall() == [("event.noted",)]
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()

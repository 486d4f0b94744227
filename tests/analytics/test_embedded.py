"""Questions to the embedded store beside everything else that the appliance does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from appliance.core.analytics import duck_query
from appliance.core.analytics.cache import AnswerCache
from appliance.core.analytics.duck import DuckStore
from appliance.core.analytics.duck_query import DuckReader
from appliance.core.analytics.model import Aggregation, Query
from appliance.core.analytics.query_service import QueryService
from appliance.core.analytics.querying import Analytics
from appliance.core.events import HostMetrics, new_id
from appliance.core.model import Health
from appliance.core.outbox import Outbox
from appliance.core.state import LiveState
from appliance.core.store import Store
from appliance.core.streams.rules_samples import Samples
from appliance.errors import QueryError, StoreError
from tests.support import ManualClock

BASE = 1_790_000_000
ENDLESS = "SELECT count(*) FROM range(100000) a(i), range(100000) b(j) WHERE (i * j) % 7 = $1"


@pytest.fixture
def duck(tmp_path: Path) -> Iterator[DuckStore]:
    found = DuckStore(tmp_path / "a.duckdb", "pc")
    found.open()
    yield found
    found.close()


async def test_slow_questions_take_no_thread_of_others(duck: DuckStore) -> None:
    reader = DuckReader(duck, 30)
    asking = [asyncio.create_task(reader._read(ENDLESS, [index])) for index in range(50)]
    await asyncio.sleep(0)
    await asyncio.wait_for(asyncio.to_thread(duck.add_metrics, [HostMetrics(time=float(BASE), metrics={"m": 1.0})]), 10)
    assert not any(each.done() for each in asking)
    for each in asking:
        each.cancel()
    await asyncio.wait(asking)
    assert await asyncio.wait_for(reader.metrics(), 10) == ["m"]  # the one that had begun was ended


async def test_a_question_has_a_limit(duck: DuckStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duck_query, "LIMIT", 0.05)
    reader = DuckReader(duck, 30)
    with pytest.raises(QueryError, match=r"within 0\.05 s"):
        await asyncio.wait_for(reader._read(ENDLESS, [1]), 10)
    monkeypatch.setattr(duck_query, "LIMIT", 10.0)
    assert await reader.metrics() == []


async def test_the_newest_telemetry_to_try_a_rule_on(duck: DuckStore, tmp_path: Path) -> None:
    events = [
        HostMetrics(time=BASE + index / 8, metrics={"m": float(index), "n": -1.0}, tags={"room": "a"} if index % 2 else {})
        for index in range(40)
    ]
    duck.add_metrics(events)
    store = Store(tmp_path / "state.sqlite")
    store.open()
    samples = Samples(Outbox(store, "pc"), DuckReader(duck, 30), "pc")
    with duck._lock:  # somebody is writing
        found = [msgspec.json.decode(each) for each in await asyncio.wait_for(samples.newest("edge.telemetry", 5), 10)]
    await asyncio.to_thread(store.close)
    assert [each["id"] for each in found] == [each.id for each in events[-5:]]
    assert [each["data"] for each in found] == [{"metrics": each.metrics, "tags": each.tags} for each in events[-5:]]
    assert (found[0]["type"], found[0]["device_id"]) == ("host.metrics", "pc")


async def test_a_store_that_fails_shows_in_the_health(duck: DuckStore) -> None:
    clock = ManualClock(BASE + 60.0)
    state = LiveState(clock)
    analytics = Analytics(DuckReader(duck, 30), AnswerCache(None), clock, state)
    service = QueryService(analytics, state, looks=False)
    duck.add_metrics([HostMetrics(time=float(BASE), metrics={"m": 1.0})])
    asked = Query(metric="m", since=BASE - 60.0, until=BASE + 60.0)
    await analytics.ask(asked)
    with pytest.raises(QueryError):
        await analytics.ask(msgspec.structs.replace(asked, metric="n"))
    assert (await service.health()).health is Health.healthy  # the asker's fault
    duck.query("ALTER TABLE device_metrics_minute RENAME TO elsewhere", [])
    with pytest.raises(StoreError):
        await analytics.ask(asked)
    told = await service.health()
    assert (told.health, "device_metrics_minute" in told.reason) == (Health.degraded, True)
    duck.query("ALTER TABLE elsewhere RENAME TO device_metrics_minute", [])
    await analytics.ask(asked)
    assert (await service.health()).health is Health.healthy


async def test_the_store_holds_itself_to_its_bounds(duck: DuckStore) -> None:
    names = ("memory_limit", "max_temp_directory_size", "threads")
    found = await DuckReader(duck, 30)._read(f"SELECT {', '.join(f'current_setting({name!r})' for name in names)}", [])
    assert found == [("91.5 MiB", "244.1 MiB", 1)]  # 96 and 256 million bytes


@pytest.mark.parametrize("group_by", [(), ("device_id",)])
async def test_few_buckets_and_many_are_answered_alike(
    duck: DuckStore, monkeypatch: pytest.MonkeyPatch, group_by: tuple[str, ...]
) -> None:
    rows = [
        (datetime.fromtimestamp(BASE + index * 600, UTC), f"pi-{index % 3}", "m", float(index), "{}", new_id())
        for index in range(100)
    ]
    duck.add_readings(rows)
    clock = ManualClock(BASE + 86400.0)
    analytics = Analytics(DuckReader(duck, 30), AnswerCache(None), clock, LiveState(clock))
    for kind in (Aggregation.sum, Aggregation.avg, Aggregation.min, Aggregation.max, Aggregation.count):
        until = float(BASE // 3600 * 3600 + 86400)
        asked = Query(metric="m", since=BASE - 3600.0, until=until, bucket="1h", aggregation=kind, group_by=group_by)
        monkeypatch.setattr(duck_query, "FEW", 5000)
        few = await analytics.ask(asked)
        monkeypatch.setattr(duck_query, "FEW", 3)
        many = await analytics.ask(asked)
        assert (few.series, few.source) == (many.series, "device_metrics_hourly")
        assert len(few.series) == (3 if group_by else 1)
    assert (await analytics.ask(msgspec.structs.replace(asked, since=0.0, until=3600.0))).series == ()

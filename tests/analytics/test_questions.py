"""What is refused, filled, ranked, cut and kept; and what happens beyond what single readings are kept for."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.core.analytics import cache, query_service, shape
from appliance.core.analytics.asking import POINTS, check, range_of
from appliance.core.analytics.buckets import parse
from appliance.core.analytics.cache import AnswerCache, key_of, lifetime
from appliance.core.analytics.duck import DuckStore
from appliance.core.analytics.duck_query import DuckReader
from appliance.core.analytics.model import Aggregation, Fill, Query
from appliance.core.analytics.query_service import QueryService
from appliance.core.analytics.querying import Analytics
from appliance.core.analytics.shape import Row
from appliance.core.analytics.timescale_query import PostgresReader
from appliance.core.model import Health
from appliance.core.state import LiveState
from appliance.errors import QueryError, TierUnavailableError
from appliance.settings import HealthSettings
from tests.analytics.rig import Reading, Stores, stores
from tests.support import ManualClock

DAY = 86400
NOW = 1_800_000_000.0


@pytest.fixture
def both(tmp_path: Path, postgres: str) -> Iterator[Stores]:
    with stores(tmp_path, postgres, NOW) as found:
        yield found


def query(**more: Any) -> Query:
    return msgspec.structs.replace(Query(metric="m", since=0.0, until=50.0, bucket="10s", aggregation=Aggregation.sum), **more)


def filled(values: dict[int, float | None], fill: Fill) -> list[float | None]:
    """The values of five buckets."""
    rows = [Row((), list(values), (list(values.values()),))]
    (line,), _ = shape.shape(check(query(fill=fill)), rows)
    return [value for _, value in line.points]


def test_fills() -> None:
    some: dict[int, float | None] = {10: 1.0, 30: 5.0}
    assert filled(some, Fill.none) == [1.0, 5.0]
    assert filled(some, Fill.null) == [None, 1.0, None, 5.0, None]
    assert filled(some, Fill.previous) == [None, 1.0, 1.0, 5.0, 5.0]
    assert filled(some, Fill.linear) == [None, 1.0, 3.0, 5.0, None]
    odd: dict[int, float | None] = {0: 1.0, 10: None, 40: 5.0}  # a bucket with readings but no number keeps none
    assert filled(odd, Fill.previous) == [1.0, None, 1.0, 1.0, 5.0]
    assert filled(odd, Fill.linear) == [1.0, None, 3.0, 4.0, 5.0]


def test_the_greatest_by_mean() -> None:
    asked = check(query(group_by=("device_id",), top=2))
    rows = [Row((name,), [0, 10], ([value, value],)) for name, value in (("a", 1.0), ("b", 3.0), ("c", 3.0), ("d", 2.0))]
    found, cut = shape.shape(asked, [*rows, Row(("e",), [0], ([None],))])
    assert ([line.labels["device_id"] for line in found], cut) == (["b", "c"], False)


def test_an_answer_is_bounded_and_says_so() -> None:
    asked = check(query(until=POINTS * 0.9, bucket="1s", group_by=("device_id",), fill=Fill.null))
    found, cut = shape.shape(asked, [Row((name,), [0], ([1.0],)) for name in "ab"])
    assert ([len(line.points) for line in found], cut) == ([90_000], True)
    with pytest.raises(QueryError, match="more than 100,000 points"):
        check(query(until=POINTS + 10.0, bucket="1s"))


def test_the_same_question_has_one_key() -> None:
    one = check(query(since=11.0, bucket="60s", devices=("b", "a"), tags={"x": "1", "a": "2"}))
    other = check(query(since=0.5, bucket="1m", devices=("a", "b", "a"), tags={"a": "2", "x": "1"}, percentile=50.0))
    assert key_of(one, "duckdb") == key_of(other, "duckdb")
    assert key_of(one, "duckdb") != key_of(one, "postgresql")
    assert parse("7d") != parse("1w")  # they begin on other days
    assert range_of("5m", 1000.0, "1h", None, None) == (0.0, 1200.0)


def test_answers_of_the_past_are_kept_longer() -> None:
    asked = check(query())
    assert [lifetime(asked, now) for now in (49.0, 51.0, 50.0 + cache.SETTLED)] == [cache.SHORT, cache.MIDDLE, cache.LONG]


class Failing:
    """A memory that is away."""

    async def get(self, key: str, namespace: str, default: Any = None) -> Any:
        raise TierUnavailableError("away")

    async def set(self, key: str, value: Any, **_: Any) -> None:
        raise TierUnavailableError("away")


async def test_a_memory_that_fails_costs_no_answer(tmp_path: Path) -> None:
    duck = DuckStore(tmp_path / "a.duckdb", "pc")
    duck.open()
    clock = ManualClock(NOW)
    analytics = Analytics(DuckReader(duck, 30), AnswerCache(Failing()), clock, LiveState(clock))
    assert duck.add_readings(_readings()) == 1  # the others are no numbers
    answer = await analytics.ask(query(since=NOW - 100, until=NOW))
    assert [value for _, value in answer.series[0].points] == [1.0]
    assert analytics._cache.failures == 2
    duck.close()


def _readings() -> list[tuple[Any, ...]]:
    from datetime import UTC, datetime

    from appliance.core.events import new_id

    return [(datetime.fromtimestamp(NOW - 50, UTC), "pc", "m", value, "{}", new_id()) for value in (1.0, math.nan, math.inf)]


def test_beyond_what_readings_are_kept_for(both: Stores) -> None:
    hour = int(NOW) // 3600 * 3600
    old, new = hour - 100 * DAY, hour - 5 * DAY
    both.add([Reading((at + index) * 1_000_000, "pc", "m", float(index), {}) for at in (old, new) for index in range(10)])
    both.duck.query("DELETE FROM device_metrics WHERE epoch(time) < ?", [new])
    both.duck.query("DELETE FROM device_metrics_minute WHERE epoch(bucket) < ?", [new])
    both.runner.run(both.execute(f"DELETE FROM device_metrics WHERE time < to_timestamp({new})"))
    readers = (DuckReader(both.duck, 30), PostgresReader(both.database))
    for each in (Analytics(reader, AnswerCache(None), both.clock, LiveState(both.clock)) for reader in readers):
        asked = query(since=float(old), until=NOW, bucket="1h", aggregation=Aggregation.avg)
        found = both.runner.run(each.ask(asked))
        assert [point for point in found.series[0].points if point[0] == old] == [(old, 4.5)]
        for bad in ({"aggregation": Aggregation.percentile}, {"bucket": "1m", "until": float(old + DAY)}, {"tags": {"a": "b"}}):
            with pytest.raises(QueryError, match="kept for"):
                both.runner.run(each.ask(msgspec.structs.replace(asked, **bad)))
        recent = msgspec.structs.replace(asked, since=NOW - 40 * DAY, aggregation=Aggregation.percentile)
        assert both.runner.run(each.ask(recent)).series[0].points[0][1] == pytest.approx(8.55)  # nothing was there before
        partly = both.runner.run(each.ask(msgspec.structs.replace(asked, until=old + 5.0)))
        assert (partly.query.until, partly.series[0].points) == (old + 3600, ((old, 4.5),))  # told: only the hour is known


def test_readings_that_are_kept_longer_than_their_roll_ups(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    from appliance.core.events import new_id

    duck, clock = DuckStore(tmp_path / "a.duckdb", "pc"), ManualClock(NOW)
    duck.open()
    moments = [datetime.fromtimestamp(NOW - days * DAY, UTC) for days in range(700)]
    duck.add_readings([(at, "pc", "m", 1.0, "{}", new_id()) for at in moments])
    duck.prune(3650, NOW)
    analytics = Analytics(DuckReader(duck, 3650), AnswerCache(None), clock, LiveState(clock))

    def counted(since: int, until: int, bucket: str) -> tuple[float, str]:
        asked = query(since=NOW - since * DAY, until=NOW - until * DAY, bucket=bucket, aggregation=Aggregation.count)
        found = asyncio.run(analytics.ask(asked))
        return sum(value or 0.0 for _, value in found.series[0].points), found.source

    assert counted(600, 500, "1h") == (100.0, "device_metrics")
    assert counted(130, 100, "5m") == (30.0, "device_metrics")
    assert counted(400, 300, "1h") == (100.0, "device_metrics + device_metrics_hourly")
    assert counted(80, 70, "5m") == (10.0, "device_metrics_minute")
    duck.close()


def test_a_bucket_that_is_half_deleted_is_left_out_and_told(both: Stores) -> None:
    from datetime import UTC, datetime

    both.add([Reading((int(NOW) - days * DAY) * 1_000_000, "pc", "m", 1.0, {}) for days in range(400)])
    both.duck.prune(30, NOW)
    both.runner.run(both.execute(f"DELETE FROM device_metrics_daily WHERE bucket < to_timestamp({NOW - 365 * DAY})"))
    edge = datetime.fromtimestamp(NOW - 365 * DAY, UTC)
    whole = datetime(edge.year + edge.month // 12, edge.month % 12 + 1, 1, tzinfo=UTC).timestamp()
    for reader in (DuckReader(both.duck, 30), PostgresReader(both.database)):
        analytics = Analytics(reader, AnswerCache(None), both.clock, LiveState(both.clock))
        asked = query(since=NOW - 390 * DAY, until=NOW - 200 * DAY, bucket="1mo")
        found = both.runner.run(analytics.ask(asked))
        assert (found.kept_since, found.query.since, found.series[0].points[0][0]) == (whole, whole, whole)
        assert found.series[0].points[0][1] in (28.0, 29.0, 30.0, 31.0)
        older = both.runner.run(analytics.ask(msgspec.structs.replace(asked, until=NOW - 380 * DAY)))
        assert (older.kept_since, older.series) == (whole, ())
        assert both.runner.run(analytics.ask(msgspec.structs.replace(asked, since=whole))).kept_since is None


def test_numbers_too_large_are_told_alike(both: Stores) -> None:
    at = int(NOW) * 1_000_000
    both.add([Reading(at - index, "pc", "m", 1.0, {}) for index in range(4)])
    larger = (
        "UPDATE device_metrics SET value = CASE WHEN extract(microsecond FROM time)::integer % 2 = 0 THEN 1 ELSE -1 END * 1e300"
    )
    both.duck.query(larger, [])  # of a version that kept such values
    both.runner.run(both.execute(larger))
    for each in both.both:
        for kind in (Aggregation.stddev, Aggregation.variance):
            with pytest.raises(QueryError, match="too large"):
                both.runner.run(each.ask(query(since=NOW - 60, until=NOW + 60, aggregation=kind, bucket="1m")))


def test_nothing_asked_becomes_part_of_a_statement(both: Stores) -> None:
    both.add([Reading(int(NOW) * 1_000_000, "pc", "m", 1.0, {"a'\"]": "'; DROP TABLE device_metrics; --"})])
    tags = {"a'\"]": "'; DROP TABLE device_metrics; --"}
    for answer in both.ask(query(since=NOW - 60, until=NOW + 60, tags=tags, group_by=("tag:a'\"]",))):
        assert [list(line.labels.values()) for line in answer.series] == [list(tags.values())]


def test_the_store_is_looked_at_as_often_as_health_is_asked() -> None:
    """A database that dies is told by the next probe but one, whether or not somebody asks it something."""
    assert HealthSettings().check_interval_seconds >= query_service.LOOK


def test_a_look_at_the_store_reads_no_table(both: Stores) -> None:
    readers = [each.store for each in both.both]
    for reader in readers:
        both.runner.run(reader.look())  # nothing is there yet

    async def health() -> tuple[Health, str]:
        analytics = Analytics(PostgresReader(both.database), AnswerCache(None), both.clock, LiveState(both.clock))
        service = QueryService(analytics, LiveState(both.clock), looks=True)
        await service._look()
        report = await service.health()
        return report.health, report.reason

    both.runner.run(both.execute("ALTER TABLE device_metrics_daily RENAME TO elsewhere"))
    assert both.runner.run(health())[0] is Health.healthy  # the names, which are asked of all days, are not looked at
    both.runner.run(both.execute("ALTER TABLE device_metrics RENAME TO moved"))
    found = both.runner.run(health())
    assert (found[0], "device_metrics" in found[1]) == (Health.degraded, True)

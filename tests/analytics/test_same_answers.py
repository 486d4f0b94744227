"""DuckDB, PostgreSQL and a plain calculation give the same answers to the same questions."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.core.analytics.buckets import parse
from appliance.core.analytics.model import Aggregation, Answer, Fill, Query
from tests.analytics.rig import Reading, Stores, number, plain, stores

EXAMPLES = int(os.environ.get("PRIME_SPARK_EXAMPLES", "30"))
NUMBERS = itertools.count()
EDGES = [
    int(datetime(*parts, tzinfo=UTC).timestamp()) * 1_000_000  # type: ignore[misc]
    for parts in (
        (2024, 2, 29),
        (2024, 3, 1),
        (2024, 12, 31),
        (2025, 1, 1),
        (2025, 1, 6),
        (2025, 3, 1, 12),
        (2025, 3, 1, 12, 1),
    )
]
NEAR = [0, -1, 1, -1_000_000, 999_999, 59_999_999, 60_000_000, 3_599_999_999, 3_600_000_000, -3_600_000_001, 86_399_999_999]
MOMENT = st.builds(int.__add__, st.sampled_from(EDGES), st.one_of(st.sampled_from(NEAR), st.integers(-(10**9), 10**10)))
VALUES = {
    "small": st.floats(-1000, 1000),
    "whole": st.integers(-5, 5).map(float),
    "huge": st.floats(1e147, 9e149) | st.floats(-9e149, -1e147),
    "large": st.floats(-1e140, 1e140),
    "tiny": st.sampled_from([5e-310, -3e-312, 2.5e-308, 0.0, -0.0]),
    "level": st.floats(0, 1).map(lambda x: 1e6 + x),
}
TAGS = st.fixed_dictionaries({}, optional={"room": st.sampled_from(["a", "B", "ä", ""]), "a/b~c": st.sampled_from(["x", "y"])})
DEVICES = st.sampled_from(["pc", "pi-2", "Pi", "é"])
WIDTHS = ["1s", "5s", "1m", "90s", "5m", "1h", "2h", "1d", "1w", "1mo"]


@st.composite
def data(draw: st.DrawFn) -> list[Reading]:
    values = VALUES[draw(st.sampled_from(sorted(VALUES)))]
    metric = f"m{next(NUMBERS)}"  # of this example alone
    readings = st.builds(Reading, MOMENT, DEVICES, st.just(metric), values, TAGS)
    found = draw(st.lists(readings, min_size=1, max_size=40))
    twins = draw(st.lists(st.sampled_from(found), max_size=6))
    return found + twins


@st.composite
def question(draw: st.DrawFn, readings: Sequence[Reading]) -> Query:
    moments = sorted(draw(st.lists(MOMENT, min_size=2, max_size=2, unique=True)))
    if draw(st.booleans()):
        moments = [min(each.at for each in readings) - 7, max(each.at for each in readings) + 1]
    since, until = (each / 1e6 for each in moments)
    fitting = [width for width in WIDTHS if (until - parse(width).floor(since)) / parse(width).least <= 50_000]
    return Query(
        metric=readings[0].metric,
        since=since,
        until=until,
        aggregation=draw(st.sampled_from(list(Aggregation))),
        bucket=draw(st.sampled_from(fitting)),
        percentile=draw(st.sampled_from([0.0, 50.0, 95.0, 100.0, 33.3])),
        devices=tuple(draw(st.sets(st.sampled_from(sorted({each.device for each in readings})), max_size=2))),
        tags=draw(st.sampled_from([{}, {}, {}, {"room": "a"}, {"a/b~c": "x", "room": "B"}])),
        group_by=draw(st.sampled_from([(), (), ("device_id",), ("tag:room",), ("tag:a/b~c", "device_id")])),
    )


@pytest.fixture
def both(tmp_path: Path, postgres: str) -> Iterator[Stores]:
    with stores(tmp_path, postgres) as found:
        yield found


def agree(readings: Sequence[Reading], query: Query, answer: Answer) -> None:
    """An answer without fill is what the plain calculation says."""
    wanted = plain(readings, query)
    assert [tuple(line.labels.values()) for line in answer.series] == sorted(
        wanted, key=lambda labels: [each.encode() for each in labels]
    )
    for line in answer.series:
        expected = wanted[tuple(line.labels.values())]
        assert [at for at, _ in line.points] == sorted(expected), (query, answer.source)
        for at, value in line.points:
            right, slack = number(expected[int(at)], query)
            assert (value is None) == (right is None), (query, answer)
            assert value is None or right is None or abs(value - right) <= slack, (query, answer, right)


def filled(
    known: dict[int, tuple[float | None, float]], starts: Sequence[int], fill: Fill
) -> dict[int, tuple[float | None, float]]:
    """What stands in each bucket, and how much of it rounding may take: bucket by bucket, by looking both ways."""
    if fill is Fill.none:
        return known
    found = {}
    for start in starts:
        before = [at for at in known if at < start and known[at][0] is not None]
        after = [at for at in known if at > start and known[at][0] is not None]
        if start in known:
            found[start] = known[start]
        elif fill is Fill.previous and before:
            found[start] = known[max(before)]
        elif fill is Fill.linear and before and after:
            (low, slack), (high, more) = known[max(before)], known[min(after)]
            assert low is not None
            assert high is not None
            share = (start - max(before)) / (min(after) - max(before))
            found[start] = low + (high - low) * share, slack + more + 1e-12 * (abs(low) + abs(high))
        else:
            found[start] = None, 0.0
    return found


def agree_filled(readings: Sequence[Reading], query: Query, answer: Answer) -> None:
    """An answer with fill and rank is what the plain calculation says."""
    lines = {
        labels: {start: number(values, query) for start, values in found.items()}
        for labels, found in plain(readings, query).items()
    }
    means = {labels: mean([value for value, _ in found.values() if value is not None]) for labels, found in lines.items()}
    ranked = sorted(lines, key=lambda labels: (-means[labels], [each.encode() for each in labels]))
    plainly = sorted(lines, key=lambda labels: [each.encode() for each in labels])
    assert [tuple(line.labels.values()) for line in answer.series] == (ranked[: query.top] if query.top else plainly)
    starts = list(parse(query.bucket).starts(query.since, query.until))
    for line in answer.series:
        wanted = filled(lines[tuple(line.labels.values())], starts, query.fill)
        assert [at for at, _ in line.points] == sorted(wanted)
        for at, value in line.points:
            right, slack = wanted[int(at)]
            assert (value is None) == (right is None), (query, at)
            assert value is None or right is None or abs(value - right) <= slack, (query, at, value, right)


def mean(values: Sequence[float]) -> float:
    """To twelve digits, as series are ranked."""
    return float(f"{math.fsum(value / len(values) for value in values):.12g}") if values else -math.inf


@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(program=st.data())
def test_random_readings_and_questions(both: Stores, program: st.DataObject) -> None:
    readings = program.draw(data())
    tagged = {name for each in readings for name in each.tags}
    both.add(readings)
    for _ in range(6):
        query = program.draw(question(readings))
        query = (
            msgspec.structs.replace(
                query,  # a tag that no reading has at all is refused: another test's matter
                tags={name: value for name, value in query.tags.items() if name in tagged},
                group_by=tuple(by for by in query.group_by if by == "device_id"),
            )
            if not {"room", "a/b~c"} <= tagged
            else query
        )
        duck, postgres = both.ask(query)
        agree(readings, query, duck)
        agree(readings, query, postgres)
        fill, top = program.draw(st.sampled_from(list(Fill))), program.draw(st.integers(0, 3))
        more = msgspec.structs.replace(query, fill=fill, top=top)
        if top == 0 or query.aggregation in (Aggregation.min, Aggregation.max, Aggregation.count):
            for answer in both.ask(more):
                agree_filled(readings, more, answer)

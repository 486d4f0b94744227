"""Rules, their language, and the functions of windows, without Kafka."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.core.analytics.model import Aggregation
from appliance.core.streams import rules_functions as functions
from appliance.core.streams.rules import Kind, check
from appliance.core.streams.rules_events import BadMessageError, envelope_of, read, window_id
from appliance.core.streams.rules_functions import GREATEST
from appliance.core.streams.rules_language import compile_expression
from appliance.core.streams.rules_try import attempt
from appliance.errors import RuleError
from tests.windows.support import envelope, rule

NUMBERS = st.lists(st.floats(-1e9, 1e9, allow_nan=False), min_size=1, max_size=60)
GREAT = st.lists(st.floats(-GREATEST, GREATEST, exclude_min=True, exclude_max=True), min_size=1, max_size=60)
ANY = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20)


def outcome(function: Aggregation, values: list[float]) -> Any:
    state = functions.start(function)
    for value in values:
        state = functions.add(function, state, value)
    return functions.result(function, state)


REFERENCE: dict[Aggregation, Any] = {
    Aggregation.sum: math.fsum,
    Aggregation.avg: lambda values: math.fsum(values) / len(values),
    Aggregation.min: min,
    Aggregation.max: max,
    Aggregation.count: len,
    Aggregation.stddev: lambda values: statistics.stdev(values) if len(values) > 1 else None,
    Aggregation.variance: lambda values: statistics.variance(values) if len(values) > 1 else None,
}


@pytest.mark.parametrize("function", REFERENCE)
@settings(deadline=None)
@given(values=NUMBERS)
def test_a_function_gives_what_the_reference_gives(function: Aggregation, values: list[float]) -> None:
    wanted = REFERENCE[function](values)
    assert outcome(function, values) == (wanted if wanted is None else pytest.approx(wanted, rel=1e-9, abs=1e-6))


@settings(deadline=None)
@given(values=NUMBERS, percent=st.floats(0, 100))
def test_a_percentile_is_numpys_linear_one(values: list[float], percent: float) -> None:
    wanted = float(np.percentile(np.array(values), percent))
    assert functions.percentile(values, percent) == pytest.approx(wanted, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("function", REFERENCE)
@settings(deadline=None)
@given(one=NUMBERS, two=NUMBERS)
def test_joined_states_are_the_state_of_all_values(function: Aggregation, one: list[float], two: list[float]) -> None:
    states = []
    for values in (one, two):
        state = functions.start(function)
        for value in values:
            state = functions.add(function, state, value)
        states.append(json.loads(json.dumps(state)))
    joined = functions.result(function, functions.join(function, states[0], states[1]))
    wanted = REFERENCE[function](one + two)
    assert joined == (wanted if wanted is None else pytest.approx(wanted, rel=1e-6, abs=1e-3))


def test_a_sum_does_not_lose_small_values_beside_great_ones() -> None:
    assert outcome(Aggregation.sum, [1e16, 1.0, -1e16]) == 1.0


def as_stored(state: functions.State) -> Any:
    """A state as it comes back from a store: JSON, which has no infinity."""
    return msgspec.json.decode(msgspec.json.encode(state))


@pytest.mark.parametrize("function", REFERENCE)
@settings(deadline=None)
@given(values=GREAT)
def test_every_value_that_is_taken_can_be_added_up(function: Aggregation, values: list[float]) -> None:
    states = [functions.start(function), functions.start(function)]
    for number, value in enumerate(values):
        states[number % 2] = as_stored(functions.add(function, states[number % 2], value))
    found = functions.result(function, functions.join(function, *states))
    assert found is not None or (function in functions.SPREADS and len(values) == 1)
    assert found is None or math.isfinite(found)


@pytest.mark.parametrize("function", REFERENCE)
@settings(deadline=None)
@given(one=ANY, two=ANY)
def test_what_grows_beyond_all_numbers_has_no_value_and_stops_nothing(
    function: Aggregation, one: list[float], two: list[float]
) -> None:
    states = []
    for values in (one, [1.7e308, 1.7e308, -1.7e308, *two]):
        state = functions.start(function)
        for value in values:
            state = as_stored(functions.add(function, state, value))
        states.append(state)
    joined = functions.join(function, *states)
    assert joined[0] == len(one) + len(two) + 3
    found = functions.result(function, joined)
    assert (found is None) if function in functions.SUMS | functions.SPREADS else math.isfinite(found or 0.0)


def test_a_percentile_beyond_all_numbers_is_none() -> None:
    assert functions.percentile([-1.7e308, 1.7e308], 50) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("metrics.cpu_usage > 80 and tags.room == 'lab'", True),
        ("metrics.nothing > 1", False),
        ("metrics.nothing == None", True),
        ("metrics.cpu_usage / 3", 30.0),
        ("metrics['cpu_usage'] * 2 + 1", 181.0),
        ("data.metrics.cpu_usage", 90),
        ("type in ('host.metrics', 'other')", True),
        ("starts(device_id, 'edge')", True),
        ("tags.items", None),
        ("metrics.nothing + 1", None),
        ("1 if metrics.cpu_usage > 100 else -1", -1),
    ],
)
def test_the_language(text: str, value: object) -> None:
    event, _ = read(envelope(1.0, metrics={"cpu_usage": 90}, tags={"room": "lab"}), "")
    assert compile_expression(text)(event) == value


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')", "().__class__.__bases__", "[x for x in (1,)]", "lambda: 1", "9 ** 9 ** 9", "1 << 1000000",
        "open('x')", "f'{1}'", "(x := 1)", "'a'.join(tags)", "abs(x=1)", "{1: 2}",
        "metrics[0:1]", "*metrics", "1 +", "b'x'", "1j",
        " + ".join(["1"] * 80),
    ],
)  # fmt: skip
def test_the_language_has_nothing_that_could_harm(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        compile_expression(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("metrics.cpu_usage / metrics.zero", "division by zero"),
        ("metrics.cpu_usage % metrics.zero", "division by zero"),
        ("tags.room * 1000000000", "arithmetic with str"),
        ("tags.room", "is no number"),
        ("metrics.great * 10", "is not finite"),
        ("metrics.great", "is beyond what can be added up"),
        ("-metrics.great", "is beyond what can be added up"),
        ("sqrt(-1)", "math domain"),
        ("metrics > 3", "not supported"),
    ],
)
def test_what_cannot_be_worked_out_is_an_error_of_that_event(text: str, reason: str) -> None:
    event, _ = read(envelope(1.0, metrics={"cpu_usage": 90, "zero": 0, "great": 1e308}, tags={"room": "lab"}), "")
    with pytest.raises(RuleError, match=reason):
        compile_expression(text).number(event)


def nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth - 1):
        found = [found]
    return found


@pytest.mark.parametrize("text", ["a == b", "a in b", "a != b", "a < b"])
def test_what_is_nested_too_deeply_is_an_error_of_that_event(text: str) -> None:
    event = {"device_id": "pi", "data": {"a": nested(100_000), "b": nested(100_001)}}
    with pytest.raises(RuleError, match="nested too deeply"):
        compile_expression(text)(event)


@pytest.mark.parametrize("depth", [61, 62, 63, 300, 995])
def test_a_message_is_nested_64_deep_at_most(depth: int) -> None:
    body = envelope(1.0, a="@", text="[" * 100).replace(b'"@"', b"[" * depth + b"]" * depth)
    if depth <= 62:  # the envelope and its data are two levels
        assert read(body, "")[0]["data"]["a"] == nested(depth)
        return
    with pytest.raises(BadMessageError) as caught:
        read(body, "")
    assert caught.value.reason == "nested too deeply"


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        ({"filtre": "x"}, "has no field 'filtre'", "did you mean filter"),
        ({"window": {"kind": "tumbling", "sise": "1m"}}, "has no field 'window.sise'", "did you mean size"),
        ({"window": {"kind": "hopping", "size": "1m"}}, "takes size and step", ""),
        ({"window": {"kind": "hopping", "size": "1h", "step": "1s"}}, "not below a 100th", ""),
        ({"window": {"kind": "tumbling", "size": "8d"}}, "from 100ms to 7d", ""),
        ({"window": {"kind": "session", "size": "1m"}}, "takes gap", ""),
        ({"lateness": "soon"}, "no length of time", ""),
        ({"lateness": "2d"}, "longer than 1d", ""),
        ({"idle": "soon"}, "no length of time", ""),
        ({"idle": "9d"}, "longer than 8d", ""),
        ({"field": ""}, "needs a field", ""),
        ({"field": "eval('1')"}, "only these can be called", ""),
        ({"topic": "cloud.aggregated"}, "topic: ", ""),
        ({"id": "Bad Name"}, "id: ", ""),
        ({"group_by": ["device_id", "device_id"]}, "twice", ""),
        ({"percentile": 101}, "percentile: ", ""),
    ],
)
def test_a_wrong_rule_is_told(change: dict[str, Any], message: str, hint: str) -> None:
    document = rule("wrong").model_dump(mode="json") | change
    with pytest.raises(RuleError) as caught:
        check(document)
    assert message in caught.value.message
    assert hint in caught.value.next_step


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({"window": {"kind": "tumbling", "size": "1d"}}, 86_410),
        ({"window": {"kind": "hopping", "size": "7d", "step": "1d"}, "lateness": "1d"}, 8 * 86_400),
        ({"window": {"kind": "session", "gap": "10m"}, "lateness": "30s"}, 630),
        ({"window": {"kind": "sliding", "size": "5s"}}, 60),
        ({"window": {"kind": "tumbling", "size": "1d"}, "idle": "1m"}, 60),
        ({"window": {"kind": "tumbling", "size": "7d"}, "idle": "8d"}, 8 * 86_400),
        ({"idle": ""}, None),
    ],
)
def test_a_silent_group_is_not_closed_before_its_windows_are_over(changes: dict[str, Any], seconds: float | None) -> None:
    assert rule("quiet", **changes).idle_s == seconds


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"not json", "not JSON"), (b"\xff\xfe", "not JSON"), (None, "not JSON"), (b"[1]", "not an object"),
        (b"[" * 50_000, "nested too deeply"), (envelope(1.0, v=2), "unknown version"), (envelope(1.0, data=[1]), "no data"),
        (envelope(1.0, timestamp=None), "no timestamp"), (envelope(1.0, timestamp="yesterday"), "no timestamp"),
        (envelope(1.0, timestamp="2026-01-01T00:00:00"), "no timestamp"),
        (envelope(1.0, timestamp="0001-01-01T00:00:00Z"), "no timestamp"), (envelope(1.0, device_id=7), "no device"),
        (envelope(1e10), "from the future"),
    ],
    ids=map(str, itertools.count()),  # an envelope's own id is another in each process, and a test's name must not be
)  # fmt: skip
def test_a_bad_message_is_told_by_its_reason(body: bytes | None, reason: str) -> None:
    with pytest.raises(BadMessageError) as caught:
        read(body, "", now_ms=1_800_000_000_000)
    assert caught.value.reason == reason


def test_the_first_generation_is_read() -> None:
    body = json.dumps({"timestamp": "2026-01-01T00:00:00", "source": "edge", "data": {"metrics": {"cpu_percent": 5}}}).encode()
    event, moment = read(body, "pi")
    assert (event["device_id"], moment, event["data"]["metrics"]["cpu_usage"]) == ("pi", 1_767_225_600_000, 5)


def test_a_trial_gives_windows_and_counts_what_is_late_or_wrong() -> None:
    tried = rule(
        "tried", field="metrics.a / metrics.b", function="avg", window={"kind": "tumbling", "size": "10s"}, lateness="2s"
    )
    events = [(100, 1, 1), (105, 3, 1), (113, 5, 0), (113, 5, 1), (101, 9, 1), (121, 7, 1)]
    bodies = [envelope(float(at), metrics={"a": a, "b": b}) for at, a, b in events]
    trial = attempt(tried, [*bodies, b"garbage"])
    assert [(one.start_ms, one.end_ms, one.value, one.events) for one in trial.windows] == [
        (100_000, 110_000, 2.0, 2),
        (110_000, 120_000, 5.0, 1),
        (120_000, 130_000, 7.0, 1),
    ]
    assert (trial.late, trial.errors) == (1, {"division by zero": 1, "not JSON": 1})


def test_a_windows_id_is_the_same_each_time_and_another_for_another_window() -> None:
    bodies = [envelope(float(at), metrics={"cpu_usage": at}) for at in range(100, 130)]
    first, again = (attempt(rule("same"), bodies).windows for _ in range(2))
    assert [window_id(one) for one in first] == [window_id(one) for one in again]
    assert len({window_id(one) for one in first}) == len(first) > 1
    data = envelope_of(first[0], first[0].end_ms)["data"]
    wanted = {"rule_id", "window_start", "window_end", "group_key", "aggregation", "value", "event_count"}
    assert set(data) == wanted


@pytest.mark.parametrize(
    ("early_ms", "moment"), [(0, "1970-01-01T00:02:00"), (-5000, "1970-01-01T00:02:00"), (7000, "1970-01-01T00:01:53")]
)
def test_no_window_is_stamped_with_a_time_to_come(early_ms: int, moment: str) -> None:
    (closed,) = attempt(
        rule("early", window={"kind": "tumbling", "size": "1m"}), [envelope(61.0, metrics={"cpu_usage": 1})]
    ).windows
    made = envelope_of(closed, closed.end_ms - early_ms)
    assert made["timestamp"] == f"{moment}.000000Z"
    assert made["data"]["window_end"] == "1970-01-01T00:02:00.000000Z"
    assert made["id"] == envelope_of(closed, 0)["id"]


@pytest.mark.parametrize("kind", Kind)
def test_groups_are_kept_apart(kind: Kind) -> None:
    span = {"session": {"gap": "5s"}, "hopping": {"size": "10s", "step": "5s"}}.get(kind.value, {"size": "10s"})
    grouped = rule("grouped", group_by=["device_id", "tag:room"], window={"kind": kind.value, **span})
    bodies = [
        envelope(100.0 + at, device_id=f"edge-{at % 2}", metrics={"cpu_usage": at % 2}, tags={"room": "a,b"}) for at in range(9)
    ]
    found = attempt(grouped, bodies).windows
    assert {(one.group, one.value) for one in found} == {
        ("device_id=edge-0,tag:room=a%2Cb", 0.0),
        ("device_id=edge-1,tag:room=a%2Cb", 1.0),
    }


MOMENTS = st.lists(st.tuples(st.integers(0, 40_000), st.floats(-1e6, 1e6)), min_size=1, max_size=40)


@pytest.mark.parametrize("function", Aggregation)
@settings(deadline=None, max_examples=40)
@given(events=MOMENTS, lateness=st.integers(0, 8000))
def test_sliding_windows_hold_what_their_definition_says(
    function: Aggregation, events: list[tuple[int, float]], lateness: int
) -> None:
    """Against a count of each window on its own."""
    slid = rule("slid", function=function, window={"kind": "sliding", "size": "6s"}, lateness=f"{lateness}ms")
    bodies = [envelope(at / 1000, metrics={"cpu_usage": value}) for at, value in events]
    newest = [max(at for at, _ in events[: number + 1]) for number in range(len(events))]
    arrived = [(at, value, late - lateness) for (at, value), late in zip(events, newest, strict=True)]
    expected = {}
    for end in {at for at, _, closed in arrived if at >= closed}:
        values = [value for at, value, closed in arrived if end - 6000 <= at <= end and end >= closed]
        percentile = float(np.percentile(values, 95)) if function is Aggregation.percentile else None
        value = percentile if percentile is not None else outcome(function, values)
        expected[end] = (max(0, end - 6000), value if value is None else pytest.approx(value, rel=1e-6, abs=1e-3), len(values))
    found = attempt(slid, bodies).windows
    assert {one.end_ms: (one.start_ms, one.value, one.events) for one in found} == expected
    assert len(found) == len(expected)


@pytest.mark.parametrize("function", REFERENCE)
def test_sliding_windows_work_out_what_changes_alone(function: Aggregation, monkeypatch: pytest.MonkeyPatch) -> None:
    """By steps, not by time: all events lie in one window, and each window anew would be half a million of them."""
    steps: list[str] = []

    def counted(name: str, work: Any) -> Any:
        def call(*args: Any) -> Any:
            steps.append(name)
            return work(*args)

        return call

    for name in ("add", "join"):
        monkeypatch.setattr(functions, name, counted(name, getattr(functions, name)))
    slid = rule("slid", function=function, window={"kind": "sliding", "size": "1d"})
    bodies = [envelope(1.79e9 + number, metrics={"cpu_usage": 1.0}) for number in range(1000)]
    found = attempt(slid, bodies).windows
    assert [one.events for one in found] == list(range(1, 1001))
    assert len(steps) <= 20_000


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("a" * 200 + "1", "a" * 200 + "2"), (["b" * 200, 1], ["b" * 200, 2]), (None, ""), ("", '""'), (None, '""'),
        (None, "null"), ('"a"', "a"), ("ä" * 201, "ä" * 202),
    ],
)  # fmt: skip
@pytest.mark.parametrize("group_by", [["sensor_id"], ["sensor_id", "device_id"]])
def test_different_labels_are_different_groups(one: object, two: object, group_by: list[str]) -> None:
    grouped = rule("grouped", function="count", field="", group_by=group_by)
    found = attempt(grouped, [envelope(100.0, sensor_id=label) for label in (one, two, one)]).windows
    assert sorted(each.events for each in found) == [1, 2]
    assert all(len(each.group) <= 1500 for each in found)


def test_usual_labels_are_as_they_came() -> None:
    grouped = rule("grouped", function="count", field="", group_by=["sensor_id"])
    found = attempt(grouped, [envelope(100.0, sensor_id=label) for label in ("a" * 200, "lab 1", 7, None, True)]).windows
    assert {each.group for each in found} == {"a" * 200, "lab 1", "7", "", "true"}

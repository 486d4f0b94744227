"""Events arrive in the tables, once; what cannot be used is set aside."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from tests.servers.fixtures import Topics
from tests.sink.rig import Rig, assert_rollups, envelope, running, telemetry
from tests.support import wait_for


@pytest.fixture
async def rig(kafka: Topics, postgres: str) -> Rig:
    made = Rig(kafka, postgres)
    await made.make_topics()
    return made


async def test_each_topic_has_its_table(rig: Rig) -> None:
    await rig.send(
        "edge.telemetry", [envelope({"metrics": {"cpu_percent": 4, "temperature_c": 51.5}, "tags": {"room": "lab"}})]
    )
    inference = {"model": "yolo", "model_version": "1", "inference_time_ms": 12.5, "result": {"boxes": []}, "accuracy": 0.5}
    await rig.send("edge.ai.inference", [envelope(inference)])
    sensor = {"sensor_type": "air", "sensor_id": "a1", "value": 7, "unit": "ppm", "data": {"raw": 3}}
    await rig.send("edge.sensors", [envelope(sensor)])
    for topic in ("system.health", "analytics.events", "cloud.aggregated"):
        await rig.send(
            topic, [envelope({"of": topic}, type=f"{topic}.x", device=None if topic == "cloud.aggregated" else "pi-1")]
        )
    async with running(rig.sink()) as sink:
        await rig.wait_count(3, "analytics_events")
        await rig.wait_count(1, "ai_inference_results")
        await rig.wait_count(1, "sensor_data")
        await rig.wait_count(2)
        assert (await sink.health()).health.value == "healthy"
    metrics = await rig.rows("SELECT metric_name, value, tags, device_id FROM device_metrics ORDER BY 1")
    assert [tuple(row) for row in metrics] == [
        ("cpu_usage", 4.0, '{"room": "lab"}', "pi-1"),
        ("temperature_c", 51.5, '{"room": "lab"}', "pi-1"),
    ]
    (model,) = await rig.rows("SELECT model_name, inference_time_ms, accuracy, result FROM ai_inference_results")
    assert tuple(model[:3]) == ("yolo", 12.5, 0.5)
    assert msgspec.json.decode(model[3])["model_version"] == "1"
    (air,) = await rig.rows("SELECT sensor_type, sensor_id, value, unit, data FROM sensor_data")
    assert tuple(air) == ("air", "a1", 7.0, "ppm", '{"raw": 3}')
    events = await rig.rows("SELECT event_type, device_id, event_data FROM analytics_events ORDER BY 1")
    assert [tuple(row) for row in events] == [
        ("analytics.events.x", "pi-1", '{"of": "analytics.events"}'),
        ("cloud.aggregated.x", None, '{"of": "cloud.aggregated"}'),
        ("system.health.x", "pi-1", '{"of": "system.health"}'),
    ]
    await assert_rollups(rig)


async def test_the_first_generations_envelope_is_taken_once(rig: Rig) -> None:
    old = {"timestamp": "TIME", "source": "edge", "data": {"device_id": "old-pi", "metrics": {"memory_percent": 60.5}}}
    body = msgspec.json.encode(old).replace(b"TIME", time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()).encode())
    by_key = body.replace(b'"device_id":"old-pi",', b"")
    await rig.send("edge.telemetry", [body, body, by_key], key=b"keyed-pi")
    await rig.send("edge.telemetry", [telemetry(1)])
    async with running(rig.sink()):
        await rig.wait_count(3)
    found = await rig.rows("SELECT device_id, metric_name FROM device_metrics WHERE metric_name <> 'seq' ORDER BY 1")
    assert [tuple(row) for row in found] == [("keyed-pi", "memory_usage"), ("old-pi", "memory_usage")]


DEEP = b'{"a":' * 10_500 + b"1" + b"}" * 10_500
POISON: dict[str, tuple[Any, str]] = {
    "not JSON": (b"\x00\xffhello", "not JSON"),
    "empty": (b"", "empty message"),
    "NaN": (msgspec.json.encode(telemetry(7)).replace(b"7.0", b"NaN").replace(b":7}", b":NaN}"), "not JSON"),
    "Infinity": (msgspec.json.encode(telemetry(7)).replace(b":7}", b":1e999}"), "out of range"),
    "a number that cannot be added up": (telemetry(1e200), "beyond what can be added up"),
    "a list": ([1, 2], "wrong type"),
    "version": (telemetry(1, v=2), "version 2"),
    "text for a number": (envelope({"metrics": {"a": "high"}}), "wrong type"),
    "truth for a number": (envelope({"metrics": {"a": True}}), "wrong type"),
    "no metrics": (envelope({"values": {}}), "wrong type or field"),
    "future": (telemetry(1, moment=time.time() + 7200), "from the future"),
    "past": (telemetry(1, moment=time.time() - 32 * 86400), "older than"),
    "beginning of time": (telemetry(1, timestamp="0001-01-01T00:00:00Z"), "older than"),
    "end of time": (telemetry(1, timestamp="9999-12-31T23:59:59Z"), "from the future"),
    "no zone": (telemetry(1, timestamp="2026-01-01T00:00:00"), "no time zone"),
    "device missing": (telemetry(1, device_id=""), "device_id is missing"),
    "device too long": (telemetry(1, device="d" * 300), "longer than 255"),
    "metric too long": (envelope({"metrics": {"m" * 300: 1}}), "longer than 255"),
    "metric not printable": (envelope({"metrics": {"a\tb": 1}}), "nobody could ask for"),
    "device not printable": (telemetry(1, device="a\u2028b"), "nobody could ask for"),
    "NUL": (envelope({"metrics": {"a\0b": 1}}), "NUL"),
    "NUL in tags": (envelope({"metrics": {"a": 1}, "tags": {"x": "\0"}}), "NUL"),
    "many tags": (envelope({"metrics": {"a": 1}, "tags": {"x": "y" * 9000}}), "tags of 9008 bytes"),
    "many metrics with tags": (
        envelope({"metrics": {f"m{each}": 1 for each in range(3000)}, "tags": {"x": "y" * 5000}}),
        "are too much",
    ),
    "lone surrogate": (msgspec.json.encode(telemetry(1)).replace(b"lab", b"\\ud800"), "not JSON"),
    "not UTF-8": (msgspec.json.encode(telemetry(1)).replace(b"lab", b"\xff\xfe"), "not JSON"),
    "id": (telemetry(1, id="17"), "Invalid UUID"),
    "no id": (telemetry(1, id=None), "id is missing"),
    "too deep": (msgspec.json.encode(envelope({"metrics": {"a": 1}, "tags": "T"})).replace(b'"T"', DEEP), "nested too deeply"),
}


async def test_poison_of_each_kind_is_set_aside_and_stops_nothing(rig: Rig) -> None:
    for number, (body, _) in enumerate(POISON.values()):
        good = telemetry(float(number))
        await rig.send("edge.telemetry", [body if isinstance(body, bytes) else msgspec.json.encode(body), good])
    async with running(rig.sink()) as sink:
        await rig.wait_count(len(POISON), "dead_letters")
        await rig.wait_count(len(POISON))
        assert sink.figures.letters == len(POISON)
        assert (await sink.health()).health.value == "healthy"
    letters = {row["body"]: row for row in await rig.rows("SELECT reason, body, topic, size FROM dead_letters")}
    for body, reason in POISON.values():
        whole = body if isinstance(body, bytes) else msgspec.json.encode(body)
        letter = letters.pop(whole)
        assert reason in letter["reason"], (reason, letter["reason"])
        assert letter["size"] == len(whole)
        assert letter["topic"].endswith("edge.telemetry")
    assert not letters
    await assert_rollups(rig)


async def test_what_only_the_server_refuses_costs_its_own_event_alone(rig: Rig) -> None:
    await rig.send("edge.telemetry", [telemetry(0.0)])
    async with running(rig.sink()):
        await rig.wait_count(1)
        await rig.rows("ALTER TABLE device_metrics ADD CONSTRAINT no_seven CHECK (value <> 7)")
        await rig.send("edge.telemetry", [telemetry(float(number)) for number in range(1, 100)])
        await rig.wait_count(99)
        await rig.wait_count(1, "dead_letters")
    assert await rig.value("SELECT reason FROM dead_letters") is not None
    assert "no_seven" in await rig.value("SELECT reason FROM dead_letters")
    await assert_rollups(rig)


async def test_the_same_event_again_stores_nothing_new(rig: Rig) -> None:
    events = [telemetry(float(number)) for number in range(50)]
    await rig.send("edge.telemetry", events)
    async with running(rig.sink()) as sink:
        await rig.wait_count(50)
        more = [telemetry(float(number)) for number in range(50, 60)]
        await rig.send("edge.telemetry", [*events, *more, *more])
        await wait_for(lambda: sink.figures.known == 60, 20.0)
        await rig.wait_count(60)
    await assert_rollups(rig)


async def test_late_events_make_their_partitions_and_roll_up(rig: Rig) -> None:
    now = time.time()
    await rig.send("edge.telemetry", [telemetry(float(day), moment=now - day * 86400) for day in range(29)])
    await rig.send("edge.sensors", [
        envelope({"sensor_type": "t", "sensor_id": "1", "value": hour}, moment=now - hour * 3600) for hour in range(60)
    ])  # fmt: skip
    async with running(rig.sink()):
        await rig.wait_count(29)
        await rig.wait_count(60, "sensor_data")
        await rig.send("edge.telemetry", [telemetry(100.0, moment=now - 5 * 86400), telemetry(-3.0, moment=now - 5 * 86400)])
        await rig.wait_count(31)
    assert await rig.value("SELECT count(*) FROM pg_inherits WHERE inhparent = 'sensor_data'::regclass") >= 60
    await assert_rollups(rig)

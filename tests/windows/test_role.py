"""The role windows as a process, on Kafka itself."""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import signal
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appliance.agent.report import reports
from appliance.core.streams.rules import Rule
from appliance.core.streams.rules_events import envelope_of
from appliance.core.streams.rules_try import attempt
from tests.servers.kafka import KafkaServer
from tests.support import free_port, wait_for
from tests.windows.support import Topics, WindowsRole, envelope, rule

pytestmark = pytest.mark.timeout(240)

LONG = pytest.mark.skipif(not os.environ.get("PRIME_SPARK_LONG_TESTS"), reason="over a minute: set PRIME_SPARK_LONG_TESTS=1")

KINDS: dict[str, dict[str, str]] = {
    "tumbling": {"kind": "tumbling", "size": "10s"},
    "hopping": {"kind": "hopping", "size": "10s", "step": "4s"},
    "sliding": {"kind": "sliding", "size": "6s"},
    "session": {"kind": "session", "gap": "3s"},
}
SOURCES = ("edge.telemetry", "edge.sensors", "cloud.aggregated")
BASE = 1_790_000_000.0


@dataclass
class Bench:
    """What a test works with."""

    name: str
    topics: Topics
    kafka: KafkaServer
    role: Callable[..., WindowsRole]

    def rule(self, name: str, **changes: Any) -> Rule:
        """A rule about this test's devices alone, with a name of its own."""
        own = f"starts(device_id, '{self.name}')"
        changes["filter"] = f"{own} and ({changes['filter']})" if "filter" in changes else own
        return rule(f"{self.name}-{name}", **{"idle": "2s", "lateness": "2s", **changes})

    def event(self, at: float, device: int = 0, **changes: Any) -> bytes:
        """An event, seconds after BASE."""
        return envelope(BASE + at, device_id=f"{self.name}-{device}", **changes)


@pytest.fixture
async def bench(kafka_server: KafkaServer, tmp_path: Path) -> AsyncIterator[Bench]:
    name = f"w{uuid.uuid4().hex[:8]}"
    async with kafka_server.admin() as admin:
        there = await admin.list_topics()
    for topic in SOURCES:
        if topic not in there:
            await kafka_server.create_topic(topic, 3, message_timestamp_type="LogAppendTime")
    await kafka_server.create_topic(f"{name}.rules", cleanup_policy="compact")

    def role(home: str = "one", more: str = "") -> WindowsRole:
        return WindowsRole(tmp_path / home, kafka_server.bootstrap(), name, more)

    async with Topics(kafka_server.bootstrap(), name) as topics:
        yield Bench(name, topics, kafka_server, role)
    await kafka_server.remove_topics(name)
    await kafka_server.remove_topics(f"changelog__{name}")


def shape(envelopes: Sequence[dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """Windows by id; one that came twice must be the same."""
    found: dict[str, tuple[Any, ...]] = {}
    for each in envelopes:
        data = each["data"]
        value = data["value"] if data["value"] is None else pytest.approx(data["value"], rel=1e-9, abs=1e-9)
        row = (data["rule_id"], data["window_start"], data["window_end"], data["group_key"], data["aggregation"], value)
        assert found.setdefault(each["id"], (*row, data["event_count"])) == (*row, data["event_count"])
    return found


def wanted(rules: Sequence[Rule], bodies: Sequence[bytes]) -> dict[str, tuple[Any, ...]]:
    """What the rules give by the reference of rules.try."""
    return shape([envelope_of(closed, closed.end_ms) for one in rules for closed in attempt(one, bodies).windows])


def readings(bench: Bench, count: int, devices: int = 3) -> list[bytes]:
    """Events of some devices, with pauses and a little disorder, the same each time."""
    dice, bodies, now = random.Random(7), [], 0.0
    for number in range(count):
        now += dice.choice((0.1, 0.4, 0.7, 4.5 if number % 11 == 0 else 0.3))
        at = round(now - dice.choice((0.0, 0.0, 0.5, 1.5)), 3)
        device = number % devices
        bodies.append(bench.event(max(0.0, at), device, metrics={"cpu_usage": round(dice.uniform(0, 100), 3)}))
    return bodies


def scraped(port: int) -> str:
    """What /metrics says."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


async def test_each_kind_of_window_and_function_gives_what_the_reference_gives(bench: Bench) -> None:
    pairs = {"tumbling": ("sum", "stddev"), "hopping": ("avg", "percentile"), "sliding": ("max", "variance")}
    functions = pairs | {"session": ("count", "percentile")}
    rules = [
        bench.rule(f"{kind}-{function}", window=KINDS[kind], function=function)
        for kind, both in functions.items()
        for function in both
    ]
    rules.append(bench.rule("all-min", group_by=[], function="min", lateness="1h"))  # partitions come in any order
    bodies = readings(bench, 200)
    await bench.topics.put(*rules)
    await bench.topics.send([*bodies[:100], b"no json", *bodies[100:]])
    by_device = rules[:-1]
    expected = wanted(by_device, bodies)
    with bench.role():
        found = await bench.topics.expect([one.id for one in by_device], len(expected))
        assert shape(found) == expected
        least = wanted([rules[-1]], bodies)
        together = await bench.topics.expect([rules[-1].id], len(least))
        assert {one["device_id"] for one in together} == {"cloud"}
        assert shape(together) == least
        assert {one["device_id"] for one in found} == {f"{bench.name}-{number}" for number in range(3)}


async def test_late_wrong_and_failing_events_are_counted_and_stop_nothing(bench: Bench) -> None:
    port = free_port()
    good = bench.rule("good")
    failing = bench.rule("failing", field="metrics.cpu_usage / metrics.zero")
    bodies = [bench.event(at, metrics={"cpu_usage": 1.0 + at, "zero": 0}) for at in (1.0, 2.0, 25.0)]
    bad = [b"{", b"[]", bench.event(3.0, v=9), bench.event(3.0, timestamp=None), bench.event(3.0, metrics={"cpu_usage": "hot"})]
    bad += [bench.event(3.0, metrics={"cpu_usage": 1.7e308})] * 3
    await bench.topics.put(good, failing)
    await bench.topics.send(
        [*bodies, *bad, bench.event(3.0, metrics={"cpu_usage": 99}), bench.event(26.0, metrics={"cpu_usage": 4})]
    )

    with bench.role(more=f"metrics_port = {port}") as role:
        found = await bench.topics.expect([good.id], 2)
        assert [(one["data"]["value"], one["data"]["event_count"]) for one in found] == [(2.5, 2), (15.0, 2)]
        assert await bench.topics.read([failing.id]) == []
        lines = await asyncio.to_thread(scraped, port)
        assert f'cloud_aggregation_events_total{{rule="{good.id}"}} 4' in lines
        assert f'cloud_aggregation_windows_completed{{rule="{good.id}"}} 2' in lines
        assert f'cloud_aggregation_late_total{{rule="{good.id}"}} 1' in lines
        assert f'cloud_aggregation_rule_errors_total{{rule="{failing.id}",reason="division by zero"}} 3' in lines
        assert role.end() == 0


async def test_killed_at_any_time_it_gives_each_window_once_and_whole(bench: Bench) -> None:
    rules = [bench.rule("tumbling"), bench.rule("session", window=KINDS["session"], function="percentile")]
    bodies = readings(bench, 300)
    expected = wanted(rules, bodies)
    names = [one.id for one in rules]
    await bench.topics.put(*rules)
    with bench.role() as role:
        await bench.topics.send(bodies[:150])
        await bench.topics.expect(names, 1)
        role.end(signal.SIGKILL)
        await bench.topics.send(bodies[150:220])
        role.start()
        await bench.topics.expect(names, len(wanted(rules[:1], bodies[:150])))
        role.end(signal.SIGKILL)
        shutil.rmtree(role.home / "data" / "windows")
        role.start()
        await bench.topics.send(bodies[220:])
        found = await bench.topics.expect(names, len(expected))
    missing = {name: row for name, row in expected.items() if name not in shape(found)}
    assert missing == {}
    assert shape(found) == expected
    assert len(found) == len(expected)


async def test_a_changed_rule_leaves_the_open_windows_of_the_others(bench: Bench) -> None:
    steady, changed = bench.rule("steady", idle="6s"), bench.rule("changed", idle="")
    first = [bench.event(at, metrics={"cpu_usage": at}) for at in (1.0, 12.0, 13.0)]
    await bench.topics.put(steady, changed)
    with bench.role() as role:
        await bench.topics.send(first)
        await bench.topics.expect([changed.id, steady.id], 2)
        await bench.topics.put(bench.rule("changed", function="max", idle="2s"), bench.rule("new", function="count"))
        await bench.topics.remove(steady.id + "-unknown")
        await wait_for(lambda: role.said().count(": 3 rules") or f"{bench.name}-new" in role.said(), 30, "the new rules")
        await bench.topics.send([bench.event(at, metrics={"cpu_usage": at}) for at in (14.0, 35.0)])
        found = await bench.topics.expect([steady.id], 3)
        assert [(one["data"]["value"], one["data"]["event_count"]) for one in found] == [(1.0, 1), (13.0, 3), (35.0, 1)]
        (latest,) = [
            one for one in await bench.topics.expect([changed.id], 3) if one["data"]["window_start"].endswith(":30.000000Z")
        ]
        assert (latest["data"]["aggregation"], latest["data"]["value"], latest["data"]["event_count"]) == ("max", 14.0, 1)
        await bench.topics.remove(changed.id)

        async def stores() -> set[str]:
            async with bench.kafka.admin() as admin:
                changelogs = [each for each in await admin.list_topics() if each.startswith(f"changelog__{bench.name}--")]
            directories = (role.home / "data" / "windows" / bench.name).iterdir()
            return {each.split("--")[-1] for each in changelogs} | {each.name for each in directories}

        async def only_these() -> bool:
            return {name[: name.rindex("_tumbling") - 11] for name in await stores()} == {f"{bench.name}-new", steady.id}

        await wait_for(only_these, 40, "the state of the removed rule is gone")


async def test_more_groups_or_values_than_a_rule_may_have_are_refused_and_counted(bench: Bench) -> None:
    port = free_port()
    few = bench.rule("few", function="count")
    middle = bench.rule("middle", function="percentile", percentile=50, group_by=[])
    await bench.topics.put(few, middle)
    with bench.role(more=f"groups = 1\nvalues = 3\nmetrics_port = {port}") as role:
        await bench.topics.send([bench.event(at, device, metrics={"cpu_usage": at}) for device, at in enumerate(range(1, 9))])
        (median,) = await bench.topics.expect([middle.id], 1)
        assert median["data"]["event_count"] == 3

        async def all_told() -> bool:
            windows = await bench.topics.read([few.id])
            pattern = rf"refused_total\{{rule=\"{few.id}\",reason=\"too many groups\"\}} (\d+)"
            named = re.search(pattern, await asyncio.to_thread(scraped, port))
            return named is not None and len(windows) + int(named[1]) == 8

        await wait_for(all_told, 30, "a window or a refusal for each group")
        kept = {one["device_id"] for one in await bench.topics.read([few.id])}
        assert 1 <= len(kept) <= 3
        assert f'refused_total{{rule="{middle.id}",reason="too many values"}} 5' in await asyncio.to_thread(scraped, port)
        assert role.end() == 0
        role.start()
        await bench.topics.send([bench.event(30.0, device, metrics={"cpu_usage": 1}) for device in range(8)])
        found = await bench.topics.expect([few.id], 2 * len(kept))
        assert {one["device_id"] for one in found} == kept


async def test_damaged_state_is_built_again_from_kafka(bench: Bench) -> None:
    lasting = bench.rule("lasting", idle="", function="sum")
    await bench.topics.put(lasting)
    with bench.role() as role:
        await bench.topics.send([bench.event(at, metrics={"cpu_usage": at}) for at in (1.0, 21.0, 22.0)])
        await bench.topics.expect([lasting.id], 1)
        assert role.end() == 0
        damaged = [
            each for each in (role.home / "data" / "windows").rglob("*") if each.name == "CURRENT" or each.suffix == ".log"
        ]
        assert damaged
        for each in damaged:
            each.write_bytes(b"\xff" * 64)
        role.start()
        await bench.topics.send([bench.event(40.0, metrics={"cpu_usage": 1.0})])
        found = await bench.topics.expect([lasting.id], 2)
        assert [(one["data"]["value"], one["data"]["event_count"]) for one in found] == [(1.0, 1), (43.0, 2)]


@LONG
async def test_two_instances_share_the_work(bench: Bench) -> None:
    shared = bench.rule("shared")
    bodies = readings(bench, 240, devices=12)
    expected = wanted([shared], bodies)
    await bench.topics.put(shared)
    with bench.role("one") as one, bench.role("two") as two:
        await wait_for(lambda: all("is now processing" in each.said() for each in (one, two)), 60, "both work")
        await bench.topics.send(bodies[:120])
        await bench.topics.expect([shared.id], 5)
        one.end(signal.SIGKILL)
        await bench.topics.send(bodies[120:])
        found = await bench.topics.expect([shared.id], len(expected), timeout=90)
    assert shape(found) == expected


async def test_it_goes_on_when_the_broker_comes_back(bench: Bench) -> None:
    lasting = bench.rule("lasting", idle="")
    await bench.topics.put(lasting)
    with bench.role() as role:
        await bench.topics.send([bench.event(at, metrics={"cpu_usage": at}) for at in (1.0, 11.0, 25.0)])
        await bench.topics.expect([lasting.id], 2)
        await asyncio.to_thread(bench.kafka.kill)
        await wait_for(lambda: reason(role).startswith("degraded: Kafka: "), 30)
        assert "KafkaError{" not in reason(role)
        bench.kafka.launch()  # in this thread, with which it ends
        await asyncio.to_thread(bench.kafka.wait)
        await bench.topics.send([bench.event(at, metrics={"cpu_usage": at}) for at in (26.0, 45.0)])
        found = await bench.topics.expect([lasting.id], 3, timeout=90)
        assert [one["data"]["event_count"] for one in found] == [1, 1, 2]
        assert role.end() == 0
        assert "Deprecation" not in role.said()


def reason(role: WindowsRole) -> str:
    """How the role says it is."""
    found = [each["service"] for each in reports(role.home / "run", "windows")]
    return f"{found[0]['health']}: {found[0]['reason']}" if found else ""

"""Alerts on a real store: kept over restarts, silenced, acknowledged, and told when the disk does not take them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.core.actions import Invocation
from appliance.core.alerts.engine import ACTIVE, GRACE, Engine
from appliance.core.alerts.rules import DEFAULTS, Reading, Rule
from appliance.core.alerts.service import SHOWN, AlertService
from appliance.core.bus import Bus
from appliance.core.catalog.work import Page, alert_actions
from appliance.core.events import Noted
from appliance.core.model import (
    Actor,
    AlertState,
    AlertStatus,
    Health,
    HostSample,
    Phase,
    Role,
    RuleStatus,
    ServiceStatus,
    Severity,
)
from appliance.core.outbox import Outbox
from appliance.core.state import LiveState, Section
from appliance.core.store import Store
from appliance.errors import ConflictError, DiskFullError, NotFoundError
from tests.support import ManualClock

CPU = replace(next(rule for rule in DEFAULTS if rule.name == "cpu"), for_seconds=60, cooldown_seconds=120)
DAY = 86400.0


class Bench:
    """The service with a clock that the test moves, on a host whose load the test sets."""

    def __init__(self, path: Path, *rules: Rule) -> None:
        self.clock = ManualClock()
        self.store = Store(path)
        self.store.open()
        self.bus = Bus(Outbox(self.store, "pc"))
        self.queue = self.bus.subscribe("test", (Noted,))
        self.state = LiveState(self.clock)
        self.engine = Engine(rules)
        self.alerts = AlertService(self.engine, self.store, self.bus, self.state, self.clock)

    async def load(self, cpu: float | None, seconds: float = 0.0) -> None:
        """Let time go by, with a reading at its end, and evaluate."""
        self.clock.move(seconds)
        if cpu is not None:
            self.state.put(Section.host, sample(cpu))
        await self.alerts.evaluate()

    def shown(self) -> list[tuple[str, str]]:
        return [(alert.alert_id, alert.state.value) for alert in self.state.get(Section.alerts).value]

    async def told(self) -> list[str]:
        """The states that went over the bus."""
        await self.bus.publish(Noted(time=0, event="end", severity="info"))
        events: list[Any] = await self.queue.batch()
        return [event.attributes["state"] for event in events[:-1]]

    async def again(self, *rules: Rule) -> Bench:
        """The same after a restart of the appliance."""
        await asyncio.to_thread(self.store.close)
        after = Bench(self.store.path, *rules)
        after.clock.wall_now, after.clock.monotonic_now = self.clock.wall_now, 5.0
        await after.alerts.start()
        return after


def sample(cpu: float) -> HostSample:
    fields = dict.fromkeys(HostSample.__struct_fields__)
    return HostSample(**{**fields, "cpu_usage": cpu})  # type: ignore[arg-type]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path / "state.sqlite", CPU)
    await bench.alerts.start()
    yield bench
    await asyncio.to_thread(bench.store.close)


async def test_the_whole_life_is_told_and_kept(bench: Bench) -> None:
    await bench.load(95)
    assert bench.shown() == [("cpu:host", "pending")]
    await bench.load(95, 59)
    await bench.load(95, 1)
    assert bench.shown() == [("cpu:host", "firing")]
    await bench.alerts.acknowledge("cpu:host", "ada")
    await bench.load(96, 5)
    assert bench.shown() == [("cpu:host", "acknowledged")]
    await bench.load(10, 5)
    assert bench.shown() == [("cpu:host", "resolved")]
    for _ in range(2):  # too hot again, but within the cooldown: shown, and not told
        await bench.load(99, 59)
        assert bench.shown() == [("cpu:host", "pending")]
        rule = bench.state.get(Section.rules).value[0]
        assert rule.state is AlertState.pending
        assert "99 %" in rule.reason
        assert "cooldown" in rule.reason
    await bench.load(99, 3)
    assert bench.shown() == [("cpu:host", "firing")]
    assert await bench.told() == ["firing", "resolved", "firing"]
    assert [alert.state.value for alert in await bench.alerts.history(10)] == ["firing", "resolved", "acknowledged", "firing"]


async def test_the_history_is_read_page_by_page(bench: Bench) -> None:
    for _ in range(3):
        await bench.load(95)
        await bench.load(95, 60)
        await bench.load(10, 5)
        bench.clock.move(120)
    page = next(a for a in alert_actions(bench.alerts, bench.state) if a.name == "alert.history")
    call = Invocation(Actor("ada", Role.viewer, "ssh"), "alert.history", "1")
    whole = await page.handler(call, Page(limit=100))
    pages: list[AlertStatus] = []
    while found := await page.handler(call, Page(limit=4, before=pages[-1].seq if pages else None)):
        pages += found
    assert pages == whole
    assert [alert.seq for alert in whole] == [6, 5, 4, 3, 2, 1]


async def test_a_host_that_is_not_read_is_no_data_and_ends_no_alert(bench: Bench) -> None:
    await bench.load(95)
    await bench.load(95, 60)
    await bench.load(None, 61)  # no reading for longer than readings count
    assert bench.state.get(Section.rules).value[0].state is AlertState.no_data
    assert bench.shown() == [("cpu:host", "firing")]


async def test_a_wall_clock_that_jumps_fires_and_ends_nothing(bench: Bench) -> None:
    await bench.load(95)
    bench.clock.wall_now += DAY
    await bench.load(95, 10)
    assert bench.shown() == [("cpu:host", "pending")]
    bench.clock.wall_now -= 3 * DAY
    await bench.load(95, 50)
    assert bench.shown() == [("cpu:host", "firing")]


async def test_a_silence_is_kept_over_a_restart_and_ends_by_itself(bench: Bench) -> None:
    await bench.load(95)
    await bench.load(95, 60)
    await bench.alerts.silence("cpu", 600, "ada")
    alert = bench.state.get(Section.alerts).value[0]
    assert (alert.state, alert.silenced_until) == (AlertState.silenced, bench.clock.wall() + 600)
    after = await bench.again(CPU)
    try:
        await after.load(95, 300)
        assert after.shown() == [("cpu:host", "silenced")]
        await after.load(95, 301)
        alert = after.state.get(Section.alerts).value[0]
        assert (alert.state, alert.silenced_until) == (AlertState.firing, 0)
        await after.alerts.silence("cpu", 600, "ada")
        await after.alerts.unsilence("cpu", "bob")
        assert after.shown() == [("cpu:host", "firing")]
        with pytest.raises(ConflictError):
            await after.alerts.unsilence("cpu", "bob")
        with pytest.raises(NotFoundError, match="cpuu"):
            await after.alerts.silence("cpuu", 1, "ada")
    finally:
        await asyncio.to_thread(after.store.close)


async def test_a_silence_is_shown_with_its_end_and_whose_it_is(bench: Bench) -> None:
    def rule() -> RuleStatus:
        found: RuleStatus = bench.state.get(Section.rules).value[0]
        return found

    await bench.load(10)
    await bench.alerts.silence("cpu", 600, "ada")
    ends = bench.clock.wall() + 600
    assert (rule().state, rule().silenced_until, rule().silenced_by) == (AlertState.ok, ends, "ada")
    await bench.load(95)
    await bench.load(95, 60)
    alert = bench.state.get(Section.alerts).value[0]
    assert (alert.state, alert.silenced_until, alert.silenced_by) == (AlertState.silenced, ends, "ada")
    assert rule().state is AlertState.silenced
    await bench.alerts.acknowledge("cpu:host", "bob")  # seen, and silent all the same
    await bench.load(95, 2)
    alert = bench.state.get(Section.alerts).value[0]
    assert (alert.state, alert.acknowledged_by, alert.silenced_by) == (AlertState.silenced, "bob", "ada")
    await bench.load(95, 600)
    alert = bench.state.get(Section.alerts).value[0]
    assert (alert.state, alert.silenced_until, alert.silenced_by) == (AlertState.acknowledged, 0, "")
    assert (rule().silenced_until, rule().silenced_by) == (0, "")
    with pytest.raises(ConflictError):
        await bench.alerts.unsilence("cpu", "bob")


async def test_the_history_tells_the_moment_of_each_change_and_who_made_it(bench: Bench) -> None:
    began = bench.clock.wall()
    await bench.load(95)
    await bench.load(95, 60)
    bench.clock.move(5)
    await bench.alerts.acknowledge("cpu:host", "ada")
    bench.clock.move(5)
    await bench.alerts.silence("cpu", 600, "bob")
    bench.clock.move(5)
    await bench.alerts.silence("cpu", 900, "cyd")
    bench.clock.move(5)
    await bench.alerts.unsilence("cpu", "dan")
    await bench.load(10, 5)
    told = [(alert.state.value, alert.changed - began, alert.changed_by) for alert in await bench.alerts.history(10)]
    assert told[::-1] == [
        ("firing", 60, ""), ("acknowledged", 65, "ada"), ("silenced", 70, "bob"), ("silenced", 75, "cyd"),
        ("acknowledged", 80, "dan"), ("resolved", 85, ""),
    ]  # fmt: skip


async def test_an_entry_of_before_these_were_kept_has_the_time_of_its_row(bench: Bench) -> None:
    old = {"alert_id": "a", "rule": "a", "subject": "a", "severity": "info", "state": "firing", "message": "m", "since": 5.0}
    await bench.store.write(lambda c: c.execute("INSERT INTO alert_history (time, body) VALUES (77, ?)", (json.dumps(old),)))
    assert [(alert.since, alert.changed, alert.changed_by) for alert in await bench.alerts.history(1)] == [(5, 77, "")]


async def test_every_text_is_true_in_its_state(bench: Bench) -> None:
    def texts() -> tuple[str, str]:
        rule = bench.state.get(Section.rules).value[0]
        return bench.state.get(Section.alerts).value[0].message, f"{rule.summary}: {rule.reason}"

    await bench.load(1)
    assert bench.state.get(Section.rules).value[0].reason == "1 %, within the limit of 85 %"
    await bench.load(85.2)
    assert texts() == ("CPU usage: 85.2 %, above the limit of 85 %",) * 2
    await bench.load(95, 60)
    assert texts() == ("CPU usage: 95 %, above the limit of 85 %",) * 2
    await bench.load(10, 1)
    assert texts() == ("CPU usage: 10 %, back within the limit of 85 %", "CPU usage: 10 %, within the limit of 85 %")


def test_a_service_that_is_up_again_is_not_told_as_down() -> None:
    rule = replace(next(rule for rule in DEFAULTS if rule.name == "service-down"), for_seconds=0)
    engine, state = Engine([rule]), LiveState(ManualClock())

    def see(health: Health, reason: str, other: str = "ssh") -> tuple[str, str]:
        up = ServiceStatus("store", "", Phase.running, Health.healthy, "open")
        state.put(Section.services, (up, ServiceStatus(other, "", Phase.running, health, reason)))
        engine.evaluate(rule, rule.measure(state), 1.0, 1.0)
        alert = engine.alerts.get("service-down:ssh")
        return alert.message if alert else "", engine.rule_statuses(1.0)[0].reason

    assert see(Health.healthy, "8 consoles") == ("", "none is down")
    assert see(Health.unhealthy, "port taken") == ("ssh is down: port taken",) * 2
    assert see(Health.healthy, "8 consoles") == ("ssh is healthy: 8 consoles", "none is down")
    see(Health.unhealthy, "port taken")
    engine._quiet.clear()
    see(Health.unhealthy, "port taken")
    assert see(Health.healthy, "fine", "other") == ("ssh is not there any more", "none is down")


def test_a_rule_that_watches_for_too_little_says_below() -> None:
    battery = next(rule for rule in DEFAULTS if rule.name == "battery")
    assert battery.verdict(Reading("ups", 12, "12 %")) == "12 %, below the limit of 20 %"
    assert battery.verdict(Reading("ups", 60, "60 %"), resolved=True) == "60 %, back within the limit of 20 %"


async def test_an_alert_outlives_a_restart_but_not_its_rule(bench: Bench) -> None:
    await bench.load(95)
    await bench.load(95, 60)
    await bench.alerts.acknowledge("cpu:host", "ada")
    after = await bench.again(CPU)
    assert after.shown() == [("cpu:host", "acknowledged")]
    await after.load(95)
    assert after.shown() == [("cpu:host", "acknowledged")]
    last = await after.again(replace(CPU, enabled=False))
    try:
        assert last.shown() == [("cpu:host", "resolved")]
        assert "disabled" in last.state.get(Section.alerts).value[0].message
        await last.load(95, SHOWN + 1)
        assert last.shown() == []
        assert [alert.state.value for alert in await last.alerts.history(1)] == ["resolved"]
        with pytest.raises(NotFoundError):
            await last.alerts.acknowledge("cpu:host", "ada")
    finally:
        await asyncio.to_thread(last.store.close)


async def test_a_full_disk_is_told_and_the_alert_is_shown_all_the_same(bench: Bench) -> None:
    pages = await bench.store.write(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
    await bench.store.write(lambda c: c.execute(f"PRAGMA max_page_count = {pages}").fetchone())
    await _fill(bench.store)
    await bench.load(95)
    await bench.load(95, 60)
    assert bench.shown() == [("cpu:host", "firing")]
    report = await bench.alerts.health()
    assert report.health is Health.unhealthy
    assert "not on disk" in report.reason
    await bench.store.write(lambda c: c.execute("PRAGMA max_page_count = 100000").fetchone())
    await bench.load(10, 60)
    assert (await bench.alerts.health()).health is Health.healthy


async def _fill(store: Store) -> None:
    """Use up what is left in the pages that the database may have."""
    size = 4000
    while size > 0:
        try:
            for table in ("alerts", "alert_history", "outbox"):
                await store.write(lambda c, table=table, size=size: _stuff(c, table, size))  # type: ignore[misc]
        except DiskFullError:
            size //= 2


def _stuff(connection: Any, table: str, size: int) -> None:
    body, key = b" " * size, connection.execute("SELECT hex(randomblob(8))").fetchone()[0]
    values = {"alerts": (f"x:{key}", body), "alert_history": (None, 0.0, body), "outbox": (None, key, "x", body)}[table]
    columns = " (seq, id, type, envelope)" if table == "outbox" else ""
    connection.execute(f"INSERT INTO {table}{columns} VALUES ({', '.join('?' * len(values))})", values)


RULE = Rule("r", "R", lambda _: [], 50, Severity.warning, for_seconds=10, cooldown_seconds=20)
STEP = st.tuples(st.floats(0, 30), st.one_of(st.none(), st.floats(0, 100)), st.floats(-2 * DAY, 2 * DAY))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEP, max_size=40))
def test_an_alert_fires_only_after_it_held_long_enough(steps: list[tuple[float, float | None, float]]) -> None:
    """Whatever the readings and the wall clock do; judged by a plain recomputation from the monotonic clock."""
    engine, now, held_since, quiet = Engine([RULE]), 0.0, None, 0.0
    for gap, value, wall in steps:
        now += gap
        before = engine.alerts.get("r:s")
        engine.evaluate(RULE, [Reading("s", value, "")], now, wall)
        after = engine.alerts.get("r:s")
        if value is None:
            assert after == before
            continue
        was_active = before is not None and before.state in ACTIVE
        rule_says = engine.rule_statuses(0)[0].state
        if value <= 50:
            held_since, quiet = None, now + 20 if was_active else quiet
            assert after is None or after.state is AlertState.resolved
            assert rule_says is AlertState.ok
        else:
            held_since = now if held_since is None else held_since
            assert active(after) == (now - held_since >= 10 and quiet <= now)
            assert rule_says is not AlertState.ok


def test_a_rule_shows_its_worst_alert() -> None:
    rule = replace(RULE, unit=None)
    engine = Engine([rule])

    def step(now: float, **values: float) -> tuple[AlertState, str]:
        engine.evaluate(rule, [Reading(name, value, name) for name, value in values.items()], now, now)
        told = engine.rule_statuses(0)[0]
        return told.state, told.reason

    step(0, a=99, b=99)
    step(10, a=99, b=99)
    engine.acknowledge("r:a", "ada", 10)
    assert step(11, a=99, b=99, c=99) == (AlertState.firing, "b")
    assert step(12, a=99, b=1, c=99) == (AlertState.acknowledged, "a")
    assert step(13, a=1, b=1, c=99) == (AlertState.pending, "c")
    assert step(14, a=1, b=1, c=1)[0] is AlertState.ok


def active(alert: AlertStatus | None) -> bool:
    return alert is not None and alert.state in ACTIVE


async def test_what_is_not_known_yet_after_a_start_is_not_over(tmp_path: Path) -> None:
    """A node that was lost is not told to be back because nobody has looked for it yet; what stays away is over later."""
    nodes: list[Reading] = [Reading("nas", 1.0, "nas is unreachable")]
    rule = Rule("node", "Nodes", lambda _: nodes, 0.5, Severity.critical, unit=None)
    bench = Bench(tmp_path / "spark.db", rule)
    await bench.load(None)
    assert bench.shown() == [("node:nas", "firing")]
    nodes[:] = [Reading("nodes", None, "no other machine is in the inventory")]
    after = await bench.again(rule)
    await after.load(None, 2)
    assert after.shown() == [("node:nas", "firing")]
    await after.load(None, GRACE)
    assert after.shown() == [("node:nas", "resolved")]
    await asyncio.to_thread(after.store.close)

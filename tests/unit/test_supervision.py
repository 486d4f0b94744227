"""Supervision: services that hang, raise, die every second, are absent, or turn bad."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime

import pytest

from appliance.core.alerts.engine import Engine, Silence
from appliance.core.alerts.rules import DEFAULTS, Reading, Rule
from appliance.core.clock import SystemClock
from appliance.core.doctor.binding import refusal
from appliance.core.model import AlertState, Health, HealthReport, Phase, ServiceStatus, Severity
from appliance.core.services import Supervisor, in_order
from appliance.core.state import LiveState, Section
from appliance.core.supervision import Policy
from appliance.errors import AbsentError, ConflictError
from tests.support import ManualClock, wait_for

QUICK = Policy(
    start_deadline=0.1, stop_deadline=0.2, probe_interval=0.02, probe_deadline=0.05, backoff_base=0.01, backoff_cap=0.02,
    breaker_failures=4, breaker_rest=60, stable_after=5, absent_retry=0.05,
)  # fmt: skip


class Plain:
    """A service that does as it is told."""

    summary = "test"

    def __init__(self, name: str, depends: tuple[str, ...] = ()) -> None:
        self.name = name
        self.depends: tuple[str, ...] = depends
        self.report = HealthReport(Health.healthy, "fine")
        self.starts = 0
        self.events: list[str] = []

    async def start(self) -> None:
        self.starts += 1
        self.events.append("start")

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def stop(self) -> None:
        self.events.append("stop")

    async def health(self) -> HealthReport:
        return self.report


class Hanging(Plain):
    async def start(self) -> None:
        self.starts += 1
        await asyncio.Event().wait()


class Raising(Plain):
    async def start(self) -> None:
        self.starts += 1
        raise OSError("no such port")


class Mendable(Raising):
    mended = False

    async def start(self) -> None:
        if not self.mended:
            await super().start()


class Dying(Plain):
    async def run(self) -> None:
        raise RuntimeError("died")


class Cancelled(Plain):
    """Something inside it is cancelled, and it lets that through."""

    async def run(self) -> None:
        await self.health()
        inner = asyncio.get_running_loop().create_future()
        inner.cancel()
        await inner


class CancelledStart(Cancelled):
    async def start(self) -> None:
        await super().start()
        await self.run()


class Mute(Plain):
    async def health(self) -> HealthReport:
        await asyncio.Event().wait()
        raise AssertionError


class Listening(Plain):
    """One that listens where its settings say."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__("ssh")
        self.address = (host, port)
        self.server: asyncio.Server | None = None

    async def start(self) -> None:
        self.starts += 1
        self.server = await asyncio.start_server(lambda *_: None, *self.address)

    async def stop(self) -> None:
        if self.server is not None:
            self.server.close()


class Relapsing(Plain):
    """It comes up, and dies when it is told to."""

    def __init__(self) -> None:
        super().__init__("weak")
        self.die = asyncio.Event()

    async def run(self) -> None:
        await self.die.wait()
        self.die.clear()
        raise RuntimeError("died")


class Missing(Plain):
    there = False

    async def start(self) -> None:
        self.starts += 1
        if not self.there:
            raise AbsentError("no card", "plug one in")


@pytest.fixture
async def supervise() -> AsyncIterator[Callable[..., Supervisor]]:
    made: list[Supervisor] = []

    def make(*services: Plain) -> Supervisor:
        supervisor = Supervisor(services, LiveState(SystemClock()), SystemClock(), QUICK)
        supervisor.start()
        made.append(supervisor)
        return supervisor

    yield make
    for supervisor in made:
        await supervisor.stop(2)


def status(supervisor: Supervisor, name: str) -> ServiceStatus:
    return next(each for each in supervisor.statuses() if each.name == name)


@pytest.mark.parametrize(("kind", "reason"), [
    (Hanging, "longer than"), (Raising, "no such port"), (Dying, "died"),
    (Cancelled, "cancelled"), (CancelledStart, "cancelled"),
])  # fmt: skip
async def test_a_failing_service_opens_the_breaker_and_harms_no_other(
    supervise: Callable[..., Supervisor], kind: type[Plain], reason: str
) -> None:
    bad, good = kind("bad"), Plain("good")
    supervisor = supervise(bad, good)
    await wait_for(lambda: status(supervisor, "bad").phase is Phase.resting)
    told = status(supervisor, "bad")
    assert told.health is Health.unhealthy
    assert reason in told.reason
    assert told.restarts == bad.starts == QUICK.breaker_failures
    assert status(supervisor, "good").health is Health.healthy
    assert good.starts == 1
    if kind not in {Dying, Cancelled}:  # those come up, and die again
        with pytest.raises(ConflictError, match="did not come up"):
            await supervisor.restart("bad")


async def test_a_taken_port_is_told_with_its_holder_and_the_next_try(
    supervise: Callable[..., Supervisor], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        service = Listening(*taken.getsockname())
        supervisor = supervise(service)
        await wait_for(lambda: status(supervisor, "ssh").phase is Phase.resting)
    told = status(supervisor, "ssh")
    assert f"127.0.0.1:{service.address[1]} is held by " in told.reason
    assert f"(pid {os.getpid()})" in told.reason
    when = datetime.fromtimestamp(told.next_try).astimezone()
    assert f"(4 failures in a row, next try at {when:%H:%M:%S})" in told.reason
    assert QUICK.breaker_rest - 20 < told.next_try - time.time() <= QUICK.breaker_rest
    assert "config set ssh.port" in told.next_step
    assert not [record for record in caplog.records if record.exc_info]
    await supervisor.restart("ssh")  # it is free again
    told = status(supervisor, "ssh")
    assert (told.health, told.next_try) == (Health.healthy, 0)


@pytest.mark.parametrize("host", ["no..name", "192.0.2.7"])
async def test_an_address_that_is_none_of_this_machine_is_told(supervise: Callable[..., Supervisor], host: str) -> None:
    supervisor = supervise(Listening(host, 8022))
    await wait_for(lambda: status(supervisor, "ssh").health is Health.unhealthy)
    told = status(supervisor, "ssh")
    assert f"ssh.host '{host}' is no address of this machine" in told.reason
    assert "set ssh.host" in told.next_step


def test_a_port_that_is_not_ours_to_open_and_other_faults() -> None:
    refused = refusal(PermissionError(errno.EACCES, "Permission denied"), "0.0.0.0", 22, "ssh")
    assert refused is not None
    assert "may not open port 22" in refused.message
    assert "ssh.port to one of 1024" in refused.next_step
    unknown = refusal(socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "not an ip", 22, "ssh")
    assert unknown is not None
    assert "'not an ip' is no address" in unknown.message
    assert refusal(OSError(errno.EIO, "Input/output error"), "0.0.0.0", 22, "ssh") is None


async def test_each_distinct_error_has_its_traceback_in_the_log_once(
    supervise: Callable[..., Supervisor], caplog: pytest.LogCaptureFixture
) -> None:
    service = Raising("bad")
    supervisor = supervise(service)
    await wait_for(lambda: status(supervisor, "bad").phase is Phase.resting)
    told = [record for record in caplog.records if "service bad failed" in record.message]
    assert [bool(record.exc_info) for record in told] == [True, False, False, False]
    assert "prime-spark log list" in status(supervisor, "bad").next_step
    assert "OSError: no such port (4 failures in a row" in status(supervisor, "bad").reason


async def test_a_service_that_dies_after_each_good_probe_counts_as_down() -> None:
    service, clock = Relapsing(), ManualClock()
    state = LiveState(clock)
    rule = next(rule for rule in DEFAULTS if rule.name == "service-down")
    supervisor = Supervisor([service], state, clock, QUICK)
    supervisor.start()

    async def reading(deaths: int) -> tuple[float | None, str]:
        for _ in range(deaths):
            await wait_for(lambda: status(supervisor, "weak").health is Health.healthy)
            before = service.starts
            service.die.set()
            await wait_for(lambda before=before: service.starts > before)  # type: ignore[misc]
        await wait_for(lambda: status(supervisor, "weak").health is Health.healthy)
        [found] = rule.measure(state)
        return found.value, found.message

    assert (await reading(2))[0] == 0.0
    value, message = await reading(1)
    assert value == 1.0
    assert "weak came up and failed again 3 times" in message
    assert "now healthy" in message
    clock.move(QUICK.relapse_window + 1)
    await wait_for(lambda: status(supervisor, "weak").relapses == 0)
    assert rule.measure(state)[0].value == 0.0
    await reading(3)
    await supervisor.restart("weak")  # whoever restarts it has mended it
    await wait_for(lambda: status(supervisor, "weak").health is Health.healthy)
    assert status(supervisor, "weak").relapses == 0
    await supervisor.stop(2)


async def test_a_service_that_is_degraded_from_the_start_is_told() -> None:
    told: list[tuple[str, Health]] = []
    services = [Plain("good"), Plain("poor")]
    services[1].report = HealthReport(Health.degraded, "nobody yet")
    supervisor = Supervisor(
        services, LiveState(SystemClock()), SystemClock(), QUICK, lambda _, after: told.append((after.name, after.health))
    )
    supervisor.start()
    await wait_for(lambda: len(told) == 2)
    services[1].report = HealthReport(Health.degraded, "somebody")
    await wait_for(lambda: status(supervisor, "poor").reason == "somebody")
    assert sorted(told) == [("good", Health.healthy), ("poor", Health.degraded)]
    await supervisor.stop(2)


async def test_a_failed_service_stays_unhealthy_until_a_good_probe() -> None:
    told: list[tuple[Health, Health]] = []
    service = Mendable("card")
    supervisor = Supervisor(
        [service], LiveState(SystemClock()), SystemClock(), QUICK, lambda a, b: told.append((a.health, b.health))
    )
    supervisor.start()
    await wait_for(lambda: status(supervisor, "card").phase is Phase.resting)
    assert told == [(Health.degraded, Health.unhealthy)]  # although it was starting between its failures
    with pytest.raises(ConflictError, match="no such port"):
        await supervisor.restart("card")
    assert len(told) == 1
    service.mended = True
    await supervisor.restart("card")
    assert told[1:] == [(Health.unhealthy, Health.healthy)]
    await supervisor.stop(2)


def test_a_service_that_is_tried_again_is_down_all_the_same() -> None:
    clock = ManualClock()
    state = LiveState(clock)
    rule = next(rule for rule in DEFAULTS if rule.name == "service-down")
    engine = Engine([rule])
    changes: list[str] = []

    def after(seconds: float, phase: Phase, health: Health) -> None:
        clock.move(seconds)
        state.put(Section.services, (ServiceStatus("ssh", "", phase, health, "port 8022 is taken"),))
        changed = engine.evaluate(rule, rule.measure(state), clock.monotonic(), clock.wall())
        changes.extend(alert.state.value for alert in changed)

    after(0, Phase.waiting, Health.degraded)
    assert engine.alerts == {}
    after(1, Phase.resting, Health.unhealthy)
    after(61, Phase.resting, Health.unhealthy)
    for phase in (Phase.starting, Phase.stopping, Phase.stopped, Phase.waiting):
        after(10, phase, Health.unhealthy)
        after(10, phase, Health.degraded)
    after(400, Phase.resting, Health.unhealthy)
    assert changes == ["pending", "firing"]
    after(1, Phase.running, Health.healthy)
    assert changes[2:] == ["resolved"]


async def test_health_turns_bad_and_good_again(supervise: Callable[..., Supervisor]) -> None:
    service = Plain("one")
    supervisor = supervise(service)
    await wait_for(lambda: status(supervisor, "one").health is Health.healthy)
    service.report = HealthReport(Health.unhealthy, "broken pipe", "mend it")
    await wait_for(lambda: status(supervisor, "one").health is Health.unhealthy)
    assert status(supervisor, "one").next_step == "mend it"
    service.report = HealthReport(Health.healthy, "fine")
    await wait_for(lambda: status(supervisor, "one").health is Health.healthy)


async def test_a_mute_service_is_unhealthy(supervise: Callable[..., Supervisor]) -> None:
    supervisor = supervise(Mute("mute"))
    await wait_for(lambda: "no answer" in status(supervisor, "mute").reason)


async def test_absent_is_absent_until_it_is_there(supervise: Callable[..., Supervisor]) -> None:
    service = Missing("card")
    supervisor = supervise(service)
    await wait_for(lambda: status(supervisor, "card").health is Health.absent)
    told = status(supervisor, "card")
    assert told.restarts == 0
    real, seen = service.start, []

    async def start() -> None:
        seen.append(status(supervisor, "card"))
        await real()

    service.start = start  # type: ignore[method-assign]
    await wait_for(lambda: len(seen) > 2)
    assert all(each == told for each in seen), "while it is looked for again, it is as absent as before"
    service.there = True
    await wait_for(lambda: status(supervisor, "card").health is Health.healthy)


async def test_dependents_start_after_and_stop_before(supervise: Callable[..., Supervisor]) -> None:
    order: list[str] = []
    base, top = Plain("base"), Plain("top", ("base",))
    base.events = top.events = order
    supervisor = supervise(top, base)
    await wait_for(lambda: status(supervisor, "top").health is Health.healthy)
    await supervisor.stop(2)
    assert order == ["start", "start", "stop", "stop"]
    assert status(supervisor, "base").phase is Phase.stopped
    with pytest.raises(ValueError, match="circle"):
        in_order([Plain("a", ("b",)), Plain("b", ("a",))])


RULE = Rule("cpu", "CPU", lambda _: [], 85, Severity.warning, for_seconds=300, cooldown_seconds=60)


def read(value: float | None) -> list[Reading]:
    return [Reading("host", value, f"{value}")]


def test_an_alert_lives_its_life() -> None:
    engine = Engine([RULE])
    states: list[str] = []

    def at(now: float, value: float | None, wall: float | None = None) -> None:
        changed = engine.evaluate(RULE, read(value), now, now if wall is None else wall)
        states.extend(alert.state.value for alert in changed)

    at(0, 90)
    at(299, 90)
    at(300, 91, wall=86400 * 400)  # the wall clock jumps: durations do not care
    assert engine.acknowledge("cpu:host", "ada", 0) is not None
    at(310, 92)
    at(320, 10)
    at(330, 95)  # within the cooldown: quiet
    at(381, 95)
    at(629, 95)
    assert states == ["pending", "firing", "resolved", "pending"]
    assert engine.acknowledge("cpu:host", "ada", 0) is None


def test_a_short_peak_raises_nothing_and_no_data_is_no_health() -> None:
    engine = Engine([RULE])
    engine.evaluate(RULE, read(99), 0, 0)
    engine.evaluate(RULE, read(10), 10, 10)
    engine.evaluate(RULE, read(99), 290, 290)
    assert engine.alerts["cpu:host"].state is AlertState.pending
    engine.evaluate(RULE, read(None), 400, 400)
    assert engine.rule_statuses(0)[0].state is AlertState.no_data


def test_a_silenced_rule_is_silent_until_it_ends() -> None:
    engine = Engine([RULE])
    engine.silences["cpu"] = Silence("cpu", 1000, "ada")
    engine.evaluate(RULE, read(99), 0, 0)
    engine.evaluate(RULE, read(99), 300, 300)
    assert engine.alerts["cpu:host"].state is AlertState.silenced
    engine.evaluate(RULE, read(99), 1001, 1001)
    assert engine.alerts["cpu:host"].state is AlertState.firing


def test_every_default_rule_admits_that_it_knows_nothing() -> None:
    state = LiveState(SystemClock())
    for rule in DEFAULTS:
        assert all(reading.value is None for reading in rule.measure(state)), rule.name

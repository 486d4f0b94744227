"""What is known of the agents: what SSH tells and what the tasks tell, joined; silence, muteness, other versions."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from appliance.core.agents.join import Ears, join
from appliance.core.agents.layout import UNIT
from appliance.core.agents.model import Agent, AgentsStatus, AgentState
from appliance.core.agents.watch import AgentsService
from appliance.core.alerts.rules import DEFAULTS
from appliance.core.fleet.facts.host.agent import BROKEN, NONE
from appliance.core.fleet.model import FleetStatus, LinkStatus, NodeStatus, Reach, Unit
from appliance.core.model import Health
from appliance.core.state import LiveState, Section
from appliance.core.tasks.model import Capability, TasksStatus, TransportStatus, Worker, WorkerState
from tests.screens.machines import entry, facts, fleet, good, machine
from tests.servers.fixtures import Topics
from tests.support import ManualClock, wait_for
from tests.tasks.far_rig import far

VERSION = "0.8.0"
HEARS = Ears(True, True)
DEAF = Ears(False, False, "Kafka is down", "look at it")


def node(installed: str | None = VERSION, missing: str = "", name: str = "pi", **more: Any) -> NodeStatus:
    told = facts(agent=installed, missing={"agent": missing} if missing else {}, **more.pop("facts", {}))
    return good(name, facts=told, **more)


def worker(name: str = "pi", state: WorkerState = WorkerState.ready, **more: Any) -> Worker:
    values: dict[str, Any] = {"version": VERSION, "capabilities": (Capability("http"),), "limit": 5, "load": 0.25, "beat": 7.0}
    return Worker(name=name, state=state, **{**values, **more})


def one(known: NodeStatus | None, does: Worker | None = None, ears: Ears = HEARS) -> Agent:
    (found,) = join([known] if known else [], [does] if does else [], ears, VERSION).agents
    return found


def test_one_that_works_has_what_both_tell() -> None:
    told = one(node(), worker(busy=2))
    assert told == Agent(
        node="pi", worker="pi", state=AgentState.ready, installed=VERSION, version=VERSION, capabilities=("http",), load=0.25,
        busy=2, limit=5, beat=7.0, seen=told.seen,
    )  # fmt: skip
    assert told.seen is not None


@pytest.mark.parametrize(
    ("known", "state", "told"),
    [
        (machine("pi", Reach.never), AgentState.unknown, "not asked yet"),
        (machine("pi", Reach.unreachable), AgentState.unknown, "unreachable"),
        (machine("pi", Reach.off, node=entry("pi", enabled=False)), AgentState.unknown, "set aside"),
        (node(None, NONE), AgentState.absent, NONE),
        (node(None, BROKEN), AgentState.absent, "broken"),
        (node(None, "it said nothing"), AgentState.unknown, "it said nothing"),
        (node(), AgentState.silent, "ever heard"),
        (node(link=LinkStatus(Reach.unreachable)), AgentState.silent, "the machine is unreachable"),
        (node(link=LinkStatus(Reach.off)), AgentState.unknown, "is off"),
    ],
)
def test_one_that_was_never_heard_of(known: NodeStatus, state: AgentState, told: str) -> None:
    found = one(known)
    assert (found.state, told in found.reason) == (state, True), found.reason
    assert (found.worker, found.version, found.busy, found.beat) == ("", None, None, None)


def test_what_is_to_be_done_is_said() -> None:
    assert one(node(None, NONE)).next_step == "prime-spark agent install pi"
    failed = node(facts={"units": (Unit(UNIT, "loaded", "failed", "failed"),)})
    told = one(failed, worker(state=WorkerState.silent))
    assert told.state is AgentState.silent
    assert "its service was failed" in told.reason
    assert UNIT in told.next_step


def test_another_version_is_told_and_how_it_is_changed() -> None:
    old = one(node("0.7.0"), worker(version="0.7.0"))
    assert (old.state, old.outdated) == (AgentState.ready, True)
    assert "0.7.0 runs, this appliance is 0.8.0" in old.reason
    assert old.next_step == "prime-spark agent upgrade pi"
    new = one(node(), worker(version="0.7.0"))
    assert (new.outdated, "service-restart" in new.next_step) == (True, True), "it was upgraded and not begun anew"
    by_hand = one(node(None, NONE), worker(version="0.9.0"))
    assert (by_hand.state, by_hand.outdated, "agent upgrade" in by_hand.next_step) == (AgentState.ready, True, False)
    assert not one(node(), worker()).outdated
    assert one(node("0.7.0")).outdated


def test_without_kafka_they_are_mute_and_not_silent() -> None:
    for state in WorkerState:
        told = one(node(), worker(state=state), DEAF)
        assert (told.state, told.reason, told.next_step) == (AgentState.mute, "Kafka is down", "look at it")
    assert one(node(), None, DEAF).state is AgentState.mute
    assert one(node(None, NONE), None, DEAF).state is AgentState.absent
    assert one(None, worker("stray"), DEAF).state is AgentState.mute


def test_nobody_is_silent_before_he_could_be_heard() -> None:
    early = Ears(True, False)
    for known, does in ((node(), worker(state=WorkerState.silent)), (node(), None), (None, worker(state=WorkerState.silent))):
        assert one(known, does, early).state is AgentState.unknown
        assert one(known, does).state is AgentState.silent


def test_one_that_was_removed_is_absent_and_can_be_forgotten() -> None:
    told = one(node(None, NONE), worker(state=WorkerState.silent))
    assert told.state is AgentState.absent
    assert (told.version, told.load, told.capabilities, told.busy) == (None, None, (), None), "what it was does not count"
    assert "worker-forget pi" in told.next_step


def test_a_worker_of_no_machine_is_shown_with_what_to_do() -> None:
    told = one(None, worker("stray"))
    assert (told.node, told.worker, told.state) == ("", "stray", AgentState.ready)
    assert "fleet add stray" in told.next_step
    gone = one(None, worker("stray", WorkerState.silent))
    assert "worker-forget stray" in gone.next_step


def test_two_workers_of_one_name_are_told() -> None:
    for known in (node(), None):
        told = one(known, worker(note="another process uses this name too"))
        assert "another process" in told.reason
        assert "node.device_id" in told.next_step


def test_the_appliance_itself_is_no_stray() -> None:
    here = worker("control", local=True, beat=None)
    assert join([], [here], HEARS, VERSION).agents == ()
    assert one(node(None, NONE, name="control"), here).reason == "it is this appliance itself"
    assert one(node(None, NONE, name="control"), here, DEAF).state is AgentState.ready


# -- the service -----------------------------------------------------------------------------------------------------------


class Bench:
    """A service on a clock that the test moves."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.state = LiveState(self.clock)
        self.service = AgentsService(self.state, self.clock, 20.0, VERSION)

    def put(self, *workers: Worker, up: bool = True, nodes: tuple[NodeStatus, ...] = ()) -> None:
        transport = TransportStatus(configured=True, up=up, reason="" if up else "no broker answers", next_step="look")
        self.state.put(Section.fleet, fleet(*nodes))
        self.state.put(Section.tasks, TasksStatus(workers=workers, transport=transport))
        self.service.show()

    @property
    def status(self) -> AgentsStatus:
        found = self.state.get(Section.agents).value
        assert isinstance(found, AgentsStatus)
        return found

    def states(self) -> dict[str, AgentState]:
        return {each.node or each.worker: each.state for each in self.status.agents}


async def test_silence_counts_from_when_it_could_be_heard() -> None:
    bench = Bench()
    await bench.service.start()
    assert (await bench.service.health()).health is Health.absent
    gone = worker(state=WorkerState.silent)
    bench.put(gone, nodes=(node(),))
    assert bench.states() == {"pi": AgentState.unknown}
    for _ in range(5):
        bench.clock.move(5)
        bench.service.show()
    assert bench.states() == {"pi": AgentState.silent}
    report = await bench.service.health()
    assert (report.health, report.next_step != "") == (Health.degraded, True)
    bench.put(gone, up=False, nodes=(node(),))
    assert bench.states() == {"pi": AgentState.mute}
    assert (await bench.service.health()).health is Health.healthy
    bench.put(gone, nodes=(node(),))
    assert bench.states() == {"pi": AgentState.unknown}, "Kafka is back, and so are they soon"


async def test_clocks_that_jump_and_machines_that_sleep() -> None:
    bench = Bench()
    await bench.service.start()
    bench.put(worker(), nodes=(node(),))
    before = bench.status
    bench.clock.wall_now -= 10 * 365 * 86400.0
    bench.service.show()
    assert bench.status == before, "no wall clock has a say"
    bench.clock.move(3600)  # the machine slept: who was not heard meanwhile is not silent for that
    bench.put(worker(state=WorkerState.silent), nodes=(node(),))
    assert bench.states() == {"pi": AgentState.unknown}


async def test_only_what_is_another_one_is_published() -> None:
    bench = Bench()
    await bench.service.start()
    bench.put(worker(), nodes=(node(),))
    version = bench.state.get(Section.agents).version
    bench.put(worker(completed=7), nodes=(bench.state.get(Section.fleet).value.nodes))
    assert bench.state.get(Section.agents).version == version
    bench.put(worker(), nodes=())
    assert bench.states() == {"pi": AgentState.ready}
    assert bench.status.agents[0].node == "", "the machine was taken out of the inventory; its worker lives"


async def test_a_rule_reads_who_is_silent() -> None:
    bench = Bench()
    await bench.service.start()
    rule = next(each for each in DEFAULTS if each.name == "agent")
    assert [each.value for each in rule.measure(bench.state)] == [None]
    bench.put(worker(), nodes=(node(), node(None, NONE, name="bare")))
    assert {each.subject: each.value for each in rule.measure(bench.state)} == {"pi": 0.0, "bare": None}
    for _ in range(5):
        bench.clock.move(5)
        bench.service.show()
    bench.put(worker(state=WorkerState.silent), nodes=(node(),))
    assert {each.subject: each.value for each in rule.measure(bench.state)} == {"pi": 1.0}


async def test_a_real_worker_over_a_real_broker(tmp_path: Path, kafka: Topics) -> None:
    async with far(tmp_path, kafka) as rig:
        state = rig.state
        state.put(Section.fleet, FleetStatus((node("0.0.1", name="one"), node(None, NONE, name="bare"))))
        service = AgentsService(state, rig.clock, rig.settings.lease_seconds)
        await service.start()
        work = asyncio.create_task(service.run())

        def states() -> dict[str, AgentState]:
            return {each.node or each.worker: each.state for each in service.agents}

        try:
            rig.launch("one")
            await wait_for(lambda: states() == {"one": AgentState.ready, "bare": AgentState.absent}, 30.0)
            told = next(each for each in service.agents if each.node == "one")
            assert told.outdated
            assert told.version
            assert told.capabilities
            assert told.beat is not None
            rig.workers["one"].send(signal.SIGKILL)
            await wait_for(lambda: states()["one"] is AgentState.silent, 30.0)
        finally:
            work.cancel()
            await asyncio.wait({work})

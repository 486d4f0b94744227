"""The fleet's rounds over real links: what is shown, when silence counts, what is told, and who delays whom."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from appliance.core.alerts.rules import DEFAULTS
from appliance.core.clock import SystemClock
from appliance.core.events import HostMetrics
from appliance.core.fleet.keys import OwnKey
from appliance.core.fleet.links import Links
from appliance.core.fleet.model import FleetStatus, Node, NodeStatus, Reach
from appliance.core.fleet.operations.model import NodeRun, OperationStatus, RunState, Stage
from appliance.core.fleet.rounds import Rhythm
from appliance.core.fleet.service import FleetService, Ground
from appliance.core.fleet.status import Times
from appliance.core.model import Health, Severity
from appliance.core.state import LiveState, Section
from appliance.errors import ApplianceError, ConfigError, StoreError
from tests.fleet.conftest import reach
from tests.servers.sshd import SshServer
from tests.support import wait_for

QUICK = Rhythm(metrics=0.5, facts=0.8, updates=False)
CALM = Rhythm(metrics=30.0, facts=300.0, updates=False)


@contextlib.contextmanager
def silent(server: SshServer) -> Iterator[None]:
    """The server and its sessions stand still; what they started may end by itself meanwhile."""
    me = psutil.Process(server.child.pid)
    me.suspend()
    stopped = [me]
    for each in me.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if each.name().startswith("sshd"):
                each.suspend()
                stopped.append(each)
    try:
        yield
    finally:
        for each in stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.resume()


class Book:
    """An inventory that tests change."""

    def __init__(self, *nodes: Node) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.fault: ApplianceError | None = None

    def all(self) -> tuple[Node, ...]:
        return tuple(self.nodes[name] for name in sorted(self.nodes))

    def get(self, name: str) -> Node:
        return self.nodes[name]


class Bench:
    """The service over real links."""

    def __init__(self, own: OwnKey, *nodes: Node, rhythm: Rhythm = QUICK) -> None:
        self.clock = SystemClock()
        self.state = LiveState(self.clock)
        self.book = Book(*nodes)
        self.links = Links(self.book, own)  # type: ignore[arg-type]
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.readings: list[HostMetrics] = []
        self.deaf = False
        self.service = FleetService(Ground(
            inventory=self.book, shell=self.links, state=self.state, clock=self.clock, note=self._note,  # type: ignore[arg-type]
            publish=self._publish, own_key=own.public, rhythm=rhythm, telemetry=0.5,
            times=Times(1.25, 3.0) if rhythm is QUICK else None,
        ))  # fmt: skip
        self.links.watch(self.service.link_changed)
        self.reaches: dict[str, list[Reach]] = {}
        self.watch = self.state.watch([Section.fleet], self._seen, 0.0)
        self.task: asyncio.Task[None] | None = None

    async def _note(self, event: str, severity: Severity, attributes: dict[str, Any]) -> None:
        assert severity in Severity
        if self.deaf:
            raise StoreError("the disk is full.", "free some space.")
        self.told.append((event, attributes))

    async def _publish(self, event: HostMetrics) -> None:
        self.readings.append(event)

    def _seen(self, _: object) -> None:
        for each in self.nodes():
            seen = self.reaches.setdefault(each.node.name, [])
            if not seen or seen[-1] is not each.link.reach:
                seen.append(each.link.reach)

    def nodes(self) -> tuple[NodeStatus, ...]:
        status = self.state.get(Section.fleet).value
        return status.nodes if isinstance(status, FleetStatus) else ()

    def node(self, name: str = "agent") -> NodeStatus:
        return next(each for each in self.nodes() if each.node.name == name)

    async def is_(self, *reaches: Reach, name: str = "agent") -> None:
        await wait_for(lambda: self.node(name).link.reach in reaches, 30.0, f"{name} is {reaches}")

    async def start(self) -> None:
        await self.service.start()
        self.task = asyncio.create_task(self.service.run())

    async def stop(self) -> None:
        self.watch.close()
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
            assert self.task.cancelled(), self.task.exception()
        await self.service.stop()
        await self.links.close()

    def events(self, name: str) -> list[dict[str, Any]]:
        return [attributes for event, attributes in self.told if event == name]


def serve(own: OwnKey) -> Iterator[SshServer]:
    """A server whose logins read no start-up files of whoever runs the tests."""
    directory = Path(tempfile.mkdtemp(prefix="sshd-"))
    try:
        with SshServer(directory, own.public() + "\n") as made:
            yield made
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def server(own: OwnKey) -> Iterator[SshServer]:
    yield from serve(own)


@pytest.fixture
def other(own: OwnKey) -> Iterator[SshServer]:
    yield from serve(own)


@pytest.fixture
async def benches(own: OwnKey) -> AsyncIterator[Any]:
    made: list[Bench] = []

    async def make(*nodes: Node, rhythm: Rhythm = QUICK) -> Bench:
        made.append(Bench(own, *nodes, rhythm=rhythm))
        await made[-1].start()
        return made[-1]

    yield make
    for bench in made:
        await bench.stop()


async def test_a_node_is_looked_at_again_and_again(benches: Any, server: SshServer, own: OwnKey) -> None:
    bench = await benches(reach(server))
    await wait_for(lambda: bench.node().metrics is not None and bench.node().facts is not None, 20.0)
    await wait_for(lambda: len(bench.node().trend.get("cpu", ())) >= 2, 20.0)
    node = bench.node()
    assert node.link.reach is Reach.up
    assert 0 <= node.metrics.cpu <= 100
    assert node.metrics.net_rx is None or node.metrics.net_rx >= 0
    assert abs(node.metrics.clock_offset) < 5
    assert node.facts.kernel
    assert "root" in node.facts.users
    assert node.facts.missing["updates"] == "not asked yet"
    assert bench.state.get(Section.fleet).value.own_key == own.public()
    await wait_for(lambda: len(bench.readings) >= 2, 20.0)
    assert bench.readings[0].tags == {"node": "agent"}
    assert bench.readings[0].metrics["node_memory_usage"] > 0
    assert bench.told == []


async def test_silence_is_stale_then_unreachable_and_the_first_answer_heals(benches: Any, server: SshServer) -> None:
    bench = await benches(reach(server))
    await bench.is_(Reach.up)
    await wait_for(lambda: bench.node().metrics is not None, 20.0)
    seen = len(bench.reaches["agent"])
    with silent(server):
        await bench.is_(Reach.unreachable)
        before = bench.node()
        assert "no sign of life" in before.link.reason
        assert before.health is Health.absent
        assert before.metrics is not None, "what was last seen stays, with its age"
        await wait_for(lambda: bench.events("node.unreachable"))
    await bench.is_(Reach.up)
    await wait_for(lambda: bench.node().metrics.monotonic > before.metrics.monotonic, 20.0)
    assert bench.node().health is Health.healthy
    await wait_for(lambda: bench.events("node.reachable"))
    await wait_for(lambda: bench.reaches["agent"][seen : seen + 3] == [Reach.stale, Reach.unreachable, Reach.up])
    assert [event for event, _ in bench.told][:2] == ["node.unreachable", "node.reachable"]
    assert bench.events("node.reachable")[0]["away_s"] > 0


async def test_a_link_that_breaks_with_evidence_is_unreachable_at_once(benches: Any, server: SshServer) -> None:
    bench = await benches(reach(server), rhythm=CALM)
    await bench.is_(Reach.up)
    await wait_for(lambda: bench.node().facts is not None, 20.0)
    server.kill()
    await bench.is_(Reach.unreachable)
    assert bench.node().link.reason
    assert (await bench.service.health()).health is Health.degraded
    seen = bench.node().metrics.monotonic
    server.start()
    await bench.is_(Reach.up)
    await wait_for(lambda: bench.node().metrics.monotonic > seen, 20.0)
    await wait_for(lambda: bench.node().facts.monotonic > seen, 20.0, "its facts are asked for anew")
    assert (await bench.service.health()).health is Health.healthy


async def test_another_host_key_is_shown_loudly(benches: Any, server: SshServer) -> None:
    bench = await benches(reach(server))
    await bench.is_(Reach.up)
    server.kill()
    server.new_host_key()
    server.start()
    await bench.is_(Reach.changed)
    node = bench.node()
    assert node.health is Health.unhealthy
    assert "ANOTHER HOST KEY" in node.reason
    assert node.link.offered_key == server.fingerprint
    await wait_for(lambda: [each for each in bench.events("node.unreachable") if each["link"] == "changed"])


async def test_a_host_that_hangs_delays_no_other(benches: Any, server: SshServer, other: SshServer) -> None:
    bench = await benches(reach(server), reach(other, "other"))
    await bench.is_(Reach.up)
    await bench.is_(Reach.up, name="other")
    with silent(server):
        await bench.is_(Reach.unreachable)
        seen = len(bench.reaches["other"])
        first = bench.node("other").metrics.monotonic
        await wait_for(lambda: bench.node("other").metrics.monotonic > first + 0.6, 20.0)
        assert bench.node("other").link.reach is Reach.up
        assert len(bench.reaches["other"]) == seen, "it was up all the time"
        assert bench.node().link.reach is Reach.unreachable


async def test_a_service_that_does_not_run_makes_its_node_unhealthy_once(benches: Any, server: SshServer) -> None:
    wanted = (f"tcp:{server.port}", "tcp:1")
    bench = await benches(reach(server, services=wanted))
    await wait_for(lambda: bench.node().facts is not None, 20.0)
    await wait_for(lambda: bench.node().health is Health.unhealthy)
    assert bench.node().reason.startswith("tcp:1: nothing listens")
    assert [each.ok for each in bench.node().expected] == [True, False]
    told = bench.node().facts.monotonic
    await wait_for(lambda: bench.node().facts.monotonic > told, 20.0)
    assert [event for event, _ in bench.told] == ["service.down"]
    with silent(server):
        await bench.is_(Reach.unreachable)
        assert "tcp:1" not in bench.node().reason
        assert "service.up" not in [event for event, _ in bench.told]
    bench.book.nodes["agent"] = reach(server, services=(f"tcp:{server.port}",))
    await wait_for(lambda: bench.node().health is Health.healthy, 20.0)


async def test_machines_come_and_go(benches: Any, server: SshServer) -> None:
    bench = await benches()
    assert (await bench.service.health()).health is Health.absent
    bench.book.nodes["agent"] = reach(server)
    await wait_for(lambda: bench.nodes() and bench.node().metrics is not None, 20.0)
    bench.book.nodes["second"] = reach(server, "second", enabled=False)
    await wait_for(lambda: len(bench.nodes()) == 2, 20.0)
    assert bench.node("second").link.reach is Reach.off
    assert bench.node("second").health is Health.absent
    del bench.book.nodes["agent"]
    await wait_for(lambda: [each.node.name for each in bench.nodes()] == ["second"], 20.0)
    assert "agent" not in bench.service.rounds.turns
    assert bench.told == []


async def test_a_broken_inventory_is_told_where_the_machines_are(benches: Any) -> None:
    bench = await benches(Node(name="second", host="127.0.0.1", enabled=False))
    bench.book.fault = ConfigError("inventory.toml:3: a bracket is missing.", "mend it.")
    await wait_for(lambda: "inventory.toml:3" in bench.state.get(Section.fleet).value.problem)
    assert [each.node.name for each in bench.nodes()] == ["second"]
    bench.book.fault = None
    await wait_for(lambda: not bench.state.get(Section.fleet).value.problem)


async def test_a_login_that_runs_no_commands_says_so(benches: Any, server: SshServer, own: OwnKey) -> None:
    server.authorized.write_text(f'command="echo only backups here" {own.public()}\n')
    bench = await benches(reach(server))
    await bench.is_(Reach.up)
    await wait_for(lambda: "only backups here" in bench.node().reason, 20.0)
    assert bench.node().metrics is None


async def test_a_refresh_waits_for_the_answer(benches: Any, server: SshServer) -> None:
    bench = await benches(reach(server), rhythm=CALM)
    await wait_for(lambda: bench.node().facts is not None, 20.0)
    looked, told = bench.node().metrics.monotonic, bench.node().facts.monotonic
    await bench.service.refresh(["agent"])
    assert bench.node().metrics.monotonic > looked
    assert bench.node().facts.monotonic > told
    server.kill()
    await bench.is_(Reach.unreachable)
    await bench.service.refresh(["agent"])  # ends, though nothing can be had
    assert bench.node().link.reach is Reach.unreachable


async def test_nothing_is_shown_anew_where_nothing_changed(benches: Any, server: SshServer) -> None:
    bench = await benches(reach(server), rhythm=CALM)
    await wait_for(lambda: bench.node().facts is not None, 20.0)
    await bench.service.refresh(["agent"], facts=False)
    monitor, version = bench.service.monitor, bench.state.get(Section.fleet).version
    before = bench.state.get(Section.fleet).value
    monitor.show()
    assert bench.state.get(Section.fleet).value is before
    assert bench.state.get(Section.fleet).version == version


async def test_events_wait_for_a_disk_that_takes_them(benches: Any, server: SshServer) -> None:
    bench = await benches(reach(server), rhythm=CALM)
    await bench.is_(Reach.up)
    bench.deaf = True
    server.kill()
    await bench.is_(Reach.unreachable)
    await wait_for(lambda: bench.service._error is not None)
    assert (await bench.service.health()).health is Health.unhealthy
    bench.deaf = False
    await wait_for(lambda: bench.events("node.unreachable"))
    assert len(bench.events("node.unreachable")) == 1


async def test_a_node_that_is_being_changed_says_by_what(benches: Any, server: SshServer) -> None:
    bench = await benches(reach(server), rhythm=CALM)
    run = NodeRun("agent", RunState.running)
    operation = OperationStatus("op-1", "run", "run uptime", "owner", Stage.rest, 0.0, (run,))
    bench.state.put(Section.operations, (operation,))
    await wait_for(lambda: bench.nodes() and bench.node().busy == "op-1")
    bench.state.put(Section.operations, ())
    await wait_for(lambda: not bench.node().busy)


async def test_rules_read_the_fleet(benches: Any, server: SshServer) -> None:
    rules = {rule.name: rule for rule in DEFAULTS}
    bench = await benches(reach(server, services=("tcp:1",)), reach(server, "aside", enabled=False))
    await wait_for(lambda: bench.node().facts is not None, 20.0)

    def values(name: str) -> dict[str, float | None]:
        return {reading.subject: reading.value for reading in rules[name].measure(bench.state)}

    assert values("node") == {"agent": 0.0, "aside": None}
    await wait_for(lambda: values("node-service") == {"agent tcp:1": 1.0})
    assert values("node-memory")["agent"] == bench.node().metrics.memory
    server.kill()
    await bench.is_(Reach.unreachable)
    assert values("node")["agent"] == 1.0
    assert values("node-service") == {"agent tcp:1": None}, "who cannot be asked has no service that is down"
    assert values("node-memory") == {"agent": None, "aside": None}

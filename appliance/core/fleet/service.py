"""The fleet as a service: looks at every node in its turn, shows them, and tells what happened to them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from appliance.core.agents.model import Agent, AgentsStatus
from appliance.core.events import HostMetrics
from appliance.core.figures import counted
from appliance.core.fleet.model import FleetShell, FleetStatus, Inventory, LinkStatus, NodeMetrics, NodeStatus, Reach
from appliance.core.fleet.monitor import GONE, Monitor, Note
from appliance.core.fleet.operations.model import OperationStatus, RunState, Stage
from appliance.core.fleet.rounds import Hooks, Rhythm, Rounds
from appliance.core.fleet.status import Times, metrics_as_readings
from appliance.core.fleet.watch import Watch
from appliance.core.model import Health, HealthReport
from appliance.core.ports import Clock
from appliance.core.state import LiveState, Section
from appliance.errors import ApplianceError

log = logging.getLogger(__name__)

SHOW = 1.0
"""Seconds in which changes are gathered, at most, before they are shown; less where rounds are quick."""
QUICK = 0.2
"""The same, of a link's own change."""
RATE = 2.0
"""Nodes' readings that go into the telemetry each second, at most, over the whole fleet."""
ENDED = frozenset({Stage.planned, Stage.completed, Stage.failed, Stage.undone, Stage.cancelled, Stage.interrupted})
HOW = "add a machine: `prime-spark fleet add NAME --host ADDRESS --user USER`."


@dataclass(frozen=True)
class Ground:
    """What the fleet stands on.

    Attributes:
        inventory: The machines.
        shell: Reaches them.
        state: Where they are shown.
        clock: For ages and turns.
        note: Tells of events.
        publish: Takes readings.
        own_key: Tells the appliance's public key; blocks.
        rhythm: How often.
        telemetry: Seconds between two readings of one node that are kept; 0 for none.
        times: What silence means; by the rhythm where it is None.
    """

    inventory: Inventory
    shell: FleetShell
    state: LiveState
    clock: Clock
    note: Note
    publish: Callable[[HostMetrics], Awaitable[None]]
    own_key: Callable[[], str] | None = None
    rhythm: Rhythm = field(default_factory=Rhythm)
    telemetry: float = 60.0
    times: Times | None = None


class FleetService:
    """Runs it (implements ports.Service).

    Args:
        ground: What it stands on.
    """

    name = "fleet"
    summary = "Looks at every machine of the fleet over SSH"
    depends: tuple[str, ...] = ("store",)

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self.monitor = Monitor(ground.shell, ground.state, ground.clock, self._times(ground))
        self.rounds = self._make_rounds()
        self._poke = asyncio.Event()
        self._kept: dict[str, float] = {}
        """Node → monotonic instant of its last reading that was kept."""
        self._readings: dict[str, HostMetrics] = {}
        self._operations = -1
        self._error: ApplianceError | None = None

    @staticmethod
    def _times(ground: Ground) -> Times:
        return ground.times or Times.of(ground.rhythm.metrics, ground.rhythm.facts)

    def _make_rounds(self) -> Rounds:
        ground = self._ground
        return Rounds(ground.shell, ground.clock, ground.rhythm, Hooks(self.monitor.changed, self._looked))

    # -- life

    async def start(self) -> None:
        """Take the inventory; where it is empty, this waits for the first machine."""
        if self._ground.own_key is not None and self._ground.inventory.all():
            try:
                self.monitor.own_key = await asyncio.to_thread(self._ground.own_key)
            except ApplianceError as error:
                log.warning("the appliance's key is not shown: %s", error.message)
        self.rounds = self._make_rounds()
        await self._take_inventory()
        self.monitor.show()

    async def run(self) -> None:
        """Show, tell and keep until cancelled; the nodes' own turns go on beside this."""
        gathers = min(SHOW, self._ground.rhythm.metrics / 10)
        while True:
            try:
                async with asyncio.timeout(gathers):
                    await self._poke.wait()
                await asyncio.sleep(min(QUICK, gathers))
            except TimeoutError:
                pass
            self._poke.clear()
            await self._turn()

    async def _turn(self) -> None:
        await self._take_inventory()
        self._take_operations()
        self.monitor.show()
        try:
            await self._tell()
            self._error = None
        except ApplianceError as error:
            if self._error is None or self._error.message != error.message:
                log.error("what happened to the fleet is not kept: %s", error.message)
            self._error = error

    async def stop(self) -> None:
        """No more turns; the links are somebody else's."""
        await self.rounds.close()

    async def health(self) -> HealthReport:
        """Degraded while a node is unreachable or ill: the fleet's own part is healthy all the same."""
        if self._error is not None:
            return HealthReport(Health.unhealthy, f"events are not kept: {self._error.message}", self._error.next_step)
        nodes = self.nodes()
        if not nodes:
            return HealthReport(Health.absent, "no machine is in the inventory", HOW)
        up = sum(each.link.reach in {Reach.up, Reach.stale} for each in nodes)
        told = f"{up} of {counted(len(nodes), 'node')} reached"
        gone = [each for each in nodes if each.link.reach in GONE]
        ill = [each for each in nodes if each.health is Health.unhealthy]
        if worst := [*ill, *gone]:
            return HealthReport(Health.degraded, f"{worst[0].node.name}: {worst[0].reason} ({told})", worst[0].next_step)
        dropped = f"; {self.monitor.dropped} events were dropped" if self.monitor.dropped else ""
        return HealthReport(Health.healthy, told + dropped)

    def nodes(self) -> tuple[NodeStatus, ...]:
        """All of them, as they were last shown."""
        status = self._ground.state.get(Section.fleet).value
        return status.nodes if isinstance(status, FleetStatus) else ()

    def agents(self) -> dict[str, Agent]:
        """Machine → its agent, as far as it was joined."""
        status = self._ground.state.get(Section.agents).value
        return {each.node: each for each in status.agents if each.node} if isinstance(status, AgentsStatus) else {}

    # -- what comes in

    def link_changed(self, name: str, status: LinkStatus) -> None:
        """A link is another one: shown at once, and looked at."""
        if (watch := self.monitor.watches.get(name)) is not None:
            self.monitor.changed(watch)
            self._poke.set()
        if (turns := self.rounds.turns.get(name)) is not None:
            turns.nudge(status.reach)

    def _looked(self, watch: Watch, metrics: NodeMetrics) -> None:
        ground, name = self._ground, watch.node.name
        pause = max(ground.telemetry, len(self.monitor.watches) / RATE)
        if ground.telemetry and metrics.monotonic - self._kept.get(name, float("-inf")) >= pause:
            self._kept[name] = metrics.monotonic
            readings = metrics_as_readings(metrics)
            self._readings[name] = HostMetrics(time=metrics.time, metrics=readings, tags={"node": name})

    async def _take_inventory(self) -> None:
        fault = self._ground.inventory.fault
        self.monitor.troubled("" if fault is None else str(fault))
        nodes = {node.name: node for node in self._ground.inventory.all()}
        for name in [name for name in self.monitor.watches if name not in nodes]:
            self.monitor.forget(name)
            self._kept.pop(name, None)
            await self.rounds.drop(name)
        for name, node in nodes.items():
            known = self.monitor.watches.get(name)
            if known is None or known.node != node:
                self.monitor.watch(node)
            if name not in self.rounds.turns:
                self.rounds.add(self.monitor.watches[name])

    def _take_operations(self) -> None:
        snapshot = self._ground.state.get(Section.operations)
        if snapshot.version != self._operations:
            self._operations = snapshot.version
            self.monitor.busy(busy_of(snapshot.value or ()))

    async def _tell(self) -> None:
        """What happened, and readings. Raises StoreError; what was not told waits."""
        readings, self._readings = self._readings, {}
        for event in readings.values():
            await self._ground.publish(event)
        while self.monitor.news:
            news = self.monitor.news.popleft()
            try:
                await self._ground.note(news.event, news.severity, news.attributes)
            except ApplianceError:
                self.monitor.news.appendleft(news)
                raise

    # -- what operators do

    async def refresh(self, names: Sequence[str], limit: float = 25.0, *, facts: bool = True) -> None:
        """Look at nodes now, and ask for their facts; returns when all have answered, or did not within `limit` seconds."""
        turns = [self.rounds.turns[name] for name in names if name in self.rounds.turns]
        waiting = [each.hurry("metrics") for each in turns]
        waiting += [each.hurry("facts") for each in turns if facts]
        if waiting:
            await asyncio.wait(waiting, timeout=limit)
        self.monitor.show()


def busy_of(operations: Sequence[OperationStatus]) -> dict[str, str]:
    """Node → the operation that changes it now."""
    return {
        run.node: operation.operation_id
        for operation in operations
        if operation.stage not in ENDED
        for run in operation.runs
        if run.state is RunState.running
    }

"""The agents as a service: joins what is known of them whenever a part of it is another one, and shows that."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from appliance import __version__
from appliance.core.agents.join import Ears, counts, join
from appliance.core.agents.model import Agent, AgentsStatus, AgentState
from appliance.core.figures import counted
from appliance.core.fleet.model import FleetStatus
from appliance.core.model import Health, HealthReport
from appliance.core.ports import Clock
from appliance.core.state import LiveState, Section
from appliance.core.tasks.model import TasksStatus, TransportStatus

AT_MOST = 1.0
"""Least seconds between two joins."""
AT_LEAST = 5.0
"""Most seconds between two joins: silence is seen where nothing changes."""
LOST = 0.5
"""Share of a lease by which a gap in our own watching counts as not having heard: the machine slept, or was stopped."""


class AgentsService:
    """Joins and shows them (implements ports.Service).

    Args:
        state: Read and written.
        clock: For silence.
        lease_s: Seconds without a sign of life after which a worker is silent.
        version: Of this appliance.
    """

    name = "agents"
    summary = "Joins what SSH and the tasks tell of the agents on other machines"
    depends: tuple[str, ...] = ()

    def __init__(self, state: LiveState, clock: Clock, lease_s: float, version: str = __version__) -> None:
        self._state, self._clock, self._lease_s, self._version = state, clock, lease_s, version
        self._since: float | None = None
        """Monotonic instant since when signs of life can come; None where they cannot."""
        self._looked: float | None = None

    async def start(self) -> None:
        """Show what is known."""
        self._since = self._looked = None
        self.show()

    async def run(self) -> None:
        """Follow both until cancelled."""
        changed = asyncio.Event()
        watch = self._state.watch({Section.fleet, Section.tasks}, lambda _: changed.set(), AT_MOST)
        try:
            while True:
                changed.clear()
                self.show()
                try:
                    async with asyncio.timeout(AT_LEAST):
                        await changed.wait()
                except TimeoutError:
                    continue
        finally:
            watch.close()

    async def stop(self) -> None:
        """Nothing is held."""

    async def health(self) -> HealthReport:
        """Degraded while one is silent."""
        agents = self.agents
        if not agents:
            return HealthReport(Health.absent, "no machine and no worker is known", "prime-spark fleet add NAME --host ADDRESS")
        many = counts(agents)
        told = ", ".join(f"{number} {state.value}" for state, number in many.items() if number)
        told = f"{counted(len(agents), 'machine')}: {told}"
        silent = next((each for each in agents if each.state is AgentState.silent), None)
        if silent is not None:
            return HealthReport(Health.degraded, f"{silent.node or silent.worker}: {silent.reason} ({told})", silent.next_step)
        return HealthReport(Health.healthy, told)

    @property
    def agents(self) -> Sequence[Agent]:
        """As they were last shown."""
        found = self._state.get(Section.agents).value
        return found.agents if isinstance(found, AgentsStatus) else ()

    def show(self) -> None:
        """Join, and put it into the live state: an equal value wakes nobody."""
        fleet, tasks = self._state.get(Section.fleet).value, self._state.get(Section.tasks).value
        nodes = fleet.nodes if isinstance(fleet, FleetStatus) else ()
        known = tasks if isinstance(tasks, TasksStatus) else None
        ears = self._listen(known)
        self._state.put(Section.agents, join(nodes, known.workers if known is not None else (), ears, self._version))

    def _listen(self, tasks: TasksStatus | None) -> Ears:
        now = self._clock.monotonic()
        slept = self._looked is not None and now - self._looked > AT_LEAST + LOST * self._lease_s
        self._looked = now
        if tasks is None:
            self._since = None
            return Ears(False, False, "the service tasks has told nothing yet", "look at Services for why.")
        if not tasks.transport.up:
            self._since = None
            return Ears(False, False, *_deaf(tasks.transport))
        if self._since is None or slept:
            self._since = now
        return Ears(True, now - self._since > self._lease_s)


def _deaf(transport: TransportStatus) -> tuple[str, str]:
    if not transport.configured:
        return "there is no Kafka here: no sign of life can come", "set kafka.bootstrap_servers, here and there."
    return f"no sign of life can come: {transport.reason or 'Kafka is not reached'}", transport.next_step

"""Deployments as a service: a keeper for each service that is deployed, the balancer, and what is shown of both."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from appliance.core.deploy import status
from appliance.core.deploy.book import Wanted
from appliance.core.deploy.discovery import Discovery
from appliance.core.deploy.ground import Ground
from appliance.core.deploy.keeper import Keeper
from appliance.core.deploy.model import DeployStatus
from appliance.core.figures import counted
from appliance.core.model import Health, HealthReport
from appliance.core.state import LiveState, Section
from appliance.errors import AbsentError

log = logging.getLogger(__name__)

SHOWN = 0.25
"""Least seconds between two showings."""
COUNTED = 5.0
"""Seconds between two looks at the balancer's counts, where nothing else looks."""
NOTHING = "no service is deployed"
FIRST = "prime-spark deploy apply --file SERVICE.toml; see docs/deploy.md"


class DeployService:
    """Runs it (implements ports.Service).

    Args:
        ground: See Ground; its `changed` is `poke` here.
        state: Shown there.
    """

    name = "deploy"
    summary = "Keeps deployed services at their version and number"
    depends: tuple[str, ...] = ("store",)

    def __init__(self, ground: Ground, state: LiveState) -> None:
        self.ground = ground
        self.keepers: dict[str, Keeper] = {}
        self._state = state
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._dirty = asyncio.Event()
        self._runs = False
        self.discovery = Discovery(lambda: self.keepers, ground.clock.monotonic)

    def poke(self) -> None:
        """Something is to be shown."""
        self._dirty.set()

    async def start(self) -> None:
        """Read what is deployed; find the balancer of an earlier life. Nothing is contacted yet."""
        await self.ground.traffic.balancer.adopt()
        for wanted in (await self.ground.book.services()).values():
            keeper = Keeper(self.ground, wanted)
            await keeper.load()
            keeper.elastic.resume()
            keeper.aim()  # all of them before any is carried out: a balancer that was found serves them all
            self.keepers[wanted.name] = keeper
        self.show()

    async def run(self) -> None:
        """Work until cancelled."""
        self._runs = True
        for keeper in self.keepers.values():
            self._keep(keeper)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(COUNTED):
                    await self._dirty.wait()
            self._dirty.clear()
            if self.keepers:
                await self.ground.traffic.look()
            self._sweep()
            self.show()
            await asyncio.sleep(SHOWN)

    def _keep(self, keeper: Keeper) -> None:
        self._tasks[keeper.name] = asyncio.create_task(keeper.run(), name=f"deploy {keeper.name}")

    def _sweep(self) -> None:
        """Forget services that were removed; begin anew with one whose keeper broke."""
        for name, task in list(self._tasks.items()):
            if not task.done():
                continue
            keeper = self.keepers[name]
            if keeper.done:
                del self.keepers[name], self._tasks[name]
            elif not task.cancelled():
                log.error("the keeper of %s broke and is begun anew", name, exc_info=task.exception())
                self._keep(keeper)

    def known(self, name: str) -> Keeper | None:
        """The keeper of a service; None where there is none, or where it was removed a moment ago."""
        keeper = self.keepers.get(name)
        return keeper if keeper is not None and not keeper.done else None

    def take(self, wanted: Wanted) -> Keeper:
        """The keeper of a service; a new one where it is new."""
        keeper = self.known(wanted.name)
        if keeper is None:
            keeper = self.keepers[wanted.name] = Keeper(self.ground, wanted)
            if self._runs:
                self._keep(keeper)
        return keeper

    async def stop(self) -> None:
        """Let go of everything; replicas go on, the balancer ends with the appliance."""
        self._runs = False
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()
        self.keepers.clear()
        await self.ground.probes.close()
        await self.ground.traffic.stop()

    async def health(self) -> HealthReport:
        """By how the services are."""
        now = self.status()
        if not now.services:
            return HealthReport(Health.healthy, NOTHING, FIRST)
        details = {each.name: each.reason for each in now.services}
        for level in (Health.unhealthy, Health.degraded):
            ill = [each for each in now.services if each.health == level.value]
            if ill:
                told = f"{', '.join(each.name for each in ill[:5])}: {ill[0].reason}"
                # a service that does not run is no fault of this part: the appliance is degraded by it
                return HealthReport(Health.degraded, told, ill[0].next_step, details)
        return HealthReport(Health.healthy, f"{counted(len(now.services), 'service')} as wanted", details=details)

    def status(self) -> DeployStatus:
        """Everything, as of now."""
        services = tuple(status.deployed(self.keepers[name]) for name in sorted(self.keepers))
        tally = self.ground.tally
        return DeployStatus(services, self.ground.traffic.balancer.status(), tally.completed, tally.ended, tally.scaled)

    def show(self) -> DeployStatus:
        """Put it into the live state."""
        now = self.status()
        self._state.put(Section.deployments, now)
        return now

    def needs_balancer(self, why: str) -> None:
        """Raises AbsentError where there is none."""
        told = self.ground.traffic.balancer.status()
        if told.health == "absent":
            raise AbsentError(f"{told.reason}, and {why}.", told.next_step)

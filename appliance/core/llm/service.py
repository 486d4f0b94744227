"""The gateway as a service. With nothing configured it is absent, and loads nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.core.figures import counted
from appliance.core.llm.model import Answer, Routed, Strategy
from appliance.core.model import Health, HealthReport
from appliance.core.ports import Clock
from appliance.core.secrets import Secrets
from appliance.core.state import LiveState, Section
from appliance.core.store import Store
from appliance.errors import AbsentError, NotRunningError
from appliance.settingllm import LlmSettings

if TYPE_CHECKING:
    from appliance.core.llm.gateway import Gateway
    from appliance.core.memory.answers import Keeper
    from appliance.core.power.model import PowerStatus

BUSY = 1.0
"""Seconds after which the load is shown again while requests are under way."""
HOW = 'set llm.edge_url = "http://127.0.0.1:11434" (OLLAMA_EDGE_URL) where Ollama runs, or [llm.endpoints.NAME]; docs/llm.md.'


@dataclass(frozen=True)
class Ground:
    """What the gateway stands on.

    Attributes:
        settings: As the operator has them.
        store: For the ledger.
        secrets: For keys.
        state: Shown there (Section.llm); the power is read there.
        clock: For times.
        memory: For kept answers, where there is one.
        noted: Told of the end of every request, with what there is of an answer.
    """

    settings: LlmSettings
    store: Store
    secrets: Secrets
    state: LiveState
    clock: Clock
    memory: Callable[[], Keeper | None] = lambda: None
    noted: Callable[[Routed, Answer | None], None] = lambda *_: None


class LlmService:
    """Runs the gateway (implements ports.Service).

    Args:
        ground: What it stands on.
    """

    name = "llm"
    summary = "One door to the language models at the edge, on the agent and in the cloud"
    depends: tuple[str, ...] = ("store",)

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._gateway: Gateway | None = None

    @property
    def settings(self) -> LlmSettings:
        """As the operator has them."""
        return self._ground.settings

    @property
    def gateway(self) -> Gateway:
        """It. Raises AbsentError where nothing is configured, NotRunningError while it does not run."""
        if self._gateway is None:
            if not self._ground.settings.all_endpoints():
                raise AbsentError("No language model is configured.", HOW)
            raise NotRunningError("The gateway to the language models does not run.", "see `prime-spark services`.")
        return self._gateway

    async def start(self) -> None:
        """Make the endpoints' clients. Raises AbsentError where none is configured, StoreError."""
        if not self._ground.settings.all_endpoints():
            raise AbsentError("no language model is configured", HOW)
        from appliance.core.llm.build import make_gateway

        gateway = await make_gateway(self._ground, self._power)
        gateway.noted = self._ground.noted
        await gateway.recall()
        self._gateway = gateway
        self._ground.state.put(Section.llm, gateway.status())

    async def run(self) -> None:
        """Probe, and show."""
        gateway = self.gateway
        probing = asyncio.create_task(self._probe(gateway), name="llm probes")
        from appliance.core.llm.gateway import PUBLISH

        watch = self._ground.state.watch({Section.power}, lambda _: gateway.changed.set())
        again: float | None = None
        try:
            while not probing.done():
                changed = asyncio.create_task(gateway.changed.wait())
                await asyncio.wait({changed, probing}, timeout=again, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                gateway.changed.clear()
                shown = gateway.status()
                self._ground.state.put(Section.llm, shown)
                again = BUSY if any(each.in_flight or each.queue for each in shown.endpoints) else None
                await asyncio.sleep(PUBLISH)
            probing.result()
        finally:
            watch.close()
            probing.cancel()

    async def _probe(self, gateway: Gateway) -> None:
        while True:
            await gateway.probe()
            await asyncio.sleep(self._ground.settings.probe_seconds)

    async def stop(self) -> None:
        """Let go of all endpoints."""
        gateway, self._gateway = self._gateway, None
        if gateway is not None:
            await gateway.close()

    async def health(self) -> HealthReport:
        """As well as its endpoints: degraded where one does not answer, unhealthy where none does."""
        found = self.gateway.status().endpoints
        bad = [each for each in found if each.health is Health.unhealthy]
        told = "; ".join(f"{each.name}: {each.reason}" for each in bad)
        if all(each.health is Health.absent for each in found):
            return HealthReport(Health.absent, f"{found[0].name}: {found[0].reason}", found[0].next_step)
        if bad and all(each.health in {Health.unhealthy, Health.absent} for each in found):
            return HealthReport(Health.unhealthy, f"no endpoint answers: {told}", bad[0].next_step)
        if bad:
            return HealthReport(Health.degraded, told, bad[0].next_step)
        unwell = next((each for each in found if each.health is Health.degraded and each.probed and not each.switch), None)
        if unwell is not None:
            return HealthReport(Health.degraded, f"{unwell.name}: {unwell.reason}", unwell.next_step)
        return HealthReport(Health.healthy, f"{counted(len(found), 'endpoint')} answer, {found_strategy(self)}")

    def _power(self) -> str | None:
        power: PowerStatus | None = self._ground.state.get(Section.power).value
        return None if power is None else power.routing


def found_strategy(service: LlmService) -> str:
    """The strategy that holds now."""
    holds: Strategy = service.gateway.status().holds
    return holds.value

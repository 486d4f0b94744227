"""Looks after the store that questions go to: says how it is, and closes its connections."""

from __future__ import annotations

import asyncio
import logging

from appliance.core.analytics.querying import Analytics
from appliance.core.figures import counted
from appliance.core.model import Health, HealthReport
from appliance.core.state import LiveState, Section
from appliance.errors import AbsentError, ApplianceError

log = logging.getLogger(__name__)

LOOK = 5.0
"""Seconds between two looks whether the store answers: what health says is no older."""


class QueryService:
    """The store of the questions (implements ports.Service).

    Args:
        analytics: Asks it.
        state: Has the counters.
        looks: Whether to look by itself; the embedded store is looked after by who writes there.
    """

    name = "queries"
    summary = "Answers questions about the past"
    depends: tuple[str, ...] = ("analytics",)

    def __init__(self, analytics: Analytics, state: LiveState, *, looks: bool) -> None:
        self._analytics = analytics
        self._state = state
        self._looks = looks
        self._error: ApplianceError | None = None

    async def start(self) -> None:
        """A store that is away is looked for while it runs; the others wait for nothing."""

    async def run(self) -> None:
        """Look at the interval until cancelled."""
        while True:
            if self._looks:
                await self._look()
            await asyncio.sleep(LOOK)

    async def _look(self) -> None:
        try:
            await self._analytics.store.open()
            await self._analytics.store.look()
        except AbsentError:
            raise
        except ApplianceError as error:
            if self._error is None:
                log.warning("questions about the past cannot be answered: %s", error.message)
            self._error = error
        else:
            self._error = None

    async def stop(self) -> None:
        """Give connections back."""
        await self._analytics.close()

    async def health(self) -> HealthReport:
        """Degraded while the store does not answer: what is written goes on, and the embedded store still answers."""
        if self._error is not None:
            step = f"{self._error.next_step} Meanwhile `analytics query METRIC --local true` asks this device's own readings."
            return HealthReport(Health.degraded, self._error.message, step)
        failure = self._analytics.failure
        if failure is not None and not self._looks:
            return HealthReport(Health.degraded, f"The last question failed: {failure.message}", failure.next_step)
        stats = self._state.get(Section.analytics).value
        asked = "no question yet" if stats is None else f"{counted(stats.total, 'question')}, {stats.cached} from the cache"
        return HealthReport(Health.healthy, f"{self._analytics.store.name}: {asked}")

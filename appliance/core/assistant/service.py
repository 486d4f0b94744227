"""The assistant as a service: absent where no language model is configured; nothing of it is loaded before it is asked."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from appliance.core.figures import counted
from appliance.core.model import Health, HealthReport
from appliance.errors import AbsentError

if TYPE_CHECKING:
    from appliance.core.assistant.desk import Desk


class AssistantService:
    """Ends what is under way when the appliance stops (implements ports.Service).

    Args:
        make: Makes the desk when it is first needed.
        configured: Whether there is an endpoint of a language model.
        how: The next step where there is none.
    """

    name = "assistant"
    summary = "Talks with language models about the appliance, with its state and actions"
    depends: tuple[str, ...] = ("memory",)

    def __init__(self, make: Callable[[], Desk], configured: Callable[[], bool], how: str) -> None:
        self._make = make
        self._configured = configured
        self._how = how
        self._used = False

    @functools.cached_property
    def desk(self) -> Desk:
        """What users do. Talks and facts are there also where no model is."""
        self._used = True
        return self._make()

    async def start(self) -> None:
        """Raises AbsentError where there is nobody to talk with."""
        if not self._configured():
            raise AbsentError("no language model is configured", self._how)

    async def run(self) -> None:
        """Nothing goes on by itself."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """End the answers; what was written of them is kept."""
        if self._used:
            await self.desk.close()

    async def health(self) -> HealthReport:
        """Healthy: how the models are, the service llm says."""
        busy = self.desk.busy if self._used else 0
        return HealthReport(Health.healthy, f"{counted(busy, 'answer')} under way")

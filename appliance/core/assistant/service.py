"""The assistant as a service: absent where no language model is configured; nothing of it is loaded before it is asked."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from appliance.core.figures import counted
from appliance.core.model import Health, HealthReport
from appliance.errors import AbsentError, ApplianceError

if TYPE_CHECKING:
    from appliance.core.assistant.desk import Desk

log = logging.getLogger(__name__)


class AssistantService:
    """Ends what is under way when the appliance stops (implements ports.Service).

    Args:
        make: Makes the desk when it is first needed.
        configured: Whether there is an endpoint of a language model.
        how: The next step where there is none.
        gone: Whether an account is there no more.
    """

    name = "assistant"
    summary = "Talks with language models about the appliance, with its state and actions"
    depends: tuple[str, ...] = ("memory",)

    def __init__(
        self, make: Callable[[], Desk], configured: Callable[[], bool], how: str, gone: Callable[[str], Awaitable[bool]]
    ) -> None:
        self._make = make
        self._configured = configured
        self._how = how
        self._gone = gone
        self._used = False
        self._forgetting: set[asyncio.Task[None]] = set()

    @functools.cached_property
    def desk(self) -> Desk:
        """What users do. Talks and facts are there also where no model is."""
        self._used = True
        return self._make()

    def account_changed(self, user: str) -> None:
        """Forget what is kept of a user whose account is gone: the next one of that name is somebody else."""
        task = asyncio.create_task(self._forget(user), name="assistant forgets")
        self._forgetting.add(task)
        task.add_done_callback(self._forgetting.discard)

    async def _forget(self, user: str) -> None:
        try:
            if await self._gone(user):
                await self.desk.forget_user(user)
        except ApplianceError as error:
            log.error("talks and facts of %s, whose account may be gone, are still kept: %s", user, error.message)

    async def start(self) -> None:
        """Raises AbsentError where there is nobody to talk with."""
        if not self._configured():
            raise AbsentError("no language model is configured", self._how)

    async def run(self) -> None:
        """Nothing goes on by itself."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """End the answers; what was written of them is kept."""
        if self._forgetting:
            await asyncio.wait(set(self._forgetting), timeout=2.0)
        if self._used:
            await self.desk.close()

    async def health(self) -> HealthReport:
        """Healthy: how the models are, the service llm says."""
        busy = self.desk.busy if self._used else 0
        return HealthReport(Health.healthy, f"{counted(busy, 'answer')} under way")

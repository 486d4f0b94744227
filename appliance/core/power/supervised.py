"""The supervisor as the plan sees it."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.core.model import Phase
from appliance.core.services import Supervisor

WHY = "by the power plan, until mains is back"


class SupervisedServices:
    """Implements hands.Services.

    Args:
        supervisor: Keeps the services alive.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def names(self) -> Sequence[str]:
        """Of all."""
        return tuple(status.name for status in self._supervisor.statuses())

    def running(self) -> Sequence[str]:
        """Of those that were not stopped: also one that is tried again counts."""
        stopped = {Phase.stopped, Phase.stopping}
        return tuple(status.name for status in self._supervisor.statuses() if status.phase not in stopped)

    async def halt(self, name: str) -> object:
        """Stop one. Raises NotFoundError, ConflictError."""
        return await self._supervisor.halt(name, WHY)

    async def restart(self, name: str) -> object:
        """Start one again. Raises NotFoundError, ConflictError."""
        return await self._supervisor.restart(name)

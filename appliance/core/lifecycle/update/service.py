"""Updates as a service: absent where this machine was not started from our image. What does the work is loaded only there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from appliance.core.lifecycle.update.model import UpdateStatus
from appliance.core.model import Health, HealthReport
from appliance.core.state import LiveState, Section
from appliance.errors import AbsentError

if TYPE_CHECKING:
    from appliance.core.lifecycle.update.desk import Desk


class UpdateService:
    """Looks after trials and looks for updates (implements ports.Service).

    Args:
        make: Makes the desk, which does the work. Raises AbsentError where this machine was not started from our image.
        state: Where the status is shown (Section.update).
        version: Of the program, for machines that have no image.
    """

    name = "update"
    summary = "Installs updates of the image, and keeps one only when it was found healthy"
    depends: tuple[str, ...] = ("store",)

    def __init__(self, make: Callable[[], Desk], state: LiveState, version: str) -> None:
        self._make = make
        self._state = state
        self._version = version
        self._desk: Desk | None = None

    @property
    def desk(self) -> Desk:
        """What does the work. Raises AbsentError where this machine was not started from our image."""
        if self._desk is None:
            self._desk = self._make()
        return self._desk

    async def start(self) -> None:
        """Raises AbsentError where this machine was not started from our image, or has no RAUC."""
        try:
            desk = self.desk
        except AbsentError:
            self._state.put(Section.update, UpdateStatus(version=self._version))
            raise
        await desk.open()

    async def run(self) -> None:
        """Judge a trial, then look for updates when it is time."""
        await self.desk.run()

    async def stop(self) -> None:
        """Jobs are ended by whoever runs them; what RAUC writes goes on without us."""

    async def health(self) -> HealthReport:
        """As the trial and the boot choice are."""
        return self._desk.health() if self._desk is not None else HealthReport(Health.degraded, "not started yet")

"""Looks for hardware now and then, and says what is there and what is missing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from appliance.core.model import Device, Health, HealthReport
from appliance.core.state import LiveState, Section

log = logging.getLogger(__name__)

INTERVAL = 30.0

Detector = Callable[[], Device]


class DeviceService:
    """Hardware as it is now (implements ports.Service).

    Args:
        detectors: Each looks for one kind of device; blocks for some milliseconds at most.
        state: Where the devices are shown.
    """

    name = "devices"
    summary = "Looks for accelerator, microphone, UPS, I2C, GPIO and keyboards"
    depends: tuple[str, ...] = ()

    def __init__(self, detectors: Sequence[Detector], state: LiveState) -> None:
        self._detectors = detectors
        self._state = state

    async def start(self) -> None:
        """Look once."""
        await self.look()

    async def run(self) -> None:
        """Look again at intervals."""
        while True:
            await asyncio.sleep(INTERVAL)
            await self.look()

    async def stop(self) -> None:
        """Nothing is held."""

    async def look(self) -> tuple[Device, ...]:
        """Ask every detector."""
        found = await asyncio.to_thread(lambda: tuple(detect_one(detector) for detector in self._detectors))
        self._state.put(Section.devices, found)
        return found

    async def health(self) -> HealthReport:
        """Degraded when a device that is there is not well."""
        devices: tuple[Device, ...] = self._state.get(Section.devices).value or ()
        ill = [device for device in devices if device.health in {Health.degraded, Health.unhealthy}]
        if ill:
            return HealthReport(
                Health.degraded, "; ".join(f"{device.name}: {device.reason}" for device in ill), ill[0].next_step
            )
        there = sum(device.health is Health.healthy for device in devices)
        return HealthReport(Health.healthy, f"{there} of {len(devices)} kinds of hardware are there")


def detect_one(detector: Detector) -> Device:
    """What a detector says; a failing one is told as unhealthy."""
    try:
        return detector()
    except Exception as error:
        log.exception("a detector failed")
        name = getattr(detector, "__name__", type(detector).__name__)
        return Device("unknown", name, Health.unhealthy, f"detection failed: {type(error).__name__}: {error}", "see the log.")

"""Looks after one device: reads it, finds one that was missing, and brings back one that failed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from appliance.core.backoff import backoff
from appliance.core.figures import counted
from appliance.core.inference.engine.device import EngineDevice
from appliance.core.inference.engine.limits import Limits
from appliance.core.model import Device, Health
from appliance.core.ports import Clock
from appliance.errors import DeviceError, DeviceStalledError, ModelError

log = logging.getLogger(__name__)

SILENT = 2
"""Readings in a row that may fail before the device is held to have failed."""


class Watchdog:
    """Care for one device.

    Args:
        device: Which.
        limits: Times.
        clock: For the time since it came back.
        on_change: Called when the device can be used again, or is to be spared: requests may be sent elsewhere.
        on_event: Called with (kind, reason, next step).
        on_failure: Called where the device is found to have failed.
    """

    def __init__(
        self,
        device: EngineDevice,
        limits: Limits,
        clock: Clock,
        *,
        on_change: Callable[[], None],
        on_event: Callable[[EngineDevice, str, str, str], None],
        on_failure: Callable[[EngineDevice, ModelError], None],
    ) -> None:
        self._device = device
        self._limits = limits
        self._clock = clock
        self._returned: float | None = None
        self._streak = 0
        self._silent = 0
        self._on_change = on_change
        self._on_event = on_event
        self._on_failure = on_failure

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._care()
            except Exception:
                log.exception("looking after %s failed; it is tried again", self._device.name)
                await asyncio.sleep(self._limits.poll)

    async def _care(self) -> None:
        if self._device.spent:
            await asyncio.sleep(self._limits.absent_retry)
        elif self._device.health is Health.absent:
            await asyncio.sleep(self._limits.absent_retry)
            await self._look()
        elif self._device.works:
            await self._watch()
        else:
            await self._bring_back()

    async def _look(self) -> None:
        if await self._device.detect():
            self._on_event(self._device, "found", self._device.reason, "")
            self._on_change()

    async def _watch(self) -> None:
        """Wait for the next look, or for a failure; then look."""
        device = self._device
        try:
            async with asyncio.timeout(self._limits.poll):
                await device.failed.wait()
        except TimeoutError:
            pass
        else:
            return
        device.poll_state()
        before = device.hot
        await self._read()
        for notice in device.reading.notices if device.reading is not None else ():
            self._on_event(
                device, "notice", notice, "see to its cooling and its power supply; then: sudo dmesg | grep -i hailo"
            )
        if bool(before) != bool(device.hot):
            kind, reason = ("hot", device.hot) if device.hot else ("cool", "it is cool again")
            self._on_event(device, kind, reason, "see to its cooling." if device.hot else "")
            self._on_change()

    async def _read(self) -> None:
        """Whether it is there still, and what it says; one that is gone, or says nothing any more, has failed."""
        device = self._device
        try:
            found = await asyncio.to_thread(device.accelerator.detect)
            if found.health is Health.absent:
                self._on_failure(device, DeviceError(f"{device.name} is gone: {found.reason}.", found.next_step))
                return
            await device.read()
            self._silent = 0
        except DeviceStalledError as error:
            self._on_failure(device, error)
        except ModelError as error:
            device.reading = None
            self._silent += 1
            log.debug("%s does not tell how it is: %s", device.name, error)
            if self._silent >= SILENT and isinstance(error, DeviceError):
                self._silent = 0
                self._on_failure(device, error)

    async def _bring_back(self) -> None:
        """Reset and prove it, with growing pauses; one that fails soon after its return waits longer from the beginning."""
        device, failures, relapses = self._device, 0, self._relapses()
        while True:
            failures += 1
            await asyncio.sleep(backoff(failures + relapses, self._limits.probe_first, self._limits.probe_longest))
            try:
                found = await asyncio.to_thread(device.accelerator.detect)
                if found.health is not Health.absent:
                    await device.reset()
                    await device.prove()
            except DeviceError as error:
                level = logging.WARNING if not failures & (failures - 1) else logging.DEBUG  # 1, 2, 4, 8, …: it may last
                log.log(level, "%s does not come back (attempt %d): %s", device.name, failures, error)
                device.set(Health.unhealthy, f"{error.message} Attempts to bring it back: {failures}.", error.next_step)
                continue
            except ModelError as error:  # the device works, but not with the model that it held
                log.warning("%s came back without %s", device.name, error)
            self._is(found, failures)
            return

    def _relapses(self) -> int:
        """How often in a row it failed soon after it had come back."""
        soon = self._returned is not None and self._clock.monotonic() - self._returned < self._limits.relapse
        self._streak = self._streak + 1 if soon else 0
        return self._streak

    def _is(self, found: Device, attempts: int) -> None:
        device = self._device
        self._returned = self._clock.monotonic()
        device.failed.clear()
        device.set(found.health, found.reason, found.next_step)
        if device.spent:
            found = Device(found.kind, found.name, device.health, device.reason, device.next_step)
        if device.works:
            self._on_event(device, "returned", f"it answers again after {counted(attempts, 'attempt')}", "")
        else:
            self._on_event(device, "lost", found.reason, found.next_step)
        self._on_change()

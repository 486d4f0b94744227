"""Watches the readings that come in: what is wrong becomes events and Section.quality."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any

import msgspec

from appliance.core.analytics.model import QualityFinding
from appliance.core.analytics.quality import Judge
from appliance.core.bus import Bus
from appliance.core.events import HostMetrics, Noted
from appliance.core.figures import counted
from appliance.core.model import Health, HealthReport
from appliance.core.ports import Clock
from appliance.core.state import LiveState, Section
from appliance.errors import StoreError

log = logging.getLogger(__name__)

LOOK = 5.0
"""Seconds between two looks for silence and at the clock."""
EVENTS, WINDOW = 20, 60.0
"""Most events in so many seconds; what is held back is counted and told with the next one."""
TOGETHER = 3
"""More metrics than these that fall silent, or come back, at the same moment are one event: a machine that stood still."""
NAMES = 100
"""Most metrics that such an event names."""
SHOWN = 200
"""Findings in Section.quality."""


class QualityService:
    """Checks telemetry (implements ports.Service).

    Args:
        device_id: Of this machine.
        bus: Brings readings, and takes the events.
        state: Shows what is wrong now.
        clock: Both clocks.
    """

    name = "quality"
    summary = "Looks for gaps, duplicates, impossible and late values in the telemetry"
    depends: tuple[str, ...] = ("store",)

    def __init__(self, device_id: str, bus: Bus, state: LiveState, clock: Clock) -> None:
        self._device_id = device_id
        self._judge = Judge(device_id)
        self._bus = bus
        self._queue = bus.subscribe("quality", (HostMetrics,), capacity=2000)
        self._state = state
        self._clock = clock
        self._told: deque[float] = deque(maxlen=EVENTS)
        self._held = 0
        self._begun: set[tuple[str, str, float, str]] = set()

    async def start(self) -> None:
        """Forget what was usual before: a service that was away saw nothing."""
        self._judge = Judge(self._device_id)
        self._judge.clock(self._clock.wall(), self._clock.monotonic())
        self._begun.clear()
        self._show()

    async def run(self) -> None:
        """Judge until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._collect(), name="quality collect")
            group.create_task(self._look_regularly(), name="quality look")

    async def stop(self) -> None:
        """Nothing is held."""

    async def health(self) -> HealthReport:
        """Well as long as it runs: bad data is the data's fault."""
        found = self._judge.findings()
        names = ", ".join(sorted({f"{each.check} of {each.metric}" for each in found})[:3])
        reason = f"{counted(len(found), 'finding')}: {names}" if found else "nothing is wrong with the data"
        if self._judge.forgotten:
            reason += f"; {counted(self._judge.forgotten, 'metric')} not watched, there are too many"
        return HealthReport(Health.healthy, reason, details={"findings": len(found), "held_back": self._held})

    async def _collect(self) -> None:
        while True:
            await self.take([event for event in await self._queue.batch() if isinstance(event, HostMetrics)])

    async def _look_regularly(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            await self.look()

    async def take(self, events: list[HostMetrics]) -> None:
        """Judge what has come."""
        wall, monotonic = self._clock.wall(), self._clock.monotonic()
        await self._check_clock(wall, monotonic)
        for event in events:
            await self._tell(self._judge.take(event, wall, monotonic))
        self._show()

    async def look(self) -> None:
        """Look for what did not come."""
        wall, monotonic = self._clock.wall(), self._clock.monotonic()
        await self._check_clock(wall, monotonic)
        await self._tell(self._judge.silence(wall, monotonic))
        self._show()

    async def _check_clock(self, wall: float, monotonic: float) -> None:
        stepped = self._judge.clock(wall, monotonic)
        if stepped is not None:
            await self._publish(
                "quality.clock_stepped", "warning", {"seconds": round(stepped, 3), "device_id": self._device_id}
            )

    async def _tell(self, findings: list[QualityFinding]) -> None:
        """What begins and ends at one moment; many gaps as one."""
        alike: dict[tuple[str, str], list[QualityFinding]] = {}
        for finding in findings:
            alike.setdefault((finding.check, _state(finding)), []).append(finding)
        for (check, state), found in alike.items():
            if check == "gap" and len(found) > TOGETHER:
                await self._tell_alike(found, state)
            else:
                for finding in found:
                    await self._tell_alike([finding], state)

    async def _tell_alike(self, found: list[QualityFinding], state: str) -> None:
        """One event. An end is told where its beginning was, and only there: no incident looks open for good."""
        keys = {_key(finding) for finding in found}
        if state == "began":
            if await self._publish(f"quality.{found[0].check}", "warning", _attributes(found, state), len(found)):
                self._begun |= keys
            return
        told = [finding for finding in found if _key(finding) in self._begun]
        self._begun -= keys
        self._held += len(found) - len(told)
        if told:
            await self._publish(f"quality.{told[0].check}", "info", _attributes(told, state), len(told), always=True)

    async def _publish(
        self, event: str, severity: str, attributes: dict[str, Any], weight: int = 1, *, always: bool = False
    ) -> bool:
        """One event, where there were not too many lately; each finding is in the live state in any case.

        Returns:
            Whether it was kept.
        """
        now = self._clock.monotonic()
        if not always and len(self._told) == EVENTS and now - self._told[0] < WINDOW:
            self._held += weight
            return False
        self._told.append(now)
        held, self._held = self._held, 0
        note = Noted(
            time=self._clock.wall(), event=event, severity=severity,
            attributes={**attributes, **({"held_back_before": held} if held else {})},
        )  # fmt: skip
        try:
            await self._bus.publish(note)
        except StoreError as error:
            self._held += weight + held
            log.warning("%s is not kept: %s", event, error.message)
            return False
        return True

    def _show(self) -> None:
        self._state.put(Section.quality, self._judge.findings()[:SHOWN])


def _state(finding: QualityFinding) -> str:
    return "began" if finding.until is None else "gone" if finding.gone else "ended"


def _key(finding: QualityFinding) -> tuple[str, str, float, str]:
    """The same at the beginning and at the end of an incident."""
    return finding.check, finding.metric, finding.since, finding.detail


def _attributes(found: list[QualityFinding], state: str) -> dict[str, Any]:
    """Of one finding all there is; of many the earliest, with the names of all."""
    if len(found) == 1:
        return {"state": state, **msgspec.structs.asdict(found[0])}
    first = min(found, key=lambda finding: finding.since)
    names = sorted({finding.metric for finding in found})
    more = {"metric": f"{len(found)} metrics", "metrics": names[:NAMES], "count": len(found)}
    return {"state": state, **msgspec.structs.asdict(first), **more}

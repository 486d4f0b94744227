"""Reads the host at an interval; each reading is an edge.telemetry event and the live state's host section."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import msgspec

from appliance.core.bus import Bus
from appliance.core.events import HostMetrics, Noted
from appliance.core.model import Health, HealthReport, HostSample
from appliance.core.ports import Clock, HostProbe
from appliance.core.state import LiveState, Section

log = logging.getLogger(__name__)

STEP = 2.0
"""Seconds by which the wall clock must differ from the monotonic one to be called a step."""


class TelemetryService:
    """The host's numbers (implements ports.Service).

    Args:
        probe: Reads the machine.
        bus: Takes the events.
        state: Shows the newest reading.
        clock: For times and for noticing steps.
        interval: Seconds between readings.
    """

    name = "telemetry"
    summary = "Reads CPU, memory, disk, temperature, network and load of this machine"
    depends: tuple[str, ...] = ("store",)

    def __init__(self, probe: HostProbe, bus: Bus, state: LiveState, clock: Clock, interval: float) -> None:
        self._probe = probe
        self._bus = bus
        self._state = state
        self._clock = clock
        self._interval = interval
        self._last_error = ""
        self._offset = 0.0

    async def start(self) -> None:
        """Take the first reading; rates need a second one."""
        self._offset = self._clock.wall() - self._clock.monotonic()
        await self._read_once()

    async def run(self) -> None:
        """Read at the interval, not drifting with the time a reading takes."""
        due = self._clock.monotonic()
        while True:
            due = max(due + self._interval, self._clock.monotonic())
            await asyncio.sleep(due - self._clock.monotonic())
            await self._check_clock()
            await self._read_once()

    async def stop(self) -> None:
        """Nothing is held."""

    async def health(self) -> HealthReport:
        """Unhealthy when readings fail or stopped coming."""
        if self._last_error:
            return HealthReport(Health.unhealthy, f"the last reading failed: {self._last_error}", "see the log.")
        age = self._state.age(Section.host)
        if age is None or age > 3 * self._interval:
            return HealthReport(
                Health.unhealthy, "no reading for three intervals", "look for a blocked disk or an overloaded CPU."
            )
        return HealthReport(Health.healthy, f"a reading every {self._interval:g} s")

    async def _read_once(self) -> None:
        try:
            sample = await asyncio.to_thread(self._probe.read)
        except OSError as error:
            self._last_error = f"{type(error).__name__}: {error}"
            log.warning("the host could not be read: %s", error)
            return
        self._last_error = ""
        self._state.put(Section.host, sample)
        await self._bus.publish(HostMetrics(time=sample.time, metrics=metrics_of(sample), tags={"host": sample.hostname}))

    async def _check_clock(self) -> None:
        offset = self._clock.wall() - self._clock.monotonic()
        step, self._offset = offset - self._offset, offset
        if abs(step) >= STEP:
            log.warning("the wall clock was stepped by %+.1f s", step)
            note = Noted(
                time=self._clock.wall(), event="clock.stepped", severity="warning", attributes={"seconds": round(step, 3)}
            )
            await self._bus.publish(note)


def metrics_of(sample: HostSample) -> dict[str, float]:
    """The reading as named numbers (names of contracts.md, section 2); what the machine does not tell is left out."""
    plain = {
        "cpu_usage": sample.cpu_usage, "memory_usage": sample.memory_usage, "disk_usage": sample.disk_usage,
        "swap_usage": sample.swap_usage, "temperature_c": sample.temperature_c, "load_1m": sample.load_1m,
        "load_5m": sample.load_5m, "load_15m": sample.load_15m, "uptime_s": sample.uptime_s,
        "process_cpu": sample.process_cpu, "process_rss_bytes": float(sample.process_rss),
    }  # fmt: skip
    if sample.throttled is not None:
        plain["throttled"] = float(len(sample.throttled))
    real = [link for link in sample.network if link.name != "lo"]
    plain["net_tx_bytes"] = float(sum(link.tx_bytes for link in real))
    plain["net_rx_bytes"] = float(sum(link.rx_bytes for link in real))
    for name, rates in (("net_tx_rate", [link.tx_rate for link in real]), ("net_rx_rate", [link.rx_rate for link in real])):
        with contextlib.suppress(TypeError):  # no rate in the first reading
            plain[name] = float(sum(rates))  # type: ignore[arg-type]
    return {name: msgspec.convert(value, float) for name, value in plain.items() if value is not None}

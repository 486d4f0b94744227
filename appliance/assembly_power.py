"""The power domain, put together from settings, spine and drivers; a part of the composition root."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from appliance import upsparts
from appliance.core.ports import RemoteShell
from appliance.core.power.book import PowerBook
from appliance.core.power.hands import Sources, Tools
from appliance.core.power.model import PiPower, Setting
from appliance.core.power.policy import Limits
from appliance.core.power.service import Ground, PowerService, Wanted
from appliance.core.power.teller import Teller
from appliance.hw.poweroff import Poweroff

if TYPE_CHECKING:
    from appliance.core.memory.service import MemoryService
    from appliance.core.streams.service import StreamService
    from appliance.runtime import Appliance
    from appliance.settingpower import PowerSettings


def build(
    spine: Appliance, sources: Sources, streams: StreamService, memory: MemoryService, shell: RemoteShell
) -> PowerService:
    """The service; nothing is looked for yet, and no driver is loaded."""
    settings, book = spine.settings, PowerBook(spine.store, spine.clock)

    async def waiting() -> int:
        return (await streams.outbox.status()).waiting

    async def flush() -> None:
        await memory.memory.flush()

    wanted = settings.power
    return PowerService(Ground(
        wanted=wanted_of(wanted),
        drivers=lambda: upsparts.drivers(settings, spine.secrets),
        book=book,
        teller=Teller(book, spine.bus.publish, spine.audit),
        tools=Tools(sources, waiting, flush, shell, Poweroff()),
        publish=spine.bus.publish, jobs=spine.jobs, state=spine.state, clock=spine.clock, pi=_pi() if wanted.enabled else None,
        closing=spine.stopping.is_set,
    ))  # fmt: skip


def wanted_of(power: PowerSettings) -> Wanted:
    """The settings as the service has them."""
    limits = Limits(
        low=power.low_percent, critical=power.critical_percent, hysteresis=power.hysteresis_percent,
        low_runtime=60 * power.low_minutes, critical_runtime=60 * power.critical_minutes, longest=60 * power.longest_minutes,
        battery_after=power.battery_seconds, mains_after=power.mains_seconds, level_after=power.level_seconds,
        unknown_after=power.unknown_seconds, lost_after=power.lost_seconds, grace=power.grace_seconds,
    )  # fmt: skip
    return Wanted(Setting(power.mode), limits, power.feeds, power.probe_seconds, power.metrics_seconds)


def _pi() -> Callable[[], Awaitable[PiPower]]:
    """Asks the Pi; its file is loaded at the first question, in a thread."""
    probes: list[Callable[[], Awaitable[PiPower]]] = []

    def load() -> Callable[[], Awaitable[PiPower]]:
        from appliance.hw.pipower import PiProbe

        return PiProbe().read

    async def read() -> PiPower:
        if not probes:
            probes.append(await asyncio.to_thread(load))
        return await probes[0]()

    return read

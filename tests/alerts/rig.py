"""What the tests of the channels share: alerts, settings, and an office on a real store with a clock that the test moves."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from appliance.core.alerts.channels.channel import Channel
from appliance.core.alerts.channels.ground import Ground
from appliance.core.alerts.channels.model import ChannelStatus, Delivery
from appliance.core.alerts.channels.office import Office
from appliance.core.model import AlertState, AlertStatus, Severity
from appliance.core.secrets import Secrets
from appliance.core.state import LiveState, Section
from appliance.core.store import Store
from appliance.settingalerts import AlertSettings
from tests.support import ManualClock


def alert(
    rule: str = "cpu", subject: str = "host", state: AlertState = AlertState.firing, severity: str = "warning", **more: Any
) -> AlertStatus:
    """An alert."""
    given = {"message": f"{rule} of {subject} is bad", "since": 1000.0, **more}
    return AlertStatus(f"{rule}:{subject}", rule, subject, Severity(severity), state, **given)


def settings(**given: Any) -> AlertSettings:
    """Settings as a file would have them."""
    return AlertSettings.model_validate(given)


QUICK = {"group_wait_seconds": 0, "group_interval_seconds": 1}


class Desk:
    """An office with one look at a time."""

    def __init__(self, path: Path, wanted: AlertSettings, clock: ManualClock | None = None) -> None:
        self.path, self.wanted = path, wanted
        self.clock = clock or ManualClock()
        self.store = Store(path / "spark.db")
        self.store.open()
        self.state = LiveState(self.clock)
        self.secrets = Secrets(path / "secrets", {})
        self.office = Office(Ground(wanted, "pc", self.store, self.secrets, self.state, self.clock))

    async def open(self) -> Desk:
        await self.office.open()
        return self

    async def see(self, *alerts: AlertStatus, seconds: float = 0.0) -> None:
        """Let time go by, let these be the alerts, and decide."""
        self.clock.move(seconds)
        self.state.put(Section.alerts, alerts)
        await self.office.tick()

    async def deliver(self, name: str = "hook") -> Delivery | None:
        """One try of a channel, as its task does it."""
        channel = self.channel(name)
        if channel.pause() != 0.0:
            return None
        kept = await channel.step()
        assert kept is not None
        await self.office._keep([kept])
        self.office._show()
        return kept.delivery

    def channel(self, name: str = "hook") -> Channel:
        return self.office._channels[name]

    def status(self, name: str = "hook") -> ChannelStatus:
        return next(each for each in self.office.status().channels if each.name == name)

    async def records(self) -> list[Delivery]:
        return await self.office._book.newest(1000, "", (), None)

    async def again(self, wanted: AlertSettings | None = None) -> Desk:
        """The same after a restart, with a monotonic clock that begins anew."""
        await self.close()
        after = Desk(self.path, wanted or self.wanted)
        after.clock.wall_now, after.clock.monotonic_now = self.clock.wall_now, 5.0
        return await after.open()

    async def close(self) -> None:
        await self.office.close()
        await asyncio.to_thread(self.store.close)

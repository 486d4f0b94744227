"""The channels together: what is decided goes to them, and what comes of it onto the disk."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Iterable

import msgspec

from appliance.core.alerts.channels import rendering
from appliance.core.alerts.channels.book import Book, Kept
from appliance.core.alerts.channels.channel import Channel
from appliance.core.alerts.channels.ground import Ground
from appliance.core.alerts.channels.grouping import Key, Planner, Told
from appliance.core.alerts.channels.making import make_adapter
from appliance.core.alerts.channels.model import (
    ChannelsStatus,
    Delivery,
    DeliveryError,
    DeliveryState,
    Note,
    Notice,
)
from appliance.core.alerts.channels.routing import Quiet, routes_of
from appliance.core.events import new_id
from appliance.core.figures import counted
from appliance.core.model import AlertStatus, Health, HealthReport, Severity
from appliance.core.state import Section
from appliance.errors import StoreError

log = logging.getLogger(__name__)

TICK = 1.0
"""Seconds between two looks at the alerts."""
RECENT = 50
"""Deliveries that are shown."""


class Office:
    """Tells people of alerts.

    Args:
        ground: What it stands on.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._book = Book(ground.store, ground.settings.deliveries_keep)
        self._channels: dict[str, Channel] = {}
        self._planner = Planner((), ground.device, ())
        self._quiet = Quiet({})
        self._recent: dict[str, Delivery] = {}
        self._unkept: dict[str, Kept] = {}
        self._lost_told: dict[Key, Told | None] = {}
        self._counted: dict[str, dict[str, int]] = {}
        self._problem: StoreError | None = None
        self._writing = asyncio.Lock()

    async def open(self) -> None:
        """Make the channels, and take up what waits. Raises StoreError."""
        settings = self._ground.settings
        self._channels = await asyncio.to_thread(self._make)
        tells_end = [name for name, wanted in settings.channels.items() if wanted.resolved]
        self._planner = Planner(routes_of(settings), self._ground.device, tells_end)
        self._quiet = Quiet(settings.quiet)
        await self._load()
        self._show()

    def _make(self) -> dict[str, Channel]:
        ground = self._ground
        found = {}
        for name, wanted in ground.settings.channels.items():
            make = functools.partial(make_adapter, wanted, ground.secrets, ground.device, ground.settings.external_url)
            found[name] = Channel(name, wanted, make, ground.clock, ground.settings.give_up_hours * 3600.0)
        return found

    async def _load(self) -> None:
        loaded = await self._book.load(RECENT)
        now, wall = self._ground.clock.monotonic(), self._ground.clock.wall()
        self._recent = {each.delivery_id: each for each in reversed(loaded.recent)}
        for name, counts in loaded.counts.items():
            if name in self._channels:
                self._channels[name].counts.update(counts)
                self._counted[name] = dict(counts)
        for each in loaded.recent:
            channel = self._channels.get(each.channel)
            if channel is not None and each.delivered_at and not channel.last_delivered:
                channel.last_delivered, channel.last_answer = each.delivered_at, each.answer
        for kept in loaded.waiting:
            await self._take_up(kept, now - min(max(0.0, wall - kept.delivery.created), 30 * 86400.0))
        for key, told, at in loaded.told:
            if key[0] in self._channels:
                told.at = now - min(max(0.0, wall - at), 30 * 86400.0)
                self._planner.told[key] = told
        await self._book.forget_told(key for key, _, _ in loaded.told if key[0] not in self._channels)

    async def _take_up(self, kept: Kept, since: float) -> None:
        channel = self._channels.get(kept.delivery.channel)
        if channel is not None:
            await self._keep(channel.add(kept, since))
            return
        reason = f"the channel {kept.delivery.channel} is not in the settings any more"
        gone = msgspec.structs.replace(kept.delivery, state=DeliveryState.dropped, answer=reason, next_try=0.0)
        await self._keep([Kept(gone, kept.notice)])

    async def run(self) -> None:
        """Look at the alerts, and deliver."""
        async with asyncio.TaskGroup() as group:
            for channel in self._channels.values():
                group.create_task(self._deliver(channel), name=f"alert channel {channel.name}")
            while True:
                await self.tick()
                await asyncio.sleep(TICK)

    async def tick(self) -> None:
        """Decide once what is told, and hand it to the channels."""
        alerts: tuple[AlertStatus, ...] | None = self._ground.state.get(Section.alerts).value
        if alerts is not None:
            now, wall = self._ground.clock.monotonic(), self._ground.clock.wall()
            for notice in self._planner.due(alerts, self._still, now, wall):
                await self._tell(notice, now, wall)
        expired = [each for channel in self._channels.values() for each in channel.expire()]
        if expired or self._problem is not None:
            await self._keep(expired)
        self._show()

    def _still(self, channel: str, severity: Severity) -> bool:
        return self._quiet.holds(channel, severity, self._ground.clock.wall())

    async def _tell(self, notice: Notice, now: float, wall: float) -> None:
        channel = self._channels[notice.channel]
        told = self._planner.done(notice, now)
        kept = Kept(self._record(notice, wall), notice)
        gone = channel.add(kept, now)
        waits = channel.waiting.get(notice.group_key)
        await self._keep([*gone, *([waits.kept] if waits is not None else [])], [((notice.channel, notice.group_key), told)])

    def _record(self, notice: Notice, wall: float) -> Delivery:
        made = new_id()
        return Delivery(
            0, made, notice.channel, DeliveryState.waiting, notice.status, notice.severity, rendering.title(notice), notice.why,
            wall,
        )  # fmt: skip

    async def _deliver(self, channel: Channel) -> None:
        """Deliver for one channel until cancelled."""
        while True:
            pause = channel.pause()
            if pause == 0.0:
                kept = await channel.step()
                if kept is not None:
                    await self._keep([kept])
                    self._show()
                continue
            channel.wake.clear()
            try:
                async with asyncio.timeout(pause):
                    await channel.wake.wait()
            except TimeoutError:
                continue

    async def _keep(self, kept: Iterable[Kept], told: Iterable[tuple[Key, Told | None]] = ()) -> None:
        """Write down; what the disk does not take goes out all the same, and is written when it can be."""
        self._unkept.update({each.delivery.delivery_id: each for each in kept})
        self._lost_told.update(told)
        async with self._writing:
            await self._write()

    async def _write(self) -> None:
        counts = [
            (name, what, value - self._counted.get(name, {}).get(what, 0))
            for name, channel in self._channels.items()
            for what, value in channel.counts.items()
        ]
        rows, known = dict(self._unkept), dict(self._lost_told)
        new_counts = {name: dict(channel.counts) for name, channel in self._channels.items()}
        try:
            numbers = await self._book.put(
                rows.values(), known.items(), self._ground.clock.wall(), [each for each in counts if each[2]]
            )
        except StoreError as error:
            if self._problem is None:
                log.error("deliveries of alerts are not kept: %s", error)
            self._problem = error
            self._note([msgspec.structs.replace(each.delivery, kept=False) for each in rows.values()])
            return
        self._problem, self._counted = None, new_counts
        self._unkept = {name: each for name, each in self._unkept.items() if rows.get(name) is not each}
        self._lost_told = {key: each for key, each in self._lost_told.items() if key not in known or known[key] is not each}
        self._note([msgspec.structs.replace(each.delivery, seq=numbers[name]) for name, each in rows.items()])

    def _note(self, deliveries: Iterable[Delivery]) -> None:
        for each in deliveries:
            self._recent[each.delivery_id] = each
        while len(self._recent) > RECENT:
            del self._recent[next(iter(self._recent))]
        while len(self._unkept) > 10 * RECENT:  # a disk that stays full: the records of old ones are let go
            del self._unkept[next(iter(self._unkept))]

    async def test(self, name: str, who: str) -> Delivery:
        """Send a test by a channel, now, whatever waits and however quiet it is.

        Args:
            name: Of the channel.
            who: Asks for it.

        Returns:
            Its record, with what the server answered.

        Raises:
            DeliveryError: It was not taken; the message says what the server answered.
            AbsentError: The channel lacks something.
        """
        channel = self._channels[name]
        wall, device = self._ground.clock.wall(), self._ground.device
        labels = {"alertname": "test", "device": device, "node": device, "severity": "info", "subject": "channel"}
        told = {"summary": f"{who} tries the channel {name} of {device}"}
        notes = (Note(f"test:{name}", Severity.info, labels, told, wall),)
        notice = Notice(name, "test", f'{{}}/{{route="test"}}:{{channel="{name}"}}', {}, notes, "test")
        delivery = msgspec.structs.replace(self._record(notice, wall), attempts=1, tried_at=wall)
        try:
            answer = await channel.send(notice, delivery.delivery_id)
        except DeliveryError as error:
            failed = msgspec.structs.replace(delivery, state=DeliveryState.failed, answer=error.message)
            await self._keep([Kept(failed, notice)])
            self._show()
            raise error.once() from None
        done = self._ground.clock.wall()
        delivery = msgspec.structs.replace(delivery, state=DeliveryState.delivered, delivered_at=done, answer=answer)
        await self._keep([Kept(delivery, notice)])
        channel.wake.set()  # what waited for the next try need not wait any longer
        self._show()
        return self._recent.get(delivery.delivery_id, delivery)

    def status(self) -> ChannelsStatus:
        """Every channel, and the newest deliveries."""
        channels = tuple(each.status(quiet=self._still(each.name, Severity.warning)) for each in self._channels.values())
        problem = str(self._problem) if self._problem is not None else ""
        return ChannelsStatus(channels, tuple(reversed(self._recent.values())), problem)

    async def close(self) -> None:
        """Let go of all channels."""
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close()

    def health(self) -> HealthReport:
        """Unhealthy where deliveries are not kept; degraded where a channel does not deliver (its own rule tells of that)."""
        if self._problem is not None:
            return HealthReport(
                Health.unhealthy, f"deliveries are not on disk: {self._problem.message}", self._problem.next_step
            )
        bad = [each for each in self.status().channels if each.health in {Health.unhealthy, Health.degraded}]
        if bad:
            return HealthReport(Health.degraded, "; ".join(f"{each.name}: {each.reason}" for each in bad), bad[0].next_step)
        waiting = sum(len(each.waiting) for each in self._channels.values())
        return HealthReport(Health.healthy, f"{counted(len(self._channels), 'channel')}, {waiting} waiting")

    def _show(self) -> None:
        self._ground.state.put(Section.channels, self.status())

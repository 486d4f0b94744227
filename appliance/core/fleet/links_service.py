"""Keeps the inventory as its file is, tells of machines that show another host key, and lets go of the links at the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from appliance.core.backoff import backoff
from appliance.core.fleet.inventory import FleetInventory
from appliance.core.fleet.links import Links
from appliance.core.fleet.model import LinkStatus, Reach
from appliance.core.model import Health, HealthReport, Severity
from appliance.errors import ApplianceError

log = logging.getLogger(__name__)
LOOKS = 2.0
"""Seconds between looks at the inventory file."""
LONGEST = 30.0
"""Longest pause, seconds, until an event that could not be kept is tried again."""
MOST_WAITING = 1000
"""Events that wait to be told."""
Tell = Callable[[str, Severity, dict[str, Any]], Awaitable[None]]


class LinksService:
    """The links and the inventory, as a service (implements ports.Service).

    Args:
        inventory: Read again where its file has changed.
        links: Closed at the end.
        tell: Told of host keys that are other ones.
    """

    name = "links"
    summary = "Keeps one SSH connection to each machine, and the inventory of them"
    depends: tuple[str, ...] = ()

    def __init__(self, inventory: FleetInventory, links: Links, tell: Tell) -> None:
        self._inventory, self._links, self._tell = inventory, links, tell
        self._events: asyncio.Queue[tuple[str, LinkStatus]] = asyncio.Queue(MOST_WAITING)
        self._untold = 0
        self._loud: set[str] = set()
        links.watch(self._changed)

    async def start(self) -> None:
        """Read the inventory; a broken one is told by `health`."""
        await self._look()

    async def run(self) -> None:
        """Look at the file, and tell."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._looking())
            tasks.create_task(self._telling())

    async def _looking(self) -> None:
        while True:
            await asyncio.sleep(LOOKS)
            await self._look()

    async def _look(self) -> None:
        if await asyncio.to_thread(self._inventory.load):
            self._links.refresh()

    async def _telling(self) -> None:
        while True:
            node, status = await self._events.get()
            if status.reach is Reach.changed:
                what, severity = "fleet.host-key-changed", Severity.critical
                attributes = {
                    "node": node,
                    "reason": status.reason,
                    "next_step": status.next_step,
                    "offered_key": status.offered_key,
                }
            else:
                what, severity = "fleet.host-key-accepted", Severity.info
                attributes = {"node": node, "address": status.address}
            await self._told(what, severity, attributes)

    async def _told(self, what: str, severity: Severity, attributes: dict[str, Any]) -> None:
        """Until it is kept: a full disk ends no links, and loses nothing."""
        failed = 0
        while True:
            try:
                return await self._tell(what, severity, attributes)
            except ApplianceError as error:
                failed += 1
                log.warning("%s of %s is not kept yet: %s", what, attributes["node"], error.message)
                await asyncio.sleep(backoff(failed, LOOKS, LONGEST))

    def _changed(self, node: str, status: LinkStatus) -> None:
        """A link is another way than before; once for each time that a host key changes, and once when that is over."""
        if (status.reach is Reach.changed) == (node in self._loud) or status.reach not in (Reach.changed, Reach.up):
            return
        if status.reach is Reach.changed:
            self._loud.add(node)
            log.critical("%s: %s", node, status.reason)
        else:
            self._loud.discard(node)
        try:
            self._events.put_nowait((node, status))
        except asyncio.QueueFull:
            self._untold += 1

    async def stop(self) -> None:
        """Let go of all connections."""
        await self._links.close()

    async def health(self) -> HealthReport:
        """Of the inventory and of the host keys; how machines are is told by the fleet."""
        count = len(self._inventory.all())
        details = {"nodes": count, "events_dropped": self._untold}
        told = sorted(self._loud & set(self._links.nodes()))
        if loud := [each for each in told if self._links.link(each).reach is Reach.changed]:
            reason = f"another host key than the confirmed one: {', '.join(loud[:5])}"
            return HealthReport(Health.unhealthy, reason, f"`prime-spark fleet check {loud[0]}` says more", details)
        if fault := self._inventory.fault:
            reason = f"the inventory file is not used as it stands: {fault.message.rstrip('.')}"
            return HealthReport(Health.degraded, reason, fault.next_step, details)
        if not count:
            step = "`prime-spark fleet add NAME --host ADDRESS`, or [fleet.nodes.NAME] in the configuration"
            return HealthReport(Health.absent, "there is no machine in the inventory", step, details)
        return HealthReport(Health.healthy, f"{count} {'machine' if count == 1 else 'machines'} in the inventory", "", details)

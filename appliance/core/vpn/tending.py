"""What is done for every peer from time to time: read, bring back, ping."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from appliance.core.model import Severity
from appliance.core.ports import Clock
from appliance.core.vpn import names
from appliance.core.vpn.gauge import Gauge
from appliance.core.vpn.keeper import Keeper
from appliance.core.vpn.ladder import Ladder, Pace
from appliance.core.vpn.peers import Entry
from appliance.core.vpn.status import PeerState
from appliance.errors import ApplianceError, TunnelError

log = logging.getLogger(__name__)

PINGS = 8
"""Peers that are pinged at the same time."""
REBIND = 60.0
"""Seconds between two times that the socket is opened anew: all peers share it."""

Note = Callable[[str, Severity, dict[str, Any]], Awaitable[None]]
"""Tells of an event; raises ApplianceError where it is not kept."""


class Tending:
    """The peers of one tunnel.

    Args:
        keeper: It.
        clock: For times.
        note: Tells of peers that come and go.
        pace: Of the tries to bring one back.
    """

    def __init__(self, keeper: Keeper, clock: Clock, note: Note, pace: Pace) -> None:
        self.gauges: dict[str, Gauge] = {}
        self._keeper = keeper
        self._clock = clock
        self._note = note
        self._pace = pace
        self.examined = 0
        """How many look at a peer now: what they watch is left alone."""
        self._rebound: float | None = None
        self._told: dict[str, bool] = {}
        """Whether each peer was connected when that was told last."""

    async def look(self) -> list[str]:
        """Read the tunnel and see how every peer is; returns the names of those that are connected for the first time.

        Raises:
            TunnelError: It cannot be read; every peer is unknown then.
        """
        try:
            actual = await self._keeper.read()
        except TunnelError:
            self._take(readable=False)
            raise
        first = self._take(readable=actual is not None)
        await self._tell()
        return first

    def _take(self, *, readable: bool) -> list[str]:
        entries, there = self._keeper.entries, self._keeper.peers() if readable else {}
        for name in set(self.gauges) - set(entries):
            del self.gauges[name]
            self._told.pop(name, None)
        first = []
        for name, entry in entries.items():
            gauge = self.gauges.setdefault(name, Gauge(self._clock, Ladder(self._clock, self._pace)))
            gauge.read(entry.peer, there.get(entry.peer.public_key), readable=readable)
            if gauge.state is PeerState.connected and not entry.peer.connected:
                first.append(name)
        return first

    async def _tell(self) -> None:
        """An event for every peer that came or went; one that nobody has seen yet does not go."""
        for name, gauge in list(self.gauges.items()):  # others look, too, while an event is kept
            up = gauge.state is PeerState.connected
            if gauge.state is PeerState.unknown or self._told.get(name, False) == up:
                continue
            entry = self._keeper.entries.get(name)
            if entry is None:
                continue
            self._told[name] = up
            severity = Severity.info if up or not entry.peer.active or not entry.peer.watched else Severity.warning
            attributes = {"peer": name, "state": gauge.state.value, "addresses": list(entry.peer.addresses)}
            try:
                await self._note("vpn.peer-up" if up else "vpn.peer-down", severity, attributes)
            except ApplianceError as error:
                log.error("that the peer %s is %s is not among the events: %s", name, gauge.state.value, error.message)

    # -- bringing back -------------------------------------------------------------------------------------------------

    async def bring_back(self) -> None:
        """Take the next step for every peer that should be connected and is not."""
        if self.examined:
            return
        alone = not any(gauge.state is PeerState.connected for gauge in self.gauges.values())
        resolved = False
        for name, gauge in list(self.gauges.items()):
            entry = self._keeper.entries.get(name)
            if entry is None or not self._lost(entry, gauge):
                continue
            gone = gauge.state is not PeerState.connected
            step = gauge.ladder.due(endpoint=bool(entry.peer.endpoint), gone=gone, alone=alone)
            if step:
                gauge.ladder.done(step, await self._step(step, entry, gauge))
                resolved = resolved or step == "resolve"
                alone = alone and step != "restart"
        if resolved:
            await self._keeper.guarded(self._keeper.reconcile, "new endpoints are not in the tunnel")

    def _lost(self, entry: Entry, gauge: Gauge) -> bool:
        """It should be there: it was, or we know where it is. One that never came and has no endpoint is waited for."""
        if not entry.peer.active or entry.rotation is not None:
            return False
        if gauge.state is PeerState.connected:
            return gauge.suspect
        return gauge.state is PeerState.down or (gauge.state is PeerState.never and bool(entry.peer.endpoint))

    async def _step(self, step: str, entry: Entry, gauge: Gauge) -> str:
        if step == "resolve":
            return await self._resolve(entry, gauge)
        if step == "rebind":
            return await self._rebind()
        if step == "renew":
            failed = await self._keeper.guarded(lambda: self._keeper.renew(entry), f"{entry.peer.name} was not renewed")
            return failed or "its entry was made anew"
        failed = await self._keeper.guarded(self._keeper.restart, "the tunnel was not restarted")
        return failed or "the interface was made anew"

    async def _resolve(self, entry: Entry, gauge: Gauge) -> str:
        place, before = names.place(entry.peer.endpoint), gauge.endpoint
        found = await self._keeper.resolve(entry)
        if found is None:
            error = self._keeper.unresolved.get(entry.peer.name)
            return error.message if error is not None else f"{place.host} was not found"
        moved = before is None or (before.address, before.port) != (found.address, found.port)
        return f"{place.host} is {found.address}" + (", which is new" if moved else ", as before")

    async def _rebind(self) -> str:
        now = self._clock.monotonic()
        if self._rebound is not None and now - self._rebound < REBIND:
            return "the socket was opened anew a moment ago"
        self._rebound = now
        return (
            await self._keeper.guarded(self._keeper.tunnel.rebind, "the socket was not opened anew")
            or "the socket was opened anew"
        )

    # -- pings ---------------------------------------------------------------------------------------------------------

    async def ping(self) -> None:
        """One echo request to every connected peer."""
        gate = asyncio.Semaphore(PINGS)

        async def one(name: str, address: str) -> None:
            async with gate:
                try:
                    probe = await self._keeper.tunnel.ping(address, count=1)
                except TunnelError as error:
                    log.debug("%s was not pinged: %s", name, error.message)
                    return
            if (gauge := self.gauges.get(name)) is not None:
                gauge.echoed(probe)

        asked = [
            (name, entry.peer.addresses[0].partition("/")[0])
            for name, entry in self._keeper.entries.items()
            if entry.peer.addresses and (gauge := self.gauges.get(name)) is not None and gauge.state is PeerState.connected
        ]
        await asyncio.gather(*(one(name, address) for name, address in asked))

"""The VPN as a service: keeps the tunnel as the operators want it, follows its peers, and shows how they are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from appliance.core.figures import counted
from appliance.core.memory.trust import SYNCHRONISED, ClockTrust
from appliance.core.model import Health, HealthReport, Severity
from appliance.core.ports import Clock
from appliance.core.state import LiveState, Section
from appliance.core.vpn import providers
from appliance.core.vpn.book import PeerBook
from appliance.core.vpn.gauge import Gauge
from appliance.core.vpn.keeper import Keeper, describe
from appliance.core.vpn.keys import public_of
from appliance.core.vpn.ladder import Ladder, Pace
from appliance.core.vpn.model import Changes, Tunnel
from appliance.core.vpn.peers import Entry
from appliance.core.vpn.resolve import Resolver
from appliance.core.vpn.rotation import Rotator, imminent
from appliance.core.vpn.status import PeerState, PeerStatus, ProviderStatus, VpnStatus
from appliance.core.vpn.tending import Note, Tending
from appliance.core.vpn.wanted import Hub
from appliance.errors import AbsentError, ApplianceError, NotFoundError
from appliance.settingvpn import VpnSettings

log = logging.getLogger(__name__)

BELIEVED_EVERY = 600.0
"""Seconds between two notes of the time, against which the clock is checked at the next start."""
HOW = "set vpn.enabled = true, start the appliance again, then `prime-spark vpn peer add NAME`."


@dataclass(frozen=True)
class Rhythm:
    """How often things are looked at; seconds."""

    look: float = 2.0
    rotating: float = 0.03
    """Between two looks while a peer's keys are rotated."""
    providers: float = 60.0
    pace: Pace = field(default_factory=Pace)


@dataclass(frozen=True)
class Ground:
    """What the VPN stands on.

    Attributes:
        settings: As the operator has them.
        book: The peers.
        state: Shown there (Section.vpn).
        clock: For times.
        note: Tells of events.
        make_tunnel: Makes what carries the interface; called only where the VPN is wanted. Raises AbsentError.
        resolver: For endpoints that are names.
        mark: A file that is touched whenever the clock was set from a trusted source.
    """

    settings: VpnSettings
    book: PeerBook
    state: LiveState
    clock: Clock
    note: Note
    make_tunnel: Callable[[str], Tunnel]
    resolver: Resolver = field(default_factory=Resolver)
    rhythm: Rhythm = field(default_factory=Rhythm)
    mark: Path = SYNCHRONISED


class VpnService:
    """Runs the VPN (implements ports.Service).

    Args:
        ground: What it stands on.
    """

    name = "vpn"
    summary = "Keeps the WireGuard tunnel and its peers"
    depends: tuple[str, ...] = ("store",)

    def __init__(self, ground: Ground) -> None:
        self.hub = Hub.of(ground.settings)
        self.book = ground.book
        self.keeper: Keeper | None = None
        """None while there is no tunnel."""
        self.tending: Tending | None = None
        self.rotator = Rotator(ground.book, ground.clock, ground.note)
        self._ground = ground
        self._exportable: frozenset[str] = frozenset()
        self._entries: dict[str, Entry] = {}
        self._providers: tuple[ProviderStatus, ...] = ()
        self._error: ApplianceError | None = None
        """From the newest reconciliation or look."""
        self._trust: ClockTrust | None = None
        self._believed_at = 0.0
        self._rotating = asyncio.Event()
        self._gone = False
        """The interface was missed, and is not back."""

    @property
    def enabled(self) -> bool:
        """The settings want it."""
        return self._ground.settings.enabled

    @property
    def clock(self) -> Clock:
        """For times."""
        return self._ground.clock

    # -- life ----------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Make the tunnel. Raises AbsentError where none is wanted, or nothing can carry one; TunnelError, StoreError."""
        await self._take_down({self.hub.interface} if self.enabled else set())
        if not self.enabled:
            await self.refresh()
            raise AbsentError("no VPN is configured", HOW)
        ground = self._ground
        if self._trust is None:
            self._trust = ClockTrust(ground.clock, ground.mark)
        self._believed_at = await self.book.fact("believed")
        self._trust.recall(self._believed_at)
        tunnel = ground.make_tunnel(self.hub.interface)
        keeper = Keeper(self.hub, tunnel, self.book, ground.resolver, ground.clock)
        try:
            await self.book.sweep()
            await self.book.carry(self.hub.interface, there=True)
            await keeper.reload()
            await keeper.reconcile()
        except ApplianceError as error:
            await tunnel.close()
            self._entries = keeper.entries
            self._failed(error)
            raise
        self.keeper, self._error = keeper, None
        self.tending = Tending(keeper, ground.clock, ground.note, ground.rhythm.pace)
        self.rotator.keeper = keeper
        await self.refresh()

    async def _take_down(self, stays: set[str]) -> None:
        """Interfaces of a life before that the settings want no more let nobody in. Raises TunnelError, StoreError."""
        for name in await self.book.carried():
            if name in stays:
                continue
            try:
                tunnel = self._ground.make_tunnel(name)
                actual = await tunnel.read()
            except ApplianceError as error:
                log.warning("the interface %s of before is left as it is: %s", name, error.message)
                continue
            if actual is not None and actual.public_key == public_of(await self.book.own_key()):
                await tunnel.remove()
                log.info("the interface %s was taken away: the settings want it no more", name)
            await tunnel.close()
            await self.book.carry(name, there=False)

    async def run(self) -> None:
        """Reconcile, look, ping and rotate until cancelled."""
        rhythm, settings = self._ground.rhythm, self._ground.settings
        async with asyncio.TaskGroup() as group:
            group.create_task(self._reconciling(settings.reconcile_seconds), name="vpn reconcile")
            group.create_task(self._every(rhythm.look, self._look), name="vpn look")
            group.create_task(self._rotations(), name="vpn rotation")
            if settings.ping_seconds:
                group.create_task(self._every(settings.ping_seconds, self._ping), name="vpn ping")
            if settings.providers:
                group.create_task(self._every(rhythm.providers, self._read_providers), name="vpn providers")

    async def stop(self) -> None:
        """Let go of the tunnel, which stays: whoever is connected stays so."""
        keeper, self.keeper, self.tending, self.rotator.keeper = self.keeper, None, None, None
        self._ground.resolver.close()
        if keeper is not None:
            await keeper.tunnel.close()

    async def health(self) -> HealthReport:
        """Unhealthy without a tunnel; degraded while a peer that is watched is down."""
        if self._error is not None:
            return HealthReport(Health.unhealthy, self._error.message, self._error.next_step)
        peers = self.status().peers
        down = [peer for peer in peers if peer.watched and peer.state in {PeerState.down, PeerState.missing}]
        connected = sum(peer.state is PeerState.connected for peer in peers)
        told = f"{connected} of {counted(len(peers), 'peer')} connected"
        if down:
            more = f", and {len(down) - 1} more" if len(down) > 1 else ""
            return HealthReport(Health.degraded, f"{down[0].name} is down{more} ({told})", down[0].next_step)
        if self.keeper is not None and (troubles := self.keeper.troubles()):
            return HealthReport(Health.degraded, *troubles[0])
        return HealthReport(Health.healthy, told if peers else "no peer is set; add one with `prime-spark vpn peer add`")

    async def _every(self, seconds: float, work: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await work()
            except ApplianceError as error:
                self._failed(error)
            await asyncio.sleep(seconds)

    def _failed(self, error: ApplianceError) -> None:
        if self._error is None or self._error.message != error.message:
            log.error("the VPN: %s", error.message)
        self._error = error
        self.show()

    # -- its work ------------------------------------------------------------------------------------------------------

    async def _reconciling(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.expire()
                await self.reconcile(ours=False)
            except ApplianceError as error:
                self._failed(error)

    async def reconcile(self, *, ours: bool = True) -> str:
        """Make the tunnel as it should be, now; says what was changed.

        Raises:
            AbsentError: There is no tunnel.
            TunnelError, StoreError, ActionError: It could not be made so.
        """
        changes: Changes = await self._running().reconcile(ours=ours)
        self._error = None
        self.show()
        return describe(changes, {entry.peer.public_key: name for name, entry in self._entries.items()})

    def _running(self) -> Keeper:
        if self.keeper is None:
            told = self._error
            if not self.enabled:
                raise AbsentError("No VPN is configured.", HOW)
            raise AbsentError("The tunnel does not run.", told.next_step if told else "see `prime-spark service list`.")
        return self.keeper

    async def _look(self) -> None:
        await self._see()
        await self._restore()
        if self.tending is not None:
            await self.tending.bring_back()
            self.show()

    async def _restore(self) -> None:
        """An interface that is gone is made again at once; where that fails, with the next reconciliation."""
        if self.keeper is None:
            return
        if self.keeper.actual is None and not self._gone:
            self._gone = True
            await self.reconcile(ours=False)
        self._gone = self.keeper is not None and self.keeper.actual is None

    async def _see(self) -> None:
        if self.tending is None:
            return
        first = await self.tending.look()
        self._error = None
        for name in first:
            await self._amend(name, lambda entry: entry.changed(connected=True))
        self.show()

    async def _ping(self) -> None:
        if self.tending is not None:
            await self.tending.ping()

    async def _rotations(self) -> None:
        """While keys are rotated, look often for the new ones to be used."""
        while True:
            self._rotating.clear()
            open_ = [entry for entry in self._entries.values() if entry.rotation is not None]
            if not open_:
                await self._rotating.wait()
                continue
            try:
                if await self.rotator.tend(open_):
                    await self.refresh()
            except ApplianceError as error:
                self._failed(error)
            near = any(imminent(entry, self.clock.wall()) for entry in open_)
            with suppress(TimeoutError):  # a node that is told meanwhile is looked at from then on
                async with asyncio.timeout(self._ground.rhythm.rotating if near else self._ground.rhythm.look):
                    await self._rotating.wait()

    async def _read_providers(self) -> None:
        self._providers = await providers.read_all()
        self.show()

    async def expire(self) -> list[str]:
        """Take out whose time is over; nobody's is while the clock is not to be believed. Raises StoreError."""
        trust = self._trust
        if trust is None or not trust.believed():
            return []
        now = self.clock.wall()
        if abs(now - self._believed_at) > BELIEVED_EVERY:
            await self.book.note("believed", now)
            self._believed_at = now
        over = [
            each for each in self._entries.values() if each.peer.expires and each.peer.expires <= now and not each.peer.expired
        ]
        for entry in over:
            await self._amend(entry.peer.name, lambda entry: entry.changed(expired=True))
            await self._ground.note("vpn.peer-expired", Severity.info, {"peer": entry.peer.name, "expires": entry.peer.expires})
        return [entry.peer.name for entry in over]

    async def _amend(self, name: str, change: Callable[[Entry], Entry]) -> None:
        try:
            self._entries[name] = await self.book.amend(name, change)
        except NotFoundError:  # it was removed meanwhile
            self._entries.pop(name, None)

    # -- showing -------------------------------------------------------------------------------------------------------

    async def refresh(self) -> None:
        """Read the peers anew, and show them. Raises StoreError."""
        if self.keeper is not None:
            await self.keeper.reload()
            self._entries = self.keeper.entries
        else:
            self._entries = await self.book.all()
        self._exportable = await self.book.exportable()
        self._rotating.set()
        self.show()

    async def changed(self) -> str:
        """The operator changed a peer: bring it into the tunnel; returns why that failed, or nothing. Raises StoreError."""
        await self.refresh()
        if self.keeper is None:
            return "" if not self.enabled else "the tunnel does not run; it gets the change when it does"
        try:
            await self.reconcile()
            await self._see()
        except ApplianceError as error:
            self._failed(error)
            return error.message
        return ""

    def status(self) -> VpnStatus:
        """All that is shown."""
        keeper, actual = self.keeper, self.keeper.actual if self.keeper is not None else None
        peers = tuple(self._peer(entry) for entry in self._entries.values())
        hub, ground = self.hub, self._ground
        problems = [message for message, _ in keeper.troubles()] if keeper is not None else []
        if self._error is not None:
            problems.insert(0, self._error.message)
        return VpnStatus(
            interface=hub.interface, is_active=actual is not None and actual.up and self._error is None,
            total_peers=len(peers), connected_peers=sum(peer.state is PeerState.connected for peer in peers), peers=peers,
            backend=actual.backend if actual is not None else "", public_key=actual.public_key if actual is not None else "",
            listen_port=actual.listen_port if actual is not None else None,
            addresses=actual.addresses if actual is not None else (), mtu=actual.mtu if actual is not None else None,
            subnets=hub.subnets, endpoint=ground.settings.endpoint, reconciled=keeper.reconciled if keeper is not None else 0.0,
            reconciliations=keeper.reconciliations if keeper is not None else 0,
            changes=keeper.changes if keeper is not None else 0, foreign=tuple(keeper.foreign) if keeper is not None else (),
            problems=tuple(problems[:8]), next_step="" if self.enabled else HOW, providers=self._providers,
            enabled=self.enabled,
        )  # fmt: skip

    def _peer(self, entry: Entry) -> PeerStatus:
        name = entry.peer.name
        gauge = self.tending.gauges.get(name) if self.tending is not None else None
        if gauge is None:
            gauge = Gauge(self.clock, Ladder(self.clock, self._ground.rhythm.pace))
            gauge.since = entry.peer.created
            gauge.read(entry.peer, None, readable=False)
        error = self.keeper.unresolved.get(name) if self.keeper is not None else None
        trouble = (error.message, error.next_step) if error is not None and gauge.state is not PeerState.connected else ("", "")
        return gauge.status(entry, exportable=name in self._exportable, trouble=trouble)

    def show(self) -> None:
        """Put everything into the live state."""
        self._ground.state.put(Section.vpn, self.status())


def told(status: VpnStatus) -> str:
    """In one line, for speech and headless mode."""
    if not status.is_active:
        return f"the VPN is down: {(*status.problems, status.next_step or 'see vpn status')[0]}"
    return f"{status.connected_peers} of {counted(status.total_peers, 'VPN peer')} connected"

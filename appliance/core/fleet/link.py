"""The one connection to a machine: opened where it is first wanted, kept, and opened again where it broke."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from appliance.core.backoff import backoff
from appliance.core.fleet.link_gate import Gate
from appliance.core.fleet.link_login import LoginError, Logins, Opened
from appliance.core.fleet.link_pace import Pace
from appliance.core.fleet.link_process import reason_of
from appliance.core.fleet.model import LinkStatus, Node, Reach
from appliance.core.ports import Clock
from appliance.errors import ApplianceError, UnreachableError

LAST_RECEIVED, ROUND_TRIP = 11, 15
"""Places of tcpi_last_data_recv (ms) and tcpi_rtt (microseconds) among the numbers of struct tcp_info (linux/tcp.h)."""
REACHING = ("host", "port", "user", "vpn_address", "jump", "key_file", "host_key", "enabled")
"""Fields of an entry that the connection depends on."""


@dataclass
class Live:
    """A connection that stands.

    Attributes:
        opened: It.
        gate: Its sessions.
        clock: Of `answered`.
        answered: Monotonic instant of what last came by it, as far as we saw it ourselves.
    """

    opened: Opened
    gate: Gate
    clock: Clock
    answered: float

    def heard(self) -> None:
        """Something came by it just now."""
        self.answered = self.clock.monotonic()


class Link:
    """Reaches one machine.

    Args:
        node: Its entry in the inventory.
        logins: Logs in.
        pace: How patient.
        changed: Called with the status after each change of `reach`.
        clock: Of all instants that are shown.
    """

    def __init__(
        self, node: Node, logins: Logins, pace: Pace, changed: Callable[[str, LinkStatus], None], clock: Clock
    ) -> None:
        self.node, self._clock = node, clock
        self._logins, self._pace, self._changed = logins, pace, changed
        self._live: Live | None = None
        self._opening: asyncio.Task[Live] | None = None
        self._failures = 0
        self._status = LinkStatus(since=self._clock.monotonic())
        self._ending: set[asyncio.Task[None]] = set()
        if not node.enabled:
            self._set(Reach.off, reason="it is set aside (maintenance)", next_step=_back(node.name))

    def status(self) -> LinkStatus:
        """How it is now."""
        live, told = self._live, self._status
        if live is None:
            return told
        now, (answered, latency) = self._clock.monotonic(), _heard(live)
        stale = now - answered > self._pace.stale
        return msgspec.structs.replace(
            told, answered=answered, latency_ms=latency if latency is not None else told.latency_ms, sessions=live.gate.taken,
            reach=Reach.stale if stale else told.reach,
            since=max(told.since, answered + self._pace.stale) if stale else told.since,
            reason=f"no sign of life for {now - answered:.0f} s" if stale else told.reason,
        )  # fmt: skip

    def due(self) -> bool:
        """Whether a try makes sense now: it is up, or the pause after its last failure is over."""
        return self.node.enabled and (self._status.retry_at is None or self._clock.monotonic() >= self._status.retry_at)

    def entry(self, node: Node) -> None:
        """Its entry in the inventory has changed."""
        old, self.node = self.node, node
        if all(getattr(old, each) == getattr(node, each) for each in REACHING):
            return
        self.drop()
        self._failures = 0
        self._logins.kinds.pop(node.name, None)
        if node.enabled:
            self._set(Reach.never)
        else:
            self._set(Reach.off, reason="it is set aside (maintenance)", next_step=_back(node.name))

    def off(self, reason: str) -> None:
        """It was powered down by us: shown as that until it answers again."""
        self.drop()
        self._set(Reach.off, reason=reason)

    async def connection(self, limit: float) -> Live:
        """The connection; opened where there is none, within so many seconds. Raises UnreachableError."""
        if not self.node.enabled:
            raise UnreachableError(f"{self.node.name} is set aside (maintenance); nothing contacts it.", _back(self.node.name))
        if self._live is not None and not self._live.opened.connection.is_closed():
            return self._live
        if self._opening is None:
            self._opening = asyncio.create_task(self._open(), name=f"link to {self.node.name}")
            self._opening.add_done_callback(self._opened)
        try:
            async with asyncio.timeout(limit):
                return await asyncio.shield(self._opening)
        except TimeoutError:
            message = f"{self.node.name} ({self.node.user}@{self.node.host}:{self.node.port}): no answer within {limit:g} s."
            raise UnreachableError(message, "is it on, and on this network?") from None
        except asyncio.CancelledError:
            me = asyncio.current_task()
            if me is None or me.cancelling():
                raise
            raise UnreachableError(f"{self.node.name}: its entry was changed meanwhile.", "ask again.") from None

    def _opened(self, task: asyncio.Task[Live]) -> None:
        if self._opening is task:
            self._opening = None
        if not task.cancelled():
            task.exception()  # whoever waits has it; it may be that nobody waits any more

    async def _open(self) -> Live:
        node = self.node
        self._set(Reach.connecting)
        try:
            opened = await self._logins.open(node)
        except LoginError as error:
            self._fail(error.reach, error.reason, error.next_step, error.offered)
            raise
        except ApplianceError as error:
            self._fail(Reach.refused, error.message, error.next_step)
            raise UnreachableError(f"{node.name}: {error.message}", error.next_step) from error
        live = Live(opened, Gate(self._pace.sessions), self._clock, self._clock.monotonic())
        _listen(live)
        self._live, self._failures = live, 0
        opened.seen.lost = lambda error: self._lost(live, error)
        self._set(Reach.up, address=opened.address)
        if opened.connection.is_closed():
            self._lost(live, None)
        return live

    def _lost(self, live: Live, error: Exception | None) -> None:
        if self._live is live:
            self._status = self.status()
            self._live = None
            reason = f"the link broke: {reason_of(error)}" if error is not None else "it closed the link"
            self._fail(Reach.unreachable, reason, "is it on, and on this network?")

    def _fail(self, reach: Reach, reason: str, step: str, offered: str = "") -> None:
        self._failures += 1
        pause = backoff(self._failures, self._pace.first, self._pace.longest)
        if self._status.reach is Reach.off and reach is Reach.unreachable:  # it is meant to be
            self._status = msgspec.structs.replace(self._status, retry_at=self._clock.monotonic() + pause)
            return
        self._set(reach, reason=reason, next_step=step, offered_key=offered, retry_at=self._clock.monotonic() + pause)

    def _set(self, reach: Reach, **other: Any) -> None:
        """Another state of the link; what was heard of the node before is kept."""
        old = self._status
        trying = reach is Reach.connecting and old.reach not in (Reach.never, Reach.up)
        if trying:  # what it came to before is shown until this attempt has come to something
            return
        kept: dict[str, Any] = {"answered": old.answered, "latency_ms": old.latency_ms, "address": old.address, **other}
        if reach is Reach.up:
            kept["answered"] = self._clock.monotonic()
        since = old.since if reach is old.reach else self._clock.monotonic()
        self._status = LinkStatus(reach=reach, since=since, **kept)
        if reach is not old.reach:
            self._changed(self.node.name, self.status())

    def later(self, work: Awaitable[None]) -> None:
        """End something that nobody waits for."""
        task = asyncio.ensure_future(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def drop(self) -> None:
        """Let go of the connection at once; what runs over it is cut off."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        live, self._live = self._live, None
        if live is not None:
            live.opened.connection.abort()

    async def close(self) -> None:
        """The end: commands that are being ended are waited for a while, then the connection goes."""
        if self._ending:
            await asyncio.wait(set(self._ending), timeout=3 * self._pace.ending)
        self.drop()


def _through(connection: Any) -> bool:
    """Whether it goes through another machine."""
    return connection.get_extra_info("connection") is not None


def _listen(live: Live) -> None:
    """Notice whatever comes by it, answers to its keepalives too; where the kernel counts for us, it need not be noticed."""
    connection: Any = live.opened.connection
    if hasattr(socket, "TCP_INFO") and not _through(connection):
        return
    take = connection.data_received

    def heard(data: bytes, datatype: int | None = None) -> None:
        live.heard()
        take(data, datatype)

    connection.data_received = heard


def _heard(live: Live) -> tuple[float, float | None]:
    """When the other side last sent something (monotonic), and the round trip in milliseconds, as the kernel has both.

    A link through another machine has no socket of its own (asyncssh shows that machine's); there it is what came through it. A
    connection that was cut a moment ago has neither any more, and nothing comes by it.
    """
    now, connection = live.clock.monotonic(), live.opened.connection
    own = connection.get_extra_info("socket")
    if _through(connection) or not hasattr(socket, "TCP_INFO"):
        return live.answered, None
    if own is None:
        return live.answered, None
    try:
        told = struct.unpack_from("=8B24I", own.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104))[8:]
    except (OSError, struct.error):
        return live.answered, None
    return now - told[LAST_RECEIVED] / 1000, told[ROUND_TRIP] / 1000


def _back(name: str) -> str:
    return f"`prime-spark fleet maintenance {name} --off`."

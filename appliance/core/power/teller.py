"""Tells of what happened to the power: on the bus, in the audit, in the history. A disk that hangs does not hold the policy."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from appliance.core.backoff import backoff
from appliance.core.events import Noted
from appliance.core.model import Actor, Role
from appliance.core.power.book import PowerBook
from appliance.core.power.model import PowerEvent
from appliance.errors import StoreError

log = logging.getLogger(__name__)

MOST = 500
"""Events that may wait for the disk; beyond it the oldest is given up, and counted."""
SHOWN = 100
"""Events that screens have."""
ACTOR = Actor("power", Role.admin, "internal")
NAMES = {"phase": "power.phase", "setting": "power.setting", "stage": "power.stage", "plan": "power.plan", "ups": "power.ups"}


class Audit(Protocol):
    """Where a row of each is written."""

    async def record(self, actor: Actor, action: str, args: dict[str, Any], outcome: str, detail: str) -> None:
        """Make one row durable. Raises StoreError."""


class Telling:
    """An event on its way."""

    def __init__(self, event: PowerEvent) -> None:
        self.event = event
        self.published = False


class Teller:
    """Keeps events in their order, and tells each in full before the next.

    Args:
        book: The history.
        publish: Of the bus; raises StoreError.
        audit: One row an event.
    """

    def __init__(self, book: PowerBook, publish: Callable[[Noted], Awaitable[None]], audit: Audit) -> None:
        self.newest: deque[PowerEvent] = deque(maxlen=SHOWN)
        """Newest first."""
        self.untold = 0
        """Events that were given up."""
        self.error: StoreError | None = None
        self._book, self._publish, self._audit = book, publish, audit
        self._waiting: deque[Telling] = deque()
        self._ready, self._idle = asyncio.Event(), asyncio.Event()
        self._idle.set()

    async def load(self) -> None:
        """What happened before. Raises StoreError."""
        told = {(event.time, event.text) for event in self.newest}
        before = [event for event in await self._book.events(SHOWN) if (event.time, event.text) not in told]
        self.newest.extend(before[: SHOWN - len(self.newest)])

    def tell(self, event: PowerEvent) -> None:
        """Take an event; never blocks."""
        log.log(logging.INFO if event.severity == "info" else logging.WARNING, "power: %s", event.text)
        self.newest.appendleft(event)
        if len(self._waiting) >= MOST:
            self._waiting.popleft()
            self.untold += 1
        self._waiting.append(Telling(event))
        self._ready.set()
        self._idle.clear()

    async def run(self) -> None:
        """Tell them until cancelled; what the disk refuses is tried again."""
        failures = 0
        while True:
            await self._ready.wait()
            try:
                while self._waiting:
                    telling = self._waiting[0]
                    await self._one(telling)
                    if self._waiting and self._waiting[0] is telling:  # else it was given up meanwhile
                        self._waiting.popleft()
                    self.error, failures = None, 0
                self._ready.clear()
                self._idle.set()
            except StoreError as error:
                self.error = error
                failures += 1
                log.error("an event of the power is not kept yet: %s", error.message)
                await asyncio.sleep(backoff(failures, 0.5, 30.0))

    async def _one(self, telling: Telling) -> None:
        """Tell one; where a part fails, the parts before it are not told again. Raises StoreError."""
        if not telling.event.seq:
            telling.event = await self._book.add_event(telling.event)
        event = telling.event
        facts = {name: value for name, value in msgspec.to_builtins(event).items() if name not in {"time", "severity"}}
        if not telling.published:
            await self._publish(Noted(time=event.time, event=NAMES[event.kind], severity=event.severity, attributes=facts))
            telling.published = True
        await self._audit.record(ACTOR, NAMES[event.kind], facts, "event", event.text)

    async def flush(self) -> None:
        """Return when all are told; the caller bounds the time."""
        await self._idle.wait()

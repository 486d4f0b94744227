"""What the event streams read: each event is made into text once, however many read it, and the newest are kept for a while.

A stream is no more than a place in what is kept. One that is too slow, or comes back too late, finds its place gone: it is
told that there is a gap, and how many events it missed where that is known.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import NamedTuple

import msgspec

from appliance.core.bus import Bus, Subscription
from appliance.core.events import Event, envelope

log = logging.getLogger(__name__)

KEPT, KEPT_BYTES = 2000, 4 * 2**20
"""Events that are kept, and their bytes; the oldest go first."""
WAITING = 2000
"""Events that wait to be taken over."""
LINGER = 300.0
"""Seconds that events are still kept after the last stream has ended, for those who come back."""
PACE = 0.05
"""Seconds between two rounds of telling: many events at once wake everybody once."""
SLICE = 25
"""Streams that are woken before others have their turn."""
LONGEST_ID = 64


class Told(NamedTuple):
    """One event.

    Attributes:
        number: One more than that of the event before.
        sse: As a server-sent event.
        text: As JSON, with its topic.
    """

    number: int
    id: str
    topic: str
    sse: bytes
    text: bytes


class Gap(NamedTuple):
    """Events that a stream does not get.

    Attributes:
        missed: How many; None where nobody knows.
    """

    missed: int | None
    reason: str


class Feed:
    """The newest events.

    Args:
        bus: Where they come from.
        device_id: For their envelopes.
    """

    def __init__(self, bus: Bus, device_id: str) -> None:
        self._bus, self._device = bus, device_id
        self._kept: deque[Told] = deque()
        self._bytes = 0
        self._next = 1
        self._dropped = 0
        self._readers = 0
        self._queue: Subscription | None = None
        self._pump: asyncio.Task[None] | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def readers(self) -> int:
        """Streams that are open."""
        return self._readers

    @property
    def kept(self) -> tuple[int, int]:
        """How many events are kept, and their bytes."""
        return len(self._kept), self._bytes

    def join(self) -> None:
        """A stream begins."""
        self._readers += 1
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if self._pump is None or self._pump.done():
            self.close()
            self._queue, self._dropped = self._bus.subscribe("api streams", capacity=WAITING), 0
            self._pump = asyncio.create_task(self._take(self._queue), name="api streams")

    def leave(self) -> None:
        """A stream ends."""
        self._readers -= 1
        if not self._readers and self._linger is None:
            self._linger = asyncio.get_running_loop().call_later(LINGER, self.close)

    def close(self) -> None:
        """Keep nothing more; the next stream begins anew."""
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if self._pump is not None:
            self._pump.cancel()
        if self._queue is not None:
            self._queue.close()
        self._pump = self._queue = None
        self._kept.clear()
        self._bytes = 0

    async def _take(self, queue: Subscription) -> None:
        while True:
            for event in await queue.batch(200):
                self._add(event)
            await self._wake()
            await asyncio.sleep(PACE)
            dropped = queue.status().dropped
            self._next += dropped - self._dropped  # their numbers are missed by every stream
            self._dropped = dropped

    def _add(self, event: Event) -> None:
        number, self._next = self._next, self._next + 1
        try:
            body = msgspec.json.encode(envelope(event, self._device))
        except (TypeError, ValueError, OverflowError) as error:
            log.warning("the event %s of %s cannot be told: %s", event.id, event.topic, error)
            return
        sse = b"id: " + event.id.encode() + b"\nevent: " + event.topic.encode() + b"\ndata: " + body + b"\n\n"
        text = body[:-1] + b',"topic":' + msgspec.json.encode(event.topic) + b"}"
        self._kept.append(Told(number, event.id, event.topic, sse, text))
        self._bytes += len(sse) + len(text)
        while len(self._kept) > KEPT or (self._bytes > KEPT_BYTES and len(self._kept) > 1):
            gone = self._kept.popleft()
            self._bytes -= len(gone.sse) + len(gone.text)

    async def _wake(self) -> None:
        """Have all look; others get their turns meanwhile."""
        waiting, self._waiting = list(self._waiting), set()
        for begin in range(0, len(waiting), SLICE):
            for each in waiting[begin : begin + SLICE]:
                if not each.done():
                    each.set_result(None)
            await asyncio.sleep(0)

    async def news(self) -> None:
        """Return when there may be something new."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    def since(self, number: int) -> list[Told]:
        """Events from a number on that are kept."""
        found: list[Told] = []
        for each in reversed(self._kept):
            if each.number < number:
                break
            found.append(each)
        found.reverse()
        return found

    def place_after(self, event_id: str) -> tuple[int, Gap | None]:
        """Where one who had that event goes on, and what they missed.

        Args:
            event_id: Of the last event that they had; "" for one who begins.
        """
        if not event_id:
            return self._next, None
        for each in reversed(self._kept):
            if each.id == event_id:
                return each.number + 1, None
        # ids of version 7 are ordered by time: what is kept and younger is told, also where something lies between
        first = next((each.number for each in self._kept if each.id > event_id), self._next)
        return first, Gap(None, "what followed that event is not kept any more, or not all of it")


class Reader:
    """One stream's place in the feed.

    Args:
        feed: It.
        last_id: Of the last event that its client had; "" where it begins.
    """

    def __init__(self, feed: Feed, last_id: str) -> None:
        self._feed = feed
        self._number, gap = feed.place_after(last_id[:LONGEST_ID])
        self._first: list[Told | Gap] = [gap] if gap is not None else []

    async def batch(self) -> list[Told | Gap]:
        """What comes next, one at least."""
        while not (found := self._look()):
            await self._feed.news()
        return found

    def _look(self) -> list[Told | Gap]:
        found, self._first = self._first, []
        for each in self._feed.since(self._number):
            if each.number > self._number:
                found.append(Gap(each.number - self._number, "this stream was too slow, or the appliance too busy"))
            found.append(each)
            self._number = each.number + 1
        return found

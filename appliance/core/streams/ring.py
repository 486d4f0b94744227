"""What is not durable and waits for Kafka: one lane for each class, first the part on disk, then the part in memory.

The messages of a lane are numbered in the order in which they came, and go out in that order: first the head (being sent, or
read from disk for it), then the blocks on disk, then the tail in memory. What goes to disk takes its numbers along.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence

from appliance.core.ports import Clock
from appliance.core.streams.encode import size_of
from appliance.core.streams.model import Message, Priority, Refused
from appliance.core.streams.spill import Part, Spill
from appliance.errors import StoreError

log = logging.getLogger(__name__)

BLOCK = 512 * 1024
"""Bytes of messages in one block, about."""
ROUND = 8
"""Blocks in one transaction."""


class Head:
    """The front of a lane: what is being sent."""

    def __init__(self, first: int, entries: Sequence[tuple[Message, float]], *, on_disk: bool) -> None:
        self.first = first
        self.entries = list(entries)
        """With the monotonic clock at their coming."""
        self.on_disk = on_disk
        self.sent = 0

    @property
    def last(self) -> int:
        """Number of the last message."""
        return self.first + len(self.entries) - 1

    def waiting(self) -> int:
        """Messages that are not sent."""
        return len(self.entries) - self.sent


class RingLane:
    """One class.

    Args:
        priority: The class.
        last: The highest number on disk.
    """

    def __init__(self, priority: Priority, last: int) -> None:
        self.priority = priority
        self.head: Head | None = None
        self.spilling: list[tuple[Message, float]] = []
        """Being written to disk now."""
        self.tail: deque[tuple[Message, float]] = deque()
        self.next = last + 1
        """The number of the next message that comes."""
        self.done = 0
        """The number up to which all is sent."""
        self.cut = 0
        """Of the first block on disk, while it is not the head: so many are sent."""
        self.bytes = 0
        """In the tail."""
        self.lock = asyncio.Lock()
        """Held while messages go from one part to another."""

    @property
    def held(self) -> int:
        """The number up to which messages are being sent, or are sent."""
        return self.done if self.head is None else self.head.last

    def in_memory(self) -> int:
        """Messages that are nowhere else."""
        head = 0 if self.head is None or self.head.on_disk else self.head.waiting()
        return head + len(self.spilling) + len(self.tail)

    def oldest(self) -> float | None:
        """When the oldest that is only in memory came, on the monotonic clock."""
        if self.head is not None and not self.head.on_disk and self.head.waiting():
            return self.head.entries[self.head.sent][1]
        for entries in (self.spilling, self.tail):
            if entries:
                return entries[0][1]
        return None

    def pop(self, count: int, size: int) -> list[tuple[Message, float]]:
        """Up to so many from the front of the tail, and up to so many bytes, but at least one."""
        taken: list[tuple[Message, float]] = []
        while self.tail and len(taken) < count and (size > 0 or not taken):
            entry = self.tail.popleft()
            length = size_of(entry[0])
            self.bytes -= length
            size -= length
            taken.append(entry)
        return taken

    def put_back(self, entries: Sequence[tuple[Message, float]]) -> None:
        """Into the front of the tail."""
        self.tail.extendleft(reversed(entries))
        self.bytes += sum(size_of(message) for message, _ in entries)

    def leave(self) -> None:
        """Let go of a head that is on disk: it is read again when its time comes."""
        head, self.head = self.head, None
        if head is not None and head.sent:
            self.cut, self.done = head.sent, head.first + head.sent - 1


class Ring:
    """All classes.

    Args:
        spill: The part on disk; loaded.
        clock: Both clocks.
        limit: Most bytes in memory; beyond it the lowest class loses its oldest.
    """

    takes_refused = False

    def __init__(self, spill: Spill, clock: Clock, limit: int) -> None:
        self._spill = spill
        self._clock = clock
        self.limit = limit
        self._lanes = {each: RingLane(each, spill.totals[each].last) for each in Priority}

    @property
    def bytes(self) -> int:
        """In memory, what is being written to disk left out."""
        return sum(lane.bytes for lane in self._lanes.values())

    def push(self, message: Message) -> None:
        """Take a message; where there is no room, the lowest class loses its oldest."""
        lane, size = self._lanes[message.priority], size_of(message)
        while self.bytes + size > self.limit:
            lowest = max((each.priority for each in self._lanes.values() if each.tail), default=message.priority)
            if lowest < message.priority or not self._lanes[lowest].tail:
                self._spill.drop(message.priority)
                return
            self._lanes[lowest].pop(1, 0)
            self._spill.drop(lowest)
        lane.tail.append((message, self._clock.monotonic()))
        lane.bytes += size
        lane.next += 1

    def waiting(self, priority: Priority) -> int:
        """Messages of a class that are not sent."""
        lane = self._lanes[priority]
        sent = lane.head.sent if lane.head is not None and lane.head.on_disk else lane.cut
        return lane.in_memory() + max(0, self._spill.totals[priority].messages - sent)

    def in_memory(self, priority: Priority) -> int:
        """Those of them that are nowhere else."""
        return self._lanes[priority].in_memory()

    def on_disk(self, priority: Priority) -> int:
        """Those of them that are on disk."""
        return self.waiting(priority) - self.in_memory(priority)

    def bytes_of(self, priority: Priority) -> int:
        """Bytes of a class in the tail."""
        return self._lanes[priority].bytes

    def oldest(self, priority: Priority) -> float | None:
        """Seconds for which the oldest in memory has waited."""
        since = self._lanes[priority].oldest()
        return None if since is None else self._clock.monotonic() - since

    @contextlib.asynccontextmanager
    async def steady(self) -> AsyncIterator[Mapping[Priority, int]]:
        """While nothing goes from one part to another; by class, up to which number messages are being sent, or are sent."""
        async with contextlib.AsyncExitStack() as locks:
            for lane in self._lanes.values():
                await locks.enter_async_context(lane.lock)
            yield {each: lane.held for each, lane in self._lanes.items()}

    async def peek(self, priority: Priority, limit: int, size: int) -> list[Message]:
        """The next messages of a class, up to so many and so many bytes; the same again until `sent`. Raises StoreError."""
        lane = self._lanes[priority]
        async with lane.lock:
            if lane.head is None:
                await self._load(lane, limit, size)
            if lane.head is None:
                return []
            chosen: list[Message] = []
            for message, _ in lane.head.entries[lane.head.sent : lane.head.sent + limit]:
                size -= size_of(message)
                if size < 0 and chosen:
                    break
                chosen.append(message)
            return chosen

    async def _load(self, lane: RingLane, limit: int, size: int) -> None:
        if self._spill.totals[lane.priority].messages:
            found = await self._spill.front(lane.priority, lane.done)
            if found is not None:
                first, messages = found
                lane.head = Head(first, [(message, 0.0) for message in messages], on_disk=True)
                lane.head.sent, lane.cut = max(0, lane.done - first + 1), 0
                return
        first = lane.next - len(lane.tail)
        if taken := lane.pop(limit, size):
            lane.head = Head(first, taken, on_disk=False)

    def release(self, priority: Priority) -> None:
        """What `peek` showed could not be sent: it waits as the rest does, and may be given up as the rest."""
        lane = self._lanes[priority]
        head = lane.head
        if head is None or lane.lock.locked():
            return
        if head.on_disk:
            lane.leave()
            return
        if self._spill.totals[priority].messages:  # it is before what is on disk; the next round brings it there
            return
        lane.put_back(head.entries[head.sent :])
        lane.head = None

    def ready(self, priority: Priority) -> bool:
        """Whether something of a class waits."""
        return self.waiting(priority) > 0

    async def settle(self, messages: Sequence[Message], refused: Sequence[Refused]) -> None:
        """Those that `peek` showed are with Kafka, or are dead letters."""
        await self.sent(messages[0].priority, len(messages))

    async def sent(self, priority: Priority, count: int) -> None:
        """The first `count` that `peek` showed are with Kafka, or dead letters.

        As with `spill`, what began is finished even where the caller is cancelled.
        """
        await asyncio.shield(asyncio.ensure_future(self._sent(priority, count)))

    async def _sent(self, priority: Priority, count: int) -> None:
        lane = self._lanes[priority]
        async with lane.lock:
            head = lane.head
            if head is None:
                return
            head.sent += count
            if head.waiting() <= 0:
                lane.head, lane.done = None, head.last
                if head.on_disk:
                    await self._remove(priority, head.last)

    async def _remove(self, priority: Priority, upto: int) -> None:
        try:
            await self._spill.remove(priority, upto)
        except StoreError as error:  # it does not come again in this life, and `tidy` tries again
            log.warning("what is sent is still on disk: %s", error.message)

    async def tidy(self) -> None:
        """Remove from disk what is sent, where that failed before. Raises StoreError."""
        for priority, lane in self._lanes.items():
            if self._spill.totals[priority].messages and self._spill.totals[priority].last <= lane.done:
                await self._spill.remove(priority, lane.done)

    async def spill(self, priority: Priority) -> None:
        """Bring to disk what is only in memory, up to a few blocks. Raises StoreError: it stays in memory."""
        await asyncio.shield(asyncio.ensure_future(self._to_disk(priority)))

    async def _to_disk(self, priority: Priority) -> None:
        lane = self._lanes[priority]
        async with lane.lock:
            parts: list[Part] = []
            head = None if lane.head is None or lane.head.on_disk or not lane.head.waiting() else lane.head
            if head is not None:
                parts.append(self._part(lane, head.first, head.entries))
            first, taken = lane.next - len(lane.tail), []
            while lane.tail and len(parts) < ROUND:
                entries = lane.pop(BLOCK // 100, BLOCK)
                parts.append(self._part(lane, first, entries))
                first += len(entries)
                taken += entries
            lane.spilling = taken
            try:
                if parts:
                    await self._spill.add(parts)
            except BaseException:
                lane.put_back(taken)
                raise
            finally:
                lane.spilling = []
            if head is not None:
                head.on_disk = True

    async def spill_all(self) -> None:
        """Bring everything to disk, the highest class first; also cut what is sent from blocks. Raises StoreError."""
        for priority, lane in self._lanes.items():
            while lane.in_memory():
                await self.spill(priority)
            async with lane.lock:
                if lane.cut:
                    await self._load(lane, 1, 0)
                head = lane.head
                if head is not None and head.on_disk and head.sent:
                    first, total = head.first + head.sent, self._spill.totals[priority]
                    rest = [message for message, _ in head.entries[head.sent :]]
                    since = total.since if total.since is not None else self._clock.wall()
                    part = Part(priority, first, rest, since, self._clock.wall())
                    await self._spill.add([part], instead_of=[(priority, head.first)])
                lane.head = None

    def _part(self, lane: RingLane, first: int, entries: Sequence[tuple[Message, float]]) -> Part:
        offset = self._clock.wall() - self._clock.monotonic()
        messages = [message for message, _ in entries]
        return Part(lane.priority, first, messages, entries[0][1] + offset, entries[-1][1] + offset)

    def reload(self) -> None:
        """The file is another one: what was read from the old one is read again."""
        for lane in self._lanes.values():
            if lane.head is not None and lane.head.on_disk:
                lane.leave()
            lane.next = max(lane.next, self._spill.totals[lane.priority].last + 1 + len(lane.tail))

    async def expire(self, age: float) -> None:
        """Give up what has waited in memory for longer than `age` seconds."""
        before = self._clock.monotonic() - age
        for lane in self._lanes.values():
            while lane.tail and lane.tail[0][1] < before:
                lane.pop(1, 0)
                self._spill.drop(lane.priority)

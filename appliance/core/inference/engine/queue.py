"""What waits: one bounded queue for each priority."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from appliance.core.inference.model import Answer, Priority, Request
from appliance.errors import ModelError, QueueFullError

SOURCES = 256
"""Whose last turn is remembered."""


@dataclass(eq=False)
class Item:
    """A request with its caller.

    Attributes:
        request: What to run.
        future: Where the answer or the error goes; done where nobody waits any more.
        queued: Monotonic seconds of its arrival.
        size: Bytes of its inputs.
        soon: The one before for the same model came within the longest wait: more may come.
        failed: Devices that failed on it, and how.
        alone: It must not share a run: one that it shared failed.
        taken: It is in a batch.
    """

    request: Request
    future: asyncio.Future[Answer]
    queued: float
    size: int
    soon: bool = False
    failed: dict[str, ModelError] = field(default_factory=dict)
    alone: bool = False
    taken: bool = False

    @property
    def key(self) -> str:
        """Of the model version."""
        return self.request.model.key


class Queues:
    """All that waits, bounded in number by priority and in bytes altogether.

    Args:
        most: Items of one priority.
        most_bytes: Of the inputs of all.
        on_drop: Told of each item that was given up; its future carries the error already.
    """

    def __init__(self, most: int, most_bytes: int, on_drop: Callable[[Item], None]) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._on_drop = on_drop
        self._waiting: dict[Priority, deque[Item]] = {priority: deque() for priority in Priority}
        self._bytes = 0
        self._turns: OrderedDict[str, int] = OrderedDict()
        """By source, the number of its last turn; the oldest first."""
        self._turn = 0

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def __iter__(self) -> Iterator[Item]:
        """The most urgent first, then by age; frames take turns by their source. Those that nobody wants are left out."""
        for priority in Priority:
            items = [item for item in self._waiting[priority] if not item.future.done()]
            if priority is Priority.low:
                items.sort(key=lambda item: self._turns.get(item.request.source, 0))
            yield from items

    @property
    def bytes(self) -> int:
        """Of the inputs that wait."""
        return self._bytes

    def depth(self) -> dict[str, int]:
        """How many wait, by the priority's name."""
        return {priority.name: len(items) for priority, items in self._waiting.items()}

    def put(self, item: Item) -> None:
        """Add an item; what is less urgent, or an older frame of a source, makes room.

        Raises:
            QueueFullError: There is no room, and nothing that would have to make it.
        """
        priority = item.request.priority
        if item.size > self._most_bytes:
            raise QueueFullError(f"The input has {item.size} bytes; {self._most_bytes} may wait.", "send a smaller one.")
        if len(self._waiting[priority]) >= self._most and not self._drop(priority, priority):
            raise QueueFullError(f"{self._most} requests of priority {priority.name} wait already.", "try again in a moment.")
        while self._bytes + item.size > self._most_bytes:
            if not self._drop(priority, Priority.low):
                raise QueueFullError("The inputs that wait fill the memory set aside for them.", "try again in a moment.")
        self._add(item)

    def back(self, items: list[Item]) -> None:
        """Put items back in front, in their order; they were there before, so no bound is applied."""
        for item in reversed(items):
            if not item.future.done():
                self._waiting[item.request.priority].appendleft(item)
                self._bytes += item.size

    def _add(self, item: Item) -> None:
        self._waiting[item.request.priority].append(item)
        self._bytes += item.size
        if item.request.priority is Priority.low:  # a new source is not before those that wait for their turn
            self._turns.setdefault(item.request.source, self._turn)
            if len(self._turns) > SOURCES:
                self._turns.popitem(last=False)

    def _drop(self, newcomer: Priority, lowest: Priority) -> bool:
        """Give up one of the lowest priority, from `lowest` up to the newcomer's; only frames give way to their like."""
        for priority in sorted(Priority, reverse=True):
            if priority > lowest or priority < newcomer or (priority == newcomer != Priority.low):
                continue
            if items := self._waiting[priority]:
                dropped = _oldest_of_most(items)
                self.remove(dropped)
                why = "a newer one" if priority == newcomer else f"one of priority {newcomer.name}"
                fail(
                    dropped,
                    QueueFullError(
                        f"The request was dropped for {why}: the queue was full.", "send fewer, or raise inference.queue."
                    ),
                )
                self._on_drop(dropped)
                return True
        return False

    def remove(self, item: Item) -> bool:
        """Take an item out; False where it does not wait (any more)."""
        try:
            self._waiting[item.request.priority].remove(item)
        except ValueError:
            return False
        self._bytes -= item.size
        return True

    def take(self, first: Item, most: int, fits: Callable[[Item], bool]) -> list[Item]:
        """Take an item and others that fit with it, the most urgent first."""
        taken = [first]
        for item in self:
            if len(taken) >= most:
                break
            if item is not first and item.key == first.key and fits(item):
                taken.append(item)
        for item in taken:
            self.remove(item)
            self._had_turn(item)
        return taken

    def _had_turn(self, item: Item) -> None:
        if item.request.priority is Priority.low:
            self._turn += 1
            self._turns[item.request.source] = self._turn
            self._turns.move_to_end(item.request.source)


def _oldest_of_most(items: deque[Item]) -> Item:
    """The oldest item of the source that has most of them; none is starved by a faster one."""
    counted = Counter(item.request.source for item in items)
    most = max(counted.values())
    return next(item for item in items if counted[item.request.source] == most)


def fail(item: Item, error: Exception) -> None:
    """Tell the caller, if it still waits."""
    if not item.future.done():
        item.future.set_exception(error)

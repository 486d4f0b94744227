"""The spine: events go in once and reach every subscriber.

A plain subscriber has a bounded queue and says what is dropped when it is full; drops are counted and shown.
A durable event is written to the journal before `publish` returns; durable subscribers read the journal by
their own cursor, so a slow or restarted one misses nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from enum import StrEnum
from typing import Protocol

from appliance.core.events import Event
from appliance.core.model import QueueStatus
from appliance.core.observe.origins import Origins


class DropPolicy(StrEnum):
    """What a full queue gives up."""

    oldest = "drop oldest"
    newest = "drop newest"


class Journal(Protocol):
    """Where durable events wait (see core.outbox)."""

    async def append(self, event: Event) -> int:
        """Store the event; it is durable when this returns. Returns its sequence number."""


class Subscription:
    """One bounded queue of events; iterate it."""

    def __init__(self, bus: Bus, name: str, types: frozenset[type[Event]], capacity: int, policy: DropPolicy) -> None:
        self.name = name
        self._bus = bus
        self._types = types
        self._capacity = capacity
        self._policy = policy
        self._queue: deque[Event] = deque()
        self._ready = asyncio.Event()
        self._delivered = 0
        self._dropped = 0

    def offer(self, event: Event) -> None:
        """Put an event in, or drop one by the policy."""
        if self._types and type(event) not in self._types:
            return
        if len(self._queue) >= self._capacity:
            self._dropped += 1
            if self._policy is DropPolicy.newest:
                return
            self._queue.popleft()
        self._queue.append(event)
        self._ready.set()

    async def batch(self, limit: int = 500) -> list[Event]:
        """Wait for at least one event and take up to `limit`."""
        await self._ready.wait()
        taken = [self._queue.popleft() for _ in range(min(limit, len(self._queue)))]
        self._delivered += len(taken)
        if not self._queue:
            self._ready.clear()
        return taken

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            for event in await self.batch(1):
                yield event

    def status(self) -> QueueStatus:
        """Depth, capacity and drops, for the console."""
        return QueueStatus(self.name, len(self._queue), self._capacity, self._delivered, self._dropped, self._policy.value)

    def close(self) -> None:
        """Leave the bus."""
        self._bus.unsubscribe(self)


class Bus:
    """Fans events out on the core loop."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._subscriptions: list[Subscription] = []
        self.origins = Origins()
        """Which traces events belong to."""

    def subscribe(
        self,
        name: str,
        types: Iterable[type[Event]] = (),
        capacity: int = 1000,
        policy: DropPolicy = DropPolicy.oldest,
    ) -> Subscription:
        """A new queue of events of these types (all where none is named)."""
        subscription = Subscription(self, name, frozenset(types), capacity, policy)
        self._subscriptions.append(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a queue."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

    async def publish(self, event: Event) -> None:
        """Deliver an event. A durable one is on disk when this returns.

        Raises:
            StoreError: The journal could not take a durable event; nobody has seen it then.
        """
        self.origins.keep(event.id)
        if event.durable:
            await self._journal.append(event)
        for subscription in self._subscriptions:
            subscription.offer(event)

    def status(self) -> tuple[QueueStatus, ...]:
        """All queues, by name."""
        return tuple(sorted((queue.status() for queue in self._subscriptions), key=lambda queue: queue.name))

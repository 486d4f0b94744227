"""Brings what waits to Kafka: the highest class first, one batch at a time, each class with its own patience."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from appliance.core.backoff import backoff
from appliance.core.ports import Clock
from appliance.core.streams.deadletters import DeadLetters
from appliance.core.streams.model import Message, Priority, Producer, Refused
from appliance.core.streams.rates import Rate
from appliance.core.streams.sources import Source
from appliance.errors import ApplianceError, LinkDownError, StoreError

log = logging.getLogger(__name__)

BATCH = 1000
"""Most messages in one batch; a critical event waits for one batch at most."""
BATCH_BYTES = 2 * 1024 * 1024
SHORTEST_WAIT, LONGEST_WAIT = 0.5, 60.0
"""Seconds: the bounds between which the patience doubles."""
PATIENCE = 120.0
"""Seconds within which a producer must answer; it has limits of its own that are shorter."""
UNREADABLE = 5.0
"""Seconds for which a source rests that the disk did not give."""


Queue = tuple[int, Priority]
"""The number of a source, and a class."""


class Batch(NamedTuple):
    """What is sent at once: of one class and one source."""

    number: int
    source: Source
    priority: Priority
    messages: list[Message]


class Patience:
    """When a class is tried again: exponential backoff with jitter."""

    def __init__(self) -> None:
        self.failures = 0
        self.due = 0.0
        """On the monotonic clock."""

    def failed(self, now: float) -> None:
        """Wait longer."""
        self.failures += 1
        self.due = now + backoff(self.failures, SHORTEST_WAIT, LONGEST_WAIT)


class Sender:
    """The loop that sends.

    Args:
        sources: In the order in which they are asked, within each class.
        letters: Where refused messages go.
        clock: For the monotonic clock.
        damaged: Called when a source's file is found damaged.
    """

    def __init__(
        self, sources: Sequence[Source], letters: DeadLetters, clock: Clock, damaged: Callable[[StoreError], Awaitable[None]]
    ) -> None:
        self._sources = sources
        self._letters = letters
        self._clock = clock
        self._damaged = damaged
        self._wake = asyncio.Event()
        self._patience = {each: Patience() for each in Priority}
        self._resting: dict[Queue, float] = {}
        self._answered: dict[Queue, dict[str, str]] = {}
        """Of a batch that could not be settled: why a message was refused, by id; empty where Kafka has it."""
        self.rate = Rate(clock)
        self.sent = dict.fromkeys(Priority, 0)
        """Messages that Kafka has, since the start."""
        self.paused = False
        self.error: ApplianceError | None = None
        """Why nothing goes out; None again after a success."""
        self.down = False
        """The newest answer was that the link is down."""

    def wake(self) -> None:
        """Something came."""
        self._wake.set()

    def link_up(self) -> None:
        """Try everything at once."""
        for patience in self._patience.values():
            patience.due = 0.0
        self._wake.set()

    def mended(self) -> None:
        """The sources can be read again."""
        self._resting.clear()
        self._wake.set()

    @property
    def retry_s(self) -> float | None:
        """Seconds until the next try; None while nothing failed."""
        due = [patience.due for patience in self._patience.values() if patience.failures]
        return max(0.0, min(due) - self._clock.monotonic()) if due and self.down else None

    async def run(self, producer: Producer) -> None:
        """Send until cancelled."""
        while True:
            self._wake.clear()
            batch = None if self.paused else await self._next()
            if batch is None:
                await self._rest()
            elif await self._send(producer, batch):
                await asyncio.sleep(0)

    async def _rest(self) -> None:
        """Until something came, or something is due again."""
        now = self._clock.monotonic()
        waits = [patience.due for patience in self._patience.values() if patience.failures] + list(self._resting.values())
        soonest = min((due - now for due in waits if due > now), default=None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if self.paused else soonest):
                await self._wake.wait()

    async def _next(self) -> Batch | None:
        """The next batch: of the highest class that has something, and is not to wait."""
        now = self._clock.monotonic()
        for priority in Priority:
            if self._patience[priority].due > now:
                continue
            for number, source in enumerate(self._sources):
                if source.ready(priority) and self._resting.get((number, priority), 0.0) <= now:
                    messages = await self._peek(number, priority)
                    if messages:
                        return Batch(number, source, priority, messages)
        return None

    async def _peek(self, number: int, priority: Priority) -> list[Message]:
        try:
            messages = await self._sources[number].peek(priority, BATCH, BATCH_BYTES)
        except StoreError as error:
            await self._rested((number, priority), error)
            return []
        self._resting.pop((number, priority), None)
        if not messages:
            self._answered.pop((number, priority), None)
        return messages

    async def _rested(self, queue: Queue, error: StoreError) -> None:
        log.error("what waits for Kafka cannot be had, or let go of: %s", error.message)
        self.error = error
        self._resting[queue] = self._clock.monotonic() + UNREADABLE
        await self._damaged(error)

    async def _send(self, producer: Producer, batch: Batch) -> bool:
        """Send what Kafka has not answered for yet; returns whether the batch is done with."""
        known = self._answered.get((batch.number, batch.priority), {})
        answers = {each.id: known[each.id] for each in batch.messages if each.id in known}
        fresh = [each for each in batch.messages if each.id not in known]
        try:
            refused = await self._offer(producer, fresh) if fresh else []
        except (LinkDownError, TimeoutError) as error:
            batch.source.release(batch.priority)
            self._failed(batch.priority, error)
            return False
        if fresh:
            self._succeeded(batch.priority, len(fresh) - len(refused))
        answers |= dict.fromkeys((each.id for each in fresh), "") | {message.id: reason for message, reason in refused}
        return await self._settle(batch, answers)

    async def _offer(self, producer: Producer, messages: Sequence[Message]) -> list[Refused]:
        async with asyncio.timeout(PATIENCE):
            return await producer.send(messages)

    def _succeeded(self, priority: Priority, count: int) -> None:
        if self._patience[priority].failures:  # the outage is over, for the others too
            self.link_up()
            self._patience[priority].failures = 0
        self.down = False
        self.sent[priority] += count
        self.rate.add(count)

    def _failed(self, priority: Priority, error: LinkDownError | TimeoutError) -> None:
        if isinstance(error, TimeoutError):
            error = LinkDownError(f"The producer did not answer within {PATIENCE:g} s.", "look at the brokers and the network.")
        if not self.down:
            log.warning("Kafka does not take messages: %s", error.message)
        self.error, self.down = error, True
        self._patience[priority].failed(self._clock.monotonic())

    async def _settle(self, batch: Batch, answers: dict[str, str]) -> bool:
        """Let go of what is sent or a dead letter; returns whether that could be written down."""
        queue, source = (batch.number, batch.priority), batch.source
        refused = [Refused(each, answers[each.id]) for each in batch.messages if answers[each.id]]
        try:
            if refused and not source.takes_refused:
                await self._letters.add_messages("outbox", refused, self._clock.wall())
                answers = dict.fromkeys(answers, "")
            await source.settle(batch.messages, refused)
        except StoreError as error:
            await self._keep(batch, answers)
            await self._rested(queue, error)
            return False
        self._answered.pop(queue, None)
        if not self._answered and not self._resting:
            self.error = None
        return True

    async def _keep(self, batch: Batch, answers: dict[str, str]) -> None:
        """After a disk that failed: let go of what is before the first refused one, and remember what Kafka said."""
        first = next((index for index, each in enumerate(batch.messages) if answers[each.id]), 0)
        self._answered[batch.number, batch.priority] = answers
        if first and not batch.source.takes_refused:
            try:
                await batch.source.settle(batch.messages[:first], ())
            except StoreError as error:
                log.warning("what is sent is still among what waits: %s", error.message)
        batch.source.release(batch.priority)

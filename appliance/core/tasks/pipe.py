"""Messages out, over Kafka: in order, kept until the brokers have them, many at a time."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from appliance.core.events import new_id
from appliance.core.ports import Clock
from appliance.core.streams import kafka_admin
from appliance.core.streams.kafka import Access
from appliance.core.streams.kafka_link import BATCH, KafkaLink
from appliance.core.streams.model import LinkStatus, Message, Priority
from appliance.core.streams.topics import TopicSpec
from appliance.core.streams.traffic import Traffic
from appliance.core.tasks.wire import Message as Data
from appliance.core.tasks.wire import Seal
from appliance.errors import LinkDownError, StreamError

log = logging.getLogger(__name__)

AT_ONCE = 500
AGAIN = 0.2
"""Seconds before a batch is tried again, where the link says that it is up."""
TASKS, RESULTS = "agents.tasks", "agents.results"


class Pipe:
    """One direction.

    Args:
        access: To the cluster.
        clock: Both clocks.
        seal: Signs.
        prefix: What the names of the topics begin with.
        out: The topic that is written to, without the prefix.
        changed: Called when the link's status has changed.
    """

    def __init__(
        self, access: Access, clock: Clock, seal: Seal, prefix: str, out: str, changed: Callable[[LinkStatus], None]
    ) -> None:  # fmt: skip
        quick = access.settings.model_copy(update={"linger_ms": 0})
        self.access = Access(quick, access.password, access.client_id)
        self.prefix = prefix
        self._clock = clock
        self._seal = seal
        self._topic = prefix + out
        self._waiting: deque[tuple[Message, asyncio.Future[None]]] = deque()
        self._some = asyncio.Event()
        self.link = KafkaLink(self.access, Traffic(clock.monotonic), clock, self._prepare, changed)

    async def run(self) -> None:
        """Connect and send, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.link.run(), name="tasks link")
            group.create_task(self._send(), name="tasks sender")

    def post(self, kind: str, data: Data, device: str) -> asyncio.Future[None]:
        """Send a message behind those that wait; the future is done when the brokers have it.

        Raises:
            StreamError: It is too large.
        """
        body = self._seal.wrap(kind, data, device, self._clock.wall())
        message = Message(new_id(), self._topic, device.encode(), body, Priority.high, self._clock.wall())
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.add_done_callback(_look_at)
        self._waiting.append((message, done))
        self._some.set()
        return done

    @property
    def waits(self) -> int:
        """Messages that are not there yet."""
        return len(self._waiting)

    async def flushed(self, deadline: float) -> None:
        """Return when all is out, or after so many seconds."""
        try:
            async with asyncio.timeout(deadline):
                while self._waiting:
                    await asyncio.wait({self._waiting[-1][1]})
        except TimeoutError:
            log.warning("%d messages about tasks were not sent", len(self._waiting))

    async def _send(self) -> None:
        while True:
            if not self._waiting:
                self._some.clear()
                await self._some.wait()
            batch = [self._waiting[index] for index in range(min(AT_ONCE, len(self._waiting)))]
            try:
                refused = {each.message.id: each.reason for each in await self.link.send([message for message, _ in batch])}
            except LinkDownError as error:
                log.debug("messages about tasks wait: %s", error.message)
                await asyncio.sleep(AGAIN)
                await self.link.up.wait()
                continue
            for message, done in batch:
                self._waiting.popleft()
                if done.done():
                    continue
                if message.id in refused:
                    done.set_exception(StreamError(f"Kafka refuses a message: {refused[message.id]}.", "see the broker's log."))
                else:
                    done.set_result(None)

    async def _prepare(self) -> tuple[tuple[str, ...], int, dict[str, int]]:
        """Look at the topics, and make what is missing (see KafkaLink). Raises LinkDownError."""
        specs = [TopicSpec(self.prefix + name, "both") for name in (TASKS, RESULTS)]
        found = await kafka_admin.prepare(self.access, specs, create=self.access.settings.create_topics)
        limits = [facts.number("max.message.bytes") for facts in found.topics.values()]
        needed = {name: facts.number("min.insync.replicas") or 1 for name, facts in found.topics.items()}
        return found.brokers, min([BATCH, *(limit for limit in limits if limit)]), needed


def _look_at(done: asyncio.Future[None]) -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        log.error("a message about tasks is lost: %s", error)

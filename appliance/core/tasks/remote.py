"""Workers on other machines, as the dispatcher reaches them: orders go out on agents.tasks, and agents.results is read.

What is read is committed behind what is on disk: after a crash some messages come again, and their leases tell that they were
counted already.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from appliance.core.backoff import backoff
from appliance.core.ports import Clock
from appliance.core.streams.kafka import Access
from appliance.core.streams.kafka_reader import KafkaReader, Record
from appliance.core.streams.model import LinkState, LinkStatus
from appliance.core.tasks.dispatcher import Dispatcher
from appliance.core.tasks.model import TransportStatus
from appliance.core.tasks.pipe import RESULTS, Pipe
from appliance.core.tasks.pipe import TASKS as TASKS_TOPIC
from appliance.core.tasks.wire import CANCEL, RECALL, RETURNED, TASK, Beat, Begun, Order, Result, Seal, Stop
from appliance.errors import ApplianceError, LinkDownError, StoreError, StreamError

log = logging.getLogger(__name__)

AT_ONCE = 500
DEAF = 3.0
"""Seconds without an answer to a fetch of a partition, after which workers may be speaking unheard."""
COMMIT = 0.5
"""Seconds between two commits."""
BESIDE = 20
"""Messages from which on they are checked in a thread."""
FIRST, LONGEST = 0.3, 10.0


class RemoteWorkers:
    """All of them (implements service.Remote and roster.Outlet).

    Args:
        access: To the cluster.
        clock: Both clocks.
        seal: Signs and checks.
        name: This device's; in the name of the consumer group.
        prefix: What the names of the topics begin with.
    """

    def __init__(self, access: Access, clock: Clock, seal: Seal, name: str, prefix: str = "") -> None:
        self._clock = clock
        self._seal = seal
        self._name = name
        self._pipe = Pipe(access, clock, seal, prefix, TASKS_TOPIC, self._changed)
        self._reads = False
        """What came is read to its end."""
        self._deaf: ApplianceError | None = None
        self.unusable = 0
        """Messages that are none of ours."""

    @property
    def hears(self) -> bool:
        """See roster.Outlet."""
        return self._reads and self._pipe.link.up.is_set()

    def status(self) -> TransportStatus:
        """See service.Remote."""
        link = self._pipe.link.status
        if link.state is LinkState.up and self._deaf is not None:
            return TransportStatus(configured=True, reason=self._deaf.message, next_step=self._deaf.next_step)
        up = link.state is LinkState.up
        odd = f"; {self.unusable} messages were not of ours, see the log" if self.unusable else ""
        return TransportStatus(configured=True, up=up, reason=link.reason + odd, next_step=link.next_step)

    async def give(self, orders: Sequence[Order]) -> None:
        """See roster.Outlet."""
        self._check()
        for order in orders:
            self._pipe.post(TASK, order, order.worker)

    async def stop(self, stop: Stop, *, recall: bool) -> None:
        """See roster.Outlet."""
        self._check()
        self._pipe.post(RECALL if recall else CANCEL, stop, stop.worker)

    def _check(self) -> None:
        if not self._pipe.link.up.is_set():
            raise LinkDownError(self._pipe.link.status.reason, self._pipe.link.status.next_step)

    async def run(self, dispatcher: Dispatcher) -> None:
        """See service.Remote."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pipe.run(), name="tasks out")
            group.create_task(self._follow(dispatcher), name="tasks in")

    def _changed(self, status: LinkStatus) -> None:
        log.info("workers elsewhere: Kafka is %s: %s", status.state.value, status.reason)

    async def _follow(self, dispatcher: Dispatcher) -> None:
        """Read what workers say."""
        failures = 0
        while True:
            await self._pipe.link.up.wait()
            reader = KafkaReader(self._pipe.access, None, f"prime-spark-tasks-{self._name}")
            try:
                await reader.start([self._pipe.prefix + RESULTS])
                self._deaf = None
                await self._read(reader, dispatcher)
            except LinkDownError as error:
                self._deaf = error
                log.warning("what workers say is not read: %s", error.message)
            finally:
                self._reads = False
                await reader.stop()
            failures += 1
            await asyncio.sleep(backoff(failures, FIRST, LONGEST))

    async def _read(self, reader: KafkaReader, dispatcher: Dispatcher) -> None:
        """Raises LinkDownError."""
        told: dict[int, Record] = {}
        due = self._clock.monotonic() + COMMIT
        while True:
            records = await reader.take(AT_ONCE, COMMIT if told else 1.0)
            await self._handle(records, dispatcher)
            if not _fed(reader):
                self._reads = False
            elif len(records) < AT_ONCE and not self._reads:
                self._reads = True
                dispatcher.desk.poke()
            told |= {each.partition: each for each in records}
            if told and self._clock.monotonic() >= due:
                for record in told.values():
                    await reader.commit(record)
                told, due = {}, self._clock.monotonic() + COMMIT

    async def _handle(self, records: Sequence[Record], dispatcher: Dispatcher) -> None:
        """Have all counted; a disk that fails is waited for, and all come again then: leases tell what was counted."""
        found = await asyncio.to_thread(self._open, records) if len(records) > BESIDE else self._open(records)
        failures = 0
        while found:
            ends = await asyncio.gather(*(self._one(kind, data, dispatcher) for kind, data in found), return_exceptions=True)
            errors = [each for each in ends if isinstance(each, BaseException)]
            broken = next((each for each in errors if not isinstance(each, StoreError)), None)
            if broken is not None:
                raise broken
            if not errors:
                return
            failures += 1
            self._reads = False  # signs of life wait behind it: no lease may run out meanwhile
            log.error("what workers said is not on disk: %s", errors[0])
            await asyncio.sleep(backoff(failures, FIRST, LONGEST))

    def _open(self, records: Sequence[Record]) -> list[tuple[str, object]]:
        found = []
        for record in records:
            try:
                kind, data = self._seal.open(record.value)
            except StreamError as error:
                self.unusable += 1
                level = logging.WARNING if self.unusable < 10 else logging.DEBUG
                log.log(level, "%s [%d] at %d is ignored: %s", record.topic, record.partition, record.offset, error)
                continue
            found.append((kind, data))
        return found

    async def _one(self, kind: str, data: object, dispatcher: Dispatcher) -> None:
        """Raises StoreError."""
        match data:
            case Beat():
                await dispatcher.hear(data, self)
            case Result():
                await dispatcher.ended(data)
            case Begun() if kind == RETURNED:
                await dispatcher.returned(data)
            case Begun():
                await dispatcher.begun(data)
            case _:
                self.unusable += 1


def _fed(reader: KafkaReader) -> bool:
    """Whether the brokers have answered for each partition lately: what workers said until then is here."""
    consumer = reader.consumer
    polls = [consumer.last_poll_timestamp(each) for each in consumer.assignment()]
    return bool(polls) and all(each is not None and time.time() - each / 1000 < DEAF for each in polls)

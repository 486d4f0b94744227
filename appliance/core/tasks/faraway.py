"""A worker on another machine: takes orders from agents.tasks, tells what came of them on agents.results, and shows its life.

It asks no clock but its own monotonic one. Its leases hold for their length from the sending of the newest sign of life that
Kafka took; where none was taken for so long, others may have its tasks: it stops them, gives them back, and begins a new life.
An order names the newest sign of life that the dispatcher had seen: one that is older than a lease is not begun any more.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping

from appliance import __version__
from appliance.core.backoff import backoff
from appliance.core.model import Health, HealthReport
from appliance.core.ports import Clock
from appliance.core.streams.kafka import Access
from appliance.core.streams.kafka_reader import KafkaReader, Record
from appliance.core.streams.model import LinkState, LinkStatus
from appliance.core.tasks.executor import Executor, Handler
from appliance.core.tasks.pipe import RESULTS, TASKS, Pipe
from appliance.core.tasks.wire import BEAT, CANCEL, RECALL, RESULT, RETURNED, STARTED, Beat, Begun, Order, Result, Seal, Stop
from appliance.errors import AbsentError, LinkDownError, StreamError
from appliance.settingtasks import TaskSettings

log = logging.getLogger(__name__)

FIRST, LONGEST = 0.3, 10.0
"""Seconds between tries to read."""
BEATS = 200
"""Signs of life whose moments are remembered."""
ENDS = 5.0
"""Seconds that running tasks have to end when the worker is stopped."""
FLUSH = 2.0


class FarWorker:
    """The role worker (implements ports.Service and executor.Report).

    Args:
        name: The worker's.
        access: To the cluster.
        seal: Signs and checks; None where there is no key.
        handlers: By the type of task.
        settings: The group tasks.
        clock: Both clocks.
        prefix: What the names of the topics begin with.
    """

    name = "worker"
    summary = "Does tasks of the Control PC"
    depends: tuple[str, ...] = ()

    def __init__(
        self, name: str, access: Access, seal: Seal | None, handlers: Mapping[str, Handler], settings: TaskSettings,
        clock: Clock, prefix: str = "",
    ) -> None:  # fmt: skip
        self.worker = name
        self._access = access
        self._seal = seal
        self._handlers = handlers
        self._settings = settings
        self._clock = clock
        self._prefix = prefix
        self._lease_s = settings.lease_seconds
        self._number = 0
        self._sent: dict[int, float] = {}
        """Number of a sign of life → when it was made."""
        self._safe = 0.0
        """When the newest one was made that Kafka took."""
        self._pending: asyncio.Future[None] | None = None
        self._reads = asyncio.Event()
        self._fences = 0
        self._unusable = 0
        self._pipe: Pipe | None = None
        self.executor = Executor(name, handlers, settings.limit, settings.result_kib, self)

    async def start(self) -> None:
        """See what is configured. Raises AbsentError."""
        if not self._access.servers:
            raise AbsentError("No Kafka is configured.", "set kafka.bootstrap_servers (KAFKA_BOOTSTRAP_SERVERS).")
        if self._seal is None:
            step = "put what `prime-spark task key` says on the Control PC into the secret tasks.key here."
            raise AbsentError("The key of the Control PC's tasks is missing.", step)
        self._pipe = Pipe(self._access, self._clock, self._seal, self._prefix, RESULTS, self._changed)
        self.executor = Executor(self.worker, self._handlers, self._settings.limit, self._settings.result_kib, self)
        self._safe = self._clock.monotonic()
        self._sending: asyncio.Task[None] | None = asyncio.create_task(self._pipe.run(), name="worker pipe")

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(), name="worker listens")
            group.create_task(self._beats(), name="worker beats")
            group.create_task(self._watch_sender(), name="worker sends")

    async def _watch_sender(self) -> None:
        if self._sending is not None:
            await asyncio.wait({self._sending})
            self._sending.result()

    async def stop(self) -> None:
        """Let tasks end for a while, give the rest back, and say so."""
        pipe = self._pipe
        if pipe is None:
            return
        self.executor.stopping = True
        if pipe.link.up.is_set():
            self._post_beat(pipe)
        try:
            for told in await self.executor.drain(ENDS if pipe.link.up.is_set() else 0.0):
                pipe.post(RETURNED, told, self.worker)
            if pipe.link.up.is_set():
                self._post_beat(pipe)
                await pipe.flushed(FLUSH)
        finally:
            self._pipe = None
            if self._sending is not None:
                self._sending.cancel()
                await asyncio.wait({self._sending})

    async def health(self) -> HealthReport:
        """Degraded while Kafka does not answer."""
        if self._pipe is None:
            return HealthReport(Health.unhealthy, "it does not run")
        link, figures = self._pipe.link.status, self.executor.figures
        details = {
            "running": len(self.executor.has()), "completed": figures.completed, "failed": figures.failed,
            "stopped": figures.stopped, "stale orders": figures.stale, "fenced": self._fences, "unusable": self._unusable,
            "unsent": self._pipe.waits, "last failure": figures.last,
            "capabilities": ", ".join(each.name for each in self.executor.capabilities()),
        }  # fmt: skip
        if link.state is not LinkState.up:
            return HealthReport(Health.degraded, link.reason, link.next_step, details)
        if not self.executor.capabilities():
            step = "set tasks.commands, tasks.http_hosts or tasks.folders."
            return HealthReport(Health.degraded, "there is nothing that it may do", step, details)
        return HealthReport(Health.healthy, f"{self.worker}: {details['capabilities']}", details=details)

    # -- what the executor tells ---------------------------------------------------------------------------------------

    async def begun(self, told: Begun) -> bool:
        """See executor.Report."""
        await self._tell(STARTED, told)
        return told.session == self.executor.session

    async def ended(self, told: Result) -> None:
        """See executor.Report."""
        try:
            await self._tell(RESULT, told)
        except StreamError as error:
            await self._tell(RESULT, Result(
                task_id=told.task_id, status="failed", worker=told.worker, session=told.session, lease=told.lease,
                duration_ms=told.duration_ms, error=f"its result cannot be sent: {error.message}", final=True,
            ))  # fmt: skip

    async def returned(self, told: Begun) -> None:
        """See executor.Report."""
        await self._tell(RETURNED, told)

    async def _tell(self, kind: str, told: Begun | Result) -> None:
        if self._pipe is None:
            raise LinkDownError("The worker stops.", "the task goes to another one.")
        await asyncio.shield(self._pipe.post(kind, told, self.worker))

    # -- signs of life -------------------------------------------------------------------------------------------------

    async def _beats(self) -> None:
        await self._reads.wait()  # what is ordered from the first one on must be heard
        self._safe = self._clock.monotonic()
        while True:
            pipe = self._pipe
            if pipe is None:
                return
            now = self._clock.monotonic()
            rest = min(self._settings.beat_seconds, self._lease_s / 4)
            if now + rest - self._safe > self._lease_s and self.executor.has():
                self._fence(pipe)
            if self._pending is None or self._pending.done():
                self._post_beat(pipe)
            await asyncio.sleep(rest)

    def _post_beat(self, pipe: Pipe) -> None:
        executor, now = self.executor, self._clock.monotonic()
        self._number += 1
        number = self._number
        self._sent[number] = now
        self._sent.pop(number - BEATS, None)
        self._pending = pipe.post(BEAT, Beat(
            worker=self.worker, session=executor.session, number=number, capabilities=executor.capabilities(),
            limit=executor.limit, running=executor.has(), load=_load(), version=__version__, stopping=executor.stopping,
        ), self.worker)  # fmt: skip

        def taken(done: asyncio.Future[None]) -> None:
            if not done.cancelled() and done.exception() is None:
                self._safe = max(self._safe, now)

        self._pending.add_done_callback(taken)

    def _fence(self, pipe: Pipe) -> None:
        lost = self.executor.fence()
        self._fences += 1
        log.warning(
            "no sign of life reached Kafka for %g s: %d tasks are stopped, others may have them", self._lease_s, len(lost)
        )
        for told in lost:
            pipe.post(RETURNED, told, self.worker)
        self._post_beat(pipe)

    # -- orders --------------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        failures = 0
        while (pipe := self._pipe) is not None:
            await pipe.link.up.wait()
            reader = KafkaReader(pipe.access, None)
            try:
                await reader.start_near_end(self._prefix + TASKS, 0)
                self._reads.set()
                while True:
                    for record in await reader.take(500):
                        await self._take(record)
                    failures = 0
            except LinkDownError as error:
                log.warning("orders are not read: %s", error.message)
            finally:
                await reader.stop()
            failures += 1
            await asyncio.sleep(backoff(failures, FIRST, LONGEST))

    async def _take(self, record: Record) -> None:
        if record.key != self.worker.encode() or self._seal is None:
            return
        try:
            kind, data = self._seal.open(record.value)
        except StreamError as error:
            self._unusable += 1
            log.warning("%s [%d] at %d is ignored: %s", record.topic, record.partition, record.offset, error)
            return
        if isinstance(data, Order):
            if self._fresh(data):
                self.executor.take(data)
        elif isinstance(data, Stop) and kind == CANCEL:
            self.executor.stop(data)
        elif isinstance(data, Stop) and kind == RECALL:
            await self.executor.give_back(data)

    def _fresh(self, order: Order) -> bool:
        """Whether its lease holds for certain: it was given after the sign of life that it names."""
        self._lease_s = min(self._settings.lease_seconds, order.lease_s)
        made = self._sent.get(order.beat)
        if order.worker != self.worker or made is None or self._clock.monotonic() - made >= order.lease_s:
            self.executor.figures.stale += 1
            log.info("an order came too late, or for an earlier life: task %s", order.task_id)
            return False
        return True

    def _changed(self, status: LinkStatus) -> None:
        log.info("Kafka is %s: %s", status.state.value, status.reason)


def _load() -> float | None:
    """Load average of the last minute over the number of processors."""
    try:
        return round(os.getloadavg()[0] / (os.cpu_count() or 1), 3)
    except OSError:
        return None

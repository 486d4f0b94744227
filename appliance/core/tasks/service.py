"""The tasks as a service: the dispatcher, this machine's worker, the schedules, and the way to workers elsewhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from appliance.core.figures import counted
from appliance.core.model import Health, HealthReport
from appliance.core.ports import Clock
from appliance.core.state import LiveState, Section
from appliance.core.tasks.desk import Desk
from appliance.core.tasks.dispatcher import Dispatcher
from appliance.core.tasks.entry import Entry
from appliance.core.tasks.executor import Handler
from appliance.core.tasks.local import LocalWorker
from appliance.core.tasks.model import Task, TasksStatus, TransportStatus, Worker, WorkerState
from appliance.core.tasks.roster import Member, Outlet
from appliance.core.tasks.schedules import Schedules
from appliance.errors import AbsentError, ConflictError
from appliance.settingtasks import TaskSettings

log = logging.getLogger(__name__)

SHOW = 1.0
"""Seconds between two puts into the live state."""
REFRESH = 5.0
"""Seconds between two looks at what this machine's worker can do."""
SHOWN = 100
"""Most waiting tasks that are shown."""
ENDS = 2.0
"""Seconds that running tasks have to end when the appliance stops."""


class Remote(Outlet, Protocol):
    """The way to workers on other machines."""

    async def run(self, dispatcher: Dispatcher) -> None:
        """Carry orders there and results here, until cancelled."""

    def status(self) -> TransportStatus:
        """How it is."""


@dataclass(frozen=True)
class Ground:
    """What the tasks stand on.

    Attributes:
        desk: The tasks.
        handlers: What this machine's worker does, by type.
        name: This device's.
        state: Shown there (Section.tasks).
        clock: Both clocks.
        remote: Workers elsewhere; None without Kafka.
    """

    desk: Desk
    settings: TaskSettings
    handlers: Mapping[str, Handler]
    name: str
    state: LiveState
    clock: Clock
    remote: Remote | None = None


class TasksService:
    """Runs them (implements ports.Service)."""

    name = "tasks"
    summary = "Queues tasks, gives them to workers, and keeps what came of them"
    depends: tuple[str, ...] = ("store",)

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self.dispatcher = Dispatcher(ground.desk)
        self.schedules = Schedules(self.dispatcher)
        self._local: LocalWorker | None = None
        self._open = False

    async def start(self) -> None:
        """Bring back what waits. Raises StoreError."""
        ground = self._ground
        await self.dispatcher.open(ground.name)
        await self.schedules.open()
        self._local = LocalWorker(ground.name, self.dispatcher, ground.handlers, ground.settings)
        for worker in await ground.desk.book.workers():
            if worker.name != ground.name and ground.remote is not None:
                silent = msgspec.structs.replace(worker, state=WorkerState.silent, local=False, note="not heard of yet")
                self.dispatcher.join(Member(silent, ground.remote))
        self.dispatcher.join(self._local.member())
        self._open = True
        self.show()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.dispatcher.run(), name="tasks dispatch")
            group.create_task(self.schedules.run(), name="tasks schedules")
            group.create_task(self._show_regularly(), name="tasks show")
            if self._ground.remote is not None:
                group.create_task(self._ground.remote.run(self.dispatcher), name="tasks transport")

    async def stop(self) -> None:
        """Give back what runs here; what others do goes on."""
        self._open = False
        local, self._local = self._local, None
        if local is not None:
            await local.close(ENDS)

    @property
    def running(self) -> Dispatcher:
        """The dispatcher. Raises AbsentError where the service does not run."""
        if not self._open:
            raise AbsentError("The service tasks does not run.", "look at Services for why.")
        return self.dispatcher

    async def forget(self, name: str) -> None:
        """Forget a worker that is silent.

        Raises:
            NotFoundError: There is none of that name.
            ConflictError: It lives.
        """
        member = self.running.desk.roster.get(name)
        if member.worker.local or member.worker.state is not WorkerState.silent:
            raise ConflictError(f"{name} is {member.worker.state.value}.", "stop it first.")
        if member.has:
            raise ConflictError(f"{name} has tasks still.", "wait until their leases have run out.")
        await self._ground.desk.book.forget_worker(name)
        self.running.desk.roster.members.pop(name, None)
        self.running.desk.poke()

    async def health(self) -> HealthReport:
        """Unhealthy where nothing can be written; degraded while something waits that no worker does now."""
        desk = self._ground.desk
        if self.dispatcher.trouble is not None:
            return HealthReport(Health.unhealthy, self.dispatcher.trouble.message, self.dispatcher.trouble.next_step)
        silent = [each.name for each in desk.roster.shown() if each.state is WorkerState.silent and not each.local]
        stuck = sorted({kind for kind, wanted in desk.waiting.buckets() if not self._served(kind, wanted)})
        told = f"{counted(len(desk.live) - len(desk.flying), 'task')} waiting, {counted(len(desk.flying), 'task')} with workers"
        if stuck:
            step = "see `prime-spark task workers`; start a worker that does them, or cancel them."
            return HealthReport(Health.degraded, f"{told}; no worker is ready for: {', '.join(stuck)}", step)
        transport = self.transport()
        if transport.configured and not transport.up:
            return HealthReport(
                Health.degraded, f"{told}; workers elsewhere cannot be reached: {transport.reason}", transport.next_step
            )
        if silent:
            step = "see that machine, or `prime-spark task worker-forget NAME`."
            return HealthReport(Health.degraded, f"{told}; silent: {', '.join(silent[:5])}", step)
        return HealthReport(Health.healthy, told)

    def transport(self) -> TransportStatus:
        """How workers elsewhere are reached."""
        if self._ground.remote is None:
            return TransportStatus(
                reason="Kafka is not configured", next_step="set kafka.bootstrap_servers for workers elsewhere."
            )
        return self._ground.remote.status()

    def status(self) -> TasksStatus:
        """Everything, as the screen shows it."""
        desk = self._ground.desk
        waiting = [desk.live[each] for each in desk.waiting.first(SHOWN) if each in desk.live]
        rest = {task_id for _, task_id in desk.later if task_id in desk.live and self._rests(desk.live[task_id])}
        resting = sorted((desk.live[each] for each in rest), key=lambda entry: entry.not_before)
        flying = sorted(desk.flying.values(), key=lambda entry: entry.number)
        shown = (*waiting, *resting)[:SHOWN]
        served = {bucket: self._served(*bucket) for bucket in {entry.bucket for entry in shown}}
        return TasksStatus(
            waiting=tuple(self._told(entry, served[entry.bucket]) for entry in shown),
            running=tuple(entry.task for entry in flying[:SHOWN]),
            history=desk.ends.shown(), workers=desk.roster.shown(), schedules=self.schedules.all(),
            depths=desk.waiting.depths(), counts=dict(desk.counts), most_waiting=self._ground.settings.waiting,
            with_workers=len(flying), resting=len(resting), transport=self.transport(),
        )  # fmt: skip

    def worker(self, name: str) -> Worker:
        """One. Raises NotFoundError."""
        self._ground.desk.roster.get(name)
        return next(each for each in self._ground.desk.roster.shown() if each.name == name)

    def show(self) -> None:
        """Put everything into the live state."""
        self._ground.state.put(Section.tasks, self.status())

    async def _show_regularly(self) -> None:
        seen, refreshed = -1, self._ground.clock.monotonic()
        while True:
            await asyncio.sleep(SHOW)
            if self._local is not None and self._ground.clock.monotonic() - refreshed >= REFRESH:
                refreshed = self._ground.clock.monotonic()
                member = self._ground.desk.roster.members.get(self._ground.name)
                if member is not None:
                    self._local.refresh(member)
            if seen != self._ground.desk.changes or self._ground.remote is not None:
                seen = self._ground.desk.changes
                self.show()

    def _rests(self, entry: Entry) -> bool:
        return not entry.in_flight and entry.task.task_id not in self._ground.desk.waiting

    def _served(self, kind: str, wanted: str) -> bool:
        able = self._ground.desk.roster.able((kind, wanted))
        return any(each.worker.state is WorkerState.ready and each.outlet.hears for each in able)

    def _told(self, entry: Entry, served: bool) -> Task:
        """A waiting task with why it waits."""
        task, left = entry.task, entry.not_before - self._ground.clock.monotonic()
        if left > 0 and task.task_id not in self._ground.desk.waiting:
            why = f"again in {left:.0f} s: {task.reason}"
        elif not served:
            why = f"{task.wanted_worker} is not ready" if task.wanted_worker else f"no worker that does {task.type} is ready"
        else:
            why = "all workers that do it are busy"
        return msgspec.structs.replace(task, reason=why)

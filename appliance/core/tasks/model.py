"""Values of the tasks: what is to be done, who can do it, and when it is done again. What nobody knows is None."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Any

import msgspec


class TaskState(StrEnum):
    """Life of a task (contracts, section 7)."""

    pending = "pending"
    assigned = "assigned"
    """Handed to a worker that has not begun yet."""
    in_progress = "in_progress"
    completed = "completed"
    failed = "failed"
    cancelled = "cancelled"


ENDED = frozenset({TaskState.completed, TaskState.failed, TaskState.cancelled})
"""States that a task never leaves, unless an operator has it done again."""


class Urgency(IntEnum):
    """Priority of a task; a higher number is done first."""

    low = 1
    normal = 2
    high = 3
    urgent = 4


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One task."""

    task_id: str
    type: str
    """A capability; who does it must have it."""
    state: TaskState
    priority: Urgency = Urgency.normal
    owner: str = ""
    """Who asked for it."""
    submitted: float = 0.0
    """Wall clock."""
    started: float | None = None
    """Wall clock here, of the present or last attempt."""
    ended: float | None = None
    """Wall clock here."""
    attempt: int = 0
    """How often a worker began it."""
    attempts: int = 3
    """Most of them."""
    lease: int = 0
    """Grows with each assignment: a result of an older one is refused."""
    deliveries: int = 0
    """Assignments in a row that nobody began."""
    worker: str = ""
    """Who has it, or had it last."""
    session: str = ""
    """The life of that worker."""
    wanted_worker: str = ""
    """The only one that may do it; empty for anyone."""
    deadline: float | None = None
    """Wall clock at which it is of no use any more."""
    limit_s: float = 3600.0
    """Seconds that one attempt may take."""
    reason: str = ""
    """Why it waits, or what went wrong."""
    payload_bytes: int = 0
    duration_ms: float | None = None
    """Of the attempt that ended it, by the worker's clock."""
    schedule: str = ""
    """Name of the schedule that it comes from."""


class TaskDetail(msgspec.Struct, frozen=True, kw_only=True):
    """One task with all that is known of it."""

    task: Task
    payload: Any
    result: Any = None
    history: tuple[dict[str, Any], ...] = ()
    """What happened to it: {"time", "what", "worker"}."""


class WorkerState(StrEnum):
    """How a worker is."""

    ready = "ready"
    stopping = "stopping"
    """It takes nothing more."""
    silent = "silent"
    """No sign of life for longer than a lease."""


class Capability(msgspec.Struct, frozen=True):
    """One type of task that a worker does."""

    name: str
    summary: str = ""


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """Who does tasks."""

    name: str
    state: WorkerState = WorkerState.ready
    capabilities: tuple[Capability, ...] = ()
    limit: int = 1
    """Most tasks at one time."""
    busy: int = 0
    """Tasks that it has now, waiting ones included."""
    running: int | None = None
    """Tasks that it said it works on; None before its first sign of life."""
    load: float | None = None
    """Its load average over its number of processors, 1 minute."""
    version: str = ""
    session: str = ""
    """Its present life."""
    beat: float | None = None
    """Monotonic instant of its last sign of life here; None for the worker inside the appliance."""
    local: bool = False
    completed: int = 0
    failed: int = 0
    refused: int = 0
    """Results that came too late: of leases that it had lost."""
    note: str = ""

    def can(self, kind: str) -> bool:
        """Whether it does tasks of that type."""
        return any(each.name == kind for each in self.capabilities)


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A task that is submitted again and again."""

    name: str
    cron: str
    """Five fields, as cron has them."""
    zone: str
    """Time zone by its name, such as "Europe/Berlin"."""
    type: str
    payload: Any = None
    priority: Urgency = Urgency.normal
    missed: str = "once"
    """What happens to runs that were missed: "once" makes them up by one, "skip" leaves them out."""
    enabled: bool = True
    owner: str = ""
    created: float = 0.0
    limit_s: float = 3600.0
    worker: str = ""
    last: float | None = None
    """Wall clock of the newest run that was submitted or left out."""
    last_task: str = ""
    next: float | None = None
    """Wall clock of the next run; None where there is none."""
    missed_runs: int = 0
    """Runs that were left out so far."""
    note: str = ""


class TransportStatus(msgspec.Struct, frozen=True):
    """How workers on other machines are reached."""

    configured: bool = False
    up: bool = False
    reason: str = ""
    next_step: str = ""


class TasksStatus(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, as the Tasks screen shows it."""

    waiting: tuple[Task, ...] = ()
    """The first ones in the order in which they are to be done."""
    running: tuple[Task, ...] = ()
    """Assigned and in progress."""
    history: tuple[Task, ...] = ()
    """Ended ones, newest first."""
    workers: tuple[Worker, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    depths: dict[str, int] = {}
    """Waiting ones by the name of their priority."""
    counts: dict[str, int] = {}
    """Since the start: submitted, completed, failed, cancelled, retried, lost (leases), refused (late results), duplicates."""
    with_workers: int = 0
    """Assigned and in progress, also those that `running` has no room for."""
    resting: int = 0
    """Those that wait for their next attempt; `depths` does not have them."""
    most_waiting: int = 0
    transport: TransportStatus = TransportStatus()

"""A task that has not ended, as the dispatcher follows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from appliance.core.ports import Clock
from appliance.core.tasks.book import Change, History, Kept, shortened
from appliance.core.tasks.model import Task, TaskState
from appliance.core.tasks.waiting import Bucket

BOOT = Path("/proc/sys/kernel/random/boot_id")
FLIGHT = frozenset({TaskState.assigned, TaskState.in_progress})
LONGEST = 30 * 86400.0
"""Most seconds that a task can have waited, whatever the clocks say."""


def boot_id() -> str:
    """What names this run of the machine; monotonic times of another one mean nothing."""
    try:
        return BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""


@dataclass
class Entry:
    """One task.

    Attributes:
        task: As it is now.
        number: Of its submission.
        since: Monotonic instant of its submission.
        due: Monotonic instant of its deadline.
        history: What happened to it.
        expires: Monotonic instant at which its lease runs out; None where it has none that can.
        not_before: Monotonic instant before which it is not tried again.
        recalled: Its worker was asked to give it back.
        recovered: A worker had it when an earlier run of the appliance ended, and has not named it since: what is read of
            that worker may be older than what is known of the task.
        payload: As JSON; None where it is only on disk.
    """

    task: Task
    number: int
    since: float
    due: float | None = None
    history: History = ()
    expires: float | None = None
    not_before: float = 0.0
    recalled: bool = False
    recovered: bool = False
    payload: bytes | None = None

    @property
    def bucket(self) -> Bucket:
        """Who may do it."""
        return self.task.type, self.task.wanted_worker

    @property
    def in_flight(self) -> bool:
        """A worker has it."""
        return self.task.state in FLIGHT

    def change(self, now: float, what: str, by: str = "", **changes: Any) -> None:
        """Set facts of it, and note why.

        Args:
            now: Wall clock.
            what: What happened; empty where it is not worth a note.
            by: The worker whose doing it is.
            changes: Fields of the task.
        """
        self.task = msgspec.structs.replace(self.task, **changes)
        if what:
            self.history = shortened((*self.history, {"time": now, "what": what, **({"worker": by} if by else {})}))

    def kept(self, boot: str) -> Kept:
        """As it lies on disk."""
        return Kept(self.number, self.task, self.history, boot, self.due)

    def as_change(self, result: bytes | None = None, ended: int | None = None) -> Change:
        """What is written of it."""
        return Change(self.task, self.history, result, ended)


def entry_of(kept: Kept, clock: Clock, boot: str) -> Entry:
    """A task of an earlier run.

    Its deadline counts by the monotonic clock where this is the same run of the machine. After a start of the machine only the
    wall clock can tell, and it may be wrong: never more time is left than the task was given.
    """
    task, now = kept.task, clock.monotonic()
    waited = min(LONGEST, max(0.0, clock.wall() - task.submitted))
    due: float | None = None
    if task.deadline is not None:
        given = max(0.0, task.deadline - task.submitted)
        left = min(given, task.deadline - clock.wall())
        due = kept.due if kept.due is not None and kept.boot == boot and boot else now + left
    return Entry(task, kept.number, now - waited, due, kept.history)

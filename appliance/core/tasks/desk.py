"""The tasks that have not ended, and how each moves on: what is in memory is changed at once, then written, and undone where
that fails. Nobody is told of anything before it is on disk.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from appliance.core.backoff import backoff
from appliance.core.ports import Clock
from appliance.core.tasks.book import TaskBook
from appliance.core.tasks.ends import REMEMBERED, SHOWN, Ends
from appliance.core.tasks.entry import Entry, boot_id, entry_of
from appliance.core.tasks.model import Task, TaskState
from appliance.core.tasks.roster import Roster
from appliance.core.tasks.waiting import Waiting
from appliance.errors import StoreError
from appliance.settingtasks import TaskSettings

log = logging.getLogger(__name__)

DELIVERIES = 20
"""Assignments in a row that nobody began, after which a task has failed."""
SLACK = 1000
"""Moments of tasks that have ended which may be noted beyond as many as have not, twice."""
COUNTED = ("submitted", "completed", "failed", "cancelled", "retried", "lost", "refused", "duplicates")

Tell = Callable[[str, dict[str, Any]], Awaitable[None]]


class Desk:
    """Keeps them.

    Args:
        book: Where everything lies.
        settings: The group tasks.
        clock: Both clocks.
        tell: Told of tasks that failed and of workers that fell silent.
    """

    def __init__(self, book: TaskBook, settings: TaskSettings, clock: Clock, tell: Tell) -> None:
        self.book = book
        self.settings = settings
        self.clock = clock
        self.tell = tell
        self.roster = Roster(settings.lease_seconds)
        self.live: dict[str, Entry] = {}
        self.flying: dict[str, Entry] = {}
        """Those that a worker has."""
        self.ending: set[str] = set()
        """Those whose end is being written."""
        self.waiting = Waiting(settings.aging_seconds)
        self.ends = Ends()
        self.counts = dict.fromkeys(COUNTED, 0)
        self.changes = 0
        """Grows with everything that a screen would show."""
        self.boot = boot_id()
        self.wake = asyncio.Event()
        self.later: list[tuple[float, str]] = []
        """(when, task) of those that are tried again."""
        self.dues: list[tuple[float, str]] = []
        """(when, task) of those that have a deadline."""
        self._number = 0

    async def open(self) -> list[Entry]:
        """Bring back what an earlier run left; returns what was in flight then. Raises StoreError."""
        kept, self._number, ended = await self.book.open()
        shown, leases = await self.book.ended(SHOWN), await self.book.leases(REMEMBERED)
        before = self.ends
        self.roster = Roster(self.settings.lease_seconds)
        self.waiting, self.ends = Waiting(self.settings.aging_seconds), Ends(ended)
        self.later, self.dues = [], []
        self.live, self.flying = {}, {}
        self.ends.recall(shown, leases)
        for each in kept:
            entry = self.live[each.task.task_id] = entry_of(each, self.clock, self.boot)
            self.watch_due(entry)
            if entry.in_flight:
                entry.recovered = True
                self.flying[each.task.task_id] = entry
            else:
                self.queue(entry)
        before.release()
        return list(self.flying.values())

    def has(self, task_id: str) -> bool:
        """Whether it has not ended, as far as the disk knows."""
        return task_id in self.live or task_id in self.ending

    async def ended(self, task_id: str) -> None:
        """Return when it has ended."""
        while self.has(task_id):
            await self.ends.wait(task_id)

    def number(self) -> int:
        """Of the next submission."""
        self._number += 1
        return self._number

    def poke(self) -> None:
        """Something may have become possible."""
        self.changes += 1
        self.wake.set()

    def queue(self, entry: Entry) -> None:
        """It waits for a worker from now on."""
        self.waiting.add(entry.task.task_id, entry.bucket, entry.task.priority, entry.since, entry.number)
        self.poke()

    def watch_due(self, entry: Entry) -> None:
        """It ends at its deadline, where it has one."""
        if entry.due is not None:
            self.at(self.dues, entry.due, entry.task.task_id)

    def at(self, moments: list[tuple[float, str]], when: float, task_id: str) -> None:
        """Note a moment of a task; those of tasks that have ended go before they are more than those of the others."""
        heapq.heappush(moments, (when, task_id))
        if len(moments) > SLACK + 2 * len(self.live):
            moments[:] = [each for each in moments if each[1] in self.live]
            heapq.heapify(moments)

    async def lose(self, entry: Entry, why: str) -> None:
        """A worker has lost a task: it goes to another one, or has failed. Raises StoreError."""
        task = entry.task
        if task.state is TaskState.in_progress:
            await self.again(entry, why)
        elif task.deliveries >= DELIVERIES:
            await self.end(entry, TaskState.failed, f"{why}, {task.deliveries} times in a row")
        else:
            await self.back(entry, why)
        self.counts["lost"] += 1

    async def again(self, entry: Entry, why: str) -> None:
        """An attempt has failed: there is another one, or the task has failed. Raises StoreError."""
        task = entry.task
        if task.attempt >= task.attempts:
            await self.end(entry, TaskState.failed, f"{why} (attempt {task.attempt} of {task.attempts})")
            return
        rest = backoff(task.attempt, self.settings.retry_seconds, self.settings.retry_longest_seconds)
        await self.back(entry, why, rest)
        self.counts["retried"] += 1

    async def back(self, entry: Entry, why: str, rest: float = 0.0, **changes: Any) -> None:
        """To the queue again. Raises StoreError: nothing has changed.

        Args:
            entry: The task.
            why: What happened.
            rest: Seconds before its next attempt.
            changes: Further facts of the task.
        """
        before = entry.task
        worker = before.worker
        undo = _undo(entry)
        changes |= {"state": TaskState.pending, "reason": why}
        entry.change(self.clock.wall(), f"waits again: {why}", worker, **changes)
        entry.expires, entry.not_before = None, self.clock.monotonic() + rest
        after = entry.task
        self.flying.pop(before.task_id, None)
        try:
            await self.book.change([entry.as_change()])
        except BaseException:
            if entry.task is after:
                undo()
                self.flying[before.task_id] = entry
            raise
        self._let_go(before)
        if entry.task is not after or self.live.get(before.task_id) is not entry:
            return  # it was cancelled meanwhile
        if rest:
            self.at(self.later, entry.not_before, before.task_id)
            self.poke()
        else:
            self.queue(entry)

    async def end(
        self, entry: Entry, state: TaskState, reason: str, duration_ms: float | None = None, result: bytes | None = None
    ) -> Task:
        """A task ends. Raises StoreError: it has not."""
        before, wall = entry.task, self.clock.wall()
        undo = _undo(entry)
        waited, flew = self.waiting.remove(before.task_id), self.flying.pop(before.task_id, None)
        what = f"{state.value}: {reason}" if reason else state.value
        entry.change(wall, what, before.worker, state=state, reason=reason, ended=wall, duration_ms=duration_ms)
        entry.expires = None
        self.live.pop(before.task_id, None)
        self.ending.add(before.task_id)
        try:
            await self.book.change([entry.as_change(result, self.ends.next())])
        except BaseException:
            self.ending.discard(before.task_id)
            undo()
            self.live[before.task_id] = entry
            if flew is not None:
                self.flying[before.task_id] = entry
            elif waited or not entry.in_flight:  # also where its way back to the queue failed meanwhile
                self.queue(entry)
            raise
        self.ending.discard(before.task_id)
        self.ends.add(entry.task)
        self.counts[state.value] += 1
        self._let_go(before)
        if state is TaskState.failed:
            await self._tell_failed(entry.task)
        return entry.task

    async def _tell_failed(self, task: Task) -> None:
        log.warning("task %s (%s) failed: %s", task.task_id, task.type, task.reason)
        facts = {"task_id": task.task_id, "type": task.type, "owner": task.owner, "reason": task.reason}
        await self.note("task.failed", {**facts, "attempts": task.attempt})

    async def note(self, event: str, attributes: dict[str, Any]) -> None:
        """Tell of an event; what happened has happened, also where that cannot be told."""
        try:
            await self.tell(event, attributes)
        except StoreError as error:
            log.error("%s is not among the events: %s", event, error.message)

    def _let_go(self, task: Task) -> None:
        if (member := self.roster.members.get(task.worker)) is not None:
            member.has.discard(task.task_id)
        self.poke()


def _undo(entry: Entry) -> Callable[[], None]:
    task, history, expires, not_before = entry.task, entry.history, entry.expires, entry.not_before

    def undo() -> None:
        entry.task, entry.history, entry.expires, entry.not_before = task, history, expires, not_before

    return undo

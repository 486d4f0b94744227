"""The tasks that ended lately: for the screen, and to tell a result that came twice from one that came too late."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable

from appliance.core.tasks.model import Task

SHOWN = 100
REMEMBERED = 5000


class Ends:
    """Remembers ends.

    Args:
        number: Of the newest one on disk.
    """

    def __init__(self, number: int = 0) -> None:
        self._number = number
        self._shown: deque[Task] = deque(maxlen=SHOWN)
        self._leases: OrderedDict[str, int] = OrderedDict()
        self._awaited: dict[str, list[asyncio.Future[None]]] = {}

    def next(self) -> int:
        """The number of the next end."""
        self._number += 1
        return self._number

    def add(self, task: Task) -> None:
        """One has ended."""
        again = next((each for each in self._shown if each.task_id == task.task_id), None)
        if again is not None:
            self._shown.remove(again)
        self._shown.appendleft(task)
        for future in self._awaited.pop(task.task_id, ()):
            if not future.done():
                future.set_result(None)
        if task.state.value in {"completed", "failed"}:
            self._leases[task.task_id] = task.lease
        while len(self._leases) > REMEMBERED:
            self._leases.popitem(last=False)

    async def wait(self, task_id: str) -> None:
        """Return when this one has ended."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters = self._awaited.setdefault(task_id, [])
        waiters.append(future)
        try:
            await future
        finally:
            if future in waiters:
                waiters.remove(future)
            if not waiters and self._awaited.get(task_id) is waiters:
                del self._awaited[task_id]

    def recall(self, tasks: list[Task], leases: Iterable[tuple[str, int]]) -> None:
        """Ends of an earlier run.

        Args:
            tasks: Those that are shown, the newest first.
            leases: (task, lease) of those that a worker ended, the oldest first.
        """
        for task in reversed(tasks):
            self._shown.appendleft(task)
        self._leases.update(leases)

    def release(self) -> None:
        """Have all who wait look again: others keep the ends from now on."""
        waiters = [future for each in self._awaited.values() for future in each]
        for future in waiters:
            if not future.done():
                future.set_result(None)

    def knows(self, task_id: str, lease: int) -> bool:
        """Whether that very assignment has ended the task."""
        return self._leases.get(task_id) == lease

    def shown(self) -> tuple[Task, ...]:
        """The newest ones, newest first."""
        return tuple(self._shown)

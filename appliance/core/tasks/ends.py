"""The tasks that ended lately: for the screen, and to tell a result that came twice from one that came too late."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque

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

    def recall(self, tasks: list[Task]) -> None:
        """Ends of an earlier run, the newest first."""
        for task in reversed(tasks):
            self.add(task)

    def knows(self, task_id: str, lease: int) -> bool:
        """Whether that very assignment has ended the task."""
        return self._leases.get(task_id) == lease

    def shown(self) -> tuple[Task, ...]:
        """The newest ones, newest first."""
        return tuple(self._shown)

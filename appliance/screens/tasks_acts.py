"""What the keys of the Tasks page do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.screens.flows import Flows
from appliance.screens.inference_acts import ask_for
from appliance.screens.tasks_text import short, told

if TYPE_CHECKING:
    from appliance.screens.tasks import Tasks

SUBMITTED = ("type", "payload", "priority", "worker", "deadline", "limit", "attempts")
SCHEDULED = ("name", "cron", "zone", "type", "payload", "priority", "missed", "worker")


class Acts:
    """Dialogs and invocations of one Tasks page.

    Args:
        page: It.
    """

    def __init__(self, page: Tasks) -> None:
        self._page = page

    @property
    def _flows(self) -> Flows:
        return self._page.spark.flows

    def do(self, what: str) -> None:
        """One of the page's own keys."""
        free = {"submit": self._submit, "add": self._add}
        if what in free:
            self._flows.start(free[what](), what)
            return
        panel, key = self._page.chosen
        if what == "cancel" and panel in {"queue", "history"}:
            self._start("task.cancel", "task_id", key, f"task {short(key)} is cancelled")
        elif what == "retry" and panel in {"queue", "history"}:
            self._start("task.retry", "task_id", key, f"task {short(key)} waits again")
        elif panel == "schedules" and key:
            self._schedule(what, key)
        elif what == "remove" and panel == "workers":
            self._start("task.worker-forget", "name", key, f"{key} is forgotten")
        else:
            self._page.say(NEEDED[what], "warn")

    def _schedule(self, what: str, name: str) -> None:
        enabled = any(each.name == name and each.enabled for each in self._page.status.schedules)
        verb, done = {
            "switch": ("disable", "rests") if enabled else ("enable", "runs from now on"),
            "run": ("run", "submitted its task"), "remove": ("remove", "is removed"),
        }.get(what, ("", ""))  # fmt: skip
        if verb:
            self._start(f"schedule.{verb}", "name", name, f"{name} {done}")
        else:
            self._page.say(NEEDED[what], "warn")

    def _start(self, action: str, field: str, key: str, done: str) -> None:
        if key:
            self._flows.start(self._flows.do(action, {field: key}, done), action)

    def open(self, panel: str, key: str) -> None:
        """All of what the cursor is on."""
        if panel in {"queue", "history"}:
            self._flows.start(self._show(key), "task")
            return
        status = self._page.status
        workers = {each.name: each for each in status.workers}
        schedules = {each.name: each for each in status.schedules}
        if panel == "workers" and key in workers:
            self._flows.start(self._flows.show(f"Worker {key}", workers[key]), panel)
        elif panel == "schedules" and key in schedules:
            self._flows.start(self._flows.show(f"Schedule {key}", schedules[key]), panel)

    async def _show(self, task_id: str) -> None:
        detail = await self._page.console.invoke("task.show", {"task_id": task_id})
        await self._flows.show(f"Task {short(task_id)}", told(detail))

    async def _submit(self) -> None:
        task = await ask_for(self._page, "task.submit", "Submit a task", SUBMITTED)
        if task is not None:
            self._page.say(f"task {short(task.task_id)} is submitted", "ok")

    async def _add(self) -> None:
        made = await ask_for(self._page, "schedule.add", "Add a schedule", SCHEDULED)
        if made is not None:
            self._page.say(f"{made.name} is added", "ok")


NEEDED = {
    "cancel": "cancel a task: put the cursor on it in the queue", "retry": "retry a task: put the cursor on it in the history",
    "switch": "put the cursor on a schedule", "run": "put the cursor on a schedule",
    "remove": "put the cursor on a schedule, or on a worker that is silent",
}  # fmt: skip

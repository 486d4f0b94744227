"""Actions on tasks, workers and schedules."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from appliance.core.actions import Action, Invocation, NoParams, Params
from appliance.core.figures import counted
from appliance.core.model import Role
from appliance.core.tasks.model import ENDED, Schedule, Task, TaskDetail, Urgency, Worker
from appliance.core.tasks.service import TasksService
from appliance.core.tasks.wishes import Wish
from appliance.errors import NotFoundError

OPEN = ("pending", "assigned", "in_progress")


def _json(value: Any) -> Any:
    """An object; on the command line it comes as text."""
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value) if value.strip() else {}
    except msgspec.MsgspecError as error:
        raise PydanticCustomError("json", "this is no JSON: {told}", {"told": str(error)}) from None


Payload = Annotated[dict[str, Any], BeforeValidator(_json)]
Priority = Literal["low", "normal", "high", "urgent"]
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"


class Submitting(Params):
    """A task."""

    type: str = Field(min_length=1, max_length=64, description="What kind of work: a capability of a worker")
    payload: Payload = Field({}, description='What exactly, as a JSON object, such as {"command": "disk-usage"}')
    priority: Priority = Field("normal", description="How urgent")
    attempts: int = Field(0, ge=0, le=100, description="Most attempts; 0: as tasks.attempts says")
    deadline: float | None = Field(None, gt=0, le=30 * 86400, description="Seconds after which it is of no use any more")
    limit: float = Field(0, ge=0, le=7 * 86400, description="Seconds that one attempt may take; 0: as tasks.limit_seconds says")
    worker: str = Field("", max_length=64, description="The only worker that may do it; empty for any")


class TaskId(Params):
    """One task."""

    task_id: str = Field(min_length=1, max_length=64, description="Id of the task, or its last characters (4 at least)")


class Listing(Params):
    """Which tasks."""

    state: Literal["", "open", "pending", "assigned", "in_progress", "completed", "failed", "cancelled"] = Field(
        "", description="Only those in that state"
    )
    limit: int = Field(50, ge=1, le=1000, description="Most rows")


class WorkerName(Params):
    """One worker."""

    name: str = Field(min_length=1, max_length=64, description="Name of the worker")


class Scheduling(Params):
    """A schedule."""

    name: str = Field(pattern=NAME, description="Its name")
    cron: str = Field(min_length=1, max_length=100, description='Five fields, such as "30 3 * * 1-5", or @daily')
    type: str = Field(min_length=1, max_length=64, description="Type of the task")
    payload: Payload = Field({}, description="Payload of the task, as a JSON object")
    zone: str = Field("UTC", max_length=60, description="Time zone, such as Europe/Berlin")
    priority: Priority = Field("normal", description="Priority of the task")
    missed: Literal["once", "skip"] = Field("once", description="What becomes of runs that were missed: one for all, or none")
    limit: float = Field(0, ge=0, le=7 * 86400, description="Seconds that one attempt may take; 0: as tasks.limit_seconds says")
    worker: str = Field("", max_length=64, description="The only worker that may do it; empty for any")


class ScheduleName(Params):
    """One schedule."""

    name: str = Field(min_length=1, max_length=63, description="Name of the schedule")


def task_actions(service: TasksService, key: Callable[[], str]) -> list[Action]:
    """All of the tasks.

    Args:
        service: They.
        key: What orders are signed with; made where there is none. Blocks.
    """

    async def show_key(_: Invocation, __: NoParams) -> dict[str, str]:
        return {"key": await asyncio.to_thread(key)}

    shown = Action("task.key", "Show the key that workers elsewhere need as their secret tasks.key", show_key, role=Role.admin)
    return [*_tasks(service), *_looking(service), *_schedules(service), shown]


def _tasks(service: TasksService) -> list[Action]:
    async def submit(call: Invocation, params: Submitting) -> Task:
        wish = Wish(
            params.type, params.payload, Urgency[params.priority], params.attempts, params.deadline, params.limit, params.worker
        )
        return await service.running.submit(wish, call.actor.name)

    async def cancel(call: Invocation, params: TaskId) -> Task:
        return await service.running.cancel(await _find(service, params.task_id), call.actor.name)

    async def retry(call: Invocation, params: TaskId) -> Task:
        return await service.running.retry(await _find(service, params.task_id), call.actor.name)

    async def forget(_: Invocation, params: WorkerName) -> dict[str, str]:
        await service.forget(params.name)
        return {"forgotten": params.name}

    return [
        Action("task.submit", "Have a task done by a worker", submit, Submitting, positional=("type", "payload"),
               brief=lambda task: f"task {task.task_id[-6:]} {task.state.value}"),
        Action("task.cancel", "Have a task not done, or no more", cancel, TaskId, positional=("task_id",)),
        Action("task.retry", "Have a failed or cancelled task done again", retry, TaskId, positional=("task_id",)),
        Action("task.worker-forget", "Forget a worker that is silent", forget, WorkerName, positional=("name",)),
    ]  # fmt: skip


def _looking(service: TasksService) -> list[Action]:
    async def listing(_: Invocation, params: Listing) -> list[Task]:
        desk = service.running.desk
        waiting = {task.task_id: task for task in service.status().waiting}
        live = [waiting.get(each.task.task_id, each.task) for each in reversed(desk.live.values())]
        if params.state == "open" or params.state in OPEN:
            return [each for each in live if params.state in {"open", each.state.value}][: params.limit]
        if params.state:
            return await desk.book.ended(params.limit, params.state)
        return [*live, *await desk.book.ended(params.limit)][: params.limit]

    async def show(_: Invocation, params: TaskId) -> TaskDetail:
        desk = service.running.desk
        task_id = await _find(service, params.task_id)
        detail = await desk.book.show(task_id)
        entry = desk.live.get(task_id)
        return detail if entry is None else msgspec.structs.replace(detail, task=entry.task, history=entry.history)

    async def wait(_: Invocation, params: TaskId) -> TaskDetail:
        desk = service.running.desk
        task_id = await _find(service, params.task_id)
        await desk.ended(task_id)
        detail = await desk.book.show(task_id)
        if detail.task.state not in ENDED:
            raise NotFoundError("That task was taken up again meanwhile.", "wait for it once more.")
        return detail

    async def workers(_: Invocation, __: NoParams) -> list[Worker]:
        return list(service.running.desk.roster.shown())

    def brief(found: list[Task]) -> str:
        return f"{counted(sum(each.state not in ENDED for each in found), 'task')} open, {len(found)} in all"

    query = functools.partial(Action, query=True, role=Role.viewer)
    return [
        query("task.list", "List tasks, the newest first", listing, Listing, brief=brief),
        query("task.show", "Show a task with its payload, its result and all that happened to it", show, TaskId,
              positional=("task_id",)),
        query("task.wait", "Wait until a task has ended", wait, TaskId, positional=("task_id",), timeout=3600.0),
        query("task.workers", "List workers, what they can do, and how busy they are", workers),
    ]  # fmt: skip


def _schedules(service: TasksService) -> list[Action]:
    schedules = service.schedules

    async def add(call: Invocation, params: Scheduling) -> Schedule:
        settings = service.running.desk.settings
        return await schedules.add(Schedule(
            name=params.name, cron=params.cron, zone=params.zone, type=params.type, payload=params.payload,
            priority=Urgency[params.priority], missed=params.missed, owner=call.actor.name,
            limit_s=params.limit or settings.limit_seconds, worker=params.worker,
        ))  # fmt: skip

    async def listing(_: Invocation, __: NoParams) -> list[Schedule]:
        return list(schedules.all())

    async def remove(_: Invocation, params: ScheduleName) -> dict[str, str]:
        await schedules.remove(params.name)
        return {"removed": params.name}

    async def enable(_: Invocation, params: ScheduleName) -> Schedule:
        return await schedules.switch(params.name, enabled=True)

    async def disable(_: Invocation, params: ScheduleName) -> Schedule:
        return await schedules.switch(params.name, enabled=False)

    async def run(call: Invocation, params: ScheduleName) -> Task:
        service.running  # noqa: B018 raises where the service does not run
        return await schedules.run_now(params.name, call.actor.name)

    async def known(params: ScheduleName) -> Schedule:
        return schedules.get(params.name)

    one = functools.partial(Action, params=ScheduleName, positional=("name",))
    return [
        Action("schedule.add", "Submit a task again and again", add, Scheduling,
               positional=("name", "cron", "type", "payload")),
        Action("schedule.list", "List schedules with their next and their last run", listing, query=True, role=Role.viewer),
        one("schedule.remove", "Remove a schedule", remove, dangerous=True, look_up=known,
            confirm_text="Remove the schedule {name}? Tasks that it has submitted stay."),
        one("schedule.enable", "Have a schedule run from now on", enable),
        one("schedule.disable", "Have a schedule rest", disable),
        one("schedule.run", "Submit a schedule's task once, now", run),
    ]  # fmt: skip


async def _find(service: TasksService, wanted: str) -> str:
    """The id of a task. Raises NotFoundError, InvalidArgumentsError."""
    desk = service.running.desk
    return wanted if wanted in desk.live else await desk.book.find(wanted)

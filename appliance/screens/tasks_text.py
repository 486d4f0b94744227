"""Words about tasks that pages and the command line share; no widgets, which the command line does not load."""

from __future__ import annotations

from typing import Any

from appliance.core.tasks.model import TaskDetail
from appliance.screens import format as f

ID = 6
"""Characters of an id that are shown; commands take them."""


def short(task_id: str) -> str:
    """The end of an id."""
    return task_id[-ID:]


def told(detail: TaskDetail) -> dict[str, Any]:
    """Everything about a task as a record, without what says nothing."""
    task = detail.task
    facts = {
        "state": task.state.value.replace("_", " "), "why": task.reason, "type": task.type, "priority": task.priority.name,
        "worker": task.worker, "attempts": f"{task.attempt} of {task.attempts}", "took": f.took(task.duration_ms),
        "by": task.owner, "schedule": task.schedule, "only by": task.wanted_worker, "id": task.task_id,
        "deadline": f.clock(task.deadline or 0.0), "lease": task.lease,
    }  # fmt: skip
    shown: dict[str, Any] = {name: value for name, value in facts.items() if value not in ("", f.NONE)}
    lines = [_happened(each) for each in detail.history]
    return {**shown, "payload": detail.payload, "result": detail.result, "history": lines}


def _happened(each: dict[str, Any]) -> str:
    left = f" ({each['left_out']} entries)" if "left_out" in each else ""
    return f"{f.clock(each.get('time', 0.0))}  {each['what']}{left}  {each.get('worker', '')}".rstrip()

"""Answers about tasks, workers and schedules as text."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from rich.table import Table
from rich.text import Text

from appliance.core.clock import monotonic
from appliance.core.printable import printable
from appliance.core.tasks.model import TaskDetail, Urgency
from appliance.screens import format as f
from appliance.screens import tasks_text
from appliance.verbs import render

Block = Table | Text
TASK = ("task", "type", "state", "priority", "since", "try", "worker", "took", "why")
WORKER = ("worker", "state", "busy", "load", "seen", "done", "failed", "late", "can do", "version")
SCHEDULE = ("schedule", "on", "when", "zone", "next", "type", "priority", "missed", "note")
WIDE = 110
"""Columns from which all fields of a row are shown."""
NARROW = ("task", "type", "state", "priority", "since", "why")


def _list(value: list[dict[str, Any]], width: int) -> list[Block]:
    return [render.table([_row(task) for task in value], TASK if width >= WIDE else NARROW)]


def _row(task: dict[str, Any]) -> dict[str, Any]:
    moment = task["ended"] or (task["started"] if task["state"] == "in_progress" else None) or task["submitted"]
    return {
        "task": tasks_text.short(task["task_id"]), "type": task["type"], "state": task["state"].replace("_", " "),
        "priority": Urgency(task["priority"]).name, "since": f.since(moment), "try": f"{task['attempt']}/{task['attempts']}",
        "worker": task["worker"] or task["wanted_worker"] or f.NONE, "took": f.took(task["duration_ms"]),
        "why": task["reason"],
    }  # fmt: skip


def _show(value: dict[str, Any], width: int) -> list[Block]:
    return [render.record(tasks_text.told(msgspec.convert(value, TaskDetail)), width)]


def _one(value: dict[str, Any], _: int) -> list[Block]:
    row = _row(value)
    why = f": {row['why']}" if row["why"] else ""
    text = f"task {row['task']} ({row['type']}, {row['priority']}) {row['state']}{why}\nit is {value['task_id']}"
    return [Text(printable(text, keep="\n"))]


def _workers(value: list[dict[str, Any]], width: int) -> list[Block]:
    now = monotonic()
    rows = [
        {
            "worker": each["name"], "state": each["state"], "busy": f"{each['busy']}/{each['limit']}",
            "load": f.NONE if each["load"] is None else f"{each['load']:.2f}",
            "seen": "here" if each["local"] else f.NONE if each["beat"] is None else f.duration(max(0.0, now - each["beat"])),
            "done": each["completed"], "failed": each["failed"], "late": each["refused"],
            "can do": ", ".join(can["name"] for can in each["capabilities"]) or "nothing", "version": each["version"],
        }
        for each in value
    ]  # fmt: skip
    return [render.table(rows, WORKER if width >= WIDE else (*WORKER[:4], "done", "can do"))]


def _schedules(value: list[dict[str, Any]], width: int) -> list[Block]:
    return [render.table([_schedule(each) for each in value], SCHEDULE if width >= WIDE else (*SCHEDULE[:3], "next", "type"))]


def _of_one(value: dict[str, Any], width: int) -> list[Block]:
    return _schedules([value], width)


def _schedule(each: dict[str, Any]) -> dict[str, Any]:
    due = f.clock(each["next"]) if each["enabled"] and each["next"] is not None else f.NONE
    return {
        "schedule": each["name"], "on": "on" if each["enabled"] else "off", "when": each["cron"], "zone": each["zone"],
        "next": due, "type": each["type"], "priority": Urgency(each["priority"]).name, "missed": each["missed_runs"],
        "note": each["note"],
    }  # fmt: skip


def _key(value: dict[str, str], _: int) -> list[Block]:
    return [Text(value["key"])]


FORMS: Mapping[str, render.Form] = MappingProxyType({
    "task.list": _list, "task.show": _show, "task.wait": _show, "task.workers": _workers, "task.key": _key,
    **dict.fromkeys(("task.submit", "task.cancel", "task.retry", "schedule.run"), _one), "schedule.list": _schedules,
    **dict.fromkeys(("schedule.add", "schedule.enable", "schedule.disable"), _of_one),
})  # fmt: skip
NOTHING: Mapping[str, str] = MappingProxyType({
    "task.list": "no task; submit one: prime-spark task submit TYPE PAYLOAD",
    "schedule.list": "nothing is scheduled; add: prime-spark schedule add NAME CRON TYPE PAYLOAD",
})  # fmt: skip

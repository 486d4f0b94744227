"""Tasks as rows and lines: what waits and runs, what has ended, who does them, what is scheduled."""

from __future__ import annotations

import time

from appliance.core.tasks.model import Schedule, Task, TasksStatus, TaskState, Urgency, Worker, WorkerState
from appliance.screens import format as f
from appliance.screens.glyphs import Glyphs
from appliance.screens.tasks_text import short
from appliance.screens.themes import Role
from appliance.screens.widgets.grid import Column, Row
from appliance.screens.widgets.lines import Line, Piece

QUEUE = (
    Column("task", 6), Column("type", 17), Column("state", 13), Column("prio", 6), Column("for", 6, "right"),
    Column("try", 4, "right"), Column("worker", 13, least=70), Column("why"),
)  # fmt: skip
HISTORY = (
    Column("task", 6), Column("type", 17), Column("state", 9), Column("ended", 8), Column("took", 7, "right"),
    Column("try", 3, "right", 90), Column("worker", 13, least=100), Column("why"),
)  # fmt: skip
WORKERS = (
    Column("worker", 15), Column("state", 10), Column("busy", 6, "right"), Column("load", 5, "right"),
    Column("seen", 6, "right"), Column("done", 6, "right"), Column("failed", 6, "right"), Column("late", 4, "right", 90),
    Column("version", 9, least=100), Column("can do"),
)  # fmt: skip
SCHEDULES = (
    Column("schedule", 16), Column("on", 3), Column("when", 15), Column("next", 11), Column("last", 6, "right"),
    Column("missed", 6, "right", 90), Column("type", 15), Column("note"),
)  # fmt: skip
PRIORITIES: dict[Urgency, Role] = {Urgency.low: "muted", Urgency.normal: "text", Urgency.high: "accent", Urgency.urgent: "warn"}
STATES: dict[TaskState, Role] = {
    TaskState.pending: "text", TaskState.assigned: "accent", TaskState.in_progress: "ok", TaskState.completed: "ok",
    TaskState.failed: "bad", TaskState.cancelled: "muted",
}  # fmt: skip


def head_line(status: TasksStatus, glyphs: Glyphs) -> Line:
    """How much waits, and whether workers elsewhere are reached."""
    waiting = sum(status.depths.values()) + status.resting
    kinds = {**status.depths, "for another attempt": status.resting}
    depths = ", ".join(f"{count} {name}" for name, count in kinds.items() if count)
    ready = sum(each.state is WorkerState.ready for each in status.workers)
    pieces: list[Piece] = [
        (f" {waiting} waiting", "text"), (f" ({depths})" if depths else "", "muted"),
        (f"   {status.with_workers} with workers", "text"),
        (f"   {ready} of {f.counted(len(status.workers), 'worker')} ready", "text"),
    ]  # fmt: skip
    if status.transport.configured:
        sign, role = (glyphs.ok, "ok") if status.transport.up else (glyphs.bad, "bad")
        pieces.append((f"   {sign} Kafka", role))  # type: ignore[arg-type]
    else:
        pieces.append((f"   {glyphs.none} no Kafka: this machine's worker only", "muted"))
    return tuple(pieces)


def trouble(status: TasksStatus) -> list[Piece]:
    """What keeps tasks from being done; nothing where all is well."""
    pieces: list[Piece] = []
    transport = status.transport
    if transport.configured and not transport.up:
        pieces += [(f" {transport.reason}", "warn"), (f" Next: {transport.next_step}" if transport.next_step else "", "accent")]
    silent = [each.name for each in status.workers if each.state is WorkerState.silent]
    if silent:
        pieces.append((f" silent: {', '.join(silent[:6])}", "warn"))
    refused = status.counts.get("refused", 0)
    if refused:
        pieces.append((f" {refused} late results refused", "muted"))
    return pieces


def queue_rows(status: TasksStatus) -> list[Row]:
    """What workers have, then what waits, in the order in which it is to be done."""
    return [_queued(task) for task in (*status.running, *status.waiting)]


def _queued(task: Task) -> Row:
    since = task.started if task.state is TaskState.in_progress and task.started else task.submitted
    tries = f"{task.attempt}/{task.attempts}" if task.attempt else f.NONE
    return Row(task.task_id, (
        (short(task.task_id), "muted"), task.type, (task.state.value.replace("_", " "), STATES[task.state]),
        (task.priority.name, PRIORITIES[task.priority]), f.since(since), tries, task.worker or task.wanted_worker or f.NONE,
        (task.reason, "muted"),
    ))  # fmt: skip


def history_rows(status: TasksStatus) -> list[Row]:
    """Ended ones, newest first."""
    return [
        Row(task.task_id, (
            (short(task.task_id), "muted"), task.type, (task.state.value, STATES[task.state]),
            (f.clock(task.ended or 0.0), "muted"), f.took(task.duration_ms), str(task.attempt), task.worker or f.NONE,
            (task.reason, "warn"),
        ))
        for task in status.history
    ]  # fmt: skip


def worker_rows(status: TasksStatus, now: float, glyphs: Glyphs) -> list[Row]:
    """A row a worker.

    Args:
        status: As it was put.
        now: Monotonic.
        glyphs: Of the terminal.
    """
    return [_worker(each, now, glyphs) for each in status.workers]


def _worker(worker: Worker, now: float, glyphs: Glyphs) -> Row:
    signs: dict[WorkerState, Piece] = {
        WorkerState.ready: (f"{glyphs.ok} ready", "ok"), WorkerState.stopping: (f"{glyphs.warn} stopping", "warn"),
        WorkerState.silent: (f"{glyphs.bad} silent", "bad"),
    }  # fmt: skip
    seen = "here" if worker.local else f.NONE if worker.beat is None else f.duration(max(0.0, now - worker.beat))
    load = f.NONE if worker.load is None else f"{worker.load:.2f}"
    return Row(worker.name, (
        worker.name, signs[worker.state], f"{worker.busy}/{worker.limit}", load, seen,
        str(worker.completed), (str(worker.failed), "warn" if worker.failed else "muted"),
        (str(worker.refused), "warn" if worker.refused else "muted"), (worker.version or f.NONE, "muted"),
        (worker.note, "warn")
        if worker.note and worker.state is not WorkerState.silent
        else (", ".join(each.name for each in worker.capabilities) or "nothing", "muted"),
    ))  # fmt: skip


def schedule_rows(status: TasksStatus) -> list[Row]:
    """A row a schedule."""
    return [_schedule(each) for each in status.schedules]


def _schedule(schedule: Schedule) -> Row:
    return Row(schedule.name, (
        schedule.name, ("on", "ok") if schedule.enabled else ("off", "muted"), schedule.cron, _next(schedule),
        f.NONE if not schedule.last_task or schedule.last is None else f.since(schedule.last),
        (str(schedule.missed_runs), "warn" if schedule.missed_runs else "muted"), schedule.type,
        (schedule.note or schedule.zone, "warn" if schedule.note else "muted"),
    ))  # fmt: skip


def _next(schedule: Schedule) -> str:
    if not schedule.enabled or schedule.next is None:
        return f.NONE
    return f"in {f.duration(max(0.0, schedule.next - time.time()))}"

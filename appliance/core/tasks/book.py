"""What the tasks keep on disk: every task that was taken, with all that happened to it; workers; schedules."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from appliance.core.store import Store, Work
from appliance.core.tasks.gathering import Gathering, Row
from appliance.core.tasks.model import Schedule, Task, TaskDetail, Worker
from appliance.errors import InvalidArgumentsError, NotFoundError

History = tuple[dict[str, Any], ...]
HISTORY = 60
"""Most entries of a task's history; the first ones and the newest ones stay."""
WORKERS = 200
"""Most workers that are remembered."""
INSERT = "INSERT INTO tasks (seq, task_id, state, body, history, payload, boot, due) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
UPDATE = "UPDATE tasks SET state = ?, body = ?, history = ?, result = coalesce(?, result), ended = ? WHERE task_id = ?"


class Kept(NamedTuple):
    """A task as it lies on disk."""

    number: int
    task: Task
    history: History
    boot: str
    due: float | None


class Change(NamedTuple):
    """A task as it is to be kept."""

    task: Task
    history: History
    result: bytes | None = None
    ended: int | None = None
    """Number of its end."""


class TaskBook:
    """Reads and writes it.

    Args:
        store: An open store.
        keep: Most ended tasks that are kept.
    """

    def __init__(self, store: Store, keep: int) -> None:
        self._store = store
        self._keep = keep
        self._additions = Gathering(store, _insert)
        self._changes = Gathering(store, self._update)

    async def open(self) -> tuple[list[Kept], int, int]:
        """(tasks that have not ended, in the order of their submission; the highest number; the highest number of an end)."""

        def read(connection: sqlite3.Connection) -> tuple[list[Any], int, int]:
            rows = connection.execute("SELECT seq, body, history, boot, due FROM tasks WHERE ended IS NULL ORDER BY seq")
            last = connection.execute("SELECT coalesce(max(seq), 0), coalesce(max(ended), 0) FROM tasks").fetchone()
            return rows.fetchall(), int(last[0]), int(last[1])

        rows, number, ended = await self._store.read(read)
        return [Kept(seq, _task(body), _history(told), boot, due) for seq, body, told, boot, due in rows], number, ended

    async def add(self, kept: Sequence[tuple[Kept, bytes]]) -> None:
        """New tasks with their payloads; on disk when this returns. Raises StoreError."""
        rows = [
            (each.number, each.task.task_id, each.task.state.value, _pack(each.task), _pack(each.history), payload, each.boot,
             each.due)
            for each, payload in kept
        ]  # fmt: skip
        await self._additions.put(rows)

    async def change(self, changes: Sequence[Change]) -> None:
        """Tasks as they are now, all or none; on disk when this returns. Raises StoreError."""
        rows = [
            (each.task.state.value, _pack(each.task), _pack(each.history), each.result, each.ended, each.task.task_id)
            for each in changes
        ]
        await self._changes.put(rows)

    def _update(self, rows: Sequence[Row]) -> Work:
        last = {row[-1]: row for row in rows}  # of each task as it is now; a result comes with its end, which is the last
        ends = max((row[4] for row in rows if row[4] is not None), default=0)

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(UPDATE, list(last.values()))
            if ends > self._keep:
                connection.execute("DELETE FROM tasks WHERE ended <= ?", (ends - self._keep,))

        return write

    async def revive(self, change: Change) -> None:
        """One that had ended waits again; on disk when this returns.

        Raises:
            NotFoundError: It was dropped meanwhile.
            StoreError: It cannot be written.
        """
        row = (change.task.state.value, _pack(change.task), _pack(change.history), b"null", None, change.task.task_id)

        def write(connection: sqlite3.Connection) -> None:
            if connection.execute(UPDATE, row).rowcount != 1:
                raise _gone(change.task.task_id)

        await self._store.write(write)

    async def payloads(self, task_ids: Sequence[str]) -> dict[str, bytes]:
        """Of these tasks, as JSON."""
        query = f"SELECT task_id, payload FROM tasks WHERE task_id IN ({','.join('?' * len(task_ids))})"  # noqa: S608 marks only
        return dict(await self._store.read(lambda connection: connection.execute(query, tuple(task_ids)).fetchall()))

    async def find(self, wanted: str) -> str:
        """The id of a task by it, or by its last characters (4 at least).

        Raises:
            NotFoundError: No task has it.
            InvalidArgumentsError: Several end so.
        """
        query = (
            "SELECT task_id FROM tasks WHERE task_id = ?1 OR (length(?1) >= 4 AND substr(task_id, -length(?1)) = ?1) LIMIT 3"
        )
        rows = await self._store.read(lambda connection: connection.execute(query, (wanted,)).fetchall())
        if not rows:
            raise NotFoundError(f"No task has the id {wanted!r}.", "list them with `prime-spark task list`.")
        if len(rows) > 1:
            raise InvalidArgumentsError(f"Several tasks end with {wanted!r}.", "give more of the id.")
        return str(rows[0][0])

    async def show(self, task_id: str) -> TaskDetail:
        """All of one. Raises NotFoundError."""
        query = "SELECT body, history, payload, result FROM tasks WHERE task_id = ?"
        row = await self._store.read(lambda connection: connection.execute(query, (task_id,)).fetchone())
        if row is None:
            raise _gone(task_id)
        result = None if row[3] is None else msgspec.json.decode(row[3])
        return TaskDetail(task=_task(row[0]), payload=msgspec.json.decode(row[2]), result=result, history=_history(row[1]))

    async def ended(self, limit: int, state: str = "") -> list[Task]:
        """Ended ones, the newest end first."""
        some = "AND state = ?2 " if state else ""
        query = f"SELECT body FROM tasks WHERE ended IS NOT NULL {some}ORDER BY ended DESC LIMIT ?1"  # noqa: S608 no input
        values = (limit, state) if state else (limit,)
        rows = await self._store.read(lambda connection: connection.execute(query, values).fetchall())
        return [_task(body) for (body,) in rows]

    async def leases(self, limit: int) -> list[tuple[str, int]]:
        """(task, lease) of the newest ends that a worker brought about, the oldest first."""
        query = (
            "SELECT task_id, json_extract(CAST(body AS TEXT), '$.lease') FROM tasks "
            "WHERE ended IS NOT NULL AND state IN ('completed', 'failed') ORDER BY ended DESC LIMIT ?"
        )
        rows = await self._store.read(lambda connection: connection.execute(query, (limit,)).fetchall())
        return [(str(task_id), int(lease)) for task_id, lease in reversed(rows)]

    async def workers(self) -> list[Worker]:
        """As they last told of themselves."""
        rows = await self._store.read(lambda connection: connection.execute("SELECT body FROM task_workers").fetchall())
        return [msgspec.json.decode(body, type=Worker) for (body,) in rows]

    async def keep_worker(self, worker: Worker, now: float) -> None:
        """Remember what a worker can do. Raises StoreError."""
        row = (worker.name, _pack(worker), now)

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO task_workers (name, body, seen) VALUES (?, ?, ?)", row)
            connection.execute(
                "DELETE FROM task_workers WHERE name IN (SELECT name FROM task_workers ORDER BY seen DESC LIMIT -1 OFFSET ?)",
                (WORKERS,),
            )

        await self._store.write(write)

    async def forget_worker(self, name: str) -> None:
        """Forget one. Raises StoreError."""
        await self._store.write(lambda connection: connection.execute("DELETE FROM task_workers WHERE name = ?", (name,)))

    async def schedules(self) -> list[Schedule]:
        """By name."""
        rows = await self._store.read(
            lambda connection: connection.execute("SELECT body FROM task_schedules ORDER BY name").fetchall()
        )
        return [msgspec.json.decode(body, type=Schedule) for (body,) in rows]

    async def keep_schedule(self, schedule: Schedule) -> None:
        """As it is now. Raises StoreError."""
        row = (schedule.name, _pack(schedule))
        await self._store.write(
            lambda connection: connection.execute("INSERT OR REPLACE INTO task_schedules (name, body) VALUES (?, ?)", row)
        )

    async def drop_schedule(self, name: str) -> None:
        """Forget one. Raises StoreError."""
        await self._store.write(lambda connection: connection.execute("DELETE FROM task_schedules WHERE name = ?", (name,)))


def shortened(history: History) -> History:
    """A history within its bound: what is left out in its middle is counted there."""
    if len(history) <= HISTORY:
        return history
    half = HISTORY // 2
    left = len(history) - 2 * half + sum(int(each.get("left_out", 0)) for each in history[half : len(history) - half])
    return (*history[:half], {"what": "left out", "left_out": left}, *history[-half:])


def _insert(rows: Sequence[Row]) -> Work:
    return lambda connection: connection.executemany(INSERT, rows)


def _gone(task_id: str) -> NotFoundError:
    return NotFoundError(f"The task {task_id} is not kept any more.", "list them with `prime-spark task list`.")


def _pack(value: Any) -> bytes:
    return msgspec.json.encode(value)


def _task(body: bytes) -> Task:
    return msgspec.json.decode(body, type=Task)


def _history(body: bytes) -> History:
    return tuple(msgspec.json.decode(body))

"""What is kept of operations on disk: each step is there before the next one is taken."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from collections.abc import Iterable
from typing import Any

import msgspec

from appliance.core.fleet.operations.model import NodeRun, OperationStatus, RunState, Stage
from appliance.core.fleet.operations.outputs import Output
from appliance.core.store import Store

log = logging.getLogger(__name__)

KEEP = 200
"""Ended operations; the oldest go first."""
OUTPUTS = 64 << 20
"""Bytes of output that are kept of all operations; the oldest goes first."""
UNDER_WAY = frozenset({Stage.canary, Stage.soaking, Stage.rest, Stage.undoing})
ENDED = frozenset({Stage.completed, Stage.failed, Stage.undone, Stage.cancelled, Stage.interrupted})
CUT = "the appliance ended while a command was under way there: it is not known how far it came"
NOT_BEGUN = "the appliance ended before its turn"


class KeptRun(msgspec.Struct, frozen=True):
    """One node of an operation, with what taking it back needs."""

    run: NodeRun
    found: Any = None
    """How it was before."""
    after: Any = None
    """How it was left; None where nobody looked."""
    undo: Any = None
    baseline: tuple[str, ...] = ()
    """Expected services that ran before."""
    order: int | None = None
    """When its turn was, among all nodes; None where it was not begun."""


class Kept(msgspec.Struct, frozen=True):
    """An operation without its nodes."""

    status: OperationStatus
    limit: float
    """Seconds that one command may take."""
    undo: bool
    """It is taken back where it fails or is stopped."""


def digest(found: Any) -> str:
    """SHA-256 of how something was found."""
    return hashlib.sha256(msgspec.json.encode(msgspec.to_builtins(found), order="deterministic")).hexdigest()


class Book:
    """Reads and writes it.

    Args:
        store: An open store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def add(self, kept: Kept, runs: Iterable[KeptRun]) -> None:
        """Keep a new one with all its nodes. Raises StoreError."""
        rows = [_row(kept.status.operation_id, run) for run in runs]

        def write(connection: sqlite3.Connection) -> None:
            _put_operation(connection, kept)
            connection.executemany(PUT_RUN, rows)
            _prune(connection)

        await self._store.write(write)

    async def operation(self, kept: Kept) -> None:
        """Keep where one stands. Raises StoreError."""
        await self._store.write(lambda connection: _put_operation(connection, kept))

    async def run(self, operation_id: str, run: KeptRun) -> None:
        """Keep where one node stands. Raises StoreError."""
        row = _row(operation_id, run)
        await self._store.write(lambda connection: connection.execute(PUT_RUN, row))

    async def output(self, operation_id: str, node: str, output: Output) -> None:
        """Keep what a node said. Raises StoreError."""
        head, tail = output.parts()
        row = (operation_id, node, output.size, output.dropped, head, tail)

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM fleet_outputs WHERE operation_id = ? AND node = ?", row[:2])
            connection.execute(PUT_OUTPUT, row)
            connection.execute(PRUNE_OUTPUTS, (OUTPUTS,))

        await self._store.write(write)

    async def said(self, operation_id: str, node: str) -> Output | None:
        """What a node said, as far as it is kept. Raises StoreError."""
        query = "SELECT size, head, tail FROM fleet_outputs WHERE operation_id = ? AND node = ?"
        row = await self._store.read(lambda connection: connection.execute(query, (operation_id, node)).fetchone())
        return None if row is None else Output.kept(*row)

    async def load(self, limit: int) -> list[tuple[Kept, tuple[KeptRun, ...]]]:
        """The newest ones, newest first. Raises StoreError."""
        query = "SELECT operation_id FROM fleet_operations ORDER BY seq DESC LIMIT ?"
        names = await self._store.read(lambda connection: connection.execute(query, (limit,)).fetchall())
        found = [await self.one(name) for (name,) in names]
        return [each for each in found if each is not None]

    async def one(self, operation_id: str) -> tuple[Kept, tuple[KeptRun, ...]] | None:
        """One operation; None where it is not kept, or cannot be read. Raises StoreError."""

        def query(connection: sqlite3.Connection) -> Any:
            head = connection.execute("SELECT body FROM fleet_operations WHERE operation_id = ?", (operation_id,)).fetchone()
            runs = connection.execute("SELECT body FROM fleet_runs WHERE operation_id = ? ORDER BY node", (operation_id,))
            return head, runs.fetchall()

        head, rows = await self._store.read(query)
        if head is None:
            return None
        try:
            kept = msgspec.json.decode(head[0], type=Kept)
            return kept, tuple(msgspec.json.decode(row[0], type=KeptRun) for row in rows)
        except msgspec.DecodeError as error:
            log.error("the record of operation %s cannot be read and is left out: %s", operation_id, error)
            return None

    async def named(self, ending: str) -> list[str]:
        """Ids of operations that are this, or end so. Raises StoreError."""
        query = "SELECT operation_id FROM fleet_operations WHERE operation_id = ?1 OR substr(operation_id, ?2) = ?1"
        rows = await self._store.read(lambda connection: connection.execute(query, (ending, -len(ending))).fetchall())
        return [row[0] for row in rows]

    async def cut_short(self, now: float) -> list[str]:
        """At a start: what was under way when the life before ended is interrupted; their ids. Raises StoreError.

        Args:
            now: Wall clock.
        """
        query = "SELECT operation_id FROM fleet_operations WHERE NOT ended"
        names = await self._store.read(lambda connection: connection.execute(query).fetchall())
        for (name,) in names:
            found = await self.one(name)
            if found is not None:
                kept, runs = interrupted(*found, now)
                await self.add(kept, runs)
        return [name for (name,) in names]


def interrupted(kept: Kept, runs: tuple[KeptRun, ...], now: float) -> tuple[Kept, tuple[KeptRun, ...]]:
    """An operation as the end of the appliance left it."""
    change = msgspec.structs.replace
    if kept.status.stage is Stage.planned:
        gone = "the appliance was restarted before it was applied; plan it anew"
        return change(kept, status=change(kept.status, stage=Stage.cancelled, ended=now, reason=gone)), runs
    was = "while it was being taken back" if kept.status.stage is Stage.undoing else "while it ran"
    status = change(
        kept.status,
        stage=Stage.interrupted,
        ended=now,
        soak_until=None,
        reason=f"the appliance ended {was}; each node says more",
    )
    left = tuple(change(run, run=_left(run.run, now)) for run in runs)
    return change(kept, status=status), left


def _left(run: NodeRun, now: float) -> NodeRun:
    if run.state is RunState.running:
        return msgspec.structs.replace(run, state=RunState.unknown, ended=now, reason=CUT)
    if run.state is RunState.waiting:
        return msgspec.structs.replace(run, state=RunState.skipped, reason=NOT_BEGUN)
    return run


def _row(operation_id: str, run: KeptRun) -> tuple[str, str, str, str]:
    return operation_id, run.run.node, run.run.state.value, msgspec.json.encode(run).decode()


def _put_operation(connection: sqlite3.Connection, kept: Kept) -> None:
    status = msgspec.structs.replace(kept.status, runs=())
    body = msgspec.json.encode(msgspec.structs.replace(kept, status=status)).decode()
    connection.execute(PUT_OPERATION, (status.operation_id, status.stage in ENDED, body))


def _prune(connection: sqlite3.Connection) -> None:
    connection.execute(PRUNE, (KEEP,))
    connection.execute("DELETE FROM fleet_runs WHERE operation_id NOT IN (SELECT operation_id FROM fleet_operations)")
    connection.execute("DELETE FROM fleet_outputs WHERE operation_id NOT IN (SELECT operation_id FROM fleet_operations)")


PRUNE = (
    "DELETE FROM fleet_operations WHERE seq IN "
    "(SELECT seq FROM fleet_operations WHERE ended ORDER BY seq DESC LIMIT -1 OFFSET ?)"
)
PUT_OPERATION = (
    "INSERT INTO fleet_operations (operation_id, ended, body) VALUES (?1, ?2, ?3) "
    "ON CONFLICT (operation_id) DO UPDATE SET ended = ?2, body = ?3"
)
PUT_RUN = (
    "INSERT INTO fleet_runs (operation_id, node, state, body) "
    "VALUES (?1, ?2, ?3, ?4) ON CONFLICT (operation_id, node) DO UPDATE SET state = ?3, body = ?4"
)
PUT_OUTPUT = "INSERT INTO fleet_outputs (operation_id, node, size, dropped, head, tail) VALUES (?, ?, ?, ?, ?, ?)"
PRUNE_OUTPUTS = (
    "DELETE FROM fleet_outputs WHERE seq IN (SELECT seq FROM (SELECT seq, "
    "sum(length(head) + length(tail)) OVER (ORDER BY seq DESC) AS kept FROM fleet_outputs) WHERE kept > ?)"
)

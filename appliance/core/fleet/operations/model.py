"""Values of operations: what is done on a selection of nodes, planned, confirmed, tried on one, and taken back."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class Stage(StrEnum):
    """Where an operation stands."""

    planned = "planned"
    canary = "canary"
    soaking = "soaking"
    rest = "rest"
    undoing = "undoing"
    completed = "completed"
    failed = "failed"
    undone = "undone"
    """It failed or was stopped, and what it had changed was taken back."""
    cancelled = "cancelled"
    interrupted = "interrupted"
    """The appliance ended while it ran."""


class RunState(StrEnum):
    """Where an operation stands on one node."""

    waiting = "waiting"
    running = "running"
    ok = "ok"
    unchanged = "unchanged"
    """It was so already."""
    failed = "failed"
    unreachable = "unreachable"
    """Nothing ran there."""
    unknown = "unknown"
    """The link was cut: it may have run."""
    skipped = "skipped"
    undone = "undone"
    undo_failed = "undo failed"


class NodeRun(msgspec.Struct, frozen=True):
    """What an operation does on one node."""

    node: str
    state: RunState = RunState.waiting
    diff: str = ""
    """What it would change there, as lines with "-" and "+"; empty where nothing."""
    reason: str = ""
    exit_status: int | None = None
    started: float | None = None
    """Wall clock."""
    ended: float | None = None
    lines: int = 0
    """Of output so far."""
    last: str = ""
    """Its last line."""
    canary: bool = False
    dropped: int = 0
    """Bytes of its output that are not kept: between its head and its tail."""
    undoable: bool = False
    """What it changes there can be taken back."""
    cannot_undo: str = ""
    """Why not, or what of it stays."""


class OperationStatus(msgspec.Struct, frozen=True):
    """One operation: planned, under way, or ended."""

    operation_id: str
    kind: str
    """Such as "run", "service.restart", "packages.upgrade"."""
    title: str
    """In words: "restart redis-server.service on 4 nodes"."""
    owner: str
    stage: Stage
    created: float
    runs: tuple[NodeRun, ...] = ()
    started: float | None = None
    ended: float | None = None
    reason: str = ""
    soak_until: float | None = None
    """Monotonic."""
    undoable: bool = False
    arguments: dict[str, Any] = {}
    plan_hash: str = ""
    """Of how the nodes were found, SHA-256; whoever applies it may name it, to be sure of what they saw."""
    canaries: int = 1
    """Nodes that go first."""
    soak: float = 0.0
    """Seconds that these are watched before the rest follows."""
    parallel: int = 8
    max_failures: int = 0
    """Nodes that may fail before it stops."""

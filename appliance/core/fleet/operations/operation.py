"""One operation in memory, and everything that operations stand on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.core.fleet.files.places import Places
from appliance.core.fleet.model import FleetShell, Inventory, Node
from appliance.core.fleet.operations.conditions import Power
from appliance.core.fleet.operations.host import Host
from appliance.core.fleet.operations.kind import Kind, Look
from appliance.core.fleet.operations.locks import NodeLocks
from appliance.core.fleet.operations.model import OperationStatus, RunState
from appliance.core.fleet.operations.outputs import Output
from appliance.core.fleet.operations.record import Book, Kept, KeptRun
from appliance.core.model import Severity
from appliance.core.ports import Clock

if TYPE_CHECKING:
    from appliance.core.agents.depot import Depot

CHANGED = frozenset({RunState.ok, RunState.failed, RunState.unknown, RunState.undo_failed})
"""States of a node that was changed, or may have been."""

Tell = Callable[[str, Severity, dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class Ground:
    """What operations stand on.

    Attributes:
        shell: Reaches the nodes.
        inventory: Knows them.
        book: Keeps the record.
        locks: One operation at a time on each node.
        clock: For times.
        tell: Tells an event.
        power: Why nothing heavy may be begun on a node now.
        fresh: Logs in on a node by a new connection. Raises ShellError.
        own: Whether a node is the machine that the appliance runs on, from what the node says of itself.
        places: Which files of this machine may be copied.
        agents: What agents are installed from; made where it is first used.
    """

    shell: FleetShell
    inventory: Inventory
    book: Book
    locks: NodeLocks
    clock: Clock
    tell: Tell
    power: Power
    fresh: Callable[[str], Awaitable[None]] | None
    own: Callable[[str], Awaitable[bool]]
    places: Places | None = None
    agents: Callable[[], Depot] | None = None

    def host(self, node: Node, limit: float, output: Output | None = None, spoke: Callable[[], None] = lambda: None,
             *, planning: bool = False) -> Host:  # fmt: skip
        """A node to look at, or to work on where its output is taken."""
        fresh = self.fresh if output is not None else None
        made = Host(self.shell, node, limit, output, fresh, spoke, planning=planning, places=self.places)
        made.agents = self.agents
        return made


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """How an operation goes through its nodes."""

    canary: int = 1
    """Nodes that go first; 0: all at once."""
    soak: float = 5.0
    """Seconds that these are watched."""
    parallel: int = 8
    max_failures: int = 0
    undo: bool = True
    limit: float = 60.0
    """Seconds that one command may take."""


class Operation:
    """An operation and its nodes; changed on the core loop only.

    Args:
        kept: What is on disk of it.
        runs: Its nodes.
        kind: What is done.
        args: Its checked arguments.
        planned: Monotonic instant of the plan.
    """

    def __init__(self, kept: Kept, runs: tuple[KeptRun, ...], kind: Kind, args: Any, planned: float) -> None:
        self.kept = kept
        self.runs = {run.run.node: run for run in runs}
        self.kind = kind
        self.args = args
        self.planned = planned
        self.looked = dict.fromkeys(self.runs, planned)
        """Node → monotonic instant of the last look at it."""
        self.outputs: dict[str, Output] = {}
        self.task: asyncio.Task[None] | None = None
        """Carries it out, and takes it back."""
        self.forward: asyncio.Task[None] | None = None
        """Only carries it out."""
        self.cancelled_by = ""
        self.closing = False
        """The appliance ends."""
        self._changes = 0
        self._rest: tuple[Kept, dict[str, KeptRun], int, OperationStatus] | None = None
        """Its status while it rests, and of what: many long ones are shown whenever one of them moves."""
        self._order = max((run.order or 0 for run in runs), default=0)

    @property
    def id(self) -> str:
        """Its id."""
        return self.kept.status.operation_id

    def next_order(self) -> int:
        """The number of the next node's turn."""
        self._order += 1
        return self._order

    def status(self) -> OperationStatus:
        """As fronts see it."""
        last = self._rest
        if last and self.task is None and last[0] is self.kept and last[1] is self.runs and last[2] == self._changes:
            return last[3]
        status = msgspec.structs.replace(self.kept.status, runs=tuple(self._seen(run) for run in self.runs.values()))
        self._rest = (self.kept, self.runs, self._changes, status) if self.task is None else None
        return status

    def _seen(self, kept: KeptRun) -> Any:
        output = self.outputs.get(kept.run.node)
        if output is None or (output.lines == kept.run.lines and output.last == kept.run.last):
            return kept.run
        return msgspec.structs.replace(kept.run, lines=output.lines, last=output.last, dropped=output.dropped)

    def change(self, **changes: Any) -> None:
        """Other values of its status."""
        self.kept = msgspec.structs.replace(self.kept, status=msgspec.structs.replace(self.kept.status, **changes))

    def change_run(self, node: str, **changes: Any) -> KeptRun:
        """Other values of a node's run; `order`, `after` go to what is kept beside it."""
        self._changes += 1
        kept = self.runs[node]
        beside = {name: changes.pop(name) for name in ("order", "after") if name in changes}
        self.runs[node] = msgspec.structs.replace(kept, run=msgspec.structs.replace(kept.run, **changes), **beside)
        return self.runs[node]

    def in_state(self, *states: RunState) -> list[str]:
        """Nodes in these states, by name."""
        return [name for name, kept in self.runs.items() if kept.run.state in states]

    def look(self, node: str) -> Look:
        """How a node was found when it was planned."""
        kept = self.runs[node]
        return Look(found=kept.found, diff=kept.run.diff, undo=kept.undo, cannot_undo=kept.run.cannot_undo)

    def host(self, ground: Ground, node: str, spoke: Callable[[], None] = lambda: None) -> Host:
        """A node to work on, its output taken."""
        output = self.outputs.setdefault(node, Output(len(self.runs)))
        return ground.host(ground.shell.node(node), self.kept.limit, output, spoke)

"""From a wish to a plan: every node is looked at, and what would change there is written down."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec
from pydantic import ValidationError

from appliance.core.events import new_id
from appliance.core.fleet.model import Node, Selector
from appliance.core.fleet.operations import conditions, health, kinds
from appliance.core.fleet.operations.kind import LONGEST_DIFF, Kind, Look, on
from appliance.core.fleet.operations.model import NodeRun, OperationStatus, RunState, Stage
from appliance.core.fleet.operations.operation import Ground, Operation, Way
from appliance.core.fleet.operations.record import Kept, KeptRun, digest
from appliance.errors import (
    ApplianceError,
    CommandFailedError,
    ConflictError,
    InvalidArgumentsError,
    NotAllowedError,
    ShellError,
    UnreachableError,
)

LOOKS = 32
"""Nodes that are looked at at the same time."""


def arguments_of(kind: Kind, arguments: dict[str, Any]) -> Any:
    """Arguments as the kind has them. Raises InvalidArgumentsError."""
    try:
        return kind.params.model_validate(arguments)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        )
        known = ", ".join(kind.params.model_fields) or "none"
        raise InvalidArgumentsError(f"{kind.name}: {faults}.", f"its arguments are: {known}.") from None


class Planner:
    """Makes plans, and looks whether they still hold.

    Args:
        ground: What operations stand on.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def plan(self, name: str, arguments: dict[str, Any], selector: Selector, way: Way, owner: str) -> Operation:
        """Look at all nodes; nothing is changed.

        Raises:
            InvalidArgumentsError: No such kind, or arguments that do not fit.
            NotFoundError: The selection names what is not there.
        """
        kind = kinds.find(name)
        args = arguments_of(kind, arguments)
        nodes = self._ground.inventory.select(selector)
        operation_id = new_id()
        now = self._ground.clock.monotonic()
        runs = await _bounded([self._run(node, kind, args, way) for node in nodes])
        status = self._status(operation_id, kind, args, owner, way, runs)
        kept = Kept(status, way.limit, way.undo and any(run.undo is not None for run in runs))
        return Operation(kept, tuple(runs), kind, args, now)

    async def compare(self, operation: Operation) -> None:
        """Look again at all nodes of a plan.

        Raises:
            ConflictError: Some are not as they were found.
        """
        if not operation.kind.looks:
            return
        names = operation.in_state(RunState.waiting)
        verdicts = await _bounded([self.holds(operation, name) for name in names])
        changed = [name for name, verdict in zip(names, verdicts, strict=True) if verdict]
        if changed:
            raise ConflictError(
                f"Since this was planned, something changed {on(changed)}.", "plan it anew and look at what it would do now."
            )

    async def holds(self, operation: Operation, name: str) -> str:
        """Why the plan does not hold any more on a node; empty where it does. One that does not answer is marked so."""
        try:
            host = self._ground.host(self._ground.shell.node(name), operation.kept.limit)
            look = await operation.kind.look(host, operation.args)
        except UnreachableError as error:
            operation.change_run(name, state=RunState.unreachable, reason=str(error))
            return ""
        except (ShellError, CommandFailedError) as error:
            return f"it cannot be looked at any more: {error.message}"
        operation.looked[name] = self._ground.clock.monotonic()
        if look.refuse:
            return look.refuse
        return "" if digest(look.found) == digest(operation.runs[name].found) else "it is not as it was when this was planned"

    async def _run(self, node: Node, kind: Kind, args: Any, way: Way) -> KeptRun:
        if why := conditions.set_aside(node) or conditions.power_going(node, kind, self._ground.power):
            return KeptRun(NodeRun(node.name, RunState.skipped, reason=why))
        if not kind.looks:
            return KeptRun(NodeRun(node.name, diff=f"$ {kind.words(args)}", cannot_undo=kind.cannot_undo))
        host = self._ground.host(node, way.limit, planning=True)
        try:
            look = await kind.look(host, args)
            why = look.refuse or await conditions.disk_room(host, kind)
            baseline = await health.running(host) if kind.watched and look.diff and not why else ()
        except UnreachableError as error:
            return KeptRun(NodeRun(node.name, RunState.unreachable, reason=str(error)))
        except NotAllowedError as error:
            return KeptRun(NodeRun(node.name, RunState.skipped, reason=str(error)))
        except ShellError as error:
            return KeptRun(NodeRun(node.name, RunState.unreachable, reason=f"{error.message} (it was only looked at)"))
        except ApplianceError as error:
            return KeptRun(NodeRun(node.name, RunState.skipped, reason=str(error)))
        return self._looked(node, kind, look, why, baseline)

    def _looked(self, node: Node, kind: Kind, look: Look, why: str, baseline: tuple[str, ...]) -> KeptRun:
        state = RunState.skipped if why else RunState.waiting if look.diff else RunState.unchanged
        diff = look.diff if len(look.diff) <= LONGEST_DIFF else f"{look.diff[:LONGEST_DIFF]}\n… and more"
        hold = self._ground.locks.holder(node.name)
        reason = f"{why} {look.next_step}".strip() if why else f"now {hold.owner} is at it: {hold.title}" if hold else ""
        undoable = not kind.cannot_undo and look.undo is not None
        run = NodeRun(node.name, state, diff, reason, undoable=undoable, cannot_undo=kind.cannot_undo or look.cannot_undo)
        found = msgspec.to_builtins(look.found)
        return KeptRun(run, found, undo=msgspec.to_builtins(look.undo) if undoable else None, baseline=baseline)

    def _status(
        self, operation_id: str, kind: Kind, args: Any, owner: str, way: Way, runs: list[KeptRun]
    ) -> OperationStatus:  # fmt: skip
        todo = [kept.run.node for kept in runs if kept.run.state is RunState.waiting]
        left = [kept.run for kept in runs if kept.run.state in {RunState.unreachable, RunState.skipped}]
        stage, reason = Stage.planned, ""
        if not todo:
            stage = Stage.failed if left else Stage.completed
            reason = "nothing of it can be done" if left else "there is nothing to do: it is so already"
        if left:
            reason = "; ".join(filter(None, [reason, f"left out: {counted(left)}"]))
        now = self._ground.clock.wall()
        return OperationStatus(
            operation_id, kind.name, f"{kind.words(args)} {on(todo or [kept.run.node for kept in runs])}", owner, stage, now,
            reason=reason, ended=None if todo else now, arguments=args.model_dump(mode="json"),
            undoable=bool(todo) and all(kept.run.undoable for kept in runs if kept.run.state is RunState.waiting),
            plan_hash=digest([[kept.run.node, kept.found] for kept in runs]),
            canaries=min(way.canary, len(todo)), soak=way.soak, parallel=way.parallel, max_failures=way.max_failures,
        )  # fmt: skip


def counted(runs: Iterable[NodeRun]) -> str:
    """How many nodes are in which state: "2 unreachable, 1 skipped"."""
    counts: dict[str, int] = {}
    for run in runs:
        counts[run.state.value] = counts.get(run.state.value, 0) + 1
    return ", ".join(f"{count} {state}" for state, count in counts.items())


async def _bounded(work: list[Any]) -> list[Any]:
    room = asyncio.Semaphore(LOOKS)

    async def one(each: Any) -> Any:
        async with room:
            return await each

    return await asyncio.gather(*(one(each) for each in work))

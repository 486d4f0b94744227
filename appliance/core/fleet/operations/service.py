"""The operations on the fleet: plans, what is under way, what has ended; the record outlives the appliance."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from appliance.core.fleet.model import Selector
from appliance.core.fleet.operations import kinds
from appliance.core.fleet.operations.carry import Carrier
from appliance.core.fleet.operations.kind import on
from appliance.core.fleet.operations.locks import Hold
from appliance.core.fleet.operations.model import OperationStatus, RunState, Stage
from appliance.core.fleet.operations.operation import CHANGED, Ground, Operation, Way
from appliance.core.fleet.operations.outputs import Output, Part
from appliance.core.fleet.operations.planning import Planner, arguments_of
from appliance.core.fleet.operations.record import ENDED, Kept, KeptRun, interrupted
from appliance.core.fleet.operations.undoing import Undoing
from appliance.core.model import Health, HealthReport, Role, Severity
from appliance.core.state import LiveState, Section
from appliance.errors import ApplianceError, ConflictError, NotFoundError, PreconditionError, StoreError

log = logging.getLogger(__name__)

SHOWN = 50
"""Ended operations in the live state."""
PLANS, RUNNING = 20, 16
"""Most that wait to be applied (the oldest one goes), and most under way at once (another one is refused)."""
VALID = 600.0
"""Seconds for which a plan holds."""
PACE = 0.1
"""Seconds between two changes of the live state."""
READ = 256 << 10
"""Most bytes of one part of output."""


class OperationsService:
    """Plans operations, carries them out, takes them back (implements ports.Service).

    Args:
        ground: What they stand on.
        state: Where they are shown (Section.operations).
    """

    name = "operations"
    summary = "Operations on the machines of the fleet"
    depends: tuple[str, ...] = ("store",)

    def __init__(self, ground: Ground, state: LiveState) -> None:
        self._ground = ground
        self._state = state
        self._planner = Planner(ground)
        self._known: dict[str, Operation] = {}
        """By id, oldest first."""
        self._timer: asyncio.TimerHandle | None = None
        self._open = False

    async def start(self) -> None:
        """Say of what the life before left that it was interrupted, and show the last ones. Raises StoreError."""
        cut = await self._ground.book.cut_short(self._ground.clock.wall())
        for name in cut:
            log.warning("operation %s was interrupted by the end of the appliance", name)
        for kept, runs in reversed(await self._ground.book.load(SHOWN)):
            if kept.status.operation_id not in self._known:
                self._remember(kept, runs)
        self._open = True
        self._show()

    async def run(self) -> None:
        """Let plans that nobody applied lapse."""
        while True:
            await asyncio.sleep(5.0)
            now = self._ground.clock.monotonic()
            for operation in self._in_stage(Stage.planned):
                if now - operation.planned > VALID:
                    await self._drop(operation, f"nobody applied it within {VALID / 60:g} minutes")

    async def stop(self) -> None:
        """What is under way is interrupted; where it stood is in the record."""
        self._open = False
        running = [operation for operation in self._known.values() if operation.task is not None]
        for operation in running:
            operation.closing = True
            if operation.task is not None:
                operation.task.cancel()
        if running:
            await asyncio.wait([operation.task for operation in running if operation.task is not None])
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def health(self) -> HealthReport:
        """How many are under way."""
        count = len([operation for operation in self._known.values() if operation.task is not None])
        return HealthReport(Health.healthy, f"{count} under way" if count else "nothing is under way")

    async def plan(
        self, kind: str, arguments: dict[str, Any], selector: Selector, way: Way, owner: str, *, keep: bool = True
    ) -> OperationStatus:
        """Look at the nodes and write down what would change; nothing is changed.

        Args:
            kind: Such as "service.restart".
            arguments: Its own.
            selector: Which nodes.
            way: How it goes through them.
            owner: Who asks.
            keep: False: only to be told what would be; it cannot be applied.

        Raises:
            InvalidArgumentsError: No such kind, or arguments that do not fit.
            NotFoundError: The selection names what is not there.
            StoreError: It is not on disk.
        """
        self._must_be_open()
        operation = await self._planner.plan(kind, arguments, selector, way, owner)
        if keep:
            await self._ground.book.add(operation.kept, operation.runs.values())
            self._known[operation.id] = operation
            await self._bound()
            self._show()
        return operation.status()

    async def apply(self, operation_id: str, owner: str, *, plan_hash: str = "", own_machine: bool = False) -> OperationStatus:
        """Begin exactly what was planned; returns when it is under way.

        Args:
            operation_id: The plan, or the end of its id.
            owner: Who confirms it.
            plan_hash: What the plan found, to be sure that it is this one; "" for any.
            own_machine: Also where it ends the appliance's own machine.

        Raises:
            NotFoundError: There is no such plan.
            ConflictError: It is too old, nodes changed since, another operation is at one of them, or it was applied.
            PreconditionError: It would end the appliance's own machine, and this was not confirmed.
        """
        operation = await self._held_in_memory(operation_id)
        await self._applicable(operation, plan_hash, own_machine)
        names = operation.in_state(RunState.waiting)
        if operation.kind.changes:
            self._ground.locks.take(names, Hold(operation.id, operation.kept.status.title, owner))
        before = operation.kept
        operation.change(owner=owner, stage=Stage.canary, started=self._ground.clock.wall())
        try:
            await self._planner.compare(operation)
            self._must_be_open()
            await self._ground.book.operation(operation.kept)
        except BaseException as error:
            self._ground.locks.release(operation.id)
            operation.kept = before
            if isinstance(error, ConflictError):
                await self._drop(operation, error.message)
            raise
        self._begin(operation, Carrier(self._ground, operation, self._soon).carry_out)
        return operation.status()

    async def undo(self, operation_id: str, owner: str, *, force: bool = False) -> OperationStatus:
        """Begin to take back what an ended operation changed, from the record.

        Raises:
            NotFoundError: There is no such operation.
            ConflictError: It has not ended, changed nothing, or cannot be taken back; or a node is busy.
        """
        self._must_be_open()
        operation = await self._held_in_memory(operation_id)
        names = takeable(operation)
        self._ground.locks.take(names, Hold(operation.id, f"taking back: {operation.kept.status.title}", owner))
        before, operation.cancelled_by, operation.closing = operation.kept.status, "", False
        operation.change(stage=Stage.undoing, ended=None)
        try:
            self._must_have_room()
            await self._ground.book.operation(operation.kept)
        except BaseException:
            self._ground.locks.release(operation.id)
            operation.change(stage=before.stage, ended=before.ended)
            raise

        async def back() -> None:
            why = f"{owner} takes it back"
            undoing = Undoing(self._ground, operation, self._soon, force=force)
            stage, told = await undoing.after(why, Stage.failed if before.stage is Stage.undone else before.stage)
            await Carrier(self._ground, operation, self._soon).end(stage, f"{why}; {told}")

        self._begin(operation, back)
        return operation.status()

    async def cancel(self, operation_id: str, owner: str) -> OperationStatus:
        """Stop it, and wait until what it changed was taken back where it is to be.

        Raises:
            NotFoundError: There is no such operation.
            ConflictError: It has ended, or is being taken back.
        """
        operation = await self._held_in_memory(operation_id)
        if operation.kept.status.stage is Stage.planned:
            await self._drop(operation, f"{owner} gave it up")
            return operation.status()
        if operation.task is None or operation.kept.status.stage in ENDED:
            raise ConflictError(f"This operation has ended ({operation.kept.status.stage.value}).", "there is nothing to stop.")
        if operation.kept.status.stage is Stage.undoing or operation.forward is None:
            raise ConflictError("It is taking back what it changed; that is not cut off.", "wait for its end.")
        operation.cancelled_by = owner
        operation.forward.cancel()
        await self.wait(operation.id)
        return operation.status()

    async def wait(self, operation_id: str, limit: float | None = None) -> OperationStatus:
        """Return when it has ended, or after `limit` seconds. Raises NotFoundError."""
        operation = await self._held_in_memory(operation_id)
        if operation.task is not None:
            await asyncio.wait({operation.task}, timeout=limit)
        return operation.status()

    def all(self) -> tuple[OperationStatus, ...]:
        """Those under way and the last ended ones, newest first."""
        return tuple(operation.status() for operation in reversed(self._known.values()))

    async def get(self, operation_id: str) -> OperationStatus:
        """One by its id or the end of it, also from the record. Raises NotFoundError."""
        return (await self._held_in_memory(operation_id)).status()

    async def output(self, operation_id: str, node: str, after: int = 0, most: int = 64 << 10) -> Part:
        """What a node said from an offset on. Raises NotFoundError."""
        operation = await self._held_in_memory(operation_id)
        if node not in operation.runs:
            names = ", ".join(list(operation.runs)[:20])
            raise NotFoundError(f"{node} is no node of this operation.", f"its nodes are: {names}.")
        output = operation.outputs.get(node) or await self._ground.book.said(operation.id, node) or Output()
        if operation.task is None:
            output.ended = True
        return output.read(node, after, min(most, READ))

    async def role(self, operation_id: str) -> Role:
        """The lowest role that may do this. Raises NotFoundError."""
        return (await self._held_in_memory(operation_id)).kind.role

    async def confirmation(self, operation_id: str) -> str:
        """What applying it would do, in words. Raises NotFoundError, ConflictError."""
        operation = await self._held_in_memory(operation_id)
        self._must_be_planned(operation)
        status = operation.kept.status
        stays = "" if status.undoable else f" It cannot be taken back: {_stays(operation)}."
        first = (
            f" {status.canaries} first, the rest after {status.soak:g} s."
            if len(operation.runs) > 1 and status.canaries
            else ""
        )
        text = f"{operation.kind.words(operation.args)} {on(operation.in_state(RunState.waiting))}?{first}{stays}"
        return text[0].upper() + text[1:]

    def _begin(self, operation: Operation, work: Callable[[], Awaitable[None]]) -> None:
        operation.task = asyncio.create_task(self._lead(operation, work), name=f"operation {operation.id}")
        self._soon()

    async def _lead(self, operation: Operation, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except asyncio.CancelledError:
            await asyncio.shield(self._interrupt(operation))
        except Exception as error:
            log.exception("operation %s broke", operation.id)
            await Carrier(self._ground, operation, self._soon).end(Stage.failed, f"a fault of the appliance: {error}")
        finally:
            operation.task = operation.forward = None
            self._ground.locks.release(operation.id)
            self._forget_outputs(operation)
            self._soon()
        await self._told(operation)

    async def _interrupt(self, operation: Operation) -> None:
        kept, runs = interrupted(operation.kept, tuple(operation.runs.values()), self._ground.clock.wall())
        operation.kept, operation.runs = kept, {run.run.node: run for run in runs}
        try:
            await self._ground.book.add(kept, runs)
        except StoreError as error:  # the next start finds it under way, and says the same of it
            log.error("that operation %s was interrupted is not on disk: %s", operation.id, error.message)

    async def _told(self, operation: Operation) -> None:
        status = operation.kept.status
        good = status.stage in {Stage.completed, Stage.cancelled}
        facts = {
            "operation_id": status.operation_id, "kind": status.kind, "title": status.title, "owner": status.owner,
            "stage": status.stage.value, "reason": status.reason, "nodes": list(operation.runs),
        }  # fmt: skip
        try:
            await self._ground.tell("fleet.operation_ended", Severity.info if good else Severity.warning, facts)
        except ApplianceError as error:
            log.error("the end of operation %s is not among the events: %s", operation.id, error.message)

    def _forget_outputs(self, operation: Operation) -> None:
        """What was said is on disk by now; the newest operations' stays at hand."""
        ended = [each for each in self._known.values() if each.task is None and each.outputs]
        for old in ended[:-3]:
            old.outputs.clear()
        if self._known.get(operation.id) is not operation:
            operation.outputs.clear()

    async def _applicable(self, operation: Operation, plan_hash: str, own_machine: bool) -> None:
        self._must_be_open()
        self._must_be_planned(operation)
        self._must_have_room()
        if self._ground.clock.monotonic() - operation.planned > VALID:
            await self._drop(operation, f"nobody applied it within {VALID / 60:g} minutes")
            raise ConflictError(f"This plan is older than {VALID / 60:g} minutes.", "plan it anew.")
        if plan_hash and plan_hash != operation.kept.status.plan_hash:
            raise ConflictError("This is another plan than the one that was seen.", "look at it again.")
        does = operation.kind.own_machine()
        names = operation.in_state(RunState.waiting) if does else []
        own = [name for name in names if await self._ground.own(name)]
        if own and not own_machine:
            raise PreconditionError(
                f"{own[0]} is the machine that this appliance runs on: it would be {does}.",
                "leave it out, or confirm it with own_machine (CLI: --own-machine).",
            )
        self._must_be_planned(operation)  # somebody else may have applied it while the nodes were asked

    def _must_be_planned(self, operation: Operation) -> None:
        stage = operation.kept.status.stage
        if stage is not Stage.planned or operation.task is not None:
            raise ConflictError(f"This operation is no plan any more ({stage.value}).", "plan it anew.")

    def _must_be_open(self) -> None:
        if not self._open:
            raise ConflictError("Operations are not ready: their record is not open.", "look at the service operations.")

    def _must_have_room(self) -> None:
        if len([operation for operation in self._known.values() if operation.task is not None]) >= RUNNING:
            raise ConflictError(f"{RUNNING} operations are under way already.", "wait until one has ended, or cancel one.")

    async def _held_in_memory(self, operation_id: str) -> Operation:
        if operation_id in self._known:
            return self._known[operation_id]
        names = await self._ground.book.named(operation_id) if len(operation_id) >= 4 else []
        if len(names) != 1:
            what = "No operation has" if not names else f"{len(names)} operations have"
            raise NotFoundError(f"{what} the id {operation_id!r}.", "list them with `prime-spark fleet operations`.")
        if names[0] in self._known:
            return self._known[names[0]]
        found = await self._ground.book.one(names[0])
        if found is None:
            raise NotFoundError(f"The record of {names[0]} cannot be read.", "see the log for why.")
        return self._made(*found)

    def _remember(self, kept: Kept, runs: tuple[KeptRun, ...]) -> None:
        try:
            self._known[kept.status.operation_id] = self._made(kept, runs)
        except ApplianceError as error:  # of another version, that had kinds which are gone
            log.warning("operation %s is not shown: %s", kept.status.operation_id, error.message)

    def _made(self, kept: Kept, runs: tuple[KeptRun, ...]) -> Operation:
        kind = kinds.find(kept.status.kind)
        return Operation(kept, runs, kind, arguments_of(kind, kept.status.arguments), float("-inf"))

    async def _drop(self, operation: Operation, reason: str) -> None:
        operation.change(stage=Stage.cancelled, reason=reason, ended=self._ground.clock.wall())
        await self._ground.book.operation(operation.kept)
        self._show()

    async def _bound(self) -> None:
        plans = self._in_stage(Stage.planned)
        for operation in plans[: max(0, len(plans) - PLANS)]:
            await self._drop(operation, f"more than {PLANS} plans wait, and this one was the oldest")
        ended = [operation for operation in self._known.values() if operation.kept.status.stage in ENDED and not operation.task]
        for operation in ended[: max(0, len(ended) - SHOWN)]:
            del self._known[operation.id]

    def _in_stage(self, stage: Stage) -> list[Operation]:
        return [operation for operation in self._known.values() if operation.kept.status.stage is stage]

    def _soon(self) -> None:
        """Show it within a moment: a thousand lines of output are one change of the screen."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PACE, self._show)

    def _show(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._state.put(Section.operations, self.all())


def takeable(operation: Operation) -> list[str]:
    """Nodes on which something can be taken back. Raises ConflictError where there is none, or it has not ended."""
    if operation.task is not None or operation.kept.status.stage not in ENDED:
        raise ConflictError("This operation has not ended.", "wait for its end, or cancel it.")
    begun = [kept for kept in operation.runs.values() if kept.order is not None and kept.run.state in CHANGED]
    if not begun:
        raise ConflictError("It changed nothing, or all of it was taken back.", "there is nothing to take back.")
    names = [kept.run.node for kept in begun if kept.undo is not None]
    if not names:
        raise ConflictError(f"It cannot be taken back: {_stays(operation)}.", "do by hand what is to be another way.")
    return names


def _stays(operation: Operation) -> str:
    told = (kept.run.cannot_undo for kept in operation.runs.values() if kept.run.cannot_undo)
    return operation.kind.cannot_undo or next(told, "nobody knows how it was before")

"""Carries a plan out: some nodes first, a while of watching, the rest, and the way back where it goes wrong."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from appliance.core.fleet.operations import health
from appliance.core.fleet.operations.host import Host
from appliance.core.fleet.operations.model import RunState, Stage
from appliance.core.fleet.operations.operation import Ground, Operation
from appliance.core.fleet.operations.planning import Planner, counted
from appliance.core.fleet.operations.undoing import Undoing
from appliance.errors import ApplianceError, CommandFailedError, NotAllowedError, ShellError, StoreError, UnreachableError

log = logging.getLogger(__name__)

FRESH = 20.0
"""Seconds for which a look at a node holds; later it is looked at again right before it is changed."""
WATCH = 3.0
"""Seconds between two looks at the canaries, at most."""
PROBLEMS = (RunState.failed, RunState.unknown)


class StoppedError(Exception):
    """It does not go on; says why."""


class Carrier:
    """Takes one operation through its stages.

    Args:
        ground: What operations stand on.
        operation: The plan, its nodes held.
        changed: Called when something of it is another way.
    """

    def __init__(self, ground: Ground, operation: Operation, changed: Callable[[], None]) -> None:
        self._ground = ground
        self._operation = operation
        self._changed = changed
        self._planner = Planner(ground)
        self._clock = ground.clock

    async def carry_out(self) -> None:
        """All of it; its end is in the record when this returns. Cancelled only where the appliance ends."""
        operation, why = self._operation, ""
        operation.forward = asyncio.create_task(self._forward(), name=f"operation {operation.id} forward")
        try:
            await asyncio.wait({operation.forward})
        except asyncio.CancelledError:
            operation.forward.cancel()
            await asyncio.wait({operation.forward})
            raise
        if operation.forward.cancelled():
            why = f"{operation.cancelled_by or 'the appliance'} stopped it"
        elif (error := operation.forward.exception()) is not None:
            why = self._why(error)
        for name in operation.in_state(RunState.waiting):
            operation.change_run(name, state=RunState.skipped, reason="it was stopped before its turn" if why else "")
            await self._keep_run(name)
        await (self._end_badly(why) if why else self._end_well())

    def _why(self, error: BaseException) -> str:
        if isinstance(error, StoppedError):
            return str(error)
        if isinstance(error, ApplianceError):
            return error.message
        log.error("operation %s broke", self._operation.id, exc_info=error)
        return f"a fault of the appliance: {type(error).__name__}: {error}"

    async def _forward(self) -> None:
        pending = deque(self._operation.in_state(RunState.waiting))
        if self._operation.kept.status.canaries:
            proven = await self._canaries(pending)
            await self._soak(proven)
        await self._stage(Stage.rest)
        await self._rest(pending)

    async def _canaries(self, pending: deque[str]) -> list[str]:
        """The first nodes; one that cannot be reached proves nothing, so the next one takes its place."""
        wanted, proven = self._operation.kept.status.canaries, list[str]()
        await self._stage(Stage.canary)
        while pending and len(proven) < wanted:
            batch = [pending.popleft() for _ in range(min(len(pending), wanted - len(proven)))]
            states = await self._all(batch, canary=True)
            for name, state in zip(batch, states, strict=True):
                if state in PROBLEMS:
                    raise StoppedError(f"{name}, which went first, {state.value}: {self._operation.runs[name].run.reason}")
            proven += [name for name, state in zip(batch, states, strict=True) if state is RunState.ok]
        return proven

    async def _soak(self, names: list[str]) -> None:
        seconds = self._operation.kept.status.soak
        if not seconds or not names:
            return
        ends = self._clock.monotonic() + seconds
        await self._stage(Stage.soaking, soak_until=ends)
        while (left := ends - self._clock.monotonic()) > 0:
            await asyncio.sleep(min(left, WATCH, seconds / 2))
            wrongs = await asyncio.gather(*(self._unsound(name) for name in names))
            for name, (state, wrong) in zip(names, wrongs, strict=True):
                if wrong:
                    self._operation.change_run(name, state=state, reason=f"while it was watched: {wrong}")
                    await self._keep_run(name)
                    raise StoppedError(f"{name}, which went first, was well at first, and then: {wrong}")

    async def _unsound(self, name: str) -> tuple[RunState, str]:
        """What is wrong on a node that was changed."""
        operation = self._operation
        host = self._ground.host(self._ground.shell.node(name), operation.kept.limit)
        try:
            wrong = await operation.kind.check(host, operation.args, operation.look(name))
            return RunState.failed, wrong or await health.fallen(host, operation.runs[name].baseline)
        except ShellError as error:
            return RunState.unknown, error.message
        except CommandFailedError as error:
            return RunState.failed, error.message

    async def _rest(self, pending: deque[str]) -> None:
        most = self._operation.kept.status.max_failures

        async def work() -> None:
            while pending and len(self._operation.in_state(*PROBLEMS)) <= most:
                await self._on_node(pending.popleft(), canary=False)

        await self._together([work() for _ in range(min(len(pending), self._operation.kept.status.parallel))])
        bad = self._operation.in_state(*PROBLEMS)
        if len(bad) > most:
            reasons = "; ".join(f"{name}: {self._operation.runs[name].run.reason}" for name in bad[:3])
            raise StoppedError(f"{len(bad)} of {len(self._operation.runs)} went wrong ({reasons})")

    async def _all(self, names: list[str], *, canary: bool) -> list[RunState]:
        return await self._together([self._on_node(name, canary=canary) for name in names])

    async def _together(self, work: list[Any]) -> list[Any]:
        """All at once; where this is cancelled, every one has ended before it is left."""
        tasks = [asyncio.ensure_future(each) for each in work]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)

    async def _on_node(self, name: str, *, canary: bool) -> RunState:
        operation = self._operation
        if await self._outdated(name):
            return operation.runs[name].run.state
        operation.change_run(
            name, state=RunState.running, started=self._clock.wall(), canary=canary, order=operation.next_order(), reason=""
        )
        try:
            await self._ground.book.run(operation.id, operation.runs[name])  # on disk before anything is done there
        except StoreError as error:
            reason = f"nothing was done: its begin could not be kept ({error.message})"
            operation.change_run(name, state=RunState.skipped, reason=reason, order=None, started=None)
            raise
        self._changed()
        host = operation.host(self._ground, name, self._changed)
        try:
            state, reason, status = await self._do(host)
        except asyncio.CancelledError:
            if not operation.closing:
                await self._left(name, host, *self._cut(), None)
            raise
        await self._left(name, host, state, reason, status)
        return state

    def _cut(self) -> tuple[RunState, str]:
        """What a node is where the operator stopped it in the midst."""
        who = self._operation.cancelled_by or "the appliance"
        if self._operation.kind.changes:
            return RunState.unknown, f"{who} stopped it in the midst: it may have run in part"
        return RunState.ok, f"{who} ended it"

    async def _outdated(self, name: str) -> bool:
        """Look again where the last look was long ago; a node that changed meanwhile is left alone."""
        operation = self._operation
        if not operation.kind.looks or self._clock.monotonic() - operation.looked[name] < FRESH:
            return False
        if why := await self._planner.holds(operation, name):
            operation.change_run(name, state=RunState.skipped, reason=f"left alone: {why}")
        if operation.runs[name].run.state is RunState.waiting:
            return False
        await self._keep_run(name)
        return True

    async def _do(self, host: Host) -> tuple[RunState, str, int | None]:
        operation, name = self._operation, host.name
        try:
            note = await operation.kind.apply(host, operation.args, operation.look(name))
            wrong = await operation.kind.check(host, operation.args, operation.look(name)) or await self._fallen(host)
            if operation.kind.looks and operation.kind.stays:
                await self._look_after(host)
        except UnreachableError as error:
            return (RunState.unknown if host.acted else RunState.unreachable), str(error), None
        except NotAllowedError as error:
            return (RunState.unknown if host.acted else RunState.failed), str(error), None
        except ShellError as error:
            return RunState.unknown, str(error), None
        except CommandFailedError as error:
            return RunState.failed, error.message, error.exit_status
        except ApplianceError as error:
            return RunState.failed, str(error), None
        except Exception as error:
            log.exception("operation %s broke on %s", operation.id, name)
            return RunState.failed, f"a fault of the appliance: {type(error).__name__}: {error}", None
        return (RunState.failed, wrong, None) if wrong else (RunState.ok, note, 0)

    async def _fallen(self, host: Host) -> str:
        """Expected services that do not come back in time."""
        baseline = self._operation.runs[host.name].baseline
        if not baseline:
            return ""
        ends = self._clock.monotonic() + self._operation.kind.settle
        while True:
            down = await health.fallen(host, baseline)
            if not down or self._clock.monotonic() > ends:
                return down
            await asyncio.sleep(0.5)

    async def _look_after(self, host: Host) -> None:
        """How it was left, so that a later undo sees whether somebody else was at it since."""
        look = await self._operation.kind.look(host, self._operation.args)
        self._operation.change_run(host.name, after=msgspec.to_builtins(look.found))

    async def _left(self, name: str, host: Host, state: RunState, reason: str, status: int | None) -> None:
        if host.output is not None:
            host.output.end()
        output = self._operation.outputs[name]
        self._operation.change_run(
            name, state=state, reason=reason[:1000], exit_status=status, ended=self._clock.wall(), lines=output.lines,
            last=output.last, dropped=output.dropped,
        )  # fmt: skip
        self._changed()
        await asyncio.shield(self._save_node(name))

    async def _save_node(self, name: str) -> None:
        operation = self._operation
        await self._ground.book.run(operation.id, operation.runs[name])
        if operation.outputs[name].size:
            await self._ground.book.output(operation.id, name, operation.outputs[name])

    async def _stage(self, stage: Stage, **changes: Any) -> None:
        self._operation.change(stage=stage, **{"soak_until": None, **changes})
        self._changed()
        await self._ground.book.operation(self._operation.kept)

    async def _keep_run(self, name: str) -> None:
        try:
            await self._ground.book.run(self._operation.id, self._operation.runs[name])
        except StoreError as error:
            log.error("where operation %s stands on %s is not on disk: %s", self._operation.id, name, error.message)

    async def _end_well(self) -> None:
        runs = [kept.run for kept in self._operation.runs.values()]
        some = any(run.state is RunState.ok for run in runs)
        plain = all(run.state in {RunState.ok, RunState.unchanged} for run in runs)
        await self.end(Stage.completed if some else Stage.failed, "" if plain else counted(runs))

    async def _end_badly(self, why: str) -> None:
        stage, note = Stage.cancelled if self._operation.cancelled_by else Stage.failed, ""
        if self._operation.kept.undo:
            stage, note = await Undoing(self._ground, self._operation, self._changed, at_once=True).after(why, stage)
        elif any(kept.order is not None for kept in self._operation.runs.values()):
            stays = next(
                (k.run.cannot_undo for k in self._operation.runs.values() if k.run.cannot_undo), "it was not asked for"
            )
            note = f"nothing was taken back: {stays}"
        await self.end(stage, "; ".join(filter(None, [why, note])))

    async def end(self, stage: Stage, reason: str) -> None:
        """Write down how it ended."""
        self._operation.change(stage=stage, reason=reason[:2000], ended=self._clock.wall(), soak_until=None)
        self._changed()
        try:
            await self._ground.book.operation(self._operation.kept)
        except StoreError as error:
            log.error("the end of operation %s is not on disk: %s", self._operation.id, error.message)

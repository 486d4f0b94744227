"""Takes back what an operation changed, the last change first, and says what of it stays."""

from __future__ import annotations

import logging
from collections.abc import Callable

from appliance.core.fleet.operations.host import Host
from appliance.core.fleet.operations.model import RunState, Stage
from appliance.core.fleet.operations.operation import CHANGED, Ground, Operation
from appliance.core.fleet.operations.record import digest
from appliance.errors import ApplianceError, StoreError

log = logging.getLogger(__name__)


class Undoing:
    """The way back of one operation.

    Args:
        ground: What operations stand on.
        operation: Its nodes are held.
        changed: Called when something of it is another way.
        force: Also where somebody else changed a node since.
        at_once: The nodes were held all the time since the change: what differs, such as a service that fell, came of it.
    """

    def __init__(
        self, ground: Ground, operation: Operation, changed: Callable[[], None], *, force: bool = False, at_once: bool = False
    ) -> None:
        self._ground = ground
        self._operation = operation
        self._changed = changed
        self._trusts = force or at_once

    async def after(self, why: str, otherwise: Stage) -> tuple[Stage, str]:
        """Go back through all nodes that were changed, or may have been.

        Args:
            why: What went wrong.
            otherwise: The stage that it ends in where something stays.

        Returns:
            The stage to end in, and what is to be said of it.
        """
        operation = self._operation
        begun = [kept for kept in operation.runs.values() if kept.order is not None and kept.run.state in CHANGED]
        if not begun:
            return otherwise, ""
        operation.change(stage=Stage.undoing, reason=why, soak_until=None)
        self._changed()
        await self._keep()
        for kept in sorted(begun, key=lambda kept: kept.order or 0, reverse=True):
            await self._node(kept.run.node)
        left = [kept.run for kept in operation.runs.values() if kept.order is not None and kept.run.state in CHANGED]
        if not left:
            return Stage.undone, "what was changed was taken back"
        told = "; ".join(f"{run.node}: {run.reason or run.cannot_undo}" for run in left[:3])
        return otherwise, f"not taken back on {len(left)} of {len(begun)} ({told})"

    async def _node(self, name: str) -> None:
        operation = self._operation
        kept = operation.runs[name]
        if kept.undo is None:
            stays = kept.run.cannot_undo or "nobody knows how it was before"
            reason = "; ".join(filter(None, [kept.run.reason, f"it stays as it is: {stays}"]))
            operation.change_run(name, reason=reason[:1000])
            await self._keep_run(name)
            return
        operation.change_run(name, state=RunState.running, reason="it is being taken back")
        self._changed()
        await self._keep_run(name)
        host = operation.host(self._ground, name, self._changed)
        try:
            reason = await self._take_back(host)
            operation.change_run(name, state=RunState.undone, reason=reason, ended=self._ground.clock.wall())
        except ApplianceError as error:
            operation.change_run(name, state=RunState.undo_failed, reason=str(error)[:1000], ended=self._ground.clock.wall())
        except Exception as error:
            log.exception("taking operation %s back broke on %s", operation.id, name)
            reason = f"a fault of the appliance: {type(error).__name__}: {error}"
            operation.change_run(name, state=RunState.undo_failed, reason=reason)
        self._changed()
        await self._keep_run(name)

    async def _take_back(self, host: Host) -> str:
        operation, kept = self._operation, self._operation.runs[host.name]
        await operation.kind.rested(host)
        now = digest((await operation.kind.look(host, operation.args)).found)
        if now == digest(kept.found):
            return "it is as it was before"
        if kept.after is not None and now != digest(kept.after) and not self._trusts:
            raise host.failed(
                "somebody else changed it since", next_step="look at it; with --force it is taken back all the same."
            )
        await operation.kind.undo(host, operation.args, operation.look(host.name))
        left = await operation.kind.look(host, operation.args)
        if digest(left.found) != digest(kept.found):
            raise host.failed(
                "it was taken back, and is not as it was before", next_step=f"look at it: {left.diff or left.found}."
            )
        return kept.run.cannot_undo

    async def _keep(self) -> None:
        try:
            await self._ground.book.operation(self._operation.kept)
        except StoreError as error:  # what was changed is taken back all the same
            log.error("that operation %s is taken back is not on disk: %s", self._operation.id, error.message)

    async def _keep_run(self, name: str) -> None:
        try:
            await self._ground.book.run(self._operation.id, self._operation.runs[name])
        except StoreError as error:
            log.error("where operation %s stands on %s is not on disk: %s", self._operation.id, name, error.message)

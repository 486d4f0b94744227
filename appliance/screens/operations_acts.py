"""What the keys of the Operations page do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.core.fleet.operations.model import NodeRun, OperationStatus, Stage
from appliance.errors import PreconditionError
from appliance.screens import fleet_calls as calls
from appliance.screens import operations_view as view
from appliance.screens.dialogs import Choice
from appliance.screens.fleet_acts import Back
from appliance.screens.flows import DeclinedError, Flows
from appliance.screens.operations_output import Follow
from appliance.screens.widgets.lines import Line

if TYPE_CHECKING:
    from appliance.screens.operations import Operations


OWN = "own_machine"
"""Argument that also means the machine on which the appliance runs."""


class Acts:
    """Dialogs and invocations of one Operations page.

    Args:
        page: It.
        back: Makes the page that Esc leads to; the Fleet page without.
    """

    def __init__(self, page: Operations, back: Back | None) -> None:
        self._page = page
        self._back = back

    @property
    def _flows(self) -> Flows:
        return self._page.spark.flows

    def do(self, what: str) -> None:
        """One of the page's own keys."""
        if what == "back":
            self._flows.start(self._leave(), what)
            return
        operation, run = self._page.operation, self._page.run
        if operation is None:
            return
        if what == "output" and run is not None:
            self._flows.start(self._output(operation, run), what)
        elif what != "output":
            flow = {"apply": self._apply, "cancel": self._cancel, "undo": self._undo, "changes": self._changes}[what]
            self._flows.start(flow(operation), what)

    async def _leave(self) -> None:
        page = self._page.spark
        await page.open_page(self._back() if self._back is not None else page.make_page("fleet"))

    async def _output(self, operation: OperationStatus, run: NodeRun) -> None:
        if run.started is None:
            title = f"{operation.title}: {run.node}"
            await self._flows.read(title, view.run_lines(run, operation, self._page.spark.glyphs))
            return
        title = f"{run.node}: {operation.title}"
        await self._page.spark.push_screen_wait(Follow(self._page.console, operation.operation_id, run.node, title))

    async def _changes(self, operation: OperationStatus) -> None:
        """What it changes, machine by machine."""
        lines: list[Line] = []
        for run in operation.runs:
            lines += [*view.run_lines(run, operation, self._page.spark.glyphs), ()]
        await self._flows.read(operation.title, lines)

    async def _apply(self, operation: OperationStatus) -> None:
        if operation.stage is not Stage.planned:
            self._page.say(f"it is {operation.stage.value}: only a plan can be carried out", "warn")
            return
        args = calls.operation(operation.operation_id, plan_hash=operation.plan_hash)
        try:
            await self._flows.do("fleet.apply", args, "it is under way")
        except PreconditionError as error:
            if OWN not in str(error):
                raise
            yes = (("y", "yes, this very machine too"),)
            if await self._page.spark.push_screen_wait(Choice("This appliance's own machine", error.message, yes)) != "y":
                raise DeclinedError from None
            await self._page.console.invoke("fleet.apply", {**args, OWN: True}, confirm=True)
            self._page.say("it is under way", "ok")

    async def _cancel(self, operation: OperationStatus) -> None:
        await self._flows.do("fleet.operation-cancel", calls.operation(operation.operation_id), "it is stopped")

    async def _undo(self, operation: OperationStatus) -> None:
        if operation.stage is Stage.completed and not any(run.undoable for run in operation.runs):
            why = next((run.cannot_undo for run in operation.runs if run.cannot_undo), "it changed nothing")
            self._page.say(f"it cannot be taken back: {why}", "warn")
            return
        await self._flows.do(
            "fleet.operation-undo", calls.operation(operation.operation_id), "what it changed is being taken back"
        )

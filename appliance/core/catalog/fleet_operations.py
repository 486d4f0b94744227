"""Actions on operations of the fleet: plan, apply, follow, stop, take back; and those that do both steps in one."""

from __future__ import annotations

import functools
import json
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import Field, create_model, field_validator
from pydantic_core import PydanticCustomError

from appliance.core.actions import Action, Invocation, Params
from appliance.core.fleet.model import Inventory
from appliance.core.fleet.operations import kinds
from appliance.core.fleet.operations.kind import Kind, on
from appliance.core.fleet.operations.kinds.run import Command
from appliance.core.fleet.operations.model import OperationStatus, Stage
from appliance.core.fleet.operations.operation import Way
from appliance.core.fleet.operations.outputs import Part
from appliance.core.fleet.operations.planning import arguments_of, counted
from appliance.core.fleet.operations.service import OperationsService
from appliance.core.model import Actor, Role
from appliance.errors import ConfirmationRequiredError, ConflictError, NotAuthorizedError

PATIENCE = 3700.0
"""Seconds that an action may take that looks at many nodes, or waits for an end."""
IN_ONE = {
    "service-start": "service.start", "service-stop": "service.stop", "service-restart": "service.restart",
    "service-enable": "service.enable", "service-disable": "service.disable", "service-logs": "service.logs",
    "compose-up": "compose.up", "compose-down": "compose.down", "compose-restart": "compose.restart",
    "compose-pull": "compose.pull", "compose-logs": "compose.logs", "container-start": "container.start",
    "container-stop": "container.stop", "container-restart": "container.restart", "container-logs": "container.logs",
    "upgrade": "packages.upgrade", "reboot": "reboot", "power-off": "power.off", "power-on": "power.on",
    "user-add": "users.add", "user-remove": "users.remove", "key-add": "keys.add", "key-remove": "keys.remove",
    "file-put": "files.put",
}  # fmt: skip
"""Action, without "fleet." → kind."""


class OnNodes(Params):
    """Which nodes."""

    nodes: list[str] = Field(
        min_length=1, max_length=1000, description='Nodes: names, "group:NAME", "tag:KEY=VALUE", "role:NAME", "all", "!NAME"'
    )


class Going(OnNodes):
    """How an operation goes through its nodes."""

    canary: int = Field(1, ge=0, le=100, description="Nodes that go first; 0: all at once")
    soak: float = Field(5.0, ge=0, le=86400, description="Seconds that these are watched before the rest follows")
    parallel: int = Field(8, ge=1, le=64, description="Nodes at the same time")
    max_failures: int = Field(0, ge=0, le=1000, description="Nodes that may fail before it stops")
    undo: bool = Field(True, description="Take back what was changed where it fails or is stopped")
    limit: float = Field(60.0, ge=1, le=86400, description="Seconds that one command may take")
    wait_seconds: float = Field(0.0, ge=0, le=3600, description="Seconds to wait for its end before this answers")


class Running(Command, Going):
    """A command on many nodes."""

    canary: int = Field(0, ge=0, le=100, description="Nodes that go first; 0: all at once")
    soak: float = Field(0.0, ge=0, le=86400, description="Seconds that these are watched before the rest follows")
    parallel: int = Field(32, ge=1, le=64, description="Nodes at the same time")
    max_failures: int = Field(1000, ge=0, le=1000, description="Nodes that may fail before it stops")
    limit: float = Field(300.0, ge=1, le=86400, description="Seconds that it may take on one node")


class Planning(Going):
    """A plan."""

    kind: str = Field(max_length=60, description="Kind of operation, such as service.restart")
    arguments: dict[str, Any] = Field({}, description="Its own arguments, as a JSON object")

    @field_validator("arguments", mode="before")
    @classmethod
    def _written(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        try:
            return json.loads(given or "{}")
        except ValueError:
            raise PydanticCustomError("arguments", "this is no JSON object") from None


class OperationId(Params):
    """One operation."""

    operation_id: str = Field(min_length=4, max_length=64, description="Its id, or the end of it (4 characters at least)")


class Applying(OperationId):
    """A plan that is carried out."""

    plan_hash: str = Field("", max_length=64, description="Of the plan that was seen, to be sure that it is this one")
    own_machine: bool = Field(False, description="Also where it ends the machine that the appliance runs on")
    wait_seconds: float = Field(0.0, ge=0, le=3600, description="Seconds to wait for its end before this answers")


class Undoing(OperationId):
    """An operation that is taken back."""

    force: bool = Field(False, description="Also where somebody else changed a node since")
    wait_seconds: float = Field(0.0, ge=0, le=3600, description="Seconds to wait for its end before this answers")


class Reading(OperationId):
    """Output of a node."""

    node: str = Field(min_length=1, max_length=63, description="Name of the node")
    after: int = Field(0, ge=0, description="Offset from which on: the `next` of the part before")
    most: int = Field(64 << 10, ge=1024, le=256 << 10, description="Bytes at most")


class Listing(Params):
    """How many."""

    limit: int = Field(50, ge=1, le=200, description="Operations at most, newest first")


def operation_actions(service: OperationsService, inventory: Inventory) -> list[Action]:
    """All on operations.

    Args:
        service: Carries them out.
        inventory: Knows the nodes.
    """
    desk = Desk(service, inventory)
    one_step = [desk.in_one(f"fleet.{name}", kinds.find(kind)) for name, kind in IN_ONE.items()]
    return [*_steps(desk), *_reading(service), *one_step]


class Desk:
    """What the actions do.

    Args:
        service: Carries operations out.
        inventory: Knows the nodes.
    """

    def __init__(self, service: OperationsService, inventory: Inventory) -> None:
        self.service = service
        self._inventory = inventory

    async def plan(self, call: Invocation, params: Planning) -> OperationStatus:
        """Look, and write down what would change."""
        may(call.actor, kinds.find(params.kind).role, params.kind)
        return await self.service.plan(params.kind, params.arguments, params.nodes, way(params), call.actor.name)

    async def apply(self, call: Invocation, params: Applying) -> OperationStatus:
        """Carry a plan out."""
        may(call.actor, await self.service.role(params.operation_id), "this operation")
        begun = await self.service.apply(
            params.operation_id, call.actor.name, plan_hash=params.plan_hash, own_machine=params.own_machine
        )
        return await self._awaited(begun, params.wait_seconds)

    async def run(self, call: Invocation, params: Running) -> OperationStatus:
        """Both steps of a command."""
        return await self._both(call.actor, kinds.find("run"), params)

    async def cancel(self, call: Invocation, params: OperationId) -> OperationStatus:
        """Stop one."""
        may(call.actor, await self.service.role(params.operation_id), "this operation")
        return await self.service.cancel(params.operation_id, call.actor.name)

    async def undo(self, call: Invocation, params: Undoing) -> OperationStatus:
        """Take one back."""
        may(call.actor, await self.service.role(params.operation_id), "this operation")
        begun = await self.service.undo(params.operation_id, call.actor.name, force=params.force)
        return await self._awaited(begun, params.wait_seconds)

    def in_one(self, name: str, kind: Kind, positional: tuple[str, ...] | None = None) -> Action:
        """The action that plans and applies a kind.

        Args:
            name: Its whole name.
            kind: What it does.
            positional: Parameters without a name on the command line; the kind's first needed one where it is None.
        """
        form = _form(kind)

        async def handler(call: Invocation, given: Any) -> OperationStatus:
            return await self._both(call.actor, kind, given)

        if positional is None:
            positional = tuple(field for field, info in kind.params.model_fields.items() if info.is_required())[:1]
        return Action(
            name, f"{kind.summary} (on nodes of the fleet)", handler, form, role=kind.role, timeout=PATIENCE,
            dangerous=kind.dangerous, positional=positional, brief=told,
            look_up=self._confirming(kind) if kind.dangerous else None,
        )  # fmt: skip

    def _confirming(self, kind: Kind) -> Callable[[Any], Awaitable[object]]:
        async def ask(params: Any) -> object:
            args = arguments_of(kind, own_fields(kind, params))
            names = [node.name for node in self._inventory.select(params.nodes)]
            text = f"{kind.words(args)} {on(names)}?"
            text = text[0].upper() + text[1:]
            if params.canary and len(names) > params.canary:
                text += f" {params.canary} of them first, the rest after {params.soak:g} s."
            stays = f" It cannot be taken back: {kind.cannot_undo}." if kind.cannot_undo else ""
            raise ConfirmationRequiredError(text + stays, "confirm it (CLI: --yes), or look at it first with fleet.plan.")

        return ask

    async def confirm_apply(self, params: Applying) -> object:
        """Says what the plan does, and on which nodes."""
        raise ConfirmationRequiredError(await self.service.confirmation(params.operation_id), "confirm it (CLI: --yes).")

    async def _both(self, actor: Actor, kind: Kind, params: Any) -> OperationStatus:
        planned = await self.service.plan(kind.name, own_fields(kind, params), params.nodes, way(params), actor.name)
        if planned.stage is not Stage.planned:
            if planned.stage is Stage.failed:
                why = "; ".join(f"{run.node}: {run.reason.rstrip('.')}" for run in planned.runs[:3])
                step = f"see every node with `prime-spark fleet operation {planned.operation_id}`."
                raise ConflictError(f"It cannot be done: {why}.", step)
            return planned
        own = getattr(params, "own_machine", False)
        begun = await self.service.apply(planned.operation_id, actor.name, plan_hash=planned.plan_hash, own_machine=own)
        return await self._awaited(begun, params.wait_seconds)

    async def _awaited(self, begun: OperationStatus, seconds: float) -> OperationStatus:
        return await self.service.wait(begun.operation_id, seconds) if seconds else begun


@functools.cache
def _form(kind: Kind) -> type[Params]:
    """The kind's arguments, and how it goes through its nodes."""
    fields: dict[str, Any] = {}
    if kind.own_machine():
        fields["own_machine"] = (bool, Field(False, description="Also the machine that the appliance runs on"))
    if not kind.changes:
        fields["canary"] = (int, Field(0, ge=0, le=100, description="Nodes that go first"))
    name = f"On{kind.name.title().replace('.', '')}"
    return create_model(name, __base__=(kind.params, Going), **fields)


def _steps(desk: Desk) -> list[Action]:
    action = functools.partial(Action, timeout=PATIENCE, brief=told)
    return [
        action("fleet.plan", "Look at nodes and say what an operation would change there", desk.plan, Planning,
            positional=("kind",)),
        action("fleet.apply", "Carry a plan out", desk.apply, Applying, dangerous=True, positional=("operation_id",),
            look_up=desk.confirm_apply, confirm_text="Carry the operation {operation_id} out?"),
        action("fleet.run", "Run a command on nodes", desk.run, Running, role=Role.admin, positional=("command",)),
        action("fleet.operation-cancel", "Stop an operation, and take back what it changed", desk.cancel, OperationId,
            positional=("operation_id",)),
        action("fleet.operation-undo", "Take back what an operation changed", desk.undo, Undoing, dangerous=True,
            positional=("operation_id",), look_up=lambda params: desk.service.get(params.operation_id),
            confirm_text="Take back what the operation {operation_id} changed, the last change first?"),
    ]  # fmt: skip


def _reading(service: OperationsService) -> list[Action]:
    async def operations(_: Invocation, params: Listing) -> list[OperationStatus]:
        return list(service.all()[: params.limit])

    async def operation(_: Invocation, params: OperationId) -> OperationStatus:
        return await service.get(params.operation_id)

    async def output(call: Invocation, params: Reading) -> Part:
        may(call.actor, await service.role(params.operation_id), "its output")
        return await service.output(params.operation_id, params.node, params.after, params.most)

    async def known(_: Invocation, __: Params) -> list[dict[str, Any]]:
        return [_kind(kind) for _, kind in sorted(kinds.all_kinds().items())]

    query = functools.partial(Action, query=True, role=Role.viewer)
    one = ("operation_id",)
    return [
        query("fleet.operations", "List operations on the fleet", operations, Listing),
        query("fleet.operation", "Show an operation, node by node", operation, OperationId, positional=one, brief=told),
        query(
            "fleet.operation-output",
            "Show what a node said in an operation",
            output,
            Reading,
            role=Role.operator,
            positional=one,
        ),
        query("fleet.operation-kinds", "List the kinds of operations with their arguments", known),
    ]


def _kind(kind: Kind) -> dict[str, Any]:
    return {
        "kind": kind.name, "summary": kind.summary, "role": kind.role.value, "dangerous": kind.dangerous,
        "changes": kind.changes, "cannot_undo": kind.cannot_undo, "parameters": kind.params.model_json_schema(),
    }  # fmt: skip


def own_fields(kind: Kind, params: Any) -> dict[str, Any]:
    """The kind's own arguments, among an action's."""
    return {name: getattr(params, name) for name in kind.params.model_fields}


def way(params: Going) -> Way:
    """How it goes through its nodes."""
    return Way(
        canary=params.canary, soak=params.soak, parallel=params.parallel, max_failures=params.max_failures, undo=params.undo,
        limit=params.limit,
    )  # fmt: skip


def may(actor: Actor, role: Role, what: str) -> None:
    """Raises NotAuthorizedError where the role is too low."""
    if actor.role < role:
        raise NotAuthorizedError(
            f"{what} needs the role {role.name}; {actor.name} is {actor.role.name}.", f"log in as {role.name}."
        )


def told(status: OperationStatus) -> str:
    """An operation in a line."""
    return f"{status.title}: {status.stage.value} ({counted(status.runs)}){f': {status.reason}' if status.reason else ''}"

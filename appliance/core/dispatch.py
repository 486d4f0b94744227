"""The dispatcher: the one place where an action is authorised, checked, confirmed, audited and timed."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from appliance.core.actions import Action, ActionRegistry, Invocation, Params, permitted
from appliance.core.events import new_id
from appliance.core.model import Actor
from appliance.core.observe.observer import Observer
from appliance.core.refusals import Refusals
from appliance.errors import (
    ActionError,
    ActionTimeoutError,
    ApplianceError,
    ConfirmationRequiredError,
    ConflictError,
    InvalidArgumentsError,
    NotAuthorizedError,
    PreconditionError,
    StoreError,
)

log = logging.getLogger(__name__)

AUDIT_DEADLINE = 5.0
FAULTS, NAME, TEXT = 20, 64, 500
"""Wrong arguments that are told; characters of each one's name and fault: both are whatever somebody sent."""
UNKNOWN = "whether it took effect is not known"
NOT_BEGUN = (NotAuthorizedError, InvalidArgumentsError, PreconditionError, ConfirmationRequiredError, ConflictError)
"""Errors by which an action is refused."""


class AuditSink(Protocol):
    """Where the dispatcher writes what was done."""

    async def record(self, actor: Actor, action: str, args: dict[str, Any], outcome: str, detail: str) -> None:
        """Make one row durable before returning."""


class Dispatcher:
    """Carries actions out for every front.

    Args:
        registry: The actions.
        audit: Where their rows go.
        audit_deadline: Seconds that one row may take.
        closed: Says whether the appliance stops: nothing that changes something is begun any more then.
        current: The actor as their account is now; raises NotAuthorizedError where it is gone.
        observer: Told of every action.
    """

    def __init__(
        self,
        registry: ActionRegistry,
        audit: AuditSink,
        audit_deadline: float = AUDIT_DEADLINE,
        closed: Callable[[], bool] = lambda: False,
        current: Callable[[Actor], Awaitable[Actor]] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.registry = registry
        self.observer = observer or Observer()
        words = "Actions by how they ended"
        self._ends = self.observer.meter.counter("edge_actions_total", words, "action", "via", "outcome", most=2000)
        self._audit = audit
        self._audit_deadline = audit_deadline
        self._closed = closed
        self._current = current
        self._refusals = Refusals(self._refused)
        self._running: set[asyncio.Task[Any]] = set()

    async def invoke(self, name: str, args: dict[str, Any], actor: Actor, *, confirm: bool = False) -> Any:
        """Carry one action out.

        Args:
            name: The action's name.
            args: Its arguments, as JSON has them.
            actor: Who asks.
            confirm: The actor has seen and confirmed what a dangerous action will do.

        Returns:
            What the handler returned. For an audited action its row is durable by then.

        Raises:
            ActionError: It was refused, failed or took too long; or it was done, but its end could not be audited.
            StoreError: It was not begun, because it could not be audited.
        """
        action = self.registry.get(name)
        facts = {"prime_spark.action": name, "prime_spark.via": actor.via}
        outcome = "cancelled"
        try:
            with self.observer.spans.span(f"action {name}", facts):
                result = await self._invoke(action, args, actor, confirm)
            outcome = "ok"
        except ActionTimeoutError:
            outcome = "timeout"
            raise
        except NOT_BEGUN:
            outcome = "refused"
            raise
        except ApplianceError:
            outcome = "failed"
            raise
        finally:
            self._ends.add(name, actor.via, outcome)
        return result

    async def _invoke(self, action: Action, args: dict[str, Any], actor: Actor, confirm: bool) -> Any:
        name = action.name
        if self._closed() and not action.query:
            raise ConflictError("The appliance is stopping.", "start it again.")
        try:
            actor = await self._current(actor) if self._current is not None else actor
            params = await self._admit(action, args, actor, confirm)
        except ConfirmationRequiredError:
            raise
        except ActionError as error:
            if not action.query:
                await self._refusals.note(actor, name, error.message)
            raise
        if action.query:
            return await self._handle(action, params, actor)
        task = asyncio.create_task(self._audited(action, params, actor), name=f"action {name}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def drain(self, deadline: float) -> None:
        """Wait half of `deadline` seconds for running actions, then cancel what is left and have the audit written."""
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=deadline / 2)
            for task in late:
                task.cancel()
            if late:  # each writes how it ended
                await asyncio.wait(late, timeout=deadline / 4)
        await self._refusals.close(deadline / 4)

    async def refuse(self, name: str, actor: Actor, reason: str) -> None:
        """Have the audit tell of an action that a front refused before it came here, for reasons of the front's own."""
        if name not in self.registry or not self.registry.get(name).query:
            await self._refusals.note(actor, name, reason)

    async def _refused(self, actor: Actor, action: str, detail: str) -> None:
        await self._told(action, self._record(actor, action, {}, "refused", detail))

    async def _admit(self, action: Action, args: dict[str, Any], actor: Actor, confirm: bool) -> Params:
        if actor.role < action.role:
            raise NotAuthorizedError(
                f"{action.name} needs the role {action.role.name}; {actor.name} is {actor.role.name}.",
                f"log in as a user with the role {action.role.name}.",
            )
        params = validate(action, args)
        for condition in action.preconditions:
            if reason := condition():
                raise PreconditionError(f"{action.name} cannot run now: {reason}")
        if action.dangerous and not confirm and not (action.safe is not None and action.safe(params)):
            if action.look_up is not None:
                await action.look_up(params)
            raise ConfirmationRequiredError(describe_danger(action, params), "confirm it (CLI: --yes).")
        return params

    async def _audited(self, action: Action, params: Params, actor: Actor) -> Any:
        row = functools.partial(self._record, actor, action.name, params.model_dump(mode="json"))
        try:
            await row("started", "")
        except StoreError as error:
            error.begun = False
            raise
        try:
            result = await self._handle(action, params, actor)
        except asyncio.CancelledError:
            await self._told(action.name, row("failed", f"the appliance stopped; {UNKNOWN}"))
            raise
        except ActionTimeoutError as error:
            await self._told(action.name, row("timeout", error.message))
            raise
        except ApplianceError as error:
            await self._told(action.name, row("failed", error.message))
            raise
        if unaudited := await self._told(action.name, row("ok", "")):
            raise ActionError(
                f"{action.name} was done, but its end is not in the audit: {unaudited.message}",
                "do not repeat it; look at the service store.",
            )
        return result

    async def _record(self, actor: Actor, action: str, args: dict[str, Any], outcome: str, detail: str) -> None:
        """Write a row, in bounded time: a disk that hangs must not hang every front. Raises StoreError."""
        try:
            async with asyncio.timeout(self._audit_deadline):
                await self._audit.record(actor, action, args, outcome, detail)
        except TimeoutError as error:
            reason = f"The audit took no row within {self._audit_deadline:g} s."
            raise StoreError(reason, "look at the service store: its disk may hang.") from error

    async def _told(self, action: str, row: Awaitable[None]) -> StoreError | None:
        """Write the closing row; where that fails, what the action came to goes before it."""
        try:
            await row
        except StoreError as error:
            log.error("the end of %s is not in the audit: %s", action, error.message)
            return error
        return None

    async def _handle(self, action: Action, params: Params, actor: Actor) -> Any:
        invocation = Invocation(actor, action.name, new_id())
        try:
            async with asyncio.timeout(action.timeout) as limit:
                return await action.handler(invocation, params)
        except TimeoutError as error:
            if limit.expired():
                raise late(action) from error
            raise self._unexpected(action, error) from error
        except ApplianceError:
            raise
        except Exception as error:
            raise self._unexpected(action, error) from error

    def _unexpected(self, action: Action, error: Exception) -> ActionError:
        log.error("action %s failed", action.name, exc_info=error)
        return ActionError(f"{action.name} failed: {type(error).__name__}: {error}", "see the log for where.")


def late(action: Action) -> ActionTimeoutError:
    """What is said of an action that ran out of time; one that changes something may have done so by then."""
    text = f"{action.name} took longer than {action.timeout:g} s and was cancelled"
    if action.query:
        return ActionTimeoutError(f"{text}.", "look at Services and Logs for what is slow, then try again.")
    return ActionTimeoutError(f"{text}; {UNKNOWN}.", "look whether it took effect before you try again.")


def describe_danger(action: Action, params: Params) -> str:
    """What the confirmation of a dangerous action says."""
    text = action.confirm_text or f"{action.summary}?"
    return text.format_map({name: getattr(params, name) for name in type(params).model_fields})


def validate(action: Action, args: dict[str, Any]) -> Params:
    """The arguments as the action's parameters.

    Raises:
        InvalidArgumentsError: Names the arguments that do not fit, the first ones of many.
    """
    if len(args) > len(action.params.model_fields) + FAULTS:  # each would become a fault, with a text of its own
        raise InvalidArgumentsError(
            f"{action.name} was given {len(args)} parameters, and has {len(action.params.model_fields)}.",
            f"its parameters are: {', '.join(action.params.model_fields) or 'none'}.",
        )
    try:
        return action.params.model_validate(args)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        named = [".".join(str(part)[:NAME] for part in fault["loc"]) or "arguments" for fault in found[:FAULTS]]
        faults = [
            f"{name} is missing" if fault["type"] == "missing" else f"{name}: {fault['msg'][:TEXT]}"
            for name, fault in zip(named, found, strict=False)
        ]
        more = [f"and {len(found) - FAULTS} more"] if len(found) > FAULTS else []
        raise InvalidArgumentsError(f"{action.name}: {'; '.join([*faults, *more])}.", _wanted(action, found[0])) from None


def _wanted(action: Action, fault: ErrorDetails) -> str:
    """What to give for a parameter, and where it is out of range, the range; or the parameters there are."""
    name = str((*fault["loc"], "")[0])
    field = action.params.model_fields.get(name)
    if field is None:
        return f"its parameters are: {', '.join(action.params.model_fields) or 'none'}."
    told = "" if fault["type"] == "missing" else permitted(action.params.model_json_schema()["properties"][name])
    meaning = (field.description or "").rstrip(".")
    return f"give {name}: {'; '.join(text for text in (meaning, told) if text) or 'see the action'}."

"""The registry of actions: everything that the operator can do, once.

Palette, keys, headless shortcuts, CLI verbs and REST are projections of this registry; `core.dispatch` carries actions out.
"""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import msgspec
from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from appliance.core.model import Actor, Role
from appliance.errors import UnknownActionError

Precondition = Callable[[], str | None]
"""Returns why the action cannot run now, or None where it can."""


class Params(BaseModel):
    """Base of an action's parameters: frozen, strict about names, and no number is infinite or none.

    What checks them is made when it is first asked for: few of the actions are ever called in one run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _truth_is_no_number(cls, given: Any) -> Any:
        """True is no 1, and 1 no true: texts are read as either, for the command line has nothing else."""
        for name, value in given.items() if isinstance(given, dict) else ():
            field = cls.model_fields.get(name)
            if field is None:
                continue
            if isinstance(value, bool) and not _takes_truth(field.annotation):
                raise PydanticCustomError("number", "{name} is neither true nor false", {"name": name})
            if isinstance(value, int | float) and not isinstance(value, bool) and _is_truth(field.annotation):
                raise PydanticCustomError("truth", "{name} is true or false", {"name": name})
        return given


def _takes_truth(kind: Any) -> bool:
    """Whether yes or no may be the value of such a field, or part of one."""
    parts = get_args(kind)
    return any(map(_takes_truth, parts)) if parts else kind not in {int, float, type(None)}


def _is_truth(kind: Any) -> bool:
    """Whether nothing but yes or no, or nothing at all, may be the value of such a field."""
    return set(get_args(kind) or (kind,)) - {type(None)} == {bool}


class NoParams(Params):
    """An action that takes nothing."""


@dataclass(frozen=True)
class Invocation:
    """One call of an action, handed to its handler."""

    actor: Actor
    action: str
    request_id: str


@dataclass(frozen=True)
class Action:
    """One thing that can be done.

    Attributes:
        name: "noun.verb", lower case, dashes inside words.
        summary: One line, imperative, without a full stop.
        handler: `async (invocation, params) -> JSON-able result`.
        params: Frozen pydantic model of the arguments.
        role: The lowest role that may do it.
        dangerous: Needs a confirmation that says what will happen.
        safe: Whether these arguments need none after all.
        query: Reads only; not audited.
        confirm_text: What the confirmation says; `{name}` fields are filled from the arguments.
        preconditions: All must return None.
        timeout: Seconds until the handler is cancelled.
        shortcut: Key in headless mode, or "".
        hidden: Not offered in palettes (still callable).
        brief: Says a result in one line, for headless mode and speech.
        look_up: Awaited before a confirmation is asked for; raises where there is nothing to confirm.
        positional: Parameters that the CLI takes by position, in order.
    """

    name: str
    summary: str
    handler: Callable[[Invocation, Any], Awaitable[Any]]
    params: type[Params] = NoParams
    role: Role = Role.operator
    dangerous: bool = False
    query: bool = False
    confirm_text: str = ""
    preconditions: tuple[Precondition, ...] = ()
    timeout: float = 30.0
    shortcut: str = ""
    hidden: bool = False
    positional: tuple[str, ...] = ()
    brief: Callable[[Any], str] | None = None
    look_up: Callable[[Any], Awaitable[object]] | None = None
    safe: Callable[[Any], bool] | None = None

    def describe(self) -> ActionInfo:
        """What fronts need to know of the action."""
        return ActionInfo(
            name=self.name,
            summary=self.summary,
            role=self.role.name,
            dangerous=self.dangerous,
            query=self.query,
            confirm_text=self.confirm_text,
            timeout=self.timeout,
            shortcut=self.shortcut,
            hidden=self.hidden,
            positional=self.positional,
            parameters=self.params.model_json_schema(),
        )


class ActionInfo(msgspec.Struct, frozen=True):
    """An action as data; `parameters` is a JSON Schema object."""

    name: str
    summary: str
    role: str
    dangerous: bool
    query: bool
    confirm_text: str
    timeout: float
    shortcut: str
    hidden: bool
    positional: tuple[str, ...]
    parameters: dict[str, Any]


def permitted(schema: Mapping[str, Any]) -> str:
    """What a parameter may be, in words; empty where its type alone says it.

    Args:
        schema: Its JSON Schema.
    """
    choices = [choice for choice in schema.get("anyOf", ()) if choice.get("type") != "null"]
    kind = {**schema, **choices[0]} if choices else schema
    if "enum" in kind:
        return f"one of {', '.join(str(choice) for choice in kind['enum'])}"
    if kind.get("type") == "array":
        inner = permitted(kind.get("items", {}))
        most = f"{kind['maxItems']} at most" if "maxItems" in kind else ""
        return ", ".join(text for text in (most, f"each {inner}" if inner else "") if text)
    if kind.get("type") in {"integer", "number"}:
        return _range(kind)
    least, longest = kind.get("minLength"), kind.get("maxLength")
    if least and longest:
        return f"{least} to {longest} characters"
    return f"{longest} characters at most" if longest else f"{least} characters at least" if least else ""


def _range(kind: Mapping[str, Any]) -> str:
    least, above, most = (kind.get(name) for name in ("minimum", "exclusiveMinimum", "maximum"))
    below = kind.get("exclusiveMaximum")
    if least is not None and most is not None:
        return f"{least} to {most}"
    ends = (("", least, " or more"), ("more than ", above, ""), ("at most ", most, ""), ("less than ", below, ""))
    return ", ".join(f"{before}{value}{after}" for before, value, after in ends if value is not None)


class ActionRegistry:
    """All actions by name. Filled at start-up, then only read."""

    def __init__(self) -> None:
        self._actions: dict[str, Action] = {}

    def add(self, *actions: Action) -> None:
        """Register actions.

        Raises:
            ValueError: A name or a shortcut is taken, or the name is not "noun.verb".
        """
        taken = {action.shortcut for action in self._actions.values() if action.shortcut}
        for action in actions:
            noun, _, verb = action.name.partition(".")
            if not noun or not verb or action.name in self._actions:
                raise ValueError(f"action name {action.name!r} is malformed or taken")
            if action.shortcut and action.shortcut in taken:
                raise ValueError(f"shortcut {action.shortcut!r} of {action.name} is taken")
            taken.add(action.shortcut)
            self._actions[action.name] = action

    def get(self, name: str) -> Action:
        """The action of that name.

        Raises:
            UnknownActionError: There is none; the message names the nearest one.
        """
        if name in self._actions:
            return self._actions[name]
        near = difflib.get_close_matches(name, self._actions, n=1)
        hint = f"did you mean {near[0]}?" if near else "list them with `prime-spark actions`."
        raise UnknownActionError(f"No action is called {name!r}.", hint)

    def names(self) -> list[str]:
        """Of all."""
        return list(self._actions)

    def __contains__(self, name: str) -> bool:
        return name in self._actions

    def __iter__(self) -> Iterator[Action]:
        return iter(sorted(self._actions.values(), key=lambda action: action.name))

    def __len__(self) -> int:
        return len(self._actions)

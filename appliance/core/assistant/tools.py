"""Actions of the registry as tools of a model: which ones are offered, in which form, and what is asked for first.

A model gets what its user's role permits, and nothing that deals in secrets or in people. What changes something, and what
reads the contents of files and values, is confirmed by the user before it is done.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from appliance.core.actions import Action, ActionRegistry
from appliance.core.dispatch import describe_danger, validate
from appliance.core.model import Actor
from appliance.errors import ApplianceError, InvalidArgumentsError

FIND = "find_actions"
"""The tool that looks for further ones."""
FOUND = 8
"""Actions that one search adds."""
NOUNS_OUT = frozenset({"api", "assistant", "secret", "session", "setup", "tls", "totp", "user"})
"""People, what lets them in, and the assistant itself."""
OUT = frozenset({
    "llm.chat", "llm.generate", "fleet.shell", "fleet.sudo-password", "deploy.secret", "task.key", "vpn.peer-export",
    "vpn.import", "appliance.status", "memory.set", "memory.delete", "config.init",
})  # fmt: skip
"""Further ones that no model gets: secrets, talks of models with models, what is too large to be of use."""
IN = frozenset({"assistant.remember"})
"""Of the assistant's own, those that a model gets; they are asked for."""
CONTENTS = frozenset({
    "memory.get", "memory.show", "memory.search", "fleet.read-file", "streams.dead-letter", "task.show", "config.list",
    "audit.list",
})  # fmt: skip
"""They change nothing, but what they read may be private: they are asked for too."""
FIRST = ("alert.list", "service.list", "fleet.status", "power.status")
"""Offered in any case, as far as there is room."""
SCHEMA = 3000
"""Bytes of one action's schema; a larger one is offered to no model."""
SECRETS = ("password", "secret")
WORD = re.compile(r"[a-z0-9]{3,}")


class Toolbox:
    """The tools of one answer.

    Args:
        registry: The actions.
        actor: Whose role counts.
        most: Actions that are offered at first.
    """

    def __init__(self, registry: ActionRegistry, actor: Actor, most: int) -> None:
        self._actions = {each.name: each for each in registry if permitted(each, actor)}
        self._most = most
        self._offered: dict[str, dict[str, Any]] = {}
        """Name of an action → it as a tool."""

    async def offer(self, text: str) -> None:
        """Offer what fits a question best."""
        first = [name for name in FIRST if name in self._actions]
        await self._add([*self.search(text, self._most), *first], self._most)

    def schemas(self) -> tuple[dict[str, Any], ...]:
        """All that are offered now, as both protocols have them."""
        return (FINDER, *self._offered.values())

    async def find(self, text: str) -> str:
        """Look for actions, and offer what was found from now on."""
        names = self.search(text, FOUND)
        await self._add(names, len(self._offered) + FOUND)
        there = [name for name in names if name in self._offered]
        if not there:
            return "No action fits. Say so, or look for other words."
        lines = [f"{tool_name(name)}: {self._actions[name].summary}" for name in there]
        return "These can be called from now on:\n" + "\n".join(lines)

    def search(self, text: str, most: int) -> list[str]:
        """Names of actions, those that fit a text best first; those that do not fit are left out."""
        words = {_stem(word) for word in WORD.findall(text.lower())}
        ranked = [(_rank(words, action), name) for name, action in self._actions.items()]
        ranked.sort(key=lambda each: (-each[0], each[1]))
        return [name for rank, name in ranked[:most] if rank > 0]

    def action(self, tool: str) -> Action:
        """The action of a tool's name. Raises InvalidArgumentsError."""
        name = tool.replace("__", ".", 1)
        if name not in self._offered:
            known = ", ".join(tool_name(each) for each in self._offered)
            raise InvalidArgumentsError(f"There is no tool {tool!r}.", f"there are: {known}; {FIND} looks for others.")
        return self._actions[name]

    async def _add(self, names: Iterable[str], most: int) -> None:
        for name in names:
            if name in self._offered or len(self._offered) >= most:
                continue
            await asyncio.sleep(0)  # making a schema takes a millisecond or two
            made = as_tool(self._actions[name])
            if made is not None:
                self._offered[name] = made


def permitted(action: Action, actor: Actor) -> bool:
    """Whether a model may have it for this actor."""
    noun = action.name.partition(".")[0]
    out = action.hidden or action.name in OUT or noun in NOUNS_OUT
    return actor.role >= action.role and (not out or action.name in IN)


def asks(action: Action) -> bool:
    """Whether the user must confirm it."""
    return not action.query or action.dangerous or action.name in CONTENTS | IN


def tool_name(action: str) -> str:
    """As models take it: letters, digits, dash, underscore."""
    return action.replace(".", "__")


def as_tool(action: Action) -> dict[str, Any] | None:
    """An action as a tool; None where it takes secrets or bytes, or its schema is too large."""
    schema = _plain(action.describe().parameters)
    properties: Mapping[str, Any] = schema.get("properties", {})
    private = any("password" in str(kind) or "base64" in str(kind) or name in SECRETS for name, kind in properties.items())
    if private or len(msgspec.json.encode(schema)) > SCHEMA:
        return None
    note = " The user is asked first." if asks(action) else ""
    return _tool(tool_name(action.name), f"{action.summary}.{note}", {**schema, "type": "object", "properties": properties})


def _tool(name: str, about: str, parameters: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": about, "parameters": parameters}}


def _plain(schema: Any) -> Any:
    """A schema without the titles that only repeat names."""
    if isinstance(schema, dict):
        return {key: _plain(value) for key, value in schema.items() if not (key == "title" and isinstance(value, str))}
    return [_plain(each) for each in schema] if isinstance(schema, list) else schema


FINDER = _tool(
    FIND, "Look for further actions of the appliance by words, such as: restart service",
    {"type": "object", "properties": {"words": {"type": "string", "description": "What it should do"}}, "required": ["words"]},
)  # fmt: skip


def _stem(word: str) -> str:
    return word[:-1] if len(word) > 4 and word.endswith("s") else word


def _rank(words: set[str], action: Action) -> float:
    name = {_stem(word) for word in WORD.findall(action.name.lower())}
    about = {_stem(word) for word in WORD.findall(action.summary.lower())}
    found = 3 * len(words & name) + len(words & about)
    return found + (0.5 if found and action.query else 0.0)


def what_it_does(action: Action, args: Mapping[str, Any]) -> str:
    """What a confirmation says. Raises InvalidArgumentsError where it could not be done anyway."""
    params = validate(action, dict(args))
    return describe_danger(action, params) if action.dangerous else f"{action.summary}?"


def told(result: Any, most: int) -> str:
    """A result as the model is given it; blocks where it is large.

    Args:
        result: What the action returned.
        most: Bytes.
    """
    data = msgspec.json.encode(msgspec.to_builtins(_whole(result), enc_hook=str))
    if data == b"null":
        return "done"
    if len(data) <= most:
        return data.decode()
    kept = data[:most].decode(errors="ignore")
    return f"{kept}\n[cut: the result has {len(data)} bytes, these are the first {most}]"


def _whole(result: Any) -> Any:
    dump = getattr(result, "model_dump", None)
    return dump(mode="json") if dump is not None else result


def trouble(error: ApplianceError) -> str:
    """An error as the model is given it."""
    return f"{error.message} Next step: {error.next_step}" if error.next_step else error.message

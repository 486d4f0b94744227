"""Sentences made of an action's own name and parameters: nothing that may be said is left without words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from appliance.core.actions import Action

WORDS = (
    "abort acknowledge activate add apply archive bench cancel change check clear close confirm delete disable discard drain "
    "enable end evict explain forget halt history install list log mute obtain pause pin plan probe promote provision publish "
    "reboot reconcile refresh remove renew replay resolve restart restore resume retry revoke rollback rotate run save scale "
    "send set show silence simulate split start status stop submit sync test tune undo unlock unsilence upgrade verify"
)
VERBS = frozenset(WORDS.split())
"""Words of names that say what is done; with them a name may also be said the other way round."""
SHARED = frozenset({"canary", "soak", "parallel", "max_failures", "undo", "limit", "wait_seconds", "wait", "before", "after"})
"""Parameters of how, not of what: they are left at what they are."""
HIGHEST = 1000
"""Largest number that is understood."""
BOOLEANS = "boolean"
Slot = tuple[str, str]
"""(list, parameter)"""


class Form:
    """One template of an action.

    Attributes:
        template: In hassil's language.
        drawn: Recognition is drawn to it; else it is only understood.
        wants: The parameter that it lacks.
    """

    def __init__(self, template: str, *, drawn: bool = True, wants: str = "") -> None:
        self.template, self.drawn, self.wants = template, drawn, wants


def properties(action: Action) -> tuple[Mapping[str, Any], frozenset[str]]:
    """Its parameters' schemas, references followed, and the names of those that it must have."""
    schema = action.params.model_json_schema()
    defined = schema.get("$defs", {})
    own = {name: _plain(kind, defined) for name, kind in schema.get("properties", {}).items()}
    return own, frozenset(schema.get("required", ()))


def _plain(kind: Mapping[str, Any], defined: Mapping[str, Any]) -> Mapping[str, Any]:
    kinds = [each for each in kind.get("anyOf", ()) if each.get("type") != "null"]
    one = kinds[0] if kinds else kind
    reference = str(one.get("$ref", "")).rpartition("/")[2]
    return {**kind, **(defined.get(reference, {}) if reference else one)}


def list_for(action: str, parameter: str, kind: Mapping[str, Any], slots: Mapping[str, str]) -> str:
    """Name of the list that a parameter's values are of; empty where nobody could say one.

    Args:
        action: Name of the action.
        parameter: Name of the parameter.
        kind: Its schema.
        slots: "action-pattern parameter" → list of live names.
    """
    for pattern, named in slots.items():
        which, _, parameter_named = pattern.partition(" ")
        if parameter == parameter_named and fnmatchcase(action, which):
            return named
    if "enum" in kind:
        return re.sub(r"\W", "_", f"of_{action}_{parameter}")
    if kind.get("type") == "boolean":
        return BOOLEANS
    if kind.get("type") in {"integer", "number"}:
        least = kind.get("minimum", kind.get("exclusiveMinimum", 0))
        return f"number_{max(0, int(least))}_{min(HIGHEST, int(kind.get('maximum', HIGHEST)))}"
    return ""


def forms(action: Action, own: Mapping[str, Any], required: frozenset[str], slots: Mapping[str, str]) -> list[Form]:
    """All sentences that its name and its parameters make; none where it must have something that nobody can say."""
    order = [name for name in (*action.positional, *own) if name in required]
    needed = [(list_for(action.name, name, own[name], slots), name) for name in dict.fromkeys(order)]
    if not all(named for named, _ in needed):
        return []
    heads = _heads(action)
    tail = "".join(f" {_slot(each)}" for each in needed)
    found = [Form(head + tail) for head in heads]
    optional = [
        (named, name) for name, kind in own.items()
        if name not in required and name not in SHARED and (named := list_for(action.name, name, kind, slots))
    ]  # fmt: skip
    found += [Form(f"{heads[0]}{tail} with {_slot(each)}", drawn=False) for each in optional]
    if len(needed) == 1:
        found += [Form(head, wants=needed[0][1]) for head in heads]
    return found


def _slot(slot: Slot) -> str:
    named, parameter = slot
    return f"[{parameter.replace('_', ' ')}] {{{named}:{parameter}}}"


def _heads(action: Action) -> list[str]:
    noun, _, rest = action.name.replace("-", " ").partition(".")
    words = rest.split()
    heads = [f"{noun} {rest}"]
    if words[-1] in VERBS:
        heads.append(" ".join([words[-1], "[the]", noun, *words[:-1]]))
    elif words[0] in VERBS:
        heads.append(" ".join([words[0], "[the]", noun, *words[1:]]))
    elif action.query:
        heads.append(f"show [the] {noun} {rest}")
    return heads


def values(kind: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """An enumeration's values as they are said."""
    from appliance.core.voice.intents.spoken import forms as spoken

    for value in kind.get("enum", ()):
        for form in spoken(str(value)):
            yield form, value

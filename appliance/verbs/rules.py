"""The rules' answers as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from rich.table import Table
from rich.text import Text

from appliance.core.printable import printable
from appliance.verbs import render

Block = Table | Text
LISTED = ("id", "state", "topic", "function", "window", "group_by", "filter", "kafka")
TRIED = ("window_start", "window_end", "group_key", "value", "events")


def as_text(name: str, value: Any, width: int, *, colour: bool) -> str | None:
    """An answer as text; None where its action has no form of its own here.

    Args:
        name: Of the action.
        value: What it returned, as plain JSON types.
        width: Columns of the terminal.
        colour: Whether to use colours.
    """
    form = FORMS.get(name)
    if form is None or not value:
        return None
    return "\n\n".join(render.draw(block, width, colour=colour) for block in form(value))


def _listed(rules: list[dict[str, Any]]) -> list[Block]:
    from appliance.screens.streams_rules import what, window  # late: with it comes Textual

    rows = [
        {
            **rule, "state": "on" if rule["enabled"] else "off", "function": what(rule), "window": window(rule),
            "group_by": ", ".join(rule["group_by"]) or "all together", "kafka": "has it" if rule["published"] else "waits",
        }
        for rule in rules
    ]  # fmt: skip
    return [render.table(rows, LISTED)]


def _tried(value: Mapping[str, Any]) -> list[Block]:
    told = [f"{value['events']} of {value['messages']} messages are the rule's, {value['late']} late"]
    told += [f"{count} x {printable(reason)}" for reason, count in value["errors"].items()]
    told += [f"{value['cut']} older windows are not shown"] if value["cut"] else []
    rows = [{**one, "events": one["event_count"]} for one in value["windows"]]
    return [*([render.table(rows, TRIED)] if rows else [Text("no windows")]), Text("\n".join(told))]


FORMS: Mapping[str, Callable[[Any], list[Block]]] = MappingProxyType({"rules.list": _listed, "rules.try": _tried})

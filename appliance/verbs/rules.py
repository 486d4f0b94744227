"""The rules' answers as text."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from rich.table import Table
from rich.text import Text

from appliance.core.printable import printable
from appliance.verbs import render

Block = Table | Text
LISTED = ("id", "state", "topic", "function", "window", "group_by", "filter", "kafka")
TRIED = ("window_start", "window_end", "group_key", "value", "events")


def _listed(rules: list[dict[str, Any]], _: int) -> list[Block]:
    from appliance.screens.streams_rules import what, window  # late: with it comes Textual

    rows = [
        {
            **rule, "state": "on" if rule["enabled"] else "off", "function": what(rule), "window": window(rule),
            "group_by": ", ".join(rule["group_by"]) or "all together", "kafka": "has it" if rule["published"] else "waits",
        }
        for rule in rules
    ]  # fmt: skip
    return [render.table(rows, LISTED)]


def _tried(value: Mapping[str, Any], _: int) -> list[Block]:
    told = [f"{value['events']} of {value['messages']} messages are the rule's, {value['late']} late"]
    told += [f"{count} x {printable(reason)}" for reason, count in value["errors"].items()]
    told += [f"{value['cut']} older windows are not shown"] if value["cut"] else []
    rows = [{**one, "events": one["event_count"]} for one in value["windows"]]
    return [*([render.table(rows, TRIED)] if rows else [Text("no windows")]), Text("\n".join(told))]


FORMS: Mapping[str, render.Form] = MappingProxyType({"rules.list": _listed, "rules.try": _tried})

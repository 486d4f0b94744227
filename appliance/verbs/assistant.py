"""The assistant's answers as text."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from rich.text import Text

from appliance.core.assistant.model import Remembered, Talk, TurnStatus
from appliance.core.printable import printable
from appliance.screens import assistant_view as view
from appliance.screens import format as f
from appliance.verbs import render

TALK = ("talk", "title", "messages", "updated", "stays", "found")


def _text(lines: list[Any]) -> Text:
    return Text(printable("\n".join("".join(piece for piece, _ in line) for line in lines), keep="\n"))


def _turn(value: Mapping[str, Any], _: int) -> list[Any]:
    status = msgspec.convert(value, TurnStatus)
    said = status.said
    if said is not None:
        return [Text(printable(said.text, keep="\n\t")), _text(view.foot(said)), Text(f"talk {status.talk}")]
    blocks = [Text(printable(status.text, keep="\n\t"))] if status.text else []
    asked = status.asked
    if asked is None:
        return [*blocks, Text(f"{status.stage.value}: prime-spark assistant follow {status.turn} --wait 10")]
    how = f"prime-spark assistant confirm {status.turn} {asked.call} --allow yes"
    return [*blocks, Text(printable(view.asked_text(asked))), Text(f"To have it done (no: --allow no): {how}")]


def _history(value: Mapping[str, Any], _: int) -> list[Any]:
    rows = [
        {**each, "updated": f.clock(each["updated"]), "stays": "edge only" if each["edge_only"] else ""}
        for each in value["talks"]
    ]
    notes = [f"{len(rows)} of {value['limit']} talks"]
    notes += [f"{value['dropped']} older ones found no room"] if value["dropped"] else []
    notes += [f"{value['unreadable']} cannot be opened"] if value["unreadable"] else []
    return [*([render.table(rows, TALK)] if rows else []), Text(", ".join(notes))]


def _show(value: Mapping[str, Any], _: int) -> list[Any]:
    talk = msgspec.convert(value["talk"], Talk)
    blocks: list[Any] = [Text(printable(talk.title))]
    for each in talk.said:
        name = talk.user if each.role == "user" else talk.agent
        lines = [view.head(each, name), *(view.question(each) if each.role == "user" else [((each.text, "text"),)])]
        blocks.append(_text([*lines, *(view.foot(each) if each.role != "user" else [])]))
    return blocks


def _facts(value: list[Mapping[str, Any]], _: int) -> list[Any]:
    return [_text(view.remembered(msgspec.convert(value, list[Remembered])))]


FORMS: Mapping[str, render.Form] = MappingProxyType({
    "assistant.ask": _turn, "assistant.again": _turn, "assistant.follow": _turn, "assistant.confirm": _turn,
    "assistant.stop": _turn, "assistant.history": _history, "assistant.show": _show, "assistant.facts": _facts,
})  # fmt: skip

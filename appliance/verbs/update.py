"""`prime-spark update`: the answers as text; a bundle is named from where its reader stands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click
import msgspec
from rich.text import Text

from appliance.core.lifecycle.update.model import Checked, SlotProof, UpdateStatus
from appliance.core.printable import printable
from appliance.screens import format as f
from appliance.screens import lifecycle_system as system
from appliance.verbs import render

RELEASES = ("version", "size", "made", "bundle")


def nest(group: click.Group) -> None:
    """Paths are those of whoever asks: the appliance stands elsewhere."""
    command = group.commands.get("install")
    inner = command.callback if command is not None else None
    if command is None or inner is None:
        return

    def run(**given: Any) -> Any:
        if given.get("what") and Path(given["what"]).expanduser().is_file():
            given["what"] = str(Path(given["what"]).expanduser().absolute())
        return inner(**given)

    command.callback = run


def _text(lines: list[Any]) -> Text:
    return Text(printable("\n".join("".join(piece for piece, _ in line) for line in lines), keep="\n"))


def _status(value: Mapping[str, Any], _: int) -> list[Any]:
    status = msgspec.convert(value, UpdateStatus)
    first, *rest = system.lines(status, None)
    return [_text([first, *system.slots(status), *rest])]


def _check(value: Mapping[str, Any], _: int) -> list[Any]:
    found = msgspec.convert(value, Checked)
    rows = [
        {
            "version": each.version, "size": f.size(each.size), "bundle": each.place,
            "made": f.NONE if each.published is None else f.clock(each.published),
        }
        for each in found.releases
    ]  # fmt: skip
    step = [Text("Install it: prime-spark update install")] if found.newest is not None else []
    return [Text(printable(found.said)), *([render.table(rows, RELEASES)] if rows else []), *step]


def _verify(value: Mapping[str, Any], _: int) -> list[Any]:
    if not isinstance(value.get("result"), list):
        return [Text(f"Both slots are read; see how far it is: prime-spark job show {value['job_id']}")]
    return [_text(system.proof_lines(tuple(msgspec.convert(value["result"], list[SlotProof]))))]


def _begun(value: Mapping[str, Any], width: int) -> list[Any]:
    """An order: what came of it, or how to see that where it goes on."""
    found = [render.record(dict(value), width)]
    step = Text("It goes on; see how far it is: prime-spark update status (or give --wait).")
    return found if value.get("ended") else [*found, step]


def _done(value: Mapping[str, Any], _: int) -> list[Any]:
    told = [str(value[name]) for name in ("done", "restart") if value.get(name)]
    return [Text(printable("\n".join(told), keep="\n"))]


FORMS: Mapping[str, render.Form] = MappingProxyType({
    "update.status": _status, "update.check": _check, "update.verify": _verify, "update.install": _begun,
    "update.rollback": _done, "update.reboot": _done,
})  # fmt: skip

"""The backups' answers as text."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from rich.text import Text

from appliance.core.lifecycle.backup.model import BackupStatus, RecoveryKey, Snapshot
from appliance.core.printable import printable
from appliance.screens import format as f
from appliance.screens import lifecycle_text as view
from appliance.verbs import render

LIST = ("backup", "made", "at", "proved", "size", "new", "of", "contains")


def _text(lines: list[Any]) -> Text:
    return Text(printable("\n".join("".join(piece for piece, _ in line) for line in lines), keep="\n"))


def _table(found: list[Snapshot]) -> list[Any]:
    rows = [
        {
            "backup": each.id, "made": f.clock(each.time), "at": each.target, "proved": view.proved(each)[0],
            "size": f.size(each.size), "new": f.size(each.added), "of": each.device_id, "contains": " ".join(each.parts),
        }
        for each in found
    ]  # fmt: skip
    return [render.table(rows, LIST)] if rows else [Text("no backup is there yet; make one: prime-spark backup run")]


def _status(value: Mapping[str, Any], _: int) -> list[Any]:
    status = msgspec.convert(value, BackupStatus)
    gaps = [_text([(("In no backup:", "title"),), *view.gap_lines(status.gaps)])]
    found = _table(view.snapshots(status)) if status.targets else []
    return [_text(view.head(status, None)), *found, *gaps]


def _list(value: list[Mapping[str, Any]], _: int) -> list[Any]:
    return _table(msgspec.convert(value, list[Snapshot]))


def _key(value: Mapping[str, Any], _: int) -> list[Any]:
    found = msgspec.convert(value, RecoveryKey)
    told = "# Write it down and keep it away from this machine: without it no backup opens."  # as age's files have comments
    return [Text(told), Text(found.key)]


FORMS: Mapping[str, render.Form] = MappingProxyType({
    "backup.status": _status, "backup.list": _list, "backup.key": _key,
})  # fmt: skip

"""The backups' answers as text."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from rich.text import Text

from appliance.core.lifecycle.backup.model import BackupStatus, RecoveryKey, Snapshot, TargetStatus
from appliance.core.printable import printable
from appliance.screens import format as f
from appliance.screens import lifecycle_text as view
from appliance.screens.values import moment
from appliance.verbs import render

LIST = ("backup", "made", "at", "proved", "size", "new", "of", "contains")


TARGETS = ("target", "state", "proved", "tried", "took", "newest", "size", "at")


def _text(lines: list[Any]) -> Text:
    return Text(printable("\n".join("".join(piece for piece, _ in line) for line in lines), keep="\n"))


def _table(found: list[Snapshot]) -> list[Any]:
    rows = [
        {
            "backup": each.id, "made": f.clock(each.time), "at": each.target, "proved": view.proved(each)[0],
            "size": f.size(each.size), "new": f.size(each.stored), "of": each.device_id, "contains": " ".join(each.parts),
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


def _targets(value: list[Mapping[str, Any]], _: int) -> list[Any]:
    """A line a target; below them what is wrong, with the next step."""
    found = msgspec.convert(value, list[TargetStatus])
    rows = [
        {
            "target": each.name, "state": "failed" if each.problem else "ok" if each.last_good else "none yet",
            "proved": f"{f.since(each.last_good)} ago" if each.last_good else f.NONE,
            "tried": f"{f.since(each.last_try)} ago" if each.last_try else f.NONE, "took": f.span(each.seconds),
            "newest": each.snapshots[0].id if each.snapshots else f.NONE,
            "size": f.size(each.snapshots[0].size if each.snapshots else None), "at": each.place,
        }
        for each in found
    ]  # fmt: skip
    wrong = [f"{each.name}: {each.problem} next: {each.next_step}" for each in found if each.problem]
    told = [Text(printable("\n".join(wrong), keep="\n"))] if wrong else []
    return [render.table(rows, TARGETS), *told]


def _job(value: Mapping[str, Any], width: int) -> list[Any]:
    """A job on backups: what came of it as people read it; how to see more where it goes on."""
    if not str(value.get("name", "")).startswith("backup"):
        return [render.record(dict(value), width)]
    shown = {name: each for name, each in value.items() if name not in {"owner", "result"} and each not in (None, "")}
    result = value.get("result")
    found = [render.record({**shown, **({"result": _read(result)} if result else {})}, width)]
    if value.get("ended") or value.get("state") not in {"pending", "running"}:
        return found
    return [*found, Text(f"It goes on. See what comes of it: prime-spark job show {value['job_id']}; or give --wait.")]


def _read(value: Any) -> Any:
    """Times, sizes and spans of a result, by their names."""
    if isinstance(value, list):
        return [_read(each) for each in value]
    if not isinstance(value, Mapping):
        return value
    return {
        WORDS.get(name, name): f.NONE if each is None else READ[name](each) if name in READ else each
        for name, each in value.items() if name not in HIDDEN
    }  # fmt: skip


READ: Mapping[str, Any] = MappingProxyType({
    "made": moment, "proved": lambda at: at if isinstance(at, bool) else moment(at), "added": f.size, "stored": f.size,
    "seconds": f.span,
})  # fmt: skip
WORDS: Mapping[str, str] = MappingProxyType({"stored": "written", "seconds": "took"})
HIDDEN = frozenset({"gaps"})
"""They are the same for each backup: `backup status` tells them."""

FORMS: Mapping[str, render.Form] = MappingProxyType({
    "backup.status": _status, "backup.list": _list, "backup.key": _key, "backup.targets": _targets,
    "backup.run": _job, "backup.verify": _job, "backup.export": _job, "backup.restore": _job, "job.show": _job,
})  # fmt: skip

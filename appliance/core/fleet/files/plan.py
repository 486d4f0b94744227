"""Compares two folders: what must be done so that the second is like the first. Pure; nothing is touched."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Mapping

from appliance.core.fleet.files.model import Do, Entry, Kind, Step, SyncPlan

SLACK = 1.0
"""Seconds by which two times may differ: SFTP tells whole ones, FAT every second one less."""


def leads_out(path: str, target: str) -> bool:
    """Whether a link at a path (below the folder) may name something outside of the folder.

    ".." behind another name counts as outside: that name may be a link itself, and then nobody can tell from the text.
    """
    parts = [part for part in target.split("/") if part not in {"", "."}]
    down = next((at for at, part in enumerate(parts) if part != ".."), len(parts))
    if target.startswith("/") or ".." in parts[down:]:
        return True
    end = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    return end == ".." or end.startswith("../")


def differs(source: Entry, there: Entry) -> str:
    """Why a file must be copied again; empty where it need not."""
    if source.size != there.size:
        return f"{there.size} bytes there"
    if abs(int(source.modified) - int(there.modified)) > SLACK:
        return "changed at another time"
    return ""


def compare(
    node: str, source: Mapping[str, Entry], there: Mapping[str, Entry], *, delete: bool = False,
    differ: Callable[[Entry, Entry], str] = differs,
) -> SyncPlan:  # fmt: skip
    """What makes a folder like another one.

    Args:
        node: For the plan.
        source: Path → entry of the folder that is copied.
        there: Path → entry of the folder that is changed.
        delete: What is there alone goes.
        differ: Says why a file must be copied again.
    """
    steps: list[Step] = []
    skipped: list[tuple[str, str]] = []
    replaced: list[str] = []
    blocked = ""
    same = 0
    for path in sorted(source, key=_order):
        entry, old = source[path], there.get(path)
        if blocked and path.startswith(blocked):
            continue
        if why := _left_alone(entry, old, delete=delete):
            skipped.append((path, why))
            blocked = f"{path}/"
            continue
        if old is not None and old.kind is not entry.kind:
            replaced.append(path)
            steps += [_deletion(there[below]) for below in _below(path, there)]
            steps.append(Step(Do.delete, path, why=f"a {old.kind} is in the way of a {entry.kind}", kind=old.kind))
            old = None
        made = _steps(entry, old, differ)
        steps += made
        same += not made
    if delete:
        alone = [path for path in there if path not in source and not any(path.startswith(f"{gone}/") for gone in replaced)]
        kept = {path for path, _ in skipped}
        steps += [_deletion(there[path]) for path in sorted(alone, key=_order, reverse=True) if not _guarded(path, kept)]
    return _summed(node, steps, skipped, same)


def _guarded(path: str, kept: set[str]) -> bool:
    """Something in it is left alone, so it stays."""
    return any(name == path or name.startswith(f"{path}/") for name in kept)


def _order(path: str) -> tuple[str, ...]:
    return tuple(path.split("/"))


def _below(path: str, there: Mapping[str, Entry]) -> list[str]:
    """What lies in a folder, the deepest first."""
    return sorted((name for name in there if name.startswith(f"{path}/")), key=_order, reverse=True)


def _deletion(entry: Entry) -> Step:
    return Step(Do.delete, entry.path, why="only there", kind=entry.kind)


def _left_alone(entry: Entry, old: Entry | None, *, delete: bool) -> str:
    if entry.kind is Kind.other:
        return "neither file, folder nor link"
    if entry.kind is Kind.link and leads_out(entry.path, entry.target):
        return f"a link out of the folder, to {entry.target}"
    if old is not None and old.kind is not entry.kind and not delete:
        return f"it is a {old.kind} there, and only --delete replaces it"
    return ""


def _steps(entry: Entry, old: Entry | None, differ: Callable[[Entry, Entry], str]) -> list[Step]:
    mode = [Step(Do.mode, entry.path, why=f"{old.mode:o} → {entry.mode:o}", kind=entry.kind)] if old is not None else []
    mode = mode if old is not None and old.mode != entry.mode and entry.kind is not Kind.link else []
    if entry.kind is Kind.folder:
        return mode if old is not None else [Step(Do.folder, entry.path, kind=Kind.folder)]
    if entry.kind is Kind.link:
        same = old is not None and old.target == entry.target
        return [] if same else [Step(Do.link, entry.path, why=f"to {entry.target}", kind=Kind.link)]
    if old is None:
        return [Step(Do.copy, entry.path, entry.size)]
    why = differ(entry, old)
    return [Step(Do.update, entry.path, entry.size, why)] if why else mode


def _summed(node: str, steps: list[Step], skipped: list[tuple[str, str]], same: int) -> SyncPlan:
    gone = [step.path for step in steps if step.do is Do.delete]
    copied = [step for step in steps if step.do in {Do.copy, Do.update}]
    digest = hashlib.sha256("\0".join(sorted(gone)).encode("utf-8", "surrogateescape")).hexdigest()[:16] if gone else ""
    return SyncPlan(
        node, tuple(steps), tuple(skipped), same, bytes=sum(step.size for step in copied), files=len(copied),
        deletions=len(gone), digest=digest,
    )  # fmt: skip

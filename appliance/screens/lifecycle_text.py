"""Backups as lines, for the page and the command line: where they are, when they were proved, what is not in them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from appliance.core.lifecycle.backup.model import BackupStatus, Former, Gap, Snapshot, TargetStatus
from appliance.core.model import Health, ServiceStatus
from appliance.screens import format as f
from appliance.screens.values import moment

if TYPE_CHECKING:
    from appliance.screens.widgets.lines import Line, Piece

LEAD = 12
NEXT = "write a target into the configuration: docs/backup.md"


def proved(each: Snapshot) -> Piece:
    """Whether it was restored and compared: (word, role)."""
    if each.proof is None:
        return "not proved", "warn"
    return ("proved", "ok") if each.proof.good else ("DAMAGED", "bad")


def snapshots(status: BackupStatus | None) -> list[Snapshot]:
    """All that are known, newest first."""
    found = [each for target in (status.targets if status is not None else ()) for each in target.snapshots]
    return sorted(found, key=lambda each: -each.time)


def head(status: BackupStatus | None, service: ServiceStatus | None) -> list[Line]:
    """What is done now, each target, a restore that waits, what was put aside."""
    if status is None:
        return [(("backups are not looked at yet", "muted"),)]
    lines: list[Line] = []
    if status.doing:
        share = "" if status.progress is None else f" {status.progress:.0%}"
        lines.append(((f"{'now':<{LEAD}}", "muted"), (f"{status.doing}{share}", "accent")))
    if not status.targets:
        lines.append((("no target for backups is configured: nothing is backed up", "warn"),))
        lines.append(((f"next: {NEXT}", "muted"),))
    elif service is not None and service.health is Health.absent:
        lines.append(((f"{service.reason}; next: {service.next_step}", "warn"),))
    lines += [_target(each) for each in status.targets]
    if status.pending is not None:
        wait = f"{', '.join(status.pending.parts)} of {status.pending.device_id} from {status.pending.source}"
        lines.append((("waits       ", "warn"), (f"{wait}: applied at the next start", "warn")))
    lines += [_former(each) for each in status.former]
    return [*lines, _plan(status)] if status.targets else lines


def _target(each: TargetStatus) -> Line:
    if each.problem:
        return ((f"{each.name:<{LEAD}}", "text"), (f"{each.problem} ", "bad"), (f"next: {each.next_step}", "muted"))
    if each.last_good is None:
        return ((f"{each.name:<{LEAD}}", "text"), (f"no proved backup yet; {each.place}", "warn"))
    took = f", took {f.span(each.seconds)}" if each.seconds is not None else ""
    return (
        (f"{each.name:<{LEAD}}", "text"), (f"proved, made {f.since(each.last_good)} ago", "ok"),
        (f"{took}; {each.place}", "muted"),
    )  # fmt: skip


def _former(each: Former) -> Line:
    how = f"prime-spark backup former-drop {each.name}"
    return (("aside       ", "muted"), (f"{each.name}, {f.size(each.size)}", "text"), (f"; drop it: {how}", "muted"))


def _plan(status: BackupStatus) -> Line:
    if not status.schedule:
        return ((f"{'next':<{LEAD}}", "muted"), ("only by hand", "muted"))
    left = f.NONE if status.next_run is None else f"in {f.duration(max(0.0, status.next_run - time.time()))}"
    return ((f"{'next':<{LEAD}}", "muted"), (left, "text"), (f" ({status.schedule})", "muted"))


def gap_lines(gaps: tuple[Gap, ...]) -> list[Line]:
    """What is in no backup, and why."""
    return [((each.what, "text"), (f": {each.why}", "muted")) for each in gaps]


def detail(each: Snapshot) -> list[Line]:
    """All of one backup."""
    proof = "it was not restored and compared yet: v does" if each.proof is None else (
        f"{'restored and compared' if each.proof.good else 'DAMAGED'}, {moment(each.proof.time)}: {each.proof.message}"
    )  # fmt: skip
    facts = {
        "id": each.id, "at": each.target, "made": moment(each.time), "of": each.device_id, "proof": proof,
        "size": f.size(each.size), "new": f.size(each.added), "contains": ", ".join(each.parts) or f.NONE,
    }  # fmt: skip
    lines: list[Line] = [((f"{name:<{LEAD}}", "muted"), (told, "text")) for name, told in facts.items()]
    return [*lines, (), (("Not contained", "title"),), *gap_lines(each.gaps)] if each.gaps else lines

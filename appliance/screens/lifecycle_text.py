"""Backups as lines, for the page and the command line: where they are, when they were proved, what is not in them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from appliance.core.lifecycle.backup.model import BackupStatus, Former, Gap, Restored, Snapshot, TargetStatus
from appliance.core.model import Health, ServiceStatus
from appliance.screens import format as f
from appliance.screens.values import moment, wrap

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
    """A restore that waits, one that was applied, what is done now; each target; what was put aside, and when it goes on."""
    if status is None:
        return [(("backups are not looked at yet", "muted"),)]
    return [*_first(status, service), *(_target(each) for each in status.targets), *_last(status)]


def fitted(status: BackupStatus | None, service: ServiceStatus | None, width: int, most: int) -> list[Line]:
    """The same in so many lines of so many cells: where it does not fit, a line a target, and how many are left out.

    Args:
        status: Of the backups, as it is now.
        service: Says why nothing is backed up.
        width: Cells for text.
        most: Lines.
    """
    whole = _wrapped(head(status, service), width)
    if len(whole) <= most or status is None:
        return whole
    first, last = _wrapped(_first(status, service), width), _wrapped(_last(status), width)
    room = max(1, most - len(first) - len(last))
    targets = sorted(status.targets, key=lambda each: not each.problem)  # those that fail first
    if len(targets) > room:
        left = len(targets) - room + 1
        more: Line = (
            (f"{'':<{LEAD}}", "muted"),
            (f"and {f.counted(left, 'more target')}: prime-spark backup targets", "muted"),
        )
        return [*first, *(_target(each) for each in targets[: room - 1]), more, *last]
    return [*first, *(_target(each) for each in targets), *last]


def _wrapped(lines: list[Line], width: int) -> list[Line]:
    return [part for line in lines for part in wrap(line, max(1, width))]


def _first(status: BackupStatus, service: ServiceStatus | None) -> list[Line]:
    lines: list[Line] = []
    if status.pending is not None:
        wait = f"{', '.join(status.pending.parts)} of {status.pending.device_id} from {status.pending.source}"
        lines.append((("waits       ", "warn"), (f"applied at the next start: {wait}", "warn")))
    if status.restored is not None:
        lines.append(_restored(status.restored))
    if status.doing:
        share = "" if status.progress is None else f" {status.progress:.0%}"
        lines.append(((f"{'now':<{LEAD}}", "muted"), (f"{status.doing}{share}", "accent")))
    if not status.targets:
        lines.append((("no target for backups is configured: nothing is backed up", "warn"),))
        lines.append(((f"next: {NEXT}", "muted"),))
    elif service is not None and service.health is Health.absent:
        lines.append(((f"{service.reason}; next: {service.next_step}", "warn"),))
    return lines


def _restored(done: Restored) -> Line:
    asked = f", asked by {done.by}" if done.by else ""
    rows = "" if done.audit_rows is None else f"; {f.counted(done.audit_rows, 'row')} of the former audit put aside"
    if done.audit_newer:
        rows += f", {done.audit_newer} newer than the backup"
    told = f"{', '.join(done.parts)} of {done.device_id} from {done.source}, {f.since(done.applied)} ago{asked}{rows}"
    return (("restored    ", "warn"), (f"{told}; take this line off: prime-spark backup restore-acknowledge", "text"))


def _last(status: BackupStatus) -> list[Line]:
    found = [_former(each) for each in status.former[-1:]]
    if more := status.former[:-1]:
        told = f"{f.counted(len(more), 'older one')}, {f.size(sum(each.size for each in more))}"
        found.append((("            ", "muted"), (f"and {told}: prime-spark backup status --json", "muted")))
    return [*found, _plan(status)] if status.targets else found


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
    lead: Piece = (f"{'next':<{LEAD}}", "muted")
    again = f"what failed is tried again {_until(status.retry)}; " if status.retry is not None else ""
    if not status.schedule:
        return lead, (f"{again}only by hand", "text" if again else "muted")
    return lead, (f"{again}next {_until(status.next_run)}" if again else _until(status.next_run), "text"), (
        f" ({status.schedule})", "muted",
    )  # fmt: skip


def _until(moment: float | None) -> str:
    if moment is None:
        return f.NONE
    left = moment - time.time()
    return f"in {f.duration(left)}" if left >= 1 else "as soon as nothing else is under way"


def gap_lines(gaps: tuple[Gap, ...]) -> list[Line]:
    """What is in no backup, and why."""
    return [((each.what, "text"), (f": {each.why}", "muted")) for each in gaps]


def detail(each: Snapshot) -> list[Line]:
    """All of one backup."""
    proof = "it was not restored and compared yet: v does" if each.proof is None else (
        f"{'restored and compared' if each.proof.good else 'DAMAGED'}, {moment(each.proof.time)}: {each.proof.message}"
    )  # fmt: skip
    new = f"{f.size(each.stored)} written, of {f.size(each.added)} before they were compressed"
    if each.stored is None:
        new = f.NONE if each.added is None else f"{f.size(each.added)} before they were compressed"
    facts = {
        "id": each.id, "at": each.target, "made": moment(each.time), "of": each.device_id, "proof": proof,
        "size": f.size(each.size), "new": new, "contains": ", ".join(each.parts) or f.NONE,
    }  # fmt: skip
    lines: list[Line] = [((f"{name:<{LEAD}}", "muted"), (told, "text")) for name, told in facts.items()]
    return [*lines, (), (("Not contained", "title"),), *gap_lines(each.gaps)] if each.gaps else lines

"""Updates as lines, for the page and the command line: what runs, what waits, a trial's gate, what came of the last one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from appliance.core.lifecycle.update.model import (
    Outcome,
    OutcomeKind,
    Slot,
    SlotProof,
    SlotState,
    Trial,
    TrialState,
    UpdateStatus,
)
from appliance.core.model import Health, ServiceStatus
from appliance.screens import format as f

if TYPE_CHECKING:
    from appliance.screens.glyphs import Glyphs
    from appliance.screens.widgets.lines import Line, Piece

LEAD = 12
HOLDS = 4
"""Services that hold a trial, by name."""
BAR = 30
NEXT = "updates of a package: sudo apt install ./prime-spark_VERSION_ARCH.deb; of a card: flash our image (docs/install.md)"
OUTCOMES = {
    OutcomeKind.installed: "{version} was installed, over {former}",
    OutcomeKind.committed: "{version} was found healthy and kept",
    OutcomeKind.rolled_back: "went back from {former} to {version}",
    OutcomeKind.fell_back: "{version} was left again for {former}",
    OutcomeKind.refused: "{version} was refused; {former} runs on",
    OutcomeKind.failed: "{version} was not installed; {former} runs on",
    OutcomeKind.cut: "installing {version} was cut off; {former} runs on",
}
HEALTHY = {OutcomeKind.committed, OutcomeKind.rolled_back}
SAYS: dict[SlotState, Piece] = {
    SlotState.committed: ("claimed: every start boots it", "ok"), SlotState.trial: ("on trial", "warn"),
    SlotState.former: ("former: there is a way back to it", "text"), SlotState.bad: ("not to be booted", "bad"),
    SlotState.empty: ("nothing that can be booted", "muted"),
}  # fmt: skip


def lines(
    status: UpdateStatus | None, service: ServiceStatus | None, *, keys: bool = False, brief: bool = False,
    glyphs: Glyphs | None = None,
) -> list[Line]:  # fmt: skip
    """All about updates that is not a slot's own.

    Args:
        status: As it is now.
        service: Says why there are no updates.
        keys: The keys of the page are told; else the commands.
        brief: Only what matters most.
        glyphs: For bars; none without.
    """
    if status is None:
        return [(("updates are not looked at yet", "muted"),)]
    if status.booted is None:
        return _elsewhere(status, service)
    told = [
        _runs(status), *_doing(status, None if brief else glyphs),
        *trial_lines(status.trial, status.committed, keys=keys, glyphs=None if brief else glyphs),
    ]  # fmt: skip
    if not brief or (len(told) == 1 and (status.newest is not None or status.check_problem)):
        told.append(_newest(status, keys=keys))
    if not brief:
        told += [*_last(status.last), *_repaired(status), _plan(status)]
    return told


def _lead(word: str) -> Piece:
    return f"{word:<{LEAD}}", "muted"


def _away(service: ServiceStatus | None) -> tuple[str, str]:
    absent = service is not None and service.health is Health.absent
    reason = service.reason if service is not None and absent else "this machine was not started from our image"
    return reason, service.next_step if service is not None and absent and service.next_step else NEXT


def elsewhere(status: UpdateStatus | None, service: ServiceStatus | None) -> str:
    """Why nothing can be done about the image here, as a sentence; empty where it can, or that is not known yet."""
    if status is None or status.booted is not None:
        return ""
    reason, step = _away(service)
    return f"{reason[:1].upper()}{reason[1:].rstrip('.')}. Next: {step}"


def _elsewhere(status: UpdateStatus, service: ServiceStatus | None) -> list[Line]:
    reason, step = _away(service)
    return [(_lead("runs"), (f"{status.version or f.NONE}; {reason}", "warn")), (_lead("next"), (step, "muted"))]


def _runs(status: UpdateStatus) -> Line:
    booted = f"{status.version or f.NONE} ({status.arch or f.NONE}) from slot {status.booted}"
    if status.booted == status.committed:
        return _lead("runs"), (booted, "text"), (", which is claimed", "ok")
    how = ", on trial" if status.trial.slot == status.booted else ""
    claimed = f"{how}: slot {status.committed} is claimed" if status.committed else f"{how}, and no slot is claimed"
    return _lead("runs"), (booted, "text"), (claimed, "warn")


def _doing(status: UpdateStatus, glyphs: Glyphs | None) -> list[Line]:
    if not status.doing:
        return []
    share = "" if status.progress is None else f" {status.progress:.0%}"
    return [(_lead("now"), (f"{status.doing}{share}", "accent")), *_bar(status.progress, glyphs)]


def _bar(share: float | None, glyphs: Glyphs | None) -> list[Line]:
    if share is None or glyphs is None:
        return []
    filled = max(0, min(BAR, round(share * BAR)))
    return [(_lead(""), (glyphs.fill * filled, "accent"), (glyphs.track * (BAR - filled), "track"))]


def trial_lines(trial: Trial, committed: str | None = None, *, keys: bool = False, glyphs: Glyphs | None = None) -> list[Line]:
    """The update that is not committed, and what holds it."""
    name = trial.version or f"slot {trial.slot}"
    if trial.state is TrialState.waiting:
        how = "s restarts, b takes it back" if keys else "prime-spark update reboot"
        return [(_lead("pending"), (f"{name} in slot {trial.slot}: the next start tries it", "warn"), (f"; {how}", "muted"))]
    if trial.state is TrialState.failed:
        return [(_lead("trial"), (f"{name} did not pass: the machine goes back to the claimed slot", "bad"))]
    if trial.state is TrialState.none:
        return []
    steady = f"{trial.steady or 0:.0f} s steady of {trial.needed or 0:.0f}"
    held = f.counted(len(trial.holds), "service") + (" holds it" if len(trial.holds) == 1 else " hold it")
    found: list[Line] = [(_lead("trial"), (f"trial of {name}: {steady}, {held}", "warn"))]
    found += _bar((trial.steady or 0.0) / trial.needed if trial.needed else None, glyphs)
    if trial.left is not None:
        back = f"slot {committed}" if committed else "the other slot"
        found.append((_lead(""), (f"{f.span(float(int(trial.left)))} left, then {back} is started again", "muted")))
    for each in trial.holds[:HOLDS]:
        found.append((_lead(""), (f"{each.service}: ", "text"), (each.reason, "bad")))
        if each.next_step:
            found.append((_lead(""), (f"  next: {each.next_step}", "muted")))
    if (more := len(trial.holds) - HOLDS) > 0:
        found.append((_lead(""), (f"and {f.counted(more, 'service')} more", "muted")))
    return found


def _newest(status: UpdateStatus, *, keys: bool) -> Line:
    if status.newest is not None:
        size = "" if status.newest.size is None else f", {f.size(status.newest.size)}"
        out = f", of {f.since(status.newest.published)} ago" if status.newest.published else ""
        waits = status.pending is not None and status.trial.version == status.newest.version
        how = "; i installs it" if keys else "; prime-spark update install"
        stale: tuple[Piece, ...] = (
            ((f"; the last look failed: {status.check_problem}", "warn"),) if status.check_problem else ()
        )
        return (
            _lead("newer"),
            (f"{status.newest.version} is there{size}{out}", "accent"),
            ("" if waits else how, "muted"),
            *stale,
        )
    if status.check_problem:
        return _lead("newer"), (f"not known: {status.check_problem} ", "bad"), (f"next: {status.check_step}", "muted")
    if not status.source:
        return _lead("newer"), ("no source is configured: prime-spark update install FILE", "muted")
    if status.checked is None:
        return _lead("newer"), (f"not looked yet; {'c looks' if keys else 'prime-spark update check'}", "muted")
    return _lead("newer"), ("nothing is newer", "ok"), (f", looked {f.since(status.checked)} ago", "muted")


def _last(last: Outcome | None) -> list[Line]:
    if last is None:
        return []
    words = OUTCOMES[last.kind].format(version=last.version or "a bundle", former=last.former or "what ran before")
    found: list[Line] = [(_lead("last"), (words, "ok" if last.good else "bad"), (f", {f.since(last.time)} ago", "muted"))]
    said = last.kind in HEALTHY and last.reason.endswith("was found healthy")  # and nothing beyond that
    if last.reason and not said and last.kind is not OutcomeKind.installed:  # that it waits is told above
        found.append((_lead(""), (last.reason, "text" if last.good else "bad")))
    if last.next_step and not last.good:
        found.append((_lead(""), (f"next: {last.next_step}", "muted")))
    return found


def _repaired(status: UpdateStatus) -> list[Line]:
    return [(_lead("repaired"), (f"{status.repaired}; watch the card", "warn"))] if status.repaired else []


def _plan(status: UpdateStatus) -> Line:
    if not status.source:
        return _lead("source"), ("none: bundles are installed by hand", "muted")
    when = "by hand only" if not status.schedule else status.schedule
    if status.next_check is not None:
        when = f"next look in {f.duration(max(0.0, status.next_check - time.time()))}"
    return _lead("source"), (status.source, "text"), (f"; {when}", "muted")


def slot_title(slot: Slot, status: UpdateStatus) -> str:
    """Of its box."""
    return f"Slot {slot.name}, runs" if slot.name == status.booted else f"Slot {slot.name}"


def slot_lines(slot: Slot, status: UpdateStatus, *, keys: bool = False) -> list[Line]:
    """What lies in a slot, and what the boot manager would do with it."""
    word, role = SAYS[slot.state]
    if slot.name == status.pending:
        word = "pending: the next start tries it"
    elif slot.state is SlotState.former and keys and slot.name != status.booted:
        word = "former: b goes back to it"
    version = slot.version or ("empty" if slot.state is SlotState.empty else "version not known")
    dates = [f"{what} {f.since(when)} ago" for what, when in (
        ("installed", slot.installed), ("healthy", slot.committed), ("read again", slot.verified),
    ) if when]  # fmt: skip
    found: list[Line] = [((version, "title" if slot.name == status.booted else "text"),), ((word, role),)]
    if slot.problem:
        found.append(((slot.problem, "bad"),))
    size = [] if slot.size is None else [f.size(slot.size)]
    bare = "the next update goes into it" if slot.state is SlotState.empty else "as the image was flashed"
    return [*found, ((", ".join([*size, *dates]) or bare, "muted"),)]


def slots(status: UpdateStatus | None) -> list[Line]:
    """Both slots, for the command line; nothing where there are none."""
    found: list[Line] = []
    if status is None or status.booted is None:
        return found
    for slot in status.slots:
        pieces = [piece for line in slot_lines(slot, status) for piece in (*line, ("; ", "muted"))][:-1]
        runs: Line = ((", runs", "ok"),) if slot.name == status.booted else ()
        found.append((_lead(f"slot {slot.name}"), pieces[0], *runs, *pieces[1:]))
    return found


def proof_lines(found: tuple[SlotProof, ...]) -> list[Line]:
    """What reading the slots again came to."""
    words: dict[bool | None, Piece] = {True: ("good", "ok"), False: ("DAMAGED", "bad"), None: ("not known", "warn")}
    return [
        (_lead(f"slot {each.slot}"), (f"{each.part:<8}", "text"), words[each.good], (f"  {each.message}", "muted"))
        for each in found
    ]  # fmt: skip

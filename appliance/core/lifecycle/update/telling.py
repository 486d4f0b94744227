"""The status of the updates, put together from the image, the boot choice, RAUC and the notes."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from appliance.core.lifecycle.update.book import Notes, SlotNote
from appliance.core.lifecycle.update.choice import SLOTS, Choice, uncommitted
from appliance.core.lifecycle.update.image import Facts
from appliance.core.lifecycle.update.model import Release, Slot, SlotState, Trial, TrialState, UpdateStatus
from appliance.core.lifecycle.update.rauc import RaucStatus
from appliance.core.lifecycle.update.releases import relation


def told(status: UpdateStatus, facts: Facts, now: Choice, rauc: RaucStatus | None, notes: Notes, repaired: str) -> UpdateStatus:
    """The status anew; what is being done and the trial's seconds stay as they are.

    Args:
        status: As it was.
        facts: Of the image that runs.
        now: The boot choice.
        rauc: The slots as RAUC knows them; None where it does not answer.
        notes: What is remembered.
        repaired: What was rebuilt of the boot choice.
    """
    return replace(
        status,
        booted=facts.booted, committed=now.committed, version=facts.version, arch=facts.arch,
        slots=tuple(_slot(name, facts, now, rauc, notes.slots.get(name, SlotNote())) for name in SLOTS),
        trial=_trial(status.trial, facts, now, notes),
        last=notes.last, newest=_newer(notes.newest, facts), checked=notes.checked, check_problem=notes.check_problem,
        check_step=notes.check_step, repaired=repaired,
    )  # fmt: skip


def _newer(newest: Release | None, facts: Facts) -> Release | None:
    """What the source was last found to offer, unless it runs meanwhile."""
    stale = newest is not None and relation(newest.version, facts.version) in {"equal", "older"}
    return None if stale else newest


def _slot(name: str, facts: Facts, now: Choice, rauc: RaucStatus | None, note: SlotNote) -> Slot:
    parts = rauc.of(name) if rauc is not None else ()
    system = next((each for each in parts if each.kind == "rootfs"), None)
    written = system.version if system is not None else None
    version = facts.version if name == facts.booted else written or note.version or None
    sizes = [each.size for each in parts if each.size is not None]
    whole = bool(sizes) and len(sizes) == len(parts)
    state = _state(name, facts, now, pending=any(each.status == "pending" for each in parts), known=bool(version))
    state = SlotState.bad if state is SlotState.former and note.problem and name != facts.booted else state
    ours = name in now.good or name in {facts.booted, now.trial}  # else it was written over, or begun to be
    return Slot(
        name, state, None if state is SlotState.empty else version, sum(sizes) if whole else None,
        system.installed if system is not None else None, note.committed if ours else None, note.verified if ours else None,
        note.problem,
    )  # fmt: skip


def _state(name: str, facts: Facts, now: Choice, *, pending: bool, known: bool) -> SlotState:
    if name == now.committed:
        return SlotState.committed
    if name == now.trial:
        return SlotState.trial if now.left or name == facts.booted else SlotState.bad
    if name in now.good or name == facts.booted:
        return SlotState.former
    return SlotState.empty if pending or not known else SlotState.bad


def _trial(before: Trial, facts: Facts, now: Choice, notes: Notes) -> Trial:
    pending = notes.pending if notes.pending is not None and notes.pending.slot == now.trial else None
    if not now.trial:
        return Trial()
    version = facts.version if now.trial == facts.booted else pending.version if pending else None
    if uncommitted(now, facts.booted):
        failed = pending is not None and bool(pending.reason)
        return replace(before, state=TrialState.failed if failed else TrialState.running, slot=now.trial, version=version)
    if now.left:
        return Trial(TrialState.waiting, now.trial, version)
    return Trial(TrialState.failed, now.trial, version)


def summary(status: UpdateStatus) -> tuple[str, str, dict[str, Any]]:
    """(how it stands in a line, the next step, figures)."""
    trial, runs = status.trial, f"{status.version or 'an unnamed version'} runs from slot {status.booted}"
    figures = {"booted": status.booted, "committed": status.committed, "trial": trial.state.value}
    if trial.state is TrialState.waiting:
        return f"{runs}; {trial.version or 'slot ' + trial.slot} waits for a restart", "prime-spark update reboot", figures
    if status.newest is not None:
        return f"{runs}; {status.newest.version} is there", "prime-spark update install", figures
    return runs, "", figures

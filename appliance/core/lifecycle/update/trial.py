"""What a start finds: a trial to judge, one that failed, an update that was cut off; and the commit of what runs."""

from __future__ import annotations

import logging

from msgspec.structs import replace

from appliance.core.lifecycle.update.book import Pending
from appliance.core.lifecycle.update.choice import Choice, fell_back, uncommitted
from appliance.core.lifecycle.update.gate import kept
from appliance.core.lifecycle.update.ground import Ground
from appliance.core.lifecycle.update.image import Facts
from appliance.core.lifecycle.update.installing import version_in, waits, written
from appliance.core.lifecycle.update.model import Outcome, OutcomeKind, Waiting
from appliance.errors import ApplianceError, StoreError, UpdateError

log = logging.getLogger(__name__)

AGAIN = "see what is told of it, then install it again or take another version: prime-spark update install"


async def settle(ground: Ground) -> bool:
    """Bring the notes to what the boot choice tells; whether nothing is being written any more.

    It may be called at any time, and cut off at any point.

    Raises:
        UpdateError: RAUC does not answer, or the boot choice cannot be read.
        StoreError: The notes cannot be kept.
    """
    await ground.tell_last()
    facts, pending = ground.image.facts(), ground.book.notes.pending
    if pending is not None and pending.phase == "writing" and facts.booted != pending.slot:
        if await ground.rauc.busy():
            return False
        await _wrote(ground, pending)
        pending = ground.book.notes.pending
    now, _ = ground.image.choice()
    if facts.booted == now.trial:
        return True  # its health decides
    if pending is not None and facts.booted == pending.slot and now.committed == pending.slot:
        await _stays(ground, facts, pending)
    elif fell_back(now, facts.booted) or (pending is not None and now.trial != pending.slot):
        await _fell_back(ground, facts, now, pending)
    await _stands_in(ground, facts, now)
    return True


async def _wrote(ground: Ground, pending: Pending) -> None:
    """What came of a write that nobody here waited for."""
    waiting = waits(ground, pending.slot)
    if pending.kind == "rollback":
        await ground.keep(pending=replace(pending, phase="written") if waiting else None)
        return
    found = await version_in(ground, pending.slot)
    if waiting and (found or "") == pending.version:
        await written(ground, pending)
        return
    ended, left = "the power went, or the program ended,", replace(pending, version=found or "", phase="written")
    why = (
        f"{ended} before slot {pending.slot} was written: the next start tries {found or 'what it held'}, installed before"
        if waiting else f"{ended} while slot {pending.slot} was written; what runs is untouched"
    )  # fmt: skip
    done = Outcome(OutcomeKind.cut, ground.clock.wall(), pending.former, pending.version, why, "install it again.")
    await ground.conclude(done, pending=left if waiting else None)


async def _fell_back(ground: Ground, facts: Facts, now: Choice, known: Pending | None) -> None:
    known_before = known is None and _told(ground, now.trial)
    pending = known or Pending(now.trial, ground.book.slot(now.trial).version, phase="written")
    if not pending.reason and not known_before:
        pending = replace(pending, reason=_why(now, facts))
        await ground.keep(pending=pending)  # before the boot choice forgets it
    try:
        await ground.rauc.mark("bad", "other")
    except ApplianceError as error:  # it is booted by nobody in any case; the commit of what runs clears it
        log.warning("slot %s could not be marked as bad: %s", pending.slot, error)
    if known_before:
        return
    why = f"slot {pending.slot} was not kept: {pending.reason}"
    done = Outcome(OutcomeKind.fell_back, ground.clock.wall(), facts.version, pending.version, why, AGAIN)
    slots = {**ground.book.notes.slots, pending.slot: replace(ground.book.slot(pending.slot), problem=pending.reason)}
    await ground.conclude(done, pending=None, slots=slots)


def _told(ground: Ground, slot: str) -> bool:
    """Whether that this trial was left is what was told last: the boot choice could not be brought to forget it."""
    last, note = ground.book.notes.last, ground.book.slot(slot)
    if last is None or last.kind is not OutcomeKind.fell_back:
        return False
    return (last.version or "") == note.version and bool(note.problem)


def _why(now: Choice, facts: Facts) -> str:
    if not fell_back(now, facts.booted):
        return "its trial was taken back"
    if now.seen:
        return "it started, and its appliance was not found healthy"
    return "it did not get as far as its first programs, or the power went while it started"


async def _stands_in(ground: Ground, facts: Facts, now: Choice) -> None:
    """Tell once that the boot manager started the other slot. It is not committed: the next start tries the right one again."""
    missed = now.committed if now.committed != facts.booted else ""
    if missed == ground.book.notes.stood_in:
        return
    if not missed:
        await ground.keep(stood_in="")
        return
    why = f"slot {missed}, the committed one, did not start; slot {facts.booted} stands in until the next start"
    done = Outcome(OutcomeKind.fell_back, ground.clock.wall(), facts.version, ground.book.slot(missed).version, why, AGAIN)
    await ground.conclude(done, stood_in=missed)


async def _stays(ground: Ground, facts: Facts, pending: Pending, lacking: tuple[Waiting, ...] = ()) -> None:
    """A trial was committed."""
    kind = OutcomeKind.rolled_back if pending.kind == "rollback" else OutcomeKind.committed
    done = Outcome(kind, ground.clock.wall(), pending.former, facts.version, kept(facts.booted, lacking))
    await ground.conclude(done, pending=None, slots=_kept(ground, facts))


def _kept(ground: Ground, facts: Facts) -> dict[str, object]:
    note = replace(ground.book.slot(facts.booted), version=facts.version, committed=ground.clock.wall(), problem="")
    return {**ground.book.notes.slots, facts.booted: note}


async def commit(ground: Ground, lacking: tuple[Waiting, ...] = ()) -> None:
    """Make what runs the slot that is booted from now on; `lacking` is degraded and was not. Raises UpdateError, StoreError."""
    facts = ground.image.facts()
    await ground.rauc.mark("good")
    now, _ = ground.image.choice()
    if now.committed != facts.booted or uncommitted(now, facts.booted):
        raise UpdateError(f"RAUC did not commit slot {facts.booted}.", "see journalctl -u rauc; it is tried again.")
    pending = ground.book.notes.pending
    if pending is not None and pending.slot == facts.booted:
        await _stays(ground, facts, pending, lacking)
    else:
        await ground.keep(slots=_kept(ground, facts))


def needs_commit(ground: Ground, now: Choice, facts: Facts) -> bool:
    """Whether a healthy start leaves something to write: starts that were counted, a trial that is over, the first one."""
    if now.committed != facts.booted:  # it stands in for the one that did not start
        return False
    note = ground.book.slot(facts.booted)
    noted = note.version == facts.version and note.committed is not None
    return fell_back(now, facts.booted) or now.boots > 0 or facts.booted not in now.good or not noted


async def give_up(ground: Ground, facts: Facts, reason: str) -> str:
    """Leave a trial: the reason is kept for the other slot, and the machine is started again. What was done, in words.

    Raises:
        AbsentError: It cannot be started again from here; the image's own deadline does it then.
        DeviceError: It did not.
    """
    pending = ground.book.notes.pending
    if pending is None or pending.slot != facts.booted:
        pending = Pending(facts.booted, facts.version, phase="written")
    if not pending.reason:
        log.error("the trial of %s is given up: %s", facts.version, reason)
        try:
            await ground.keep(pending=replace(pending, reason=reason))
        except StoreError as error:  # a system that cannot even write that is left all the more
            log.error("why it is given up is not kept: %s", error)
    return await ground.machine.restart()

"""One update, from a bundle to a slot that the next start tries; and the way back to the former slot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from appliance.core.lifecycle.update.book import Pending, SlotNote
from appliance.core.lifecycle.update.choice import Choice, fell_back, other, uncommitted
from appliance.core.lifecycle.update.faults import RefusedError, ServiceAwayError
from appliance.core.lifecycle.update.gate import baseline
from appliance.core.lifecycle.update.ground import Ground
from appliance.core.lifecycle.update.image import Facts
from appliance.core.lifecycle.update.model import Outcome, OutcomeKind
from appliance.core.lifecycle.update.rauc import Bundle
from appliance.errors import ApplianceError, UpdateError

Report = Callable[[float | None, str], None]
OLDER = "install it nevertheless with --allow-older; what it cannot read of newer data it leaves as it is."
UNSEEN = "check the path; the appliance sees neither /home nor /tmp: put it on a stick below /media, or below /mnt."


@dataclass(frozen=True)
class Order:
    """What is asked for.

    Attributes:
        bundle: File that root can read.
        older: It may be older than what runs, or the same.
        backup: A backup is made first.
        owner: Who asks.
    """

    bundle: Path
    older: bool
    backup: bool
    owner: str


async def install(ground: Ground, order: Order, report: Report) -> Outcome:
    """Write a bundle into the other slot, to be tried by the next start.

    Raises:
        UpdateError: It is refused, or did not succeed; what runs is untouched in every case.
        ApplianceError: The backup before it was not made, or the notes cannot be kept.
    """
    facts = ground.image.facts()
    begun = ground.clock.wall()
    try:
        bundle = await examine(ground, order, facts, report)
    except RefusedError as error:
        await ground.conclude(_outcome(ground, OutcomeKind.refused, facts.version, None, error))
        raise
    if order.backup:
        report(None, "making a backup first")
        report(None, await ground.backup(order.owner))
    free(ground, facts)
    pending, waited = Pending(
        other(facts.booted), bundle.version, facts.version, begun, before=baseline(ground.services()), by=order.owner,
    ), ground.book.notes.pending  # fmt: skip
    runs = replace(ground.book.slot(facts.booted), version=facts.version)  # the other system could not tell
    await ground.keep(pending=pending, slots={**ground.book.notes.slots, facts.booted: runs})
    return await _write(ground, order.bundle, pending, waited, report)


async def examine(ground: Ground, order: Order, facts: Facts, report: Report) -> Bundle:
    """Look whether a bundle may be installed. Raises UpdateError; RefusedError where it is the bundle's fault."""
    free(ground, facts)
    if not await asyncio.to_thread(order.bundle.is_file):
        raise RefusedError(f"{order.bundle} is not there, or is no file.", UNSEEN)
    report(None, "checking the signature")
    status = await ground.rauc.status()  # also tells whether RAUC is at work for somebody else
    bundle = await ground.rauc.info(order.bundle)
    if bundle.compatible != status.compatible:
        told = f"The bundle is for {bundle.compatible}, and this machine is {status.compatible}."
        raise RefusedError(told, "take the bundle whose name ends in this machine's architecture.")
    if not order.older:
        await asyncio.to_thread(_check_age, bundle.version, facts.version)
    return bundle


def free(ground: Ground, facts: Facts) -> Choice:
    """The boot choice, while the other slot may be written. Raises UpdateError while it may not."""
    now, _ = ground.image.choice()
    if uncommitted(now, facts.booted):
        step = "wait until it is committed or given up: prime-spark update status"
        raise UpdateError(f"Slot {facts.booted} is on trial, and slot {now.committed} is the way back.", step)
    return now


def _check_age(version: str, running: str) -> None:
    from appliance.core.lifecycle.update.releases import relation

    found = relation(version, running)
    if found == "equal":
        raise RefusedError(f"{running} runs already.", OLDER.replace("it nevertheless", "it again"))
    if found == "older":
        raise RefusedError(f"{version} is older than {running}, which runs.", OLDER)
    if found == "unknown":
        raise RefusedError(f"Whether {version or 'a bundle without a version'} is newer than {running} cannot be told.", OLDER)


async def _write(ground: Ground, bundle: Path, pending: Pending, waited: Pending | None, report: Report) -> Outcome:
    def told(share: float, what: str) -> None:
        report(share, f"{what} (slot {pending.slot})")

    try:
        await ground.rauc.install(bundle, 60 * ground.settings.limit_minutes, told)
        if not waits(ground, pending.slot):
            raise UpdateError("RAUC wrote the slot, but the next start does not try it.", "see journalctl -u rauc; try again.")
        await _same(ground, pending)
    except ServiceAwayError:
        raise  # it may still be writing: what comes of it is seen later
    except ApplianceError as error:
        kind = OutcomeKind.refused if isinstance(error, RefusedError) else OutcomeKind.failed
        left = waited if waits(ground, pending.slot) else None  # it was not touched: what was installed before is tried
        await ground.conclude(_outcome(ground, kind, pending.former, pending.version, error), pending=left)
        raise
    return await written(ground, pending)


def waits(ground: Ground, slot: str) -> bool:
    """Whether the next start tries a slot. Raises UpdateError."""
    now, _ = ground.image.choice()
    return now.trial == slot and bool(now.left)


async def version_in(ground: Ground, slot: str) -> str | None:
    """What RAUC wrote into a slot last; None where it did not. Raises UpdateError."""
    return next((each.version for each in (await ground.rauc.status()).of(slot) if each.kind == "rootfs"), None)


async def _same(ground: Ground, pending: Pending) -> None:
    """See that what was written is what was looked at: the file may have been another one by then. Raises UpdateError."""
    found = await version_in(ground, pending.slot)
    if (found or "") == pending.version:
        return
    await ground.rauc.mark("bad", "other")
    told = f"The file held another bundle when it was written: {found or 'no version'} and not {pending.version or 'none'}."
    raise UpdateError(told, "keep it as it is until it is installed, and install it again.")


async def written(ground: Ground, pending: Pending) -> Outcome:
    """Note that a slot waits for its trial. Raises StoreError."""
    done = Outcome(
        OutcomeKind.installed, ground.clock.wall(), pending.former, pending.version,
        f"slot {pending.slot} is tried at the next start", "restart: prime-spark update reboot",
    )  # fmt: skip
    fresh = {**ground.book.notes.slots, pending.slot: SlotNote(pending.version)}
    return await ground.conclude(done, pending=replace(pending, phase="written"), slots=fresh)


def _outcome(ground: Ground, kind: OutcomeKind, former: str, version: str | None, error: ApplianceError) -> Outcome:
    return Outcome(kind, ground.clock.wall(), former, version, error.message, error.next_step)


async def go_back(ground: Ground, owner: str) -> str:
    """Have the next start try the former slot, or an update that waits no more; says what was done.

    Raises:
        UpdateError: There is no way back.
    """
    facts = ground.image.facts()
    slot, now = other(facts.booted), free(ground, facts)
    if waits(ground, slot):
        return await _take_back(ground, facts, slot)
    damage = ground.book.slot(slot).problem
    if fell_back(now, facts.booted) or slot not in now.good or damage:
        why = "was tried and not found healthy" if fell_back(now, facts.booted) else "never ran healthily as it is now"
        why = damage and f"is damaged ({damage})" if slot in now.good and damage else why
        raise UpdateError(
            f"There is no way back: slot {slot} {why}.", "install the version that you want: prime-spark update install"
        )
    version = ground.book.slot(slot).version or await version_in(ground, slot) or ""
    pending = Pending(
        slot, version, facts.version, ground.clock.wall(), "writing", "rollback", baseline(ground.services()), owner,
    )  # fmt: skip
    await ground.keep(pending=pending, left=facts.version)
    try:
        await ground.rauc.mark("active", "other")
    except ApplianceError:
        await ground.keep(pending=None)
        raise
    await ground.keep(pending=replace(pending, phase="written"))
    return f"slot {slot} ({version or 'version not known'}) is tried at the next start"


async def _take_back(ground: Ground, facts: Facts, slot: str) -> str:
    pending = ground.book.notes.pending
    if pending is not None and pending.kind == "rollback":
        raise UpdateError(f"Slot {slot} is tried at the next start already.", "restart: prime-spark update reboot")
    version = pending.version if pending is not None and pending.slot == slot else await version_in(ground, slot) or ""
    await ground.rauc.mark("bad", "other")
    why = f"it waited in slot {slot}, and is not tried"
    done = Outcome(OutcomeKind.rolled_back, ground.clock.wall(), version, facts.version, why)
    await ground.conclude(done, pending=None, left=version)
    return f"{version or f'slot {slot}'} is not tried; {facts.version} runs on"

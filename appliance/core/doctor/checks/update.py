"""Updates of the image: the boot choice, both slots, RAUC, the key of the releases, and whether the source answers."""

from __future__ import annotations

import asyncio
import shutil

from appliance.core.doctor.model import Check, DoctorContext
from appliance.core.lifecycle.update.book import Book, Notes
from appliance.core.lifecycle.update.bootslots import Places
from appliance.core.lifecycle.update.choice import SLOTS, uncommitted
from appliance.core.lifecycle.update.faults import ForbiddenError
from appliance.core.lifecycle.update.image import Facts, Image
from appliance.core.lifecycle.update.proving import damaged
from appliance.core.lifecycle.update.rauc import Rauc, RaucStatus
from appliance.core.lifecycle.update.shop import Shop
from appliance.core.model import CheckResult
from appliance.errors import AbsentError, ApplianceError

MINISIGN = "sudo apt-get install minisign"
SLOW = 25.0
"""Seconds: a source may be far away."""


async def run(context: DoctorContext) -> CheckResult:
    """Ask whatever an update would need, in the order in which it would."""
    image = _image(context)
    try:
        facts = await asyncio.to_thread(image.facts)
    except AbsentError as error:
        return CHECK.absent(error.message, error.next_step)
    try:
        now, wrong = await asyncio.to_thread(image.choice)
        status = await Rauc(context.environ).status()
    except ForbiddenError as error:
        return CHECK.absent(error.message.partition(" RAUC says")[0].rstrip("."), "sudo prime-spark doctor")
    except ApplianceError as error:
        return CHECK.failed(error.message.rstrip("."), error.next_step)
    book = Book(context.home / "update.json")
    await asyncio.to_thread(book.load)
    if bad := slots(status, book.notes):
        return CHECK.failed(bad, "prime-spark update verify --wait; then install a version again: prime-spark update install")
    runs = f"{facts.version} runs from slot {facts.booted}"
    if wrong:
        return CHECK.warning(f"{runs}; of the boot choice {wrong}", "watch the card: make a backup")
    if uncommitted(now, facts.booted):
        return CHECK.warning(f"{runs}, on trial; slot {now.committed} is claimed", "wait: prime-spark update status")
    return await _source(context, facts, runs)


def _image(context: DoctorContext) -> Image:
    root = context.root
    places = Places(root / "boot/firmware", root / "run/prime-spark", root / "proc/cmdline")
    return Image(places, root / "etc/os-release")


def slots(status: RaucStatus, notes: Notes) -> str:
    """What is wrong with them; empty for nothing."""
    if missing := [name for name in SLOTS if not status.of(name)]:
        return f"RAUC knows no slot {' and none '.join(missing)}"
    return "; ".join(f"slot {name}: {note.problem}" for name, note in sorted(notes.slots.items()) if damaged(note))


async def _source(context: DoctorContext, facts: Facts, runs: str) -> CheckResult:
    settings = context.updates
    if not settings.key.is_file():
        step = "install the prime-spark package again, or set update.key"
        return CHECK.failed(f"{runs}; the public key of the releases is not there: {settings.key}", step)
    if shutil.which("minisign", path=context.environ.get("PATH")) is None:
        return CHECK.failed(f"{runs}; minisign is not installed, so no list of releases can be proved", MINISIGN)
    if not settings.source:
        return CHECK.ok(f"{runs}; no source is configured: bundles are installed by hand")
    shop = Shop(settings, context.home / "updates")
    try:
        found = await shop.look(facts.arch, facts.version)
    except ApplianceError as error:
        return CHECK.failed(f"{runs}; {error.message.rstrip('.')}", error.next_step)
    finally:
        shop.close()
    return CHECK.ok(f"{runs}; {settings.source} answers: {found.said}")


CHECK = Check("update", "Updates", run, timeout=SLOW)

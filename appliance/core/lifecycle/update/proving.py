"""Reads the slots again, and compares them with what RAUC wrote into them."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from appliance.core.lifecycle.update.book import SlotNote
from appliance.core.lifecycle.update.ground import Ground
from appliance.core.lifecycle.update.model import SlotProof
from appliance.core.lifecycle.update.rauc import RaucSlot
from appliance.core.model import Severity

BLOCK = 1 << 20
PARTS = {"rootfs": "system", "bootfs": "boot"}
DAMAGED = "its contents are not what was written into it"
Report = Callable[[float | None, str], None]


async def verify(ground: Ground, report: Report) -> list[SlotProof]:
    """Compare every partition that RAUC wrote.

    What was flashed and never written by an update cannot be compared, and is told so.

    Args:
        ground: What it stands on.
        report: Told 0…1 and what is read.

    Raises:
        UpdateError: RAUC does not answer.
        StoreError: What was found cannot be kept.
    """
    status = await ground.rauc.status()
    parts = sorted(status.slots, key=lambda each: (each.bootname, each.kind))
    whole, done, found = sum(each.size or 0 for each in parts) or 1, 0, []
    for each in parts:
        base = done

        def tell(count: int, each: RaucSlot = each, base: int = base) -> None:
            report((base + count) / whole, f"reading {PARTS.get(each.kind, each.kind)} of slot {each.bootname}")

        found.append(await _one(each, tell))
        done += each.size or 0
    await _keep(ground, found)
    return found


async def _one(part: RaucSlot, tell: Callable[[int], None]) -> SlotProof:
    name, where = part.bootname, PARTS.get(part.kind, part.kind)
    if not part.sha256 or part.size is None:
        return SlotProof(name, where, None, "no update wrote it: nothing is known to compare it with")
    stop, loop = threading.Event(), asyncio.get_running_loop()
    read = functools.partial(_digest, Path(part.device), part.size, stop, lambda n: loop.call_soon_threadsafe(tell, n))
    try:
        digest = await asyncio.to_thread(read)
    except OSError as error:
        away = isinstance(error, PermissionError)
        why = f"this user may not read {part.device}" if away else f"{part.device} cannot be read: {error.strerror or error}"
        return SlotProof(name, where, None if away else False, why)
    finally:
        stop.set()
    good = digest == part.sha256
    return SlotProof(name, where, good, "as it was written" if good else DAMAGED, part.size)


def _digest(device: Path, size: int, stop: threading.Event, tell: Callable[[int], object]) -> str:
    digest, done = hashlib.sha256(), 0
    with device.open("rb", buffering=0) as file:
        while done < size and not stop.is_set():
            block = file.read(min(BLOCK, size - done))
            if not block:
                raise OSError(f"it ends after {done} of {size} bytes")
            digest.update(block)
            done += len(block)
            tell(done)
    return digest.hexdigest()


async def _keep(ground: Ground, found: list[SlotProof]) -> None:
    slots = dict(ground.book.notes.slots)
    for name in sorted({each.slot for each in found if each.good is not None}):
        bad = [each for each in found if each.slot == name and each.good is False]
        note = ground.book.slot(name)
        if bad:
            problem = "; ".join(f"{each.part}: {each.message}" for each in bad)
            slots[name] = replace(note, problem=problem)
            await ground.tell("update.damaged", Severity.critical, {"slot": name, "problem": problem})
        else:
            mended = "" if damaged(note) else note.problem
            slots[name] = replace(note, verified=ground.clock.wall(), problem=mended)
    await ground.keep(slots=slots)


def damaged(note: SlotNote) -> bool:
    """Whether what is wrong with a slot is what reading it again found, and not how its trial went."""
    return note.problem.startswith(tuple(f"{part}: " for part in PARTS.values()))

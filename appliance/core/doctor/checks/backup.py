"""Backups: restic, the targets, and when the last one was proved."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

import msgspec

from appliance.core.doctor import probe
from appliance.core.doctor.model import Check, DoctorContext
from appliance.core.lifecycle.backup import targets
from appliance.core.lifecycle.backup.faults import TargetAwayError
from appliance.core.lifecycle.backup.model import TargetStatus
from appliance.core.model import CheckResult

FIX = "sudo apt-get install restic"
OLDEST = (0, 14)
DAYS = 3
HOW = "write a target into the configuration: docs/backup.md"


async def run(context: DoctorContext) -> CheckResult:
    """Ask the program for its version, touch the folders, read what is remembered."""
    answer = await probe.run(["restic", "version"], context.environ)
    version = re.search(r"restic (\d+)\.(\d+)\S*", answer.out) if answer.good else None
    if version is None:
        return CHECK.absent("restic is not installed; without it there are no backups", FIX)
    if (int(version[1]), int(version[2])) < OLDEST:
        return CHECK.failed(f"{version[0]} is too old; 0.14 or newer is needed", "upgrade to Debian 12 or newer, then: " + FIX)
    if not context.backups:
        return CHECK.absent(f"{version[0]}; no target for backups is configured", HOW)
    bad: dict[str, TargetAwayError] = {}
    for name, target in context.backups.items():
        try:
            await targets.reach(target, context.nas_path, context.home)
        except TargetAwayError as error:
            bad[name] = error
    if bad:
        told = "; ".join(f"{name}: {error.message.rstrip('.')}" for name, error in bad.items())
        return CHECK.failed(told, next(iter(bad.values())).next_step)
    return judge(
        version[0], await asyncio.to_thread(_known, context.home / "backup/book.json"), list(context.backups), time.time()
    )


def _known(path: Path) -> dict[str, TargetStatus]:
    """What is remembered; nothing before the first backup, or where it cannot be read: then nothing is proved."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, TargetStatus])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return {}


def judge(version: str, known: dict[str, TargetStatus], names: list[str], now: float) -> CheckResult:
    """Whether each target has a backup that was proved lately.

    Args:
        version: Of restic.
        known: What is remembered of targets.
        names: Of those that are configured.
        now: Wall clock.
    """
    good = {name: known[name].last_good if name in known else None for name in names}
    if never := [name for name, moment in good.items() if moment is None]:
        return CHECK.warning(f"{version}; no proved backup at {', '.join(never)} yet", "prime-spark backup run")
    days = max((now - moment) / 86400 for moment in good.values() if moment is not None)
    if days > DAYS:
        return CHECK.warning(f"{version}; the last proved backup is {days:.1f} days old", "prime-spark backup run")
    return CHECK.ok(f"{version}; proved {days:.1f} days ago at {', '.join(names)}")


CHECK = Check("backup", "Backups", run, timeout=10)

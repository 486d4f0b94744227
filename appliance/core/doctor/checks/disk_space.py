"""Room for the databases."""

from __future__ import annotations

import os
from pathlib import Path

from appliance.core.doctor.model import Check, DoctorContext
from appliance.core.doctor.probe import in_thread
from appliance.core.model import CheckResult

MIB = 2**20
FULL, TIGHT = 256 * MIB, 1024 * MIB
"""Free bytes below which writes are about to fail, and below which something should be done."""
FIX = "sudo apt-get clean && sudo journalctl --vacuum-size=100M; what is large: sudo du -xh --max-depth=2 / | sort -h | tail"


def look(context: DoctorContext) -> CheckResult:
    """Ask the file system that holds, or will hold, the appliance's data."""
    place = next(path for path in (context.home, *context.home.parents, Path("/")) if path.exists())
    told = os.statvfs(place)
    if told.f_flag & os.ST_RDONLY:
        return CHECK.failed(
            f"the file system of {place} is read-only", "sudo mount -o remount,rw / ; if it turns back, replace the SD card"
        )
    files = told.f_favail / told.f_files if told.f_files else None
    return judge(str(place), told.f_bavail * told.f_frsize, told.f_blocks * told.f_frsize, files)


def judge(place: str, free: int, total: int, free_files: float | None) -> CheckResult:
    """Whether that is enough.

    Args:
        place: A directory of the file system.
        free: Bytes that this user can still write.
        total: Bytes of the file system.
        free_files: Share (0…1) of its inodes that are free; None where it has no fixed number.
    """
    text = f"{free / 1024 / MIB:.1f} of {total / 1024 / MIB:.1f} GiB free at {place}"
    if free < FULL:
        return CHECK.failed(f"{text}: writes are about to fail", FIX)
    if free_files is not None and free_files < 0.02:
        return CHECK.failed(
            f"{text}, but only {100 * free_files:.1f} % of its inodes", "find and delete directories with very many small files"
        )
    if free < TIGHT or free < total / 20:
        return CHECK.warning(text, FIX)
    return CHECK.ok(text)


CHECK = Check("disk_space", "Disk space", in_thread(look))

"""Begins anew with an empty data partition: one that cannot be mounted is formatted, a sound one emptied at the next start."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

from appliance.core.lifecycle.firstboot import card
from appliance.core.lifecycle.firstboot.apply import ERASE
from appliance.core.lifecycle.firstboot.model import FAULT
from appliance.errors import AbsentError, ConfirmationRequiredError, StoreError

LABEL = "dev/disk/by-partlabel/data"


def reset(data: Path, root: Path, run: Path, *, everything: bool) -> str:
    """Format the data partition where it cannot be mounted, else note that it is to be emptied; what is to be done next.

    Args:
        data: Where it is, or would be, mounted.
        root: Of the system; in tests a directory, whose partitions are files.
        run: Where the fault is told.
        everything: Whether it was said that a sound partition is to be emptied too.

    Raises:
        AbsentError: The system is not our image, or has no such partition.
        ConfirmationRequiredError: The partition is sound, and that was not said.
        StoreError: It is in use, or cannot be formatted.
    """
    card.demand_image(root)
    device = partition(root)
    if (run / FAULT).exists():
        _format(device, root)
        return "The data partition is empty. Start the machine again: it begins anew, or with the backup of prime-spark.toml."
    if not everything:
        told = "The data partition is sound: everything of this appliance would be lost, its keys and backups' book too."
        raise ConfirmationRequiredError(told, "make a backup, then say --erase-everything as well.")
    (data / ERASE).touch()
    card.flush(data)
    return "Everything in the data partition is removed when the machine starts again; until then: prime-spark data keep"


def keep(data: Path, root: Path) -> bool:
    """Take the request back; False where there was none. Raises AbsentError, OSError."""
    card.demand_image(root)
    there = (data / ERASE).exists()
    (data / ERASE).unlink(missing_ok=True)
    card.flush(data)
    return there


def partition(root: Path) -> Path:
    """The data partition by its name in the partition table.

    Raises:
        AbsentError: There is none.
        StoreError: What is there is no partition of that system.
    """
    name = root / LABEL
    if not name.exists():
        raise AbsentError("There is no partition called data.", "is this the card that the machine was started from?")
    found = name.resolve()
    # a directory that plays a system has files for partitions, and never reaches beyond itself
    plays = root != Path("/") and found.is_file() and found.is_relative_to(root.resolve())
    if not (plays or (root == Path("/") and stat.S_ISBLK(found.stat().st_mode))):
        raise StoreError(f"{found} is no partition of this system.", "start the machine from its card.")
    return found


def _format(device: Path, root: Path) -> None:
    if _mounted(device, root):
        raise StoreError(f"{device} is mounted.", "start the machine again; see `findmnt /data`.")
    words = ["mkfs.ext4", "-q", "-F", "-m", "1", "-L", "data", str(device)]
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, env={"PATH": path})  # noqa: S603
    except OSError as error:
        raise StoreError(f"mkfs.ext4 cannot be run: {error.strerror}.", "sudo apt-get install e2fsprogs") from error
    if done.returncode:
        step = "the card may be at its end: put another one in."
        raise StoreError(f"{device} could not be formatted: {done.stderr.strip()}.", step)


def _mounted(device: Path, root: Path) -> bool:
    """Whether it is in use; what cannot be looked up counts as that."""
    try:
        lines = (root / "proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return root == Path("/")
    about = device.stat()
    number = f"{os.major(about.st_rdev)}:{os.minor(about.st_rdev)}"
    rows = [line.split() for line in lines]
    return any((row[2] == number and stat.S_ISBLK(about.st_mode)) or str(device) in row for row in rows if len(row) > 2)

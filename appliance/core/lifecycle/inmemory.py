"""Whether a directory of a NAS or a USB disk is one: on our image the mount points below /mnt and /media lie in memory."""

from __future__ import annotations

import os
from pathlib import Path

from appliance.core.lifecycle.firstboot.card import is_image

PLACES = ("/mnt", "/media")
FLEETING = frozenset({"tmpfs", "ramfs", "overlay", "squashfs", "autofs"})
"""File systems of our image that keep nothing; autofs: nothing could be mounted there."""
STEP = "plug the disk in; for a NAS, write [mounts.NAME] into prime-spark.toml (docs/first-boot.md), and see that it is up"


def fleeting(path: Path, root: Path = Path("/")) -> str:
    """Why what is written there would be lost at the next start; empty where it is kept. Blocks, for ever where a NAS hangs.

    Args:
        path: Where something is to be written.
        root: Of the system.

    Raises:
        OSError: It cannot be found out.
    """
    real = os.path.realpath(path)  # each step of it has what is mounted on demand mounted
    if not real.startswith(tuple(f"{each}/" for each in PLACES)) or not is_image(root):
        return ""
    place, kind = _mount_of(real, (root / "proc/self/mountinfo").read_text(encoding="utf-8", errors="replace"))
    if kind == "autofs":
        return f"Nothing could be mounted at {place}"
    return f"No disk is mounted at {path}: what is written there is in memory, and lost at the next start" * (kind in FLEETING)


def _mount_of(path: str, mountinfo: str) -> tuple[str, str]:
    """(mount point, kind) of the file system on which a path lies (proc(5)); of several at one place the last is seen."""
    found = ("", "")
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        words = before.split()
        if len(words) < 5 or not after:
            continue
        place = words[4].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
        if f"{path}/".startswith(f"{place.rstrip('/')}/") and len(place) >= len(found[0]):
            found = (place, after.split()[0])
    return found

"""File systems that hold data: local ones, each once."""

from __future__ import annotations

from typing import Any

from appliance.core.fleet.facts.fact import Fact, NotToldError, Told
from appliance.core.fleet.model import Disk

NO_DATA = frozenset({
    "tmpfs", "devtmpfs", "ramfs", "squashfs", "iso9660", "efivarfs", "overlay", "autofs", "proc", "sysfs", "cgroup", "cgroup2",
    "fuse.snapfuse", "fuse.portal", "nsfs", "nfs", "nfs4", "cifs", "smb3", "fuse.sshfs",
})  # fmt: skip
"""Kinds that hold nothing which could fill up for good, or that lie elsewhere."""


def parse(told: Told) -> dict[str, Any]:
    """All of them, and percent of the fullest."""
    rows = [line.split(None, 6) for line in told.lines()]
    if not any(row[0] == "Filesystem" for row in rows):
        raise NotToldError(f"df said {told.line()[:80]!r}")
    disks: dict[tuple[str, int], Disk] = {}
    for row in rows:
        disk = _disk(row)
        if disk is not None and len(disk.mount) < len(disks.get((disk.device, disk.size), _LONG).mount):
            disks[disk.device, disk.size] = disk
    found = tuple(sorted(disks.values(), key=lambda disk: disk.mount))
    return {"disks": found, "disk": max((_percent(disk) for disk in found), default=None)}


_LONG = Disk("/" * 4096, "", "", 0, 0)


def _disk(row: list[str]) -> Disk | None:
    if len(row) != 7 or not all(number.isdigit() for number in row[2:5]) or row[2] == "0":
        return None
    device, kind, blocks, used, free, _, mount = row
    if kind in NO_DATA and not (kind == "overlay" and mount == "/"):
        return None
    if not mount.startswith("/") or mount.startswith(("/proc", "/sys", "/dev", "/snap/")):
        return None
    there = int(used) + int(free)  # what is kept for root can be had by nobody else
    return Disk(mount, device, kind, 1024 * (there or int(blocks)), 1024 * int(used))


def _percent(disk: Disk) -> float:
    return round(100.0 * disk.used / disk.size, 1)


FACT = Fact(
    "disks", parse, script='df -kPTl || df -kPT || df -kP | while read -r a b; do printf \'%s - %s\\n\' "$a" "$b"; done'
)

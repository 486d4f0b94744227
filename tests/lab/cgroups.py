"""Control groups of nodes that run containers: each has its own, sees nothing above it, and may use no device of the machine.

Standard library only: part of it runs as a node's process 1.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

TOP = Path("/sys/fs/cgroup")
CLONE_NEWCGROUP = 0x02000000
ALLOWED = (
    "c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:* rwm", "c 136:* rwm",
    "c 10:200 rwm",
)  # fmt: skip
"""Devices that containers may use; making (m) nodes of others is harmless, they cannot be opened."""


def hierarchies() -> list[tuple[str, str]]:
    """The machine's: (folder below TOP, options of a mount); ("", "") for version 2."""
    if (TOP / "cgroup.controllers").exists():
        return [("", "")]
    found = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        names = line.split(":")[1]
        folder = names.removeprefix("name=")
        if names and (TOP / folder).is_dir():
            found.append((folder, f"none,{names}" if names.startswith("name=") else names))
    return found


def make(name: str) -> None:
    """A node's groups, before it starts."""
    for folder, _ in hierarchies():
        own = TOP / folder / name
        own.mkdir(exist_ok=True)
        if folder == "cpuset":
            for file in ("cpuset.cpus", "cpuset.mems"):
                (own / file).write_text((TOP / folder / file).read_text())
        if folder == "devices":
            (own / "devices.deny").write_text("a")
            for rule in ALLOWED:
                (own / "devices.allow").write_text(rule)


def enter(name: str) -> None:
    """Put the calling process into them."""
    for folder, _ in hierarchies():
        (TOP / folder / name / "cgroup.procs").write_text("0")


def remove(prefix: str) -> None:
    """Remove the groups whose names begin so, once nothing runs in them; those that are in use stay."""
    for folder, _ in hierarchies():
        for own in (TOP / folder).glob(f"{prefix}*"):
            _remove(own)


def _remove(own: Path) -> None:
    for _ in range(50):
        for place, _, _ in os.walk(own, topdown=False):
            with contextlib.suppress(OSError):  # its last process is about to go
                os.rmdir(place)
        if not own.exists():
            return
        time.sleep(0.02)

"""The TCP ports of the appliance: free, or held by the appliance itself."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from appliance.core.doctor.model import Check, DoctorContext, PortUse
from appliance.core.doctor.probe import in_thread
from appliance.core.model import CheckResult

LISTEN = "0A"
"""State of a listening socket in /proc/net/tcp."""


def look(context: DoctorContext) -> CheckResult:
    """Who listens on each port that the appliance wants."""
    listening = listeners(context)
    ours = context_pid(context)
    told, taken, settings = [], [], []
    for use in context.ports:
        if use.port == 0:
            told.append(f"{use.setting} takes any free port")
            continue
        inodes = listening.get(use.port, set())
        owners = {pid for inode in inodes for pid in holders(context, inode)}
        if not inodes:
            told.append(f"{use.port} is free")
        elif ours is not None and ours in owners:
            told.append(f"{use.port} is held by the running appliance")
        else:
            taken.append(f"{use.port} is held by {named(context, owners)}")
            settings.append(use)
    if taken:
        return CHECK.failed("; ".join(taken), "; ".join(fix(use) for use in settings))
    return CHECK.ok(", ".join(told))


def fix(use: PortUse) -> str:
    """How to get a port."""
    return f"sudo ss -ltnp 'sport = :{use.port}' names it; stop it, or choose another {use.setting} in the settings"


def listeners(context: DoctorContext) -> dict[int, set[str]]:
    """Socket inodes by listening port, from the kernel's tables."""
    found: dict[int, set[str]] = {}
    for table in ("proc/net/tcp", "proc/net/tcp6"):
        for line in context.text(table).splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == LISTEN:
                found.setdefault(int(fields[1].rpartition(":")[2], 16), set()).add(fields[9])
    return found


def holders(context: DoctorContext, inode: str) -> set[int]:
    """Processes that have the socket open; another user's are not to be seen without root."""
    pids = set()
    for directory in context.paths("proc/[0-9]*/fd"):
        with contextlib.suppress(OSError):  # ended meanwhile, or not ours to see
            if any(_target(link) == f"socket:[{inode}]" for link in directory.iterdir()):
                pids.add(int(directory.parent.name))
    return pids


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def named(context: DoctorContext, pids: set[int]) -> str:
    """Processes by name and number."""
    if not pids:
        return "a process of another user"
    return ", ".join(f"{context.text(f'proc/{pid}/comm') or 'a process'} (pid {pid})" for pid in sorted(pids))


def context_pid(context: DoctorContext) -> int | None:
    """The running appliance's process id, from its lock."""
    try:
        text = context.lock.read_text()
    except OSError:
        return None
    match = re.match(r"\d+", text)
    return int(match[0]) if match else None


CHECK = Check("ports", "TCP ports", in_thread(look))

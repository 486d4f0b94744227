"""Whether anybody holds a lock of restic, which takes a killed process that nobody has collected yet for a live one."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec

from appliance.errors import BackupError

ENDED = "ZX"
"""States of a process that runs no more (proc(5))."""


class Lock(msgspec.Struct, frozen=True):
    """A lock as `restic cat lock` tells it."""

    hostname: str
    pid: int


def read(raw: bytes) -> Lock:
    """One lock. Raises BackupError."""
    try:
        return msgspec.json.decode(raw, type=Lock)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BackupError(f"A lock of the repository cannot be read: {error}.", "look at it: restic list locks") from error


def dead(lock: Lock, proc: Path = Path("/proc")) -> bool:
    """Whether a process of this machine held it, and is gone; False for one of another machine, which cannot be seen."""
    if lock.hostname != socket.gethostname():
        return False
    try:
        name, _, rest = (proc / str(lock.pid) / "stat").read_text(errors="replace").partition("(")[2].rpartition(")")
    except FileNotFoundError:
        return True
    except OSError:  # it ended while it was looked at (ESRCH), or may not be seen: restic itself decides
        return False
    return name != "restic" or rest.split()[0] in ENDED

"""How the agents of this machine are, in a small file each, for `prime-spark agent --status`."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from appliance.core.model import ServiceStatus

log = logging.getLogger(__name__)

FRESH = 15.0
"""Seconds after which a report counts as old: the process is there, and hangs."""


class Report:
    """One process's file, below the directory of sockets, which lies in memory on most machines.

    Args:
        run: That directory.
        role: Name of the role.
    """

    def __init__(self, run: Path, role: str) -> None:
        self._path = run / f"agent-{role}-{os.getpid()}.json"
        self._role = role
        self._failed = ""

    def write(self, status: ServiceStatus) -> None:
        """Put the newest status in; a disk that does not take it is told once, and the role goes on."""
        body = {"role": self._role, "pid": os.getpid(), "written": time.time(), "service": status}
        temporary = self._path.with_suffix(".new")
        try:
            temporary.write_bytes(msgspec.json.encode(body))
            temporary.replace(self._path)
            self._failed = ""
        except OSError as error:
            if self._failed != str(error):
                log.warning("how this role is cannot be written to %s: %s", self._path, error.strerror)
            self._failed = str(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._path.unlink(missing_ok=True)


def reports(run: Path, role: str = "*") -> list[dict[str, Any]]:
    """What the agents of this machine say, by role and process; files of processes that are gone are removed."""
    found = []
    for path in sorted(run.glob(f"agent-{role}-*.json")):
        try:
            row: dict[str, Any] = msgspec.json.decode(path.read_bytes())
            os.kill(row["pid"], 0)
        except (FileNotFoundError, ProcessLookupError):
            path.unlink(missing_ok=True)
            continue
        except PermissionError:  # it lives, and is somebody else's
            log.debug("%s belongs to another user", path)
        row["age_s"] = round(max(0.0, time.time() - row["written"]), 1)
        row["hangs"] = row["age_s"] > FRESH
        found.append(row)
    return found

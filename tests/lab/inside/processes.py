"""Processes of a node: process 1 starts them, hears what they say, and takes leave of all that end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


class Processes:
    """Every child of process 1, adopted ones too. For the one loop of process 1."""

    def __init__(self) -> None:
        self._ends: dict[int, asyncio.Future[int]] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_signal_handler(signal.SIGCHLD, self.reap)

    def reap(self) -> None:
        """Take leave of those that ended."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                end = self._ends.pop(pid, None)
                if end is not None and not end.done():
                    end.set_result(os.waitstatus_to_exitcode(status))

    def spawn(
        self, argv: Sequence[str], said: Callable[[int, str], None], *, env: Mapping[str, str], folder: str = "/",
        user: str | None = None, group: str | None = None,
    ) -> tuple[int, asyncio.Future[int]]:  # fmt: skip
        """Start a program; its process id, and its exit code to come (negative: the signal). Raises OSError.

        Args:
            argv: Program and arguments.
            said: Called with the process id and each line of its output.
            env: All of its environment.
            folder: Where it starts.
            user: Who it is; with that user's groups.
            group: Its group, where it is not the user's.
        """
        reading, writing = os.pipe()
        try:
            started = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=writing, stderr=writing, env=env, cwd=folder, start_new_session=True,
                **_identity(user, group),
            )  # fmt: skip
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        started.returncode = 0  # reap takes leave of it
        end: asyncio.Future[int] = self._loop.create_future()
        self._ends[started.pid] = end
        Lines(reading, started.pid, said)
        return started.pid, end


def _identity(user: str | None, group: str | None) -> dict[str, Any]:
    if not user and not group:
        return {}
    if user and user.isdigit():  # of no file: it lives as long as its service
        return {"user": int(user), "group": int(user), "extra_groups": []}
    import grp
    import pwd

    entry = pwd.getpwnam(user) if user else pwd.getpwuid(0)
    number = grp.getgrnam(group).gr_gid if group else entry.pw_gid
    return {"user": entry.pw_uid, "group": number, "extra_groups": os.getgrouplist(entry.pw_name, number)}


class Lines:
    """Hands over what comes through a pipe, line by line, until its last writer is gone."""

    def __init__(self, reading: int, pid: int, said: Callable[[int, str], None]) -> None:
        self._reading, self._pid, self._said, self._rest = reading, pid, said, b""
        os.set_blocking(reading, False)
        asyncio.get_running_loop().add_reader(reading, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._reading, 65536)
        except BlockingIOError:
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        if (not data and self._rest) or len(self._rest) > 1 << 20:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._said(self._pid, line.decode(errors="replace"))
        if not data:
            asyncio.get_running_loop().remove_reader(self._reading)
            os.close(self._reading)


def members(mark: str) -> list[int]:
    """Processes that have a word in their environment: all of a service, whatever became of their parents."""
    found, wanted = [], mark.encode()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and entry.name != "1":
            with contextlib.suppress(OSError):
                if wanted in Path(entry.path, "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def send(pids: Sequence[int], number: int) -> None:
    """A signal to each that is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def name_of(pid: int) -> str:
    """A process's short name; empty where it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""

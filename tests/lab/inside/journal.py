"""What services say, kept in files: written by process 1, read by journalctl."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FILE = Path("/var/log/journal/lab.jsonl")
MOST = 4 << 20
"""Bytes; the older half is one file of before, and is thrown away when the newer one is full."""
LINE = 48 * 1024
"""Bytes of one line, as journald's default; the rest becomes further lines."""


@dataclass(frozen=True)
class Entry:
    """One line. `time` is the wall clock."""

    time: float
    boot: str
    unit: str
    name: str
    pid: int
    text: str


class Journal:
    """Writes. Oldest lines go where it is full."""

    def __init__(self, boot: str, path: Path = FILE) -> None:
        self.boot, self.path = boot, path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)

    def write(self, unit: str, name: str, pid: int, text: str) -> None:
        """Keep a line."""
        for start in range(0, max(1, len(text)), LINE):
            part = text[start : start + LINE]
            line = json.dumps([time.time(), self.boot, unit, name, pid, part], ensure_ascii=False) + "\n"
            self._file.write(line.encode(errors="replace"))
        if self._file.tell() > MOST // 2:
            self._file.close()
            os.replace(self.path, self.path.with_suffix(".before"))
            self._file = self.path.open("ab", buffering=0)


def read(path: Path = FILE) -> Iterator[Entry]:
    """Everything that is there, oldest first."""
    for each in (path.with_suffix(".before"), path):
        if each.exists():
            with each.open(encoding="utf-8") as file:
                yield from (Entry(*json.loads(line)) for line in file if line.endswith("\n"))


def follow(path: Path = FILE) -> Iterator[Entry]:
    """What comes from now on, for ever."""
    file = path.open(encoding="utf-8")
    file.seek(0, os.SEEK_END)
    rest = ""
    while True:
        line = file.readline()
        if line.endswith("\n"):
            yield Entry(*json.loads(rest + line))
            rest = ""
            continue
        rest += line
        time.sleep(0.05)
        if path.exists() and path.stat().st_ino != os.fstat(file.fileno()).st_ino and not rest:
            file.close()
            file = path.open(encoding="utf-8")


def shown(entry: Entry, form: str) -> str:
    """As journalctl -o prints it."""
    if form == "cat":
        return entry.text
    if form == "json":
        return json.dumps({
            "__REALTIME_TIMESTAMP": str(int(entry.time * 1e6)), "_SYSTEMD_UNIT": entry.unit, "SYSLOG_IDENTIFIER": entry.name,
            "_PID": str(entry.pid), "_HOSTNAME": os.uname().nodename, "_BOOT_ID": entry.boot.replace("-", ""),
            "MESSAGE": entry.text, "PRIORITY": "6",
        })  # fmt: skip
    local = time.localtime(entry.time)
    if form.startswith("short-iso"):
        part = f".{int(entry.time % 1 * 1e6):06d}" if form == "short-iso-precise" else ""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", local) + part + time.strftime("%z", local)
    elif form == "short-unix":
        stamp = f"{entry.time:.6f}"
    else:
        stamp = time.strftime("%b %d %H:%M:%S", local)
        stamp += f".{int(entry.time % 1 * 1e6):06d}" if form == "short-precise" else ""
    return f"{stamp} {os.uname().nodename} {entry.name}[{entry.pid}]: {entry.text}"

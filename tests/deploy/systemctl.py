#!/usr/bin/python3 -SE
"""systemctl of a node that has no systemd: unit files of one folder, real processes, real exit codes, systemd's words.

It is mounted over the machine's own program inside the node's mount namespace, where @HERE@ is the node's own folder.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path("@HERE@")
UNITS, STATE = HERE / "units", HERE / "state"
KEEPER = 'out=$1; shift; "$@" & wait $!; echo $? > "$out"'


def lines(unit: str) -> list[tuple[str, str]]:
    """Settings of a unit's file, its instance filled in."""
    stem, _, instance = unit.removesuffix(".service").partition("@")
    path = UNITS / (f"{stem}@.service" if instance else f"{stem}.service")
    if not path.exists():
        sys.exit(f"Failed to start {unit}: Unit {unit} not found.")
    words = (line.partition("=") for line in path.read_text().splitlines() if "=" in line and not line.startswith("#"))
    return [
        (name.strip(), value.strip().replace("%i", instance).replace("%%", "%").replace("$$", "$")) for name, _, value in words
    ]


def running(unit: str) -> int:
    """Process id of the unit's program; 0 where it does not run."""
    try:
        pid = int((STATE / f"{unit}.pid").read_text())
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ValueError):
        return 0
    return 0 if state == "Z" else pid


def start(unit: str) -> None:
    """Start it, detached; what it comes to is written beside its process id."""
    if running(unit):
        return
    settings = lines(unit)
    given = dict(os.environ)
    for name, value in settings:
        if name == "Environment":
            given |= dict(word.split("=", 1) for word in shlex.split(value))
        if name == "EnvironmentFile":
            for line in Path(value).read_text(encoding="utf-8").splitlines():
                variable, _, quoted = line.partition("=")
                given[variable] = re.sub(r'\\(["\\`$])', r"\1", quoted[1:-1])  # systemd.exec(5): in double quotes
    command = next(shlex.split(value) for name, value in settings if name == "ExecStart")
    exit_file = STATE / f"{unit}.exit"
    exit_file.unlink(missing_ok=True)
    log = (STATE / f"{unit}.log").open("ab")
    made = subprocess.Popen(
        ["sh", "-c", KEEPER, "sh", str(exit_file), *command],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=given, start_new_session=True, cwd="/",
    )  # fmt: skip
    (STATE / f"{unit}.pid").write_text(str(made.pid))


def stop(unit: str) -> None:
    """TERM to its processes, KILL after three seconds."""
    pid = running(unit)
    for number in (signal.SIGTERM, signal.SIGKILL):
        ends = time.monotonic() + 3
        while running(unit) and time.monotonic() < ends:
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split() or [str(pid)]:
                os.kill(int(child), number)
            time.sleep(0.02)
    for end in ("pid", "exit"):
        (STATE / f"{unit}.{end}").unlink(missing_ok=True)


def state(unit: str) -> dict[str, str]:
    """As `show` prints it."""
    if running(unit):
        return {"ActiveState": "active", "SubState": "running", "Result": "success", "ExecMainStatus": "0", "NRestarts": "0"}
    exit_file = STATE / f"{unit}.exit"
    if exit_file.exists() and exit_file.read_text().strip() != "0":
        code = exit_file.read_text().strip()
        return {"ActiveState": "failed", "SubState": "failed", "Result": "exit-code", "ExecMainStatus": code, "NRestarts": "0"}
    return {"ActiveState": "inactive", "SubState": "dead", "Result": "success", "ExecMainStatus": "0", "NRestarts": "0"}


def main() -> int:
    """Answer one command."""
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    verb, units = (words or [""])[0], words[1:]
    if verb == "show":
        sys.stdout.write("".join(f"{name}={value}\n" for name, value in state(units[0]).items()))
    elif verb == "is-active":
        sys.stdout.write(state(units[0])["ActiveState"] + "\n")
        return 0 if running(units[0]) else 3
    elif verb == "start":
        start(units[0])
    elif verb == "stop":
        stop(units[0])
    elif verb == "reset-failed" and not running(units[0]):
        (STATE / f"{units[0]}.exit").unlink(missing_ok=True)
    elif verb == "enable":
        (STATE / f"{units[0]}.enabled").touch()
        start(units[0]) if "--now" in sys.argv else None
    elif verb == "disable":
        (STATE / f"{units[0]}.enabled").unlink(missing_ok=True)
        stop(units[0]) if "--now" in sys.argv else None
    elif verb not in {"daemon-reload", "reset-failed", "status"}:
        sys.exit(f"Unknown command verb {verb}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

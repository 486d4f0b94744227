"""systemctl, journalctl, shutdown, reboot, poweroff and halt of a node: one program under several names."""

# ruff: noqa: T201

from __future__ import annotations

import json
import os
import socket
import sys
import time

CONTROL = "/run/systemd/lab.sock"
DOWN = {"reboot": "reboot", "poweroff": "poweroff", "halt": "poweroff"}

FLAGS = (
    ("-r", "--reverse"), ("-q", "--quiet"), ("-e", "--pager-end"), ("-x", "--catalog"), ("-a", "--all"), ("-k", "--dmesg"),
    ("--no-pager",), ("--no-hostname",), ("--utc",), ("--no-tail",),
)  # fmt: skip
"""Of journalctl."""


def ask(**request: object) -> int:
    """Have process 1 do something, print what it says; the exit code."""
    with socket.socket(socket.AF_UNIX) as link:
        try:
            link.connect(CONTROL)
            link.sendall(json.dumps(request).encode() + b"\n")
            with link.makefile("rb") as stream:
                told = json.loads(stream.readline() or b'{"out": [], "err": ["Connection terminated"], "code": 1}')
        except OSError as error:
            print(f"Failed to connect to bus: {error.strerror}", file=sys.stderr)
            return 1
    for line in told["err"]:
        print(line, file=sys.stderr)
    for line in told["out"]:
        print(line)
    return int(told["code"])


def go_down(name: str, argv: list[str]) -> int:
    """shutdown and its kin: as root only."""
    if os.geteuid() != 0:
        print("Failed to set wall message, ignoring: Interactive authentication required.", file=sys.stderr)
        print(
            f"Failed to {DOWN.get(name, 'power off')} system via logind: Interactive authentication required.", file=sys.stderr
        )
        return 1
    if name in DOWN:
        return ask(program="shutdown", what=DOWN[name], delay=0.0)
    what = "cancel" if "-c" in argv else "reboot" if {"-r", "--reboot"} & set(argv) else "poweroff"
    when = next((word for word in argv if not word.startswith("-")), "+1")
    if when == "now":
        return ask(program="shutdown", what=what, delay=0.0)
    if what != "cancel" and not when.lstrip("+").isdigit():
        print(f"Failed to parse time specification: {when}", file=sys.stderr)
        return 1
    delay = 60.0 * int(when.lstrip("+")) if what != "cancel" else 0.0
    if what != "cancel":
        due = time.strftime("%a %Y-%m-%d %H:%M:%S %Z", time.localtime(time.time() + delay))
        print(f"Shutdown scheduled for {due}, use 'shutdown -c' to cancel.", file=sys.stderr)
    return ask(program="shutdown", what=what, delay=delay)


def journalctl(argv: list[str]) -> int:
    """Print the journal."""
    import argparse

    from tests.lab.inside import journal
    from tests.lab.inside.unitfile import full_name, span

    parser = argparse.ArgumentParser(prog="journalctl", add_help=False)
    parser.add_argument("-u", "--unit", action="append", default=[])
    parser.add_argument("-t", "--identifier", action="append", default=[])
    parser.add_argument("-f", "--follow", action="store_true")
    parser.add_argument("-n", "--lines", nargs="?", const="10")
    parser.add_argument("-o", "--output", default="short")
    parser.add_argument("-S", "--since", default="")
    parser.add_argument("-g", "--grep", default="")
    parser.add_argument("-b", "--boot", nargs="?", const="0")
    parser.add_argument("-p", "--priority", default="")
    for flag in FLAGS:
        parser.add_argument(*flag, action="store_true")
    asked = parser.parse_args(argv)
    units = {full_name(name) for name in asked.unit}
    since = _since(asked.since, span)
    boot = journal_boot() if asked.boot is not None else ""

    def wanted(entry: journal.Entry) -> bool:
        fits = (not units or entry.unit in units) and (not asked.identifier or entry.name in asked.identifier)
        return (
            fits and entry.time >= since and (not boot or entry.boot == boot) and asked.grep in entry.text and not asked.dmesg
        )

    most = asked.lines or ("10" if asked.follow and not asked.no_tail else "all")
    past = [entry for entry in journal.read() if wanted(entry)]
    past = past if most == "all" else past[len(past) - int(most) :] if int(most) < len(past) else past
    if not past and not asked.follow and not asked.quiet:
        print("-- No entries --")
    for entry in reversed(past) if asked.reverse else past:
        print(journal.shown(entry, asked.output), flush=asked.follow)
    if asked.follow:
        for entry in journal.follow():
            if wanted(entry):
                print(journal.shown(entry, asked.output), flush=True)
    return 0


def journal_boot() -> str:
    """This boot's id."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _since(text: str, span: object) -> float:
    if not text:
        return 0.0
    if text.startswith("@"):
        return float(text[1:])
    if text.startswith("-") or text.endswith(" ago"):
        return time.time() - float(span(text.strip("-").removesuffix(" ago"), 0.0))  # type: ignore[operator]
    for form in ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d"):
        try:
            return time.mktime(time.strptime(text, form))
        except ValueError:
            continue
    print(f"Failed to parse timestamp: {text}", file=sys.stderr)
    sys.exit(1)


def run(name: str, argv: list[str]) -> int:
    """Be the program of that name."""
    if name == "systemctl":
        return ask(program=name, argv=argv)
    return journalctl(argv) if name == "journalctl" else go_down(name, argv)


def main() -> int:
    """Entry of every name."""
    try:
        return run(os.path.basename(sys.argv[0]), sys.argv[1:])
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except KeyboardInterrupt:
        return 130

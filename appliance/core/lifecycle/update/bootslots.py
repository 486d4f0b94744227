"""Root's small program for the boot choice: RAUC's custom bootloader backend, and what the units of the image call.

    bootslots get-primary | set-primary SLOT | get-state SLOT | set-state SLOT good|bad | get-current     for RAUC
    bootslots started              early at a start: what was booted is noted, damaged files are written anew
    bootslots healthy              the committed slot came up: GRUB's count of starts is 0 again
    bootslots uncommitted          exit code 0 while a trial runs that nobody has found healthy (for a unit's ExecCondition)
    bootslots deadline COMMAND …   runs COMMAND while a trial runs that nobody has found healthy
    bootslots stopping             before a restart: a Pi's firmware is asked for the trial, which counts as tried from here on.
                                   prime-spark.way=tryboot|swap on the kernel's command line chooses how (else: what it can)
    bootslots show                 the choice, one KEY=VALUE a line

Options before the command: --boot DIR (/boot/firmware), --run DIR (/run/prime-spark), --cmdline FILE (/proc/cmdline),
--reboot-param FILE (/run/systemd/reboot-param). Exit code 0; 1 where it failed or the answer is no; 2 for a wrong call.

It starts in some 50 ms: it imports nothing that is heavy.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO

from appliance.core.lifecycle.update import choice as rules
from appliance.core.lifecycle.update.choice import SLOTS, Choice, ChoiceError
from appliance.core.lifecycle.update.choicefiles import AUTOBOOT, GRUBENV, GrubStore, PiStore, overwrite

Store = GrubStore | PiStore
NOTE = "boot-choice.txt"
"""In --run: what was rebuilt since the start, one line each."""


class Places(NamedTuple):
    """Where everything lies."""

    boot: Path = Path("/boot/firmware")
    run: Path = Path("/run/prime-spark")
    cmdline: Path = Path("/proc/cmdline")
    reboot_param: Path = Path("/run/systemd/reboot-param")
    mounts: Path = Path("/proc/self/mountinfo")


class Boot:
    """The boot choice of one machine.

    Args:
        places: Where everything lies.
        run: Runs a program and returns what it said: mount, where the FAT partition is mounted read-only; systemctl.
    """

    def __init__(self, places: Places, run: Callable[[Sequence[str]], str]) -> None:
        self.places = places
        self.run = run

    @property
    def store(self) -> Store:
        """GRUB's or the Pi's, whichever is there; where neither is, what this processor boots by."""
        if (self.places.boot / GRUBENV).exists():
            return GrubStore(self.places.boot)
        if (self.places.boot / AUTOBOOT).exists() or os.uname().machine == "aarch64":
            return PiStore(self.places.boot)
        return GrubStore(self.places.boot)

    def booted(self) -> str:
        """The slot this start came from, as the kernel was told; empty where it was not."""
        words = self.places.cmdline.read_text(errors="replace").split()
        found = next((word.partition("=")[2] for word in words if word.startswith("rauc.slot=")), "")
        return found if found in SLOTS else ""

    def look(self) -> tuple[Choice, str]:
        """(the choice, why the files are to be written anew); one that cannot be read is told by the kernel's command line.

        Raises:
            ChoiceError: Neither tells which slot is committed.
        """
        try:
            now, wrong = self.store.read()
        except (ChoiceError, OSError) as error:
            if not (slot := self.booted()):
                raise ChoiceError(f"{error}, and the kernel's command line names no slot") from error
            return Choice(slot, good=slot), f"{error}: it is written anew, with slot {slot}, which runs, as the committed one"
        return now, f"{wrong} could not be read and is written anew" if wrong else ""

    def change(self, what: Callable[[Choice], Choice]) -> Choice:
        """Read, change, write what differs. Raises ChoiceError, OSError."""
        with self._alone():
            before, wrong = self.look()
            after = what(before)
            wanted = self.store.files(after) if after != before or wrong else []
            if todo := [(path, data) for path, data in wanted if not _same(path, data)]:
                with self._writable():
                    for path, data in todo:
                        overwrite(path, data)
            if wrong:
                self._note(wrong)
            return after

    @contextmanager
    def _alone(self) -> Iterator[None]:
        handle = os.open(self.places.boot, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    @contextmanager
    def _writable(self) -> Iterator[None]:
        """The partition is mounted for writing only meanwhile."""
        if not self._read_only():
            yield
            return
        self.run(["mount", "-o", "remount,rw", str(self.places.boot)])
        try:
            yield
        finally:
            self.run(["mount", "-o", "remount,ro", str(self.places.boot)])

    def _read_only(self) -> bool:
        found = False
        for line in self.places.mounts.read_text(errors="replace").splitlines():
            words = line.split()
            if len(words) > 5 and words[4] == str(self.places.boot):
                found = "ro" in words[5].split(",") or "ro" in words[-1].split(",")
        return found

    def asks(self) -> bool:
        """Whether this kernel can ask the Pi's firmware for one start of the other slot: Raspberry Pi's can, Debian's not."""
        words = self.places.cmdline.read_text(errors="replace").split()
        way = next((word.partition("=")[2] for word in words if word.startswith("prime-spark.way=")), "")
        return way == "tryboot" or (way != "swap" and "rpi" in os.uname().release)

    def restarting(self) -> bool:
        """Whether systemd is about to start this machine again, and not to power it off."""
        return "reboot.target" in self.run(["systemctl", "list-jobs", "--no-legend", "--no-pager"])

    def _note(self, wrong: str) -> None:
        say(f"bootslots: {wrong}", sys.stderr)
        self.places.run.mkdir(parents=True, exist_ok=True)
        way = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            handle = os.open(self.places.run / NOTE, way, 0o644)
        except OSError as error:  # the directory is the appliance's: a link there leads root nowhere, and stops nothing
            say(f"bootslots: that is not noted: {error}", sys.stderr)
            return
        with os.fdopen(handle, "a", encoding="utf-8") as file:
            file.write(f"{time.time():.0f} {wrong}\n")


def say(text: str, where: TextIO | None = None) -> None:
    """Write a line to where it is read: RAUC, the journal."""
    where = where or sys.stdout
    where.write(f"{text}\n")
    where.flush()


def _same(path: Path, data: bytes) -> bool:
    return path.is_file() and path.read_bytes() == data


def _slot(words: Sequence[str]) -> str:
    if not words or words[0] not in SLOTS:
        raise ChoiceError(f"no slot is called {words[0] if words else ''!r}: they are A and B")
    return words[0]


def _get_primary(boot: Boot, _: Sequence[str]) -> int:
    say(rules.primary(boot.look()[0]))
    return 0


def _set_primary(boot: Boot, words: Sequence[str]) -> int:
    slot = _slot(words)
    boot.change(lambda now: rules.set_primary(now, slot))
    return 0


def _get_state(boot: Boot, words: Sequence[str]) -> int:
    say("good" if rules.bootable(boot.look()[0], _slot(words)) else "bad")
    return 0


def _set_state(boot: Boot, words: Sequence[str]) -> int:
    slot, booted = _slot(words), boot.booted()
    if list(words[1:]) not in (["good"], ["bad"]):
        raise ChoiceError(f"a state is good or bad, not {' '.join(words[1:])!r}")
    turn = rules.set_good if words[1] == "good" else rules.set_bad
    boot.change(lambda now: turn(now, slot, booted))
    return 0


def _get_current(boot: Boot, _: Sequence[str]) -> int:
    if slot := boot.booted():
        say(slot)
    return 0 if slot else 1


def _started(boot: Boot, _: Sequence[str]) -> int:
    booted = boot.booted()
    now = boot.change(lambda now: rules.started(now, booted))
    if rules.uncommitted(now, booted):
        say(f"slot {booted} is on trial; slot {now.committed} is started again unless it is found healthy")
    elif rules.fell_back(now, booted):
        how = "ran and was not found healthy" if now.seen else "did not get as far as its first programs"
        say(f"slot {now.trial} was on trial and {how}; slot {booted} runs")
    elif booted != now.committed:
        say(f"slot {booted} runs although slot {now.committed} is the committed one")
    return 0


def _healthy(boot: Boot, _: Sequence[str]) -> int:
    boot.change(lambda now: now._replace(boots=0))
    return 0


def _uncommitted(boot: Boot, _: Sequence[str]) -> int:
    return 0 if rules.uncommitted(boot.look()[0], boot.booted()) else 1


def _deadline(boot: Boot, words: Sequence[str]) -> int:
    if not words:
        raise ChoiceError("the command that starts the machine again is missing")
    now = boot.look()[0]
    if rules.uncommitted(now, boot.booted()):
        say(f"slot {now.trial} was not found healthy: slot {now.committed} is started again")
        boot.run(words)
    return 0


def _stopping(boot: Boot, _: Sequence[str]) -> int:
    if isinstance(boot.store, PiStore) and boot.look()[0].left and boot.restarting():
        asks = boot.asks()
        boot.change(lambda now: rules.stopping(now, arm=not asks))
        if asks:
            boot.places.reboot_param.write_text("0 tryboot")
    return 0


def _show(boot: Boot, _: Sequence[str]) -> int:
    now, wrong = boot.look()
    told = {**now._asdict(), "primary": rules.primary(now), "booted": boot.booted(), "damaged": wrong}
    say("\n".join(f"{key}={value}" for key, value in told.items()))
    return 0


COMMANDS: dict[str, Callable[[Boot, Sequence[str]], int]] = {
    "get-primary": _get_primary, "set-primary": _set_primary, "get-state": _get_state, "set-state": _set_state,
    "get-current": _get_current, "started": _started, "healthy": _healthy, "uncommitted": _uncommitted, "deadline": _deadline,
    "stopping": _stopping, "show": _show,
}  # fmt: skip
OPTIONS = {"--boot": "boot", "--run": "run", "--cmdline": "cmdline", "--reboot-param": "reboot_param"}


def run_program(command: Sequence[str]) -> str:
    """Run one, and tell what it said. Raises OSError where it fails."""
    import subprocess

    try:
        done = subprocess.run(  # noqa: S603
            command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=60
        )
    except subprocess.SubprocessError as error:
        raise OSError(f"{command[0]} failed: {error}") from error
    return done.stdout.decode(errors="replace")


def main(words: Sequence[str]) -> int:
    """Carry out one command, and tell its exit code."""
    given, rest = Places(), list(words)
    while len(rest) > 1 and rest[0] in OPTIONS:
        given, rest = given._replace(**{OPTIONS[rest[0]]: Path(rest[1])}), rest[2:]
    if not rest or rest[0] not in COMMANDS:
        say(__doc__ or "", sys.stderr)
        return 2
    try:
        return COMMANDS[rest[0]](Boot(given, run_program), rest[1:])
    except (ChoiceError, OSError) as error:
        say(f"bootslots {rest[0]}: {error}", sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

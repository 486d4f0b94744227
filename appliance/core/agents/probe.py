"""What a look at a machine tells of its agent and of what an agent needs there."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from appliance.core.agents import layout
from appliance.core.agents.target import NEWEST, OLDEST, Target, number, own

BOOT = "/proc/sys/kernel/random/boot_id"
SYSTEMD = 247
"""The first version that hands secrets to a service (LoadCredential=)."""
UP = frozenset({"active", "activating", "reloading", "refreshing", "deactivating"})


class Python(msgspec.Struct, frozen=True):
    """One Python of a machine."""

    path: str
    version: str
    whole: bool
    """It can make virtual environments."""

    @property
    def fits(self) -> bool:
        """Our package runs on it."""
        return self.whole and OLDEST <= number(self.version) <= NEWEST


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One look at one machine."""

    values: dict[str, str]
    pythons: tuple[Python, ...] = ()
    lacks: tuple[str, ...] = ()
    """Programs that are missing."""
    fixed: tuple[str, ...] = ()
    """Folders in which nothing can be written."""
    left: tuple[str, ...] = ()
    """What is there of an agent, whole or not."""
    sums: dict[str, str] = {}
    secret_sums: dict[str, str] = {}

    @property
    def release(self) -> str:
        """The one in force, where it is whole; else empty."""
        return self.values.get("release", "") if self.values.get("whole") else ""

    @property
    def pending(self) -> bool:
        """An installation was put in force and never seen to its end."""
        return "pending" in self.values

    @property
    def former(self) -> str:
        """What was in force before that one, where it is whole; else empty."""
        return self.values.get("former", "")

    @property
    def running(self) -> bool:
        """Its unit is up, or comes up again and again."""
        return self.values.get("ActiveState", "") in UP

    @property
    def enabled(self) -> bool:
        """It starts with the machine."""
        return self.values.get("UnitFileState", "") == "enabled"

    @property
    def python(self) -> Python | None:
        """The one to use: like our own where that is there, for its wheels lie here."""
        fitting = [each for each in self.pythons if each.fits]
        same = [each for each in fitting if number(each.version) == own().python]
        return next(iter(same or fitting), None)

    def target(self) -> Target:
        """What it can run. Only where there is a Python."""
        libc = self.values.get("libc", "")
        kind = "musl" if "musl" in libc else "glibc"
        python = self.python
        return Target(
            self.values.get("arch", ""), kind, number(libc), number(python.version) if python is not None else (0, 0)
        )  # fmt: skip

    def is_here(self) -> bool:
        """Whether it is the machine that the appliance runs on. Blocks."""
        boot = Path(BOOT).read_text(encoding="ascii").strip()
        return (self.values.get("boot"), self.values.get("host")) == (boot, os.uname().nodename)


def parse(text: str) -> Found:
    """What PROBE printed."""
    values: dict[str, str] = {}
    lists: dict[str, list[str]] = {"python": [], "lacks": [], "fixed": [], "left": []}
    sums: dict[str, str] = {}
    secrets: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if not equals:
            continue
        if name in lists:
            lists[name].append(value)
        elif name.startswith("sum.secret."):
            secrets[name.removeprefix("sum.secret.")] = value
        elif name.startswith("sum."):
            sums[name.removeprefix("sum.")] = value
        else:
            values[name] = value.strip()
    return Found(
        values=values, pythons=tuple(_python(each) for each in lists["python"]), lacks=tuple(lists["lacks"]),
        fixed=tuple(lists["fixed"]), left=tuple(lists["left"]), sums={name: each for name, each in sums.items() if each},
        secret_sums=secrets,
    )  # fmt: skip


def _python(text: str) -> Python:
    path, version, *lacks = text.rsplit(" ", 2) if text.endswith(" incomplete") else text.rsplit(" ", 1)
    return Python(path, version, not lacks)


def obstacle(found: Found) -> tuple[str, str]:
    """Why no agent can be installed there, and the next step; ("", "") where one can."""
    for why in (foreign(found), _system(found), _python_missing(found)):
        if why[0]:
            return why
    if found.fixed:
        return f"nothing can be written in {', '.join(found.fixed)} there.", "make that writable (mount -o remount,rw)."
    if found.lacks:
        return f"there is no {', '.join(found.lacks)} there.", "install it there."
    return "", ""


def foreign(found: Found) -> tuple[str, str]:
    """Somebody else's unit or folder of that name, and the next step; ("", "") where there is none."""
    path = found.values.get("FragmentPath", "")
    if found.values.get("unit") == "foreign" or path not in {"", layout.UNIT_FILE}:
        return f"{path or layout.UNIT_FILE} is somebody else's unit.", "move it away there, or leave that machine out."
    if found.values.get("LoadState") == "masked":
        return f"{layout.UNIT} is masked there.", f"systemctl unmask {layout.UNIT}"
    if found.values.get("home") == "foreign":
        return f"{layout.HOME} is there and not of us.", "move it away there."
    return "", ""


def _system(found: Found) -> tuple[str, str]:
    version = found.values.get("systemd", "")
    if not version:
        return "there is no systemd, and the agent is one of its services.", "run the role by hand: docs/agents.md."
    digits = "".join(each if each.isdigit() else " " for each in version).split()
    if not digits or int(digits[0]) < SYSTEMD:
        return f"its systemd is {version}; {SYSTEMD} is the least.", "upgrade that machine's system."
    return "", ""


def _python_missing(found: Found) -> tuple[str, str]:
    if found.python is not None:
        return "", ""
    span = f"{OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
    if not found.pythons:
        return f"there is no Python; {span} is needed.", "apt-get install python3 there."
    if broken := [each for each in found.pythons if not each.whole]:
        told = f"{broken[0].path} ({broken[0].version}) cannot make virtual environments"
        return f"{told}.", "apt-get install python3-venv there (or python3 with all of its modules)."
    versions = ", ".join(dict.fromkeys(each.version for each in found.pythons))
    return f"its Python is {versions}; {span} is needed.", "install one of these there beside it."

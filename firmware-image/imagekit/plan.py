"""What is to be built."""

from __future__ import annotations

import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from imagekit.errors import BuildError
from imagekit.shell import say

IMAGEKIT = Path(__file__).resolve().parent
FIRMWARE = IMAGEKIT.parent
CHECKOUT = FIRMWARE.parent

SUITE = "trixie"
PYTHON = "3.13"
"""Python of that suite."""
ARCHES = ("arm64", "amd64")
"""Debian's names of the processors that images are made for."""
MACHINES = {"arm64": "aarch64", "amd64": "x86_64"}
"""The same, as Python and Linux name them."""
COMPRESSIONS = ("zstd", "lz4")

FLOOR = 1_500_000_000
"""Seconds since 1970 that stand for the time of a build where no other is known."""


@dataclass(frozen=True)
class Plan:
    """One build."""

    arch: str
    version: str
    out: Path
    cache: Path
    compress: str = "zstd"
    extra: Path | None = None
    """A tree laid over the root, for tests."""
    epoch: int = FLOOR
    """Seconds since 1970: the newest time that a file in the image has (SOURCE_DATE_EPOCH)."""
    fast: bool = False
    """For tests: no .img.xz, no list of the software, no signature."""

    @property
    def machine(self) -> str:
        """The processor as Python names it."""
        return MACHINES[self.arch]

    @property
    def name(self) -> str:
        """What names of released files begin with."""
        return f"prime-spark-{self.version}-{self.arch}"

    @property
    def env(self) -> dict[str, str]:
        """Environment of the programs that write what is released."""
        return {"SOURCE_DATE_EPOCH": str(self.epoch)}


def check(plan: Plan) -> Plan:
    """The plan, if it can be carried out. Raises BuildError."""
    if plan.arch not in ARCHES:
        raise BuildError(f"There is no image for the processor {plan.arch!r}.", f"choose one of {', '.join(ARCHES)}.")
    if plan.compress not in COMPRESSIONS:
        raise BuildError(f"{plan.compress!r} is no compression that images have.", f"choose one of {', '.join(COMPRESSIONS)}.")
    if not re.fullmatch(r"\d[A-Za-z0-9.+~]*", plan.version):
        raise BuildError(
            f"{plan.version!r} is no version.",
            "it begins with a digit and has letters, digits, '.', '+' and '~' only, such as 1.4.0 or 1.5.0~rc1.",
        )
    if plan.extra is not None and not plan.extra.is_dir():
        raise BuildError(f"{plan.extra} is no directory.", "name the tree that is to be laid over the root.")
    return plan


def own_version() -> str:
    """The appliance's version as its source says it."""
    found = re.search(r'^__version__ = "([^"]+)"', (CHECKOUT / "appliance/__init__.py").read_text(), re.MULTILINE)
    if found is None:
        raise BuildError("appliance/__init__.py names no version.", "restore the line __version__ = … there.")
    return found[1]


def own_epoch() -> int:
    """Seconds since 1970 of what is built: SOURCE_DATE_EPOCH if that is set, else the time of the last commit."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given:
        if not given.isdigit():
            raise BuildError(
                f"SOURCE_DATE_EPOCH is {given!r}, which is no number of seconds since 1970.", "set a number, or unset it."
            )
        return int(given)
    known = f"safe.directory={CHECKOUT}"  # root may build what another user checked out: git would not look into it
    asked = subprocess.run(
        ["git", "-c", known, "-C", str(CHECKOUT), "log", "-1", "--format=%ct"], capture_output=True, text=True, check=False
    )
    if asked.returncode == 0 and asked.stdout.strip().isdigit():
        return int(asked.stdout)
    day = time.strftime("%Y-%m-%d", time.gmtime(FLOOR))
    say(f"git tells no time of a commit here ({asked.stderr.strip() or 'no answer'}): the image's clocks begin at {day}.")
    say("next: where that matters, SOURCE_DATE_EPOCH=SECONDS before the command")
    return FLOOR

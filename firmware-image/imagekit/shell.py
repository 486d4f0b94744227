"""Programs that the build runs."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from imagekit.errors import BuildError

PACKAGES = {
    "mmdebstrap": "mmdebstrap",
    "mksquashfs": "squashfs-tools",
    "unsquashfs": "squashfs-tools",
    "sfdisk": "fdisk",
    "mke2fs": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "mmd": "mtools",
    "rauc": "rauc",
    "grub-mkimage": "grub-common",
    "minisign": "minisign",
    "dpkg-deb": "dpkg",
    "xz": "xz-utils",
    "unshare": "util-linux",
    "git": "git",
    "debugfs": "e2fsprogs",
    "dtc": "device-tree-compiler",
}
"""Which Debian package has which program."""

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def say(text: str) -> None:
    """Tell the person who waits, on standard error."""
    print(f"image: {text}", file=sys.stderr, flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Say what begins, and how many seconds it took."""
    say(text)
    began = time.monotonic()
    yield
    say(f"  … {time.monotonic() - began:.1f} s")


def need(*programs: str) -> None:
    """Check that programs are there. Raises BuildError, naming the packages to install."""
    missing = [each for each in programs if which(each) is None]
    if missing:
        names = " ".join(sorted({PACKAGES.get(each, each) for each in missing}))
        raise BuildError(
            f"These programs are not installed: {' '.join(missing)}.", f"install them: sudo apt-get install {names}"
        )


def which(program: str) -> str | None:
    """Where a program is, also where the path of this user lacks the directories of the administrator."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{SBIN}")


def run(*command: str | Path, env: Mapping[str, str] | None = None, data: str | None = None, log: Path | None = None) -> str:
    """Run a program to its end and give what it printed.

    Args:
        command: Program and arguments.
        env: What its environment has besides ours.
        data: What it reads from standard input.
        log: A file that takes all it says; the error then names the file.

    Raises:
        BuildError: It failed, or is not there.
    """
    words = [str(each) for each in command]
    need(words[0])
    around = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{SBIN}", "LC_ALL": "C.UTF-8", "TZ": "UTC", **(env or {})}
    if log is None:
        ended = subprocess.run(words, input=data, capture_output=True, text=True, env=around, check=False, errors="replace")
        said = ended.stderr or ended.stdout
    else:
        with log.open("w") as file:
            ended = subprocess.run(words, input=data, stdout=file, stderr=file, text=True, env=around, check=False)
        said = log.read_text(errors="replace")
    if ended.returncode:
        raise failure(words, ended.returncode, said, log)
    return ended.stdout or ""


def failure(words: Sequence[str], status: int, said: str, log: Path | None) -> BuildError:
    """The error for a program that failed: its last words, and the next step where they tell one."""
    end = " / ".join(said.strip().splitlines()[-6:])
    what = shlex.join(words[:4])
    step_now = (
        f"read {log}, mend it, and give the same command again." if log else "mend that, and give the same command again."
    )
    for sign, hint in HINTS.items():
        if sign in said:
            step_now = hint
            break
    return BuildError(f"{what} … failed (status {status}): {end}", step_now)


HINTS = {
    "No space left on device": "make room (the build needs about 12 GB in its cache), or give another place with --cache DIR.",
    "Temporary failure resolving": "connect the network, and give the same command again; what is downloaded is kept.",
    "Could not resolve": "connect the network, and give the same command again; what is downloaded is kept.",
    "Unable to connect": "the package archive does not answer: try again later; what is downloaded is kept.",
    "NO_PUBKEY": "the key of the archive is not here: sudo apt-get install debian-archive-keyring",
    "Exec format error": "this machine cannot run programs of that processor: sudo apt-get install qemu-user-static",
}
"""What a program says, and what to do about it."""

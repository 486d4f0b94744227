"""The machine that the first start is about: whether it is ours, who owns what, and its card while something is written."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from appliance.core.lifecycle.firstboot.model import IMAGE
from appliance.errors import AbsentError, StoreError

USER = "prime-spark"
"""Whose the appliance's data are."""


def is_image(root: Path) -> bool:
    """Whether this system is our image (os-release(5))."""
    try:
        lines = (root / "etc/os-release").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return any(line.strip() in {f"IMAGE_ID={IMAGE}", f'IMAGE_ID="{IMAGE}"'} for line in lines)


def demand_image(root: Path) -> None:
    """Raises AbsentError on any other system: nothing here may touch it."""
    if not is_image(root):
        told = "This machine was not started from the Prime Spark image."
        raise AbsentError(told, "`prime-spark first-boot check FILE` works anywhere; the rest is for the image.")


def owner(root: Path) -> tuple[int, int] | None:
    """User and group of the appliance there; None where there is none, or this is not root."""
    if os.geteuid() != 0:
        return None
    try:
        lines = (root / "etc/passwd").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    rows = [line.split(":") for line in lines]
    return next(((int(row[2]), int(row[3])) for row in rows if len(row) == 7 and row[0] == USER), None)


def give(tree: Path, ids: tuple[int, int] | None) -> None:
    """Give a directory and all in it to somebody. Raises OSError."""
    if ids is None or not tree.exists():
        return
    for folder, folders, names in os.walk(tree):
        for each in (Path(folder), *(Path(folder, name) for name in (*folders, *names))):
            about = each.lstat()
            if (about.st_uid, about.st_gid) != ids:
                os.chown(each, *ids, follow_symlinks=False)


@contextlib.contextmanager
def writable(boot: Path, root: Path) -> Iterator[None]:
    """The card's first partition is writable meanwhile; only on our image is it mounted anew for that.

    The program of the boot choice waits meanwhile, as this waits for it: they lock the same directory.

    Raises:
        StoreError: It cannot be made writable.
        OSError: It is not there.
    """
    handle = os.open(boot, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with _mounted_anew(boot, root):
            yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _mounted_anew(boot: Path, root: Path) -> Iterator[None]:
    if root != Path("/") or not is_image(root) or not _read_only(boot):
        yield
        return
    _remount(boot, "rw")
    try:
        yield
    finally:
        os.sync()
        _remount(boot, "ro")


def _read_only(boot: Path) -> bool:
    return bool(os.statvfs(boot).f_flag & os.ST_RDONLY)


def _remount(boot: Path, how: str) -> None:
    words = ["mount", "-o", f"remount,{how}", str(boot)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 fixed words and a mount point
    if done.returncode:
        told = f"{boot} could not be mounted {'for writing' if how == 'rw' else 'read-only again'}: {done.stderr.strip()}."
        raise StoreError(told, "see whether the card is locked or damaged (dmesg).")


def flush(path: Path) -> None:
    """Have a file, or the names in a directory, on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

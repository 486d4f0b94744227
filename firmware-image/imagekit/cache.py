"""What is kept between builds: each thing in a directory named by the hash of all that went into it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from imagekit.errors import BuildError
from imagekit.shell import say

KEEP = 3
"""Of each kind, how many finished ones stay; the oldest go."""


def digest(*parts: str | bytes | Path) -> str:
    """Hash of texts, and of files and trees with their names, modes and contents."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            for each in files(part):
                total.update(each)
        else:
            data = part.encode() if isinstance(part, str) else part
            total.update(b"%d:" % len(data) + data)
    return total.hexdigest()[:16]


def files(top: Path) -> Iterator[bytes]:
    """What tells one tree from another: name, mode and content or target of each file, in the order of names."""
    paths = sorted(top.rglob("*")) if top.is_dir() and not top.is_symlink() else [top]
    for path in paths:
        if "__pycache__" in path.parts:
            continue
        about = path.lstat() if os.path.lexists(path) else None
        yield f"{path.relative_to(top)}:{stat.S_IMODE(about.st_mode) if about else None}:".encode()
        if path.is_symlink():
            yield os.fsencode(path.readlink())
        elif path.is_file():
            with path.open("rb") as file:
                yield hashlib.file_digest(file, "sha256").digest()


def remove(tree: Path) -> None:
    """Remove a tree of ours, and never what is mounted below it.

    Raises:
        BuildError: Something is mounted there, or it cannot be removed.
    """
    if not os.path.lexists(tree):
        return
    below = str(tree.resolve()) + "/"
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    held = [each for each in mounted if (each + "/").startswith(below)]
    if held:
        raise BuildError(
            f"{held[0]} is still mounted from a build that was killed.",
            f"sudo umount -R {held[0]}, then the same command again.",
        )
    try:
        shutil.rmtree(tree)
    except OSError as error:
        raise BuildError(
            f"{tree} cannot be removed: {error.strerror}.", "remove it yourself, as root, and give the same command again."
        ) from error


def made(cache: Path, kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The directory of that kind and key: from the cache, or made now.

    Args:
        cache: Where all of them lie.
        kind: What it is, such as `base-amd64`.
        key: Hash of what goes into it.
        make: Fills a new directory. If it fails, what it left is removed at the next run.
    """
    final = cache / f"{kind}-{key}"
    if final.is_dir():
        os.utime(final)
        return final
    partial = cache / f"{kind}-{key}.partial"
    remove(partial)
    partial.mkdir(parents=True)
    make(partial)
    partial.rename(final)
    _expire(cache, kind)
    return final


def _expire(cache: Path, kind: str) -> None:
    length = len(kind) + 17
    kept = [each for each in cache.glob(f"{kind}-*") if len(each.name) == length and each.is_dir()]
    for old in sorted(kept, key=lambda each: each.stat().st_mtime, reverse=True)[KEEP:]:
        remove(old)
    for half in cache.glob(f"{kind}-*.partial"):
        remove(half)


@contextmanager
def locked(cache: Path) -> Iterator[None]:
    """Keep a second build out of the same cache; it waits. Raises BuildError if the cache cannot be made."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BuildError(f"{cache} cannot be made: {error.strerror}.", "give another place: --cache DIR") from error
    with (cache / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another build uses {cache}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield

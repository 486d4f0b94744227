"""Files below an open directory: written whole or not at all, and never outside of it.

Everything goes through the descriptor of the directory (openat(2)): a mount that goes away takes its descriptor with
it, so nothing is ever written into the empty mount point below.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from appliance.errors import TierFullError, TierUnavailableError

NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


@contextlib.contextmanager
def directory(path: Path) -> Iterator[int]:
    """A descriptor of a directory, closed afterwards. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def make_directories(root: int, relative: str) -> None:
    """Create the directories of a relative path, private to this user; what is there stays."""
    made = ""
    for part in relative.split("/"):
        made = f"{made}/{part}" if made else part
        with contextlib.suppress(FileExistsError):
            os.mkdir(made, 0o700, dir_fd=root)


def write(root: int, relative: str, data: bytes, allowed: Callable[[], None] = lambda: None) -> None:
    """Write a file: temporary name, sync, rename, sync of the directory. Raises OSError; nothing is left then.

    Args:
        root: Descriptor of the directory below which it lies.
        relative: Its path.
        data: All of it.
        allowed: Called right before the rename; what it raises leaves the file of before in its place.
    """
    folder, _, name = relative.rpartition("/")
    if folder:
        make_directories(root, folder)
    temporary = f".{name}.{secrets.token_hex(8)}.part"  # of its own: another may write the same file now
    temporary = f"{folder}/{temporary}" if folder else temporary
    try:
        _write_synced(root, temporary, data)
        allowed()
        os.rename(temporary, relative, src_dir_fd=root, dst_dir_fd=root)
    except Exception:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=root)
        raise
    descriptor = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=root)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_synced(root: int, relative: str, data: bytes) -> None:
    descriptor = os.open(relative, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=root)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(root: int, relative: str) -> bytes | None:
    """The whole file; None where there is none. Raises OSError."""
    try:
        descriptor = os.open(relative, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=root)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read()


def size(root: int, relative: str) -> int:
    """Bytes of a file; 0 where there is none. Raises OSError."""
    try:
        return os.stat(relative, dir_fd=root, follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def remove(root: int, relative: str) -> None:
    """Remove a file; one that is not there is no error. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(relative, dir_fd=root)


def walk(root: int, relative: str) -> Iterator[tuple[str, os.stat_result]]:
    """(relative path, status) of every file below a directory. Raises OSError."""
    try:
        descriptor = os.open(relative, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    except FileNotFoundError:
        return
    try:
        with os.scandir(descriptor) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False), entry.stat(follow_symlinks=False)) for entry in entries]
    finally:
        os.close(descriptor)
    for name, is_directory, status in found:
        path = f"{relative}/{name}"
        if is_directory:
            yield from walk(root, path)
        else:
            yield path, status


def explain(error: OSError, tier: str, where: str) -> TierUnavailableError | TierFullError:
    """The error as one of ours, with the next step."""
    if error.errno in NO_ROOM:
        return TierFullError(f"{tier}: there is no room at {where}.", "free space there, or lower the memory's limit.")
    if error.errno == errno.EROFS:
        return TierUnavailableError(f"{tier}: {where} is mounted read-only.", "check the file system, and mount it writable.")
    if error.errno in {errno.EACCES, errno.EPERM}:
        return TierUnavailableError(f"{tier}: {where} may not be written: {error.strerror}.", "give this user access to it.")
    return TierUnavailableError(f"{tier}: {where} failed: {error.strerror or error}.", "check that it is mounted and answers.")

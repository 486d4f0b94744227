"""The files of this machine, as one end of a transfer. All that blocks is done in threads."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from appliance.core.fleet.files.model import Digest, Entry, Kind, kind_of
from appliance.errors import DiskFullError, InvalidArgumentsError, NotAuthorizedError, NotFoundError, StoreError

BLOCK = 1 << 20
"""Bytes read at one time."""
PIECE = 64 * 1024
"""Bytes that become a hole where all of them are zero."""
HOLE = bytes(4096)
FULL = {errno.ENOSPC, errno.EDQUOT}

T = TypeVar("T")


class LocalSide:
    """This machine (implements model.Side). Nothing but regular files is opened, and no link at a name's end is followed.

    Args:
        closed: A folder that is neither shown, read nor written, whatever lies around it.
        opened: Folders in it that are.
    """

    name = "here"

    def __init__(self, closed: Path | None = None, opened: tuple[Path, ...] = ()) -> None:
        self._closed = closed
        self._opened = opened

    def _admit(self, path: str) -> None:
        """Raises NotAuthorizedError where a path is in the closed folder."""
        if self._shut(Path(path)):
            raise NotAuthorizedError(f"{path} is in the appliance's own data, which nobody copies.", "leave it out.")

    def _shut(self, path: Path) -> bool:
        if self._closed is None or not path.is_relative_to(self._closed):
            return False
        return not any(path.is_relative_to(each) for each in self._opened)

    async def stat(self, path: str) -> Entry | None:
        """See model.Side."""
        return await _done(path, lambda: _entry(path, path))

    async def resolve(self, path: str) -> str:
        """See model.Side."""
        return await _done(path, lambda: os.path.realpath(path))

    async def list(self, path: str) -> Sequence[Entry]:
        """See model.Side."""

        def look() -> list[Entry]:
            found = (_entry(str(each), each.name) for each in Path(path).iterdir() if not self._shut(each))
            return [entry for entry in found if entry is not None]  # what vanished meanwhile is not there

        return await _done(path, look)

    async def read(self, path: str, offset: int, digest: Digest) -> AsyncIterator[bytes]:
        """See model.Side."""
        self._admit(path)
        descriptor = await _done(path, lambda: _opened(path))
        try:
            while block := await _done(path, lambda at=offset: _block(descriptor, at, digest)):  # type: ignore[misc]
                offset += len(block)
                yield block
        finally:
            os.close(descriptor)

    async def write(self, path: str, blocks: AsyncIterator[bytes], offset: int, digest: Digest) -> int:
        """See model.Side. Long runs of zeros become holes."""
        self._admit(path)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = await _done(path, lambda: os.open(path, flags, 0o600))
        at = offset
        try:
            await _done(path, lambda: os.ftruncate(descriptor, offset))
            async for block in blocks:
                await _done(path, lambda data=block, where=at: _put(descriptor, data, where, digest))  # type: ignore[misc]
                at += len(block)
            await _done(path, lambda: _close_up(descriptor, at))
        finally:
            os.close(descriptor)
        return at - offset

    async def sha256(self, paths: Sequence[str]) -> Mapping[str, str]:
        """See model.Side."""
        return {path: await self.beginning(path, -1) for path in paths}

    async def beginning(self, path: str, size: int) -> str:
        """See model.Side; all of it where the size is negative."""
        self._admit(path)
        return await _done(path, lambda: hash_of(path, size, hashlib.sha256()).hexdigest())

    async def free(self, folder: str) -> int | None:
        """See model.Side."""

        def look() -> int:
            there = Path(folder).absolute()
            while not there.exists() and there != there.parent:
                there = there.parent
            found = os.statvfs(there)
            return found.f_bavail * found.f_frsize

        return await _done(folder, look)

    async def rename(self, old: str, new: str) -> None:
        """See model.Side. The name is on the disk when this returns."""
        self._admit(new)

        def work() -> None:
            Path(old).replace(new)
            folder = os.open(Path(new).parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

        await _done(new, work)

    async def remove(self, path: str) -> None:
        """See model.Side."""
        self._admit(path)

        def work() -> None:
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISDIR(os.lstat(path).st_mode):
                    Path(path).rmdir()
                else:
                    Path(path).unlink()

        await _done(path, work)

    async def make_folder(self, path: str, mode: int = 0o755) -> None:
        """See model.Side."""
        self._admit(path)
        await _done(path, lambda: Path(path).mkdir(mode, parents=True, exist_ok=True))

    async def link(self, target: str, path: str) -> None:
        """See model.Side."""
        self._admit(path)
        await _done(path, lambda: Path(path).symlink_to(target))

    async def set(self, path: str, mode: int, modified: float | None) -> None:
        """See model.Side."""
        self._admit(path)

        def work() -> None:
            Path(path).chmod(mode & 0o777)
            if modified is not None:
                os.utime(path, (modified, modified))

        await _done(path, work)


async def _done(path: str, work: Callable[[], T]) -> T:
    """Work that blocks, in a thread; its errors in words."""
    try:
        return await asyncio.to_thread(work)
    except OSError as error:
        raise explained(error, path) from error
    except ValueError as error:  # a zero byte in a name
        raise InvalidArgumentsError(f"{path!r} is no name of a file: {error}.", "give another one.") from error


def explained(error: OSError, path: str) -> StoreError | NotFoundError | InvalidArgumentsError:
    """An error of a file of this machine, in words."""
    if error.errno in FULL:
        return DiskFullError(f"The disk of {path} here is full.", "make room, and try again: it goes on where it was.")
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"There is no {path} here.", "look for the right name.")
    if isinstance(error, PermissionError):
        return StoreError(f"The appliance may not touch {path} here.", "give its user the right to, or choose another place.")
    if error.errno == errno.ELOOP:
        return InvalidArgumentsError(f"{path} here is a link.", "name what it leads to.")
    return StoreError(f"{path} here: {error.strerror or error}.", "look at that file and its disk.")


def _entry(path: str, told: str) -> Entry | None:
    try:
        found = os.lstat(path)
        target = str(Path(path).readlink()) if stat.S_ISLNK(found.st_mode) else ""
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Entry(told, kind_of(found.st_mode), found.st_size, stat.S_IMODE(found.st_mode) & 0o777, found.st_mtime, target)


def _opened(path: str) -> int:
    """A regular file, open for reading; nothing waits for a pipe's other end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    kind = kind_of(os.fstat(descriptor).st_mode)
    if kind is not Kind.file:
        os.close(descriptor)
        raise IsADirectoryError(errno.EISDIR, f"it is a {kind}, not a file")
    return descriptor


def _block(descriptor: int, offset: int, digest: Digest) -> bytes:
    block = os.pread(descriptor, BLOCK, offset)
    digest.update(block)
    return block


def _put(descriptor: int, data: bytes, offset: int, digest: Digest) -> None:
    digest.update(data)
    for start in range(0, len(data), PIECE):
        piece = data[start : start + PIECE]
        if not _zeros(piece):
            _all_of(descriptor, piece, offset + start)


def _all_of(descriptor: int, data: bytes, offset: int) -> None:
    left = memoryview(data)
    while left:
        written = os.pwrite(descriptor, left, offset)
        offset, left = offset + written, left[written:]


def _zeros(data: bytes) -> bool:
    return len(data) >= len(HOLE) and data.startswith(HOLE) and not data.strip(b"\0")


def _close_up(descriptor: int, size: int) -> None:
    os.ftruncate(descriptor, size)  # a hole at the end
    os.fsync(descriptor)


def hash_of(path: str, size: int, digest: Digest) -> hashlib._Hash:
    """Hash a file's first bytes (all where negative) into a digest; blocks. Raises OSError, EOFError where it is shorter."""
    descriptor = _opened(path)
    try:
        offset = 0
        while (size < 0 or offset < size) and (
            block := os.pread(descriptor, BLOCK if size < 0 else min(BLOCK, size - offset), offset)
        ):
            digest.update(block)
            offset += len(block)
    finally:
        os.close(descriptor)
    return digest  # type: ignore[return-value]

"""Where archives are kept: a folder, such as a NAS, or S3. One counts only with its description beside it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

from appliance.core.memory.threads import DaemonPool
from appliance.core.tasks.handlers.backup_pack import SUFFIX, Packed, Stream
from appliance.core.tasks.handlers.backup_tree import PIECE
from appliance.errors import DiskFullError, TaskError

T = TypeVar("T")
ABOUT, PART = ".json", ".part"
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
HOUSEKEEPING = 60.0
"""Seconds for a listing, a removal, a description."""


class Place(Protocol):
    """Keeps archives by name, all of one backup of one machine."""

    def address(self, name: str) -> str:
        """Of one, for people."""

    async def put(self, name: str, pieces: Packed, limit: float) -> None:
        """One, not yet to be counted; whole there, or not at all. Raises ApplianceError, and what the pieces raise."""

    async def look(self, name: str, take: Callable[[Iterator[bytes]], T], limit: float) -> T:
        """Have its bytes read. Raises ApplianceError, and what `take` raises."""

    async def keep(self, name: str, about: bytes) -> None:
        """From now on it counts. Raises ApplianceError."""

    async def names(self) -> tuple[list[str], list[str]]:
        """(those that count, oldest first; files that are left of what does not). Raises ApplianceError."""

    async def remove(self, name: str) -> None:
        """One, with its description. Raises ApplianceError."""

    async def sweep(self, file: str) -> None:
        """One file that is left. Raises ApplianceError."""


def sorted_out(files: list[str]) -> tuple[list[str], list[str]]:
    """See Place.names."""
    known = set(files)
    whole = sorted(name for each in files if (name := each.removesuffix(SUFFIX)) != each and name + ABOUT in known)
    good = {name + suffix for name in whole for suffix in (SUFFIX, ABOUT)}
    left = [each for each in files if each not in good and each.endswith((SUFFIX, ABOUT, PART))]
    return whole, left


class Folder:
    """A folder below one that must be there (implements Place).

    Args:
        root: It is never made: a NAS that is not mounted would be written to the card.
        below: Of this backup; made.
        pool: Threads for it; one that hangs delays nothing else.
        mount: Where a file system must be mounted; empty where that does not matter.
    """

    def __init__(self, root: Path, below: str, pool: DaemonPool, mount: str = "") -> None:
        self._root, self._folder, self._pool, self._mount = root, root / below, pool, mount

    def address(self, name: str) -> str:
        """See Place."""
        return str(self._folder / (name + SUFFIX))

    async def put(self, name: str, pieces: Packed, limit: float) -> None:
        """See Place."""
        await self._run(lambda: self._write(name + SUFFIX + PART, iter(pieces)), limit)

    async def look(self, name: str, take: Callable[[Iterator[bytes]], T], limit: float) -> T:
        """See Place."""
        return await self._run(lambda: take(_read(self._folder / (name + SUFFIX + PART))), limit)

    async def keep(self, name: str, about: bytes) -> None:
        """See Place."""

        def work() -> None:
            self._write(name + ABOUT + PART, iter((about,)))
            (self._folder / (name + SUFFIX + PART)).replace(self._folder / (name + SUFFIX))
            (self._folder / (name + ABOUT + PART)).replace(self._folder / (name + ABOUT))
            _flush(self._folder)

        await self._run(work)

    async def names(self) -> tuple[list[str], list[str]]:
        """See Place."""

        def work() -> list[str]:
            self._ready()
            return sorted(each.name for each in self._folder.iterdir())

        return sorted_out(await self._run(work))

    async def remove(self, name: str) -> None:
        """See Place. Its description goes first: half of it does not count."""

        def work() -> None:
            for suffix in (ABOUT, SUFFIX, SUFFIX + PART, ABOUT + PART):
                (self._folder / (name + suffix)).unlink(missing_ok=True)

        await self._run(work)

    async def sweep(self, file: str) -> None:
        """See Place."""
        await self._run(lambda: (self._folder / file).unlink(missing_ok=True))

    def _ready(self) -> None:
        """Raises TaskError, OSError."""
        if not self._root.is_dir():
            raise TaskError(f"{self._root} is not there.", "mount it, or make it; it is not made by itself.")
        if self._mount and not os.path.ismount(self._mount):
            raise TaskError(
                f"Nothing is mounted at {self._mount}.", "mount it; the archive would be written to this machine's own disk."
            )
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _write(self, name: str, pieces: Iterator[bytes]) -> None:
        self._ready()
        path = self._folder / name
        try:
            with os.fdopen(os.open(path, NEW, 0o600), "wb") as file:
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # it is read back from the disk
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    async def _run(self, work: Callable[[], T], limit: float = HOUSEKEEPING) -> T:
        try:
            return await self._pool.run(work, limit)
        except TimeoutError:
            raise TaskError(
                f"{self._root} does not answer within {limit:.0f} s.", "look at that disk, or at the NAS."
            ) from None
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise DiskFullError(f"{self._root} is full.", "make room there, or keep fewer.") from error
            told = f"{self._root} cannot be used: {error.strerror or error}."
            raise TaskError(told, "look at that directory and its rights.") from error


class Streams(Protocol):
    """Objects of S3 as streams."""

    async def send(self, address: str, source: Any, limit: float) -> None:
        """What can be read from it as one object; whole there when this returns, or not there."""

    async def receive(self, address: str, take: Callable[[Iterator[bytes]], T], limit: float) -> T:
        """Have its bytes read."""

    async def remove(self, address: str) -> None:
        """Remove it; one that is not there is no fault."""

    async def list(self, address: str) -> list[tuple[str, int]]:
        """(name, size) of those below an address."""


class Bucket:
    """A prefix in S3 (implements Place).

    Args:
        streams: The way there.
        prefix: s3://BUCKET/…/, of this backup.
    """

    def __init__(self, streams: Streams, prefix: str) -> None:
        self._streams, self._prefix = streams, prefix.rstrip("/") + "/"

    def address(self, name: str) -> str:
        """See Place."""
        return f"{self._prefix}{name}{SUFFIX}"

    async def put(self, name: str, pieces: Packed, limit: float) -> None:
        """See Place."""
        await self._streams.send(self.address(name), Stream(iter(pieces)), limit)

    async def look(self, name: str, take: Callable[[Iterator[bytes]], T], limit: float) -> T:
        """See Place."""
        return await self._streams.receive(self.address(name), take, limit)

    async def keep(self, name: str, about: bytes) -> None:
        """See Place."""
        await self._streams.send(f"{self._prefix}{name}{ABOUT}", Stream(iter((about,))), HOUSEKEEPING)

    async def names(self) -> tuple[list[str], list[str]]:
        """See Place."""
        return sorted_out([name for name, _ in await self._streams.list(self._prefix) if "/" not in name])

    async def remove(self, name: str) -> None:
        """See Place."""
        for suffix in (ABOUT, SUFFIX):
            await self._streams.remove(f"{self._prefix}{name}{suffix}")

    async def sweep(self, file: str) -> None:
        """See Place."""
        await self._streams.remove(self._prefix + file)


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while piece := file.read(PIECE):
            yield piece


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

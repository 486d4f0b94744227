"""One file from one end to the other: under a name of its own until every byte is proven, then renamed at once.

send → prove → settle        what a cut leaves is continued by the next `send` of the same version
"""

from __future__ import annotations

import asyncio
import hashlib
import posixpath
from collections.abc import AsyncIterator, Sequence

import msgspec

from appliance.core.fleet.files import local
from appliance.core.fleet.files.model import Entry, Kind, Side, is_part_of, part_of
from appliance.core.fleet.files.progress import Count, Pace, size
from appliance.errors import ConflictError, DiskFullError, InvalidArgumentsError, NotFoundError, ShellError

MARGIN = 1 << 20
"""Bytes that stay free on a disk that is written to."""
PARALLEL = 8
"""Small files on their way at one time."""


class Sent(msgspec.Struct, frozen=True):
    """A file whose bytes are at the other end, under its unfinished name."""

    source: str
    target: str
    part: str
    before: Entry
    sha256: str
    moved: int
    resumed: int


class Copier:
    """Copies between two ends, one of which is this machine.

    Args:
        source: Where from.
        target: Where to.
        count: Counts.
        pace: Holds back.
    """

    def __init__(self, source: Side, target: Side, count: Count, pace: Pace) -> None:
        self._source = source
        self._target = target
        self._count = count
        self._pace = pace
        self._target_is_local = isinstance(target, local.LocalSide)

    async def one(self, source: str, target: str) -> tuple[Sent, str]:
        """Copy one file; what was sent, and where it lies (in `target` where that is a folder).

        Raises:
            ApplianceError: It is not there; the old file is as it was.
        """
        target = await self.place(target, posixpath.basename(source))
        source, before = await self._file(source)
        self._count.expect(before.size)
        beside = await self._beside(target)
        part = part_of(target, before.size, before.modified)
        resumable = posixpath.basename(part) in beside
        start, digest = await self._resume(source, part, before) if resumable else (0, hashlib.sha256())
        await self.check_room(posixpath.dirname(target) or ".", before.size - start)
        sent = await self._send(source, target, before, start, digest)
        await self.settle([sent])
        for name in beside - {posixpath.basename(part)}:
            await self._target.remove(posixpath.join(posixpath.dirname(target), name))
        return sent, target

    async def _file(self, path: str) -> tuple[str, Entry]:
        """A file behind all links. Raises NotFoundError, InvalidArgumentsError."""
        found = await self._source.stat(path)
        if found is not None and found.kind is Kind.link:
            path = await self._source.resolve(path)
            found = await self._source.stat(path)
        if found is None:
            raise NotFoundError(f"There is no {path} on {self._source.name}.", "look for the right name.")
        if found.kind is not Kind.file:
            raise InvalidArgumentsError(
                f"{path} on {self._source.name} is a {found.kind}, not a file.", "use sync for folders."
            )
        return path, found

    async def place(self, target: str, name: str) -> str:
        """Where a file goes: into the folder that is named, through a link that is there. Raises NotFoundError, …"""
        plain = target.rstrip("/") or "/"
        path, found = await self._followed(plain)
        if found is not None and found.kind is Kind.folder:
            path, found = await self._followed(posixpath.join(path, name))
        elif plain != target:
            raise NotFoundError(f"There is no folder {target} on {self._target.name}.", "make it, or name one that is there.")
        if found is not None and found.kind is not Kind.file:
            raise InvalidArgumentsError(f"{path} on {self._target.name} is a {found.kind}.", "choose another name.")
        return path

    async def _followed(self, path: str) -> tuple[str, Entry | None]:
        found = await self._target.stat(path)
        if found is not None and found.kind is Kind.link:
            path = await self._target.resolve(path)
            found = await self._target.stat(path)
        return path, found

    async def _beside(self, target: str) -> set[str]:
        """Names of unfinished copies of this file."""
        name = posixpath.basename(target)
        entries = await self._target.list(posixpath.dirname(target) or ".")
        return {entry.path for entry in entries if is_part_of(entry.path, name)}

    async def _resume(self, source: str, part: str, before: Entry) -> tuple[int, hashlib._Hash]:
        """How many bytes of an unfinished copy are good, and their hash; 0 where its beginning is another one."""
        there = await self._target.stat(part)
        if there is None or there.kind is not Kind.file or not 0 < there.size <= before.size:
            return 0, hashlib.sha256()
        ends = (self._source, self._target)
        here, far = await asyncio.gather(ends[0].beginning(source, there.size), ends[1].beginning(part, there.size))
        if here != far:
            return 0, hashlib.sha256()
        path = part if self._target_is_local else source
        digest = await asyncio.to_thread(local.hash_of, path, there.size, hashlib.sha256())
        self._count.moved(there.size)
        return there.size, digest

    async def check_room(self, folder: str, needed: int) -> None:
        """Whether so many bytes fit. Raises DiskFullError."""
        free = await self._target.free(folder)
        if free is not None and needed > 0 and needed + MARGIN > free:
            where = f"{folder} on {self._target.name}"
            raise DiskFullError(
                f"{where} has {size(free)} free, and {size(needed)} are to go there; nothing was copied.", "make room there."
            )

    async def send(self, source: str, target: str, before: Entry) -> Sent:
        """Send a file from its beginning, in a synchronisation that has looked at everything else. Not yet proven."""
        return await self._send(source, target, before, 0, hashlib.sha256())

    async def send_or_resume(self, source: str, target: str, before: Entry) -> Sent:
        """As `send`, going on where an earlier attempt was cut."""
        start, digest = await self._resume(source, part_of(target, before.size, before.modified), before)
        return await self._send(source, target, before, start, digest)

    async def _send(self, source: str, target: str, before: Entry, start: int, digest: hashlib._Hash) -> Sent:
        part = part_of(target, before.size, before.modified)
        self._count.name(posixpath.basename(source))
        try:
            moved = await self._target.write(part, self._paced(source, start, digest), start, digest)
        except DiskFullError:
            await self._target.remove(part)  # what is of no use must not fill the disk for all others
            raise
        after = await self._source.stat(source)
        if after is None or (after.size, after.modified) != (before.size, before.modified) or start + moved != before.size:
            self._count.back(moved)
            await self._target.remove(part)
            raise ConflictError(
                f"{source} on {self._source.name} was changed while it was read; the copy was thrown away.",
                "try again when nobody writes to it.",
            )
        return Sent(source, target, part, before, digest.hexdigest(), moved, start)

    async def _paced(self, source: str, start: int, digest: hashlib._Hash) -> AsyncIterator[bytes]:
        async for block in self._source.read(source, start, digest):
            async for piece in self._pace.pieces(block):
                yield piece
                self._count.moved(len(piece))

    async def settle(self, sent: Sequence[Sent]) -> None:
        """Prove that the far end has these bytes, then give them their names. Raises ShellError where one does not."""
        far = {each.source if self._target_is_local else each.part: each for each in sent}
        side = self._source if self._target_is_local else self._target
        found = await side.sha256(list(far))
        for path, each in far.items():
            if found.get(path) != each.sha256:
                await self._target.remove(each.part)
                raise ShellError(
                    f"{each.target}: {side.name} has other bytes than were sent ({found.get(path, 'no hash')[:12]} instead of "
                    f"{each.sha256[:12]}); the copy was thrown away.",
                    "try again; where it happens again, look at the disks and the memory of both.",
                )
        for start in range(0, len(sent), PARALLEL):
            await asyncio.gather(*(self._name(each) for each in sent[start : start + PARALLEL]))

    async def _name(self, sent: Sent) -> None:
        await self._target.set(sent.part, sent.before.mode, sent.before.modified)
        await self._target.rename(sent.part, sent.target)
        self._count.finished()

"""Values of file transfer: what lies in a folder, what a copy would change, and what it came to."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import AsyncIterator, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

PART_END = ".spark-part"
"""How the name of an unfinished file ends."""
LONGEST_NAME = 180
"""Bytes of a file's own name in the name of its unfinished copy; file systems take 255 in all."""


class Kind(StrEnum):
    """What lies under a name."""

    file = "file"
    folder = "folder"
    link = "link"
    other = "other"
    """A socket, device or pipe: never copied."""


class Entry(msgspec.Struct, frozen=True):
    """One name in a folder, or the folder itself."""

    path: str
    """Below the folder that was asked for, with "/" between; empty for itself."""
    kind: Kind
    size: int = 0
    mode: int = 0o644
    """Permission bits."""
    modified: float = 0.0
    """Seconds since the epoch."""
    target: str = ""
    """What a link names."""


class Direction(StrEnum):
    """Which side is made like the other."""

    up = "up"
    """The nodes are made like the Control PC."""
    down = "down"
    """The Control PC is made like the node."""


class Do(StrEnum):
    """One step of a plan."""

    folder = "make folder"
    copy = "copy"
    update = "update"
    mode = "set mode"
    link = "link"
    delete = "delete"


class Step(msgspec.Struct, frozen=True):
    """What is done about one name."""

    do: Do
    path: str
    size: int = 0
    """Bytes that go over the link."""
    why: str = ""
    kind: Kind = Kind.file


class SyncPlan(msgspec.Struct, frozen=True):
    """What a synchronisation would do on one node."""

    node: str
    steps: tuple[Step, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    """(name, why it is left alone)"""
    same: int = 0
    """Names that need nothing."""
    bytes: int = 0
    files: int = 0
    deletions: int = 0
    digest: str = ""
    """Of what would be deleted; given back, it says that this very list was seen."""


class Outcome(msgspec.Struct, frozen=True):
    """What a transfer came to on one node."""

    node: str
    state: str
    """"ok", "unchanged", "failed", "unreachable"."""
    files: int = 0
    bytes: int = 0
    """That went over the link."""
    resumed: int = 0
    """Bytes that an earlier attempt had carried already."""
    deleted: int = 0
    sha256: str = ""
    """Of a single file, as both ends have it."""
    path: str = ""
    """Where it lies now."""
    reason: str = ""
    next_step: str = ""
    seconds: float = 0.0
    skipped: tuple[tuple[str, str], ...] = ()


class Digest(Protocol):
    """A running hash (hashlib)."""

    def update(self, data: bytes, /) -> None:
        """Take more."""


class Side(Protocol):
    """The files of one end. Paths are whole ones of that end. All raise ApplianceError."""

    name: str
    """For messages: "here", or the node's name."""

    async def stat(self, path: str) -> Entry | None:
        """Of one name, not following a link; None where it is not there."""

    async def resolve(self, path: str) -> str:
        """Where a link leads in the end; the path itself where it is none."""

    async def list(self, path: str) -> Sequence[Entry]:
        """What is in a folder; `path` of each is its name."""

    def read(self, path: str, offset: int, digest: Digest) -> AsyncIterator[bytes]:
        """Bytes from an offset on; the end that is here hashes them."""

    async def write(self, path: str, blocks: AsyncIterator[bytes], offset: int, digest: Digest) -> int:
        """Write from an offset on, cut off behind, flush; bytes written. A new file is its owner's alone."""

    async def sha256(self, paths: Sequence[str]) -> Mapping[str, str]:
        """Path → hash of the whole file, hexadecimal."""

    async def beginning(self, path: str, size: int) -> str:
        """Hash of the first bytes of a file."""

    async def free(self, folder: str) -> int | None:
        """Bytes of room where a folder is, or will be; None where nobody tells."""

    async def rename(self, old: str, new: str) -> None:
        """Atomically, over what is there."""

    async def remove(self, path: str) -> None:
        """A file, a link, or an empty folder; one that is not there is no fault."""

    async def make_folder(self, path: str, mode: int = 0o755) -> None:
        """With its parents."""

    async def link(self, target: str, path: str) -> None:
        """Make a symbolic link at a free name."""

    async def set(self, path: str, mode: int, modified: float | None) -> None:
        """Permissions and time."""


def kind_of(mode: int) -> Kind:
    """What st_mode tells."""
    if stat.S_ISDIR(mode):
        return Kind.folder
    if stat.S_ISLNK(mode):
        return Kind.link
    return Kind.file if stat.S_ISREG(mode) else Kind.other


def part_of(target: str, size: int, modified: float) -> str:
    """The name of the unfinished copy of a file: beside its target, and only this version of the source continues it.

    Args:
        target: Path that it will have.
        size: Bytes of the source.
        modified: When the source was changed.
    """
    folder, slash, name = target.rpartition("/")
    belongs = hashlib.sha256(f"{name}\0{size}\0{int(modified)}".encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return f"{folder}{slash}{part_start(name)}{belongs}{PART_END}"


def part_start(name: str) -> str:
    """How the names of all unfinished copies of a file begin."""
    cut = name.encode("utf-8", "surrogateescape")[:LONGEST_NAME].decode("utf-8", "ignore")
    return f".{cut}."


def is_part_of(candidate: str, name: str) -> bool:
    """Whether a name is that of an unfinished copy of a file of this name."""
    start = part_start(name)
    return candidate.startswith(start) and is_part(candidate) and len(candidate) == len(start) + 12 + len(PART_END)


def is_part(name: str) -> bool:
    """Whether a name is that of an unfinished copy."""
    return name.startswith(".") and name.endswith(PART_END)

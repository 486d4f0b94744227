"""A look at a node's folder, or at a part of a text there."""

from __future__ import annotations

import posixpath

import msgspec

from appliance.core.fleet.files.model import Kind, Side, kind_of
from appliance.core.fleet.model import FileInfo, RemoteFiles
from appliance.errors import InvalidArgumentsError, NotAuthorizedError

LARGEST = 1 << 20
"""Bytes that are shown at one time."""
MOST = 10_000
"""Names of one folder that are listed."""
LOOKED = 4096
"""Bytes by which a text is told from anything else."""


class View(msgspec.Struct, frozen=True):
    """A part of a file."""

    path: str
    size: int
    """Of the whole file, bytes."""
    offset: int
    """Where the part begins."""
    taken: int
    """Bytes of the part."""
    text: str
    """What it says; what is no UTF-8 stands there as U+FFFD. Empty where it is no text."""
    binary: bool = False
    modified: float = 0.0
    more: bool = False
    """There is more behind it."""


async def listed(files: RemoteFiles, path: str) -> list[FileInfo]:
    """What is in a folder, by name; links with what they name. Raises ShellError, NotFoundError, InvalidArgumentsError."""
    if kind_of((await files.stat(path)).mode) is Kind.file:
        raise InvalidArgumentsError(f"{path} is a file, not a folder.", "look at it with fleet.read-file.")
    found = list(await files.list(path))
    if len(found) > MOST:
        raise InvalidArgumentsError(
            f"{path} has {len(found)} names, more than {MOST} that are listed.", "look at it in a shell there."
        )
    return [await files.stat(each.path) if kind_of(each.mode) is Kind.link else each for each in found]


async def view(
    files: RemoteFiles, path: str, offset: int = 0, size: int = 65536, *, tail: bool = False, public: bool = False
) -> View:
    """A part of a file.

    Args:
        files: Of the node.
        path: Of the file; a link is not followed.
        offset: Where to begin.
        size: Bytes at most.
        tail: The last bytes.
        public: Only what everybody on that node may read.

    Raises:
        NotAuthorizedError: Not everybody may read it.
        InvalidArgumentsError: It is no file.
        ShellError: The node does not give it.
    """
    info = await files.stat(path)
    kind = kind_of(info.mode)
    if kind is not Kind.file:
        step = f"look at {info.link_to}." if info.link_to else "name a file."
        raise InvalidArgumentsError(f"{path} is a {kind}, not a file.", step)
    check_public(info.mode, path, public=public)
    start = max(0, info.size - size) if tail else offset
    found = bytearray()
    async for block in files.read(path, start, size):
        found += block
    binary = b"\0" in found[:LOOKED]
    text = "" if binary else found.decode("utf-8", "replace")
    more = start + len(found) < info.size
    return View(path, info.size, start, len(found), text, binary, info.modified, more)


async def reached_by_all(side: Side, path: str) -> str:
    """Where a path leads, once it is sure that everybody on the node comes there. Raises NotAuthorizedError, ShellError."""
    real = await side.resolve(path)
    folder = posixpath.dirname(real)
    while folder:
        found = await side.stat(folder)
        if found is None or not found.mode & 0o001:
            raise NotAuthorizedError(f"Not everybody on that node may look into {folder}.", "ask an administrator.")
        folder = posixpath.dirname(folder) if folder != "/" else ""
    return real


def check_public(mode: int, path: str, *, public: bool) -> None:
    """Whether a file may be read by whoever asks. Raises NotAuthorizedError."""
    if public and not mode & 0o004:
        raise NotAuthorizedError(f"Not everybody on that node may read {path}.", "ask an administrator.")

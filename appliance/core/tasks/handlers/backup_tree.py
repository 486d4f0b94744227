"""The bytes of an archive, as they are asked for: folders as a tar (PAX), with the digest of every file at its end.

Links are kept as links and never followed. A file is as long as it was when it was begun: what it lost meanwhile is zeros. What
could not be read is told, and leaves the rest alone.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance.core.fleet.files.globs import Chosen
from appliance.core.printable import printable
from appliance.errors import DiskFullError, TaskError

PIECE = 1 << 18
BLOCK = 512
SHOWN = 20
"""Troubles that are told one by one; of all, how many."""
MANIFEST = "MANIFEST.sha256"
"""The last entry: what sha256sum(1) checks."""
SPOOL = 1 << 20
FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass
class Found:
    """What a tree came to."""

    files: int = 0
    folders: int = 0
    links: int = 0
    bytes: int = 0
    excluded: int = 0
    troubles: Counter[str] = field(default_factory=Counter)
    """vanished, unreadable, changed (while it was read), special (sockets, pipes, devices) → how many."""
    samples: list[str] = field(default_factory=list)

    def trouble(self, kind: str, path: str) -> None:
        """Something that is not in the archive as it should be."""
        self.troubles[kind] += 1
        if len(self.samples) < SHOWN:
            self.samples.append(f"{kind}: {printable(path.encode(errors='surrogateescape').decode(errors='replace'))}")


class Tree:
    """Folders as one archive.

    Args:
        folders: Absolute ones; each must be there.
        chosen: What is left out.
        apart: (device, inode) of folders that are left out: where the archives go.
        check: Called again and again; raises where it is to stop.
    """

    def __init__(
        self, folders: Sequence[Path], chosen: Chosen, apart: frozenset[tuple[int, int]], check: Callable[[], None]
    ) -> None:  # fmt: skip
        self.found = Found()
        self._folders, self._chosen, self._apart, self._check = tuple(folders), chosen, apart, check

    def pieces(self) -> Iterator[bytes]:
        """The archive. Raises TaskError where a folder is not there, DiskFullError; what `check` raises."""
        with tempfile.SpooledTemporaryFile(SPOOL) as manifest:
            for folder in self._folders:
                if not folder.is_dir():
                    raise TaskError(f"{folder} is not there.", "is its disk mounted? see tasks.backups.")
                if _place(folder.stat()) in self._apart:
                    told = f"{folder} is where its own archives go, and each would hold those before it."
                    raise TaskError(told, "give tasks.backups a target beside it, or a directory in it.")
                yield from self._folder(folder, manifest)
            if not self.found.files:
                told = ", ".join(map(str, self._folders))
                raise TaskError(f"There is no file to keep in {told}.", "is the disk mounted? An empty archive is no backup.")
            yield from _manifest(manifest)
        yield bytes(2 * BLOCK)

    def _folder(self, root: Path, manifest: Any) -> Iterator[bytes]:
        lead = str(root.resolve())
        waiting = [("", iter(self._names(lead)))]
        while waiting:
            self._check()
            below, names = waiting[-1]
            name = next(names, None)
            if name is None:
                waiting.pop()
                continue
            path = f"{below}/{name}" if below else name
            whole = f"{lead}/{path}"
            try:
                about = os.lstat(whole)
            except OSError:
                self.found.trouble("vanished", whole)
                continue
            folder = stat.S_ISDIR(about.st_mode)
            if not self._chosen.takes(path, folder=folder) or _place(about) in self._apart:
                self.found.excluded += 1
            elif folder:
                yield self._head(whole, about, tarfile.DIRTYPE)
                self.found.folders += 1
                waiting.append((path, iter(self._names(whole))))
            else:
                yield from self._entry(whole, about, manifest)

    def _names(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(path))  # noqa: PTH208 a name that is no UTF-8 stays what it is, and a million of them small
        except OSError as error:
            self.found.trouble("vanished" if isinstance(error, FileNotFoundError) else "unreadable", path)
            return []

    def _entry(self, path: str, about: os.stat_result, manifest: Any) -> Iterator[bytes]:
        if stat.S_ISLNK(about.st_mode):
            try:
                target = str(Path(path).readlink())
            except OSError:
                self.found.trouble("vanished", path)
                return
            yield self._head(path, about, tarfile.SYMTYPE, target)
            self.found.links += 1
        elif stat.S_ISREG(about.st_mode):
            yield from self._file(path, manifest)
        else:
            self.found.trouble("special", path)

    def _file(self, path: str, manifest: Any) -> Iterator[bytes]:
        try:
            descriptor = os.open(path, FLAGS)
        except OSError as error:
            self.found.trouble("vanished" if isinstance(error, FileNotFoundError) else "unreadable", path)
            return
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):  # it was another one a moment ago
                self.found.trouble("special", path)
                return
            yield self._head(path, before, tarfile.REGTYPE)
            digest = hashlib.sha256()
            for piece in self._content(path, file, before.st_size):
                digest.update(piece)
                yield piece
            yield bytes(-before.st_size % BLOCK)
            after = os.fstat(descriptor)
            if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                self.found.trouble("changed", path)
        self.found.files += 1
        self.found.bytes += before.st_size
        _note(manifest, line(digest.hexdigest(), path.lstrip("/")))

    def _content(self, path: str, file: Any, size: int) -> Iterator[bytes]:
        """As many bytes as were told; zeros for those that are not there any more."""
        left = size
        while left:
            self._check()
            try:
                piece = file.read(min(PIECE, left))
            except OSError:
                self.found.trouble("unreadable", path)
                piece = b""
            if not piece:
                break
            left -= len(piece)
            yield piece
        while left:
            self._check()
            yield bytes(min(PIECE, left))
            left -= min(PIECE, left)

    def _head(self, path: str, about: os.stat_result, kind: bytes, target: str = "") -> bytes:
        made = tarfile.TarInfo(path.lstrip("/"))
        made.type, made.linkname, made.mode = kind, target, stat.S_IMODE(about.st_mode)
        made.uid, made.gid, made.mtime = about.st_uid, about.st_gid, int(about.st_mtime)
        made.size = about.st_size if kind == tarfile.REGTYPE else 0
        return encoded(made)


def _place(about: os.stat_result) -> tuple[int, int]:
    return about.st_dev, about.st_ino


def encoded(made: tarfile.TarInfo) -> bytes:
    """The head of an entry."""
    return made.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def line(digest: str, path: str) -> bytes:
    """One line of the manifest, as sha256sum writes it."""
    escaped = path.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    lead = "\\" if escaped != path else ""
    return f"{lead}{digest}  {escaped}\n".encode(errors="surrogateescape")


def _note(manifest: Any, text: bytes) -> None:
    try:
        manifest.write(text)
    except OSError as error:
        told = f"The list of digests cannot be kept in {tempfile.gettempdir()}: {error.strerror}."
        raise DiskFullError(told, "make room there.") from error


def _manifest(manifest: Any) -> Iterator[bytes]:
    made = tarfile.TarInfo(MANIFEST)
    made.size = manifest.tell()
    made.mode = 0o644
    yield encoded(made)
    manifest.seek(0)
    while piece := manifest.read(PIECE):
        yield piece
    yield bytes(-made.size % BLOCK)

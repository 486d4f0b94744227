"""A consistent copy of what is to be kept, in a private directory; all of it blocks, and stops when it is told to."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from appliance.core.lifecycle.backup.contents import Piece
from appliance.core.lifecycle.backup.model import FORMAT, MANIFEST, FileFact, Gap, Manifest
from appliance.errors import BackupError, DamagedError, DiskFullError

BLOCK = 1 << 20
PAGES = 2000
"""Of a database between two looks at whether to stop."""
ROOM = 64 * 1024 * 1024
"""Bytes that stay free on the data partition."""
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

Check = Callable[[], None]
"""Raises where the work is to stop."""


@dataclass(frozen=True)
class About:
    """What the manifest says beside the files."""

    version: str
    device_id: str
    made: float
    parts: tuple[str, ...]
    gaps: tuple[Gap, ...]


def fresh(directory: Path) -> Path:
    """Make a directory of mode 0700 without anything in it. Raises OSError."""
    sweep(directory)
    directory.mkdir(mode=0o700, parents=True)
    return directory


def sweep(directory: Path) -> None:
    """Remove what is left of a work that was cut off. Raises OSError."""
    if directory.exists():
        shutil.rmtree(directory)


def need(pieces: Sequence[Piece]) -> int:
    """Bytes that a copy takes."""
    return sum(_size(piece) for piece in pieces)


def _size(piece: Piece) -> int:
    if piece.kind in {"tree", "files"}:
        return sum(size for _, _, size in _walk(piece))
    wal = piece.home.with_name(piece.home.name + "-wal")
    return sum(each.stat().st_size for each in (piece.home, wal) if each.is_file())


def check_room(directory: Path, bytes_: int) -> None:
    """Raises DiskFullError where a copy would not fit."""
    free = shutil.disk_usage(directory).free
    if free < bytes_ + ROOM:
        told = f"The copy needs {bytes_ >> 20} MiB and {ROOM >> 20} MiB to spare; {free >> 20} MiB are free at {directory}."
        raise DiskFullError(told, "free space there, or take parts out of [backup].")


def stage(tree: Path, pieces: Sequence[Piece], about: About, duckdb: Callable[[Path], None] | None, check: Check) -> Manifest:
    """Copy the pieces and write the manifest.

    Args:
        tree: The directory; made anew.
        pieces: In their order.
        about: For the manifest.
        duckdb: Writes a copy of the analytics store to a path.
        check: Looked at all the time.

    Raises:
        DiskFullError: It does not fit.
        BackupError: Something cannot be read.
    """
    try:
        fresh(tree)
        check_room(tree, need(pieces))
        files: dict[str, FileFact] = {}
        schemas: dict[str, int] = {}
        for piece in pieces:
            check()
            if piece.kind in {"tree", "files"}:
                for path, name, _ in _walk(piece):
                    with contextlib.suppress(FileNotFoundError):  # it went meanwhile, so it is no part of what there is now
                        files[f"{piece.name}/{name}"] = _copy(path, tree / piece.name / name, check)
            elif piece.home.is_file():
                target = tree / piece.name
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                files[piece.name] = _one(piece, target, duckdb, check)
                if piece.kind == "sqlite":
                    schemas[piece.name] = schema(target)
        found = Manifest(FORMAT, about.version, about.device_id, about.made, about.parts, files, schemas, about.gaps)
        (tree / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
        (tree / MANIFEST).chmod(0o600)
    except OSError as error:
        if error.errno in {28, 122}:
            raise DiskFullError(f"No room for the copy at {tree}: {error.strerror}.", "free space there.") from error
        raise BackupError(f"{error.filename or tree} cannot be copied: {error.strerror}.", "look at that disk.") from error
    return found


def _walk(piece: Piece) -> Iterator[tuple[Path, str, int]]:
    """(path, path below the piece, bytes) of its plain files; what is hidden is of a work under way, and none."""
    if not piece.home.is_dir():
        return
    for folder, folders, names in os.walk(piece.home):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        for name in sorted(each for each in names if not each.startswith(".") and piece.takes(each)):
            path = Path(folder) / name
            with contextlib.suppress(FileNotFoundError):  # it went meanwhile
                about = path.lstat()
                if stat.S_ISREG(about.st_mode):
                    yield path, str(path.relative_to(piece.home)), about.st_size


def _one(piece: Piece, target: Path, duckdb: Callable[[Path], None] | None, check: Check) -> FileFact:
    if piece.kind == "sqlite":
        copy_sqlite(piece.home, target, check)
    elif piece.kind == "duckdb":
        if duckdb is None:
            step = "see `prime-spark services`, or set backup.analytics to false."
            raise BackupError("The analytics store is not open.", step)
        duckdb(target)
    else:
        return _copy(piece.home, target, check)
    target.chmod(0o600)
    return fact(target, check)


def _copy(path: Path, target: Path, check: Check) -> FileFact:
    """Copy a file as it is now, and say what was copied."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with os.fdopen(os.open(path, READ), "rb") as source, target.open("wb") as copy:
        os.fchmod(copy.fileno(), 0o600)
        times = os.fstat(source.fileno())
        while block := source.read(BLOCK):
            check()
            copy.write(block)
            digest.update(block)
            size += len(block)
    os.utime(target, ns=(times.st_mtime_ns, times.st_mtime_ns))
    return FileFact(size, digest.hexdigest())


def fact(path: Path, check: Check) -> FileFact:
    """Size and hash of a file. Raises OSError."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            check()
            digest.update(block)
            size += len(block)
    return FileFact(size, digest.hexdigest())


def copy_sqlite(source: Path, target: Path, check: Check) -> None:
    """Copy a database that is in use, as it is at one moment. Raises BackupError, DiskFullError, what `check` raises."""
    try:
        with contextlib.ExitStack() as undo:
            live = sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True, timeout=30)
            reading = undo.enter_context(contextlib.closing(live))
            reading.isolation_level = None
            reading.execute("BEGIN")
            reading.execute("SELECT count(*) FROM sqlite_master").fetchone()  # from here on it is one moment
            writing = undo.enter_context(contextlib.closing(sqlite3.connect(target)))
            reading.backup(writing, pages=PAGES, progress=lambda *_: check(), sleep=0)
            writing.execute("PRAGMA journal_mode=DELETE")  # nothing of it is left in a second file
    except sqlite3.Error as error:
        if "full" in str(error):
            told = f"No room for the copy of {source.name}: {error}."
            raise DiskFullError(told, "free space on the data partition.") from error
        told = f"{source.name} cannot be copied: {error}."
        raise BackupError(told, "run `prime-spark audit verify`; restore an earlier backup where it is damaged.") from error


def schema(path: Path) -> int:
    """Newest migration of a database that nobody has open. Raises DamagedError."""
    with opened(path) as connection:
        try:
            found = connection.execute("SELECT max(version) FROM migrations").fetchone()
        except sqlite3.Error as error:
            raise DamagedError(f"{path.name} is no database of ours: {error}.", "use another backup.") from error
    return int(found[0] or 0)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A database that nobody writes, for reading; no file appears beside it."""
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        yield connection

"""Unpacks archives of models: regular files alone, in one directory, within bounds; anything else is refused."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, cast

from appliance.core.inference import manifest as manifests
from appliance.errors import DiskFullError, ModelError

FILES = 64
"""Most files of one version."""
ENTRIES = 2 * FILES
"""Most entries of an archive, directories among them: each costs time and memory."""
DIRECTORY = 1 << 20
"""Most bytes of a zip's directory, which its reader takes in as a whole."""
ZIP_END = struct.Struct("<4s4H2LH")
"""The end of a .zip (APPNOTE 4.3.16); the sixth value is the size of its directory."""
ZIP64 = b"PK\x06\x07"
"""Begins what stands before that end where the directory is larger than 4 GiB (4.3.15)."""
PIECE = 1 << 20
MEND = "make the archive of manifest.toml and the files that it names, and nothing else."
DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
"""What the two libraries raise on archives that are none, are cut off, encrypted, or damaged."""


def unpack(archive: Path, into: Path, largest: int, bound: int = 0) -> None:
    """Unpack a .tar (also compressed) or .zip; blocks.

    Args:
        archive: By its content, not by its name, one or the other.
        into: An empty directory.
        largest: Most bytes of all files together, as they come out.
        bound: What it would be with more room on the disk; `largest` where 0.

    Raises:
        ModelError: It is no archive, is damaged, too large, or holds what it may not.
        DiskFullError: No room.
    """
    try:
        if zipfile.is_zipfile(archive):
            _check_directory(archive)
            with zipfile.ZipFile(archive) as opened:
                _write(_of_zip(opened), into, (largest, bound), archive.name)
        else:
            with _plain(archive) as source:
                bounded = cast("IO[bytes]", _Bounded(source, largest))
                with tarfile.open(fileobj=bounded, mode="r:") as opened_tar:
                    _write(_of_tar(opened_tar), into, (largest, bound), archive.name)
    except MemoryError as error:
        raise ModelError(f"{archive.name} asks for more memory than there is.", MEND) from error
    except DAMAGED as error:
        raise ModelError(
            f"{archive.name} is no archive, or a damaged one: {error}.", "make it again, as .tar or .zip."
        ) from error
    except OSError as error:
        raise disk_error(error, f"{archive.name} cannot be unpacked") from error


def disk_error(error: OSError, what: str) -> ModelError | DiskFullError:
    """An error of the disk as ours."""
    import errno

    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DiskFullError(f"{what}: the disk is full.", "make room, or remove versions: prime-spark model remove.")
    return ModelError(f"{what}: {error.strerror or error}.", "look at the disk, and at the rights of this user.")


class _Bounded:
    """The bytes of a .tar: its headers may not ask for more memory than all files together may take."""

    def __init__(self, source: IO[bytes], largest: int) -> None:
        self._source = source
        self._left = largest + FILES * 4096
        self.seek, self.tell = source.seek, source.tell

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > self._left:
            raise ModelError("The archive is larger than a version may be.", MEND)
        data = self._source.read(size)
        self._left -= len(data)
        return data


def _plain(archive: Path) -> IO[bytes]:
    """The archive, decompressed as its first bytes say."""
    with archive.open("rb") as file:
        head = file.read(6)
    if head.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.open(archive))
    if head.startswith(b"BZh"):
        return bz2.open(archive)
    return lzma.open(archive) if head == b"\xfd7zXZ\x00" else archive.open("rb")


def _check_directory(archive: Path) -> None:
    """Refuse a .zip by the size of its directory, before that is read. Raises ModelError."""
    with archive.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - ZIP_END.size - 65_536 - 20))
        tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    told = ZIP_END.unpack_from(tail, end)[5] if 0 <= end <= len(tail) - ZIP_END.size else 0
    if told > DIRECTORY or ZIP64 in tail[max(0, end - 20) : max(0, end)]:
        raise ModelError(f"{archive.name} holds far more than {FILES} files.", MEND)


def _few(count: int) -> None:
    if count > ENTRIES:
        raise ModelError(f"The archive holds more than {FILES} files.", MEND)


def _of_zip(archive: zipfile.ZipFile) -> Iterator[tuple[str, IO[bytes]]]:
    for number, entry in enumerate(archive.infolist()):
        _few(number)
        if entry.is_dir():
            continue
        kind = entry.external_attr >> 16 & 0o170000
        if kind not in {0, 0o100000}:
            raise ModelError(f"The archive's {entry.filename!r} is no regular file.", MEND)
        with archive.open(entry) as source:
            yield entry.filename, source


def _of_tar(archive: tarfile.TarFile) -> Iterator[tuple[str, IO[bytes]]]:
    for number, entry in enumerate(archive):
        _few(number)
        if entry.isdir():
            continue
        source = archive.extractfile(entry) if entry.isreg() else None
        if source is None:
            raise ModelError(f"The archive's {entry.name!r} is no regular file.", MEND)
        yield entry.name, source


def _write(entries: Iterator[tuple[str, IO[bytes]]], into: Path, bounds: tuple[int, int], archive: str) -> None:
    left, folders, names = bounds[0], set[str](), set[str]()
    for name, source in entries:
        folder, base = _place(name)
        folders.add(folder)
        names.add(base)
        if len(folders) > 1:
            raise ModelError(f"{archive} holds several directories.", MEND)
        if len(names) > FILES:
            raise ModelError(f"{archive} holds more than {FILES} files.", MEND)
        left = _pour(source, into / base, left, _too_large(archive, *bounds))


def _pour(source: IO[bytes], into: Path, left: int, error: Exception) -> int:
    """Write all of it into a new file; bytes that are left then. Raises `error` where there are too many."""
    with into.open("xb") as target:
        while piece := source.read(PIECE):
            left -= len(piece)
            if left < 0:
                raise error
            target.write(piece)
    return left


def _too_large(what: str, largest: int, bound: int = 0) -> ModelError | DiskFullError:
    if largest < bound:
        return DiskFullError(
            f"There is no room for {what}: it holds more than the {largest / 2**20:.0f} MiB that may be taken now.",
            "make room, or remove versions: prime-spark model remove.",
        )
    told = f"{what} holds more than {largest / 2**20:g} MiB."
    return ModelError(told, "raise models.version_max_mib, or make it smaller.")


def copy_named(source: Path, into: Path, largest: int, bound: int = 0) -> None:
    """Copy a manifest and the files that it names; blocks. Arguments and errors as `unpack`."""
    told = manifests.load(source)
    names = dict.fromkeys(["manifest.toml", *(file.path for file in told.files)])
    if len(names) > FILES:
        raise ModelError(f"The manifest in {source} names more than {FILES} files.", "mend the manifest.")
    left = largest
    for name in names:
        if Path(name).name != name or name.startswith("."):
            raise ModelError(f"The manifest in {source} names a file outside of it.", "mend the manifest.")
        try:
            with os.fdopen(os.open(source / name, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise ModelError(f"{source / name} is no regular file.", "put the file itself there.")
                left = _pour(file, into / name, left, _too_large(str(source), largest, bound))
        except OSError as error:
            raise disk_error(error, f"{source / name} cannot be copied") from error


def _place(name: str) -> tuple[str, str]:
    """Its directory (none, or one) and its name. Raises ModelError where it would lie elsewhere."""
    path = PurePosixPath(name.replace("\\", "/"))
    parts = [part for part in path.parts if part != "."]
    bad = path.is_absolute() or ".." in parts or not parts or len(parts) > 2 or ":" in name or "\0" in name
    if bad or parts[-1].startswith("."):
        raise ModelError(f"The archive's {name!r} would lie outside of the model's directory.", MEND)
    return ("" if len(parts) == 1 else parts[0]), parts[-1]

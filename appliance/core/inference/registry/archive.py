"""Unpacks archives of models: regular files alone, in one directory, within bounds; anything else is refused."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, cast

from appliance.errors import DiskFullError, ModelError

FILES = 64
"""Most files of one version."""
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


def unpack(archive: Path, into: Path, largest: int) -> None:
    """Unpack a .tar (also compressed) or .zip; blocks.

    Args:
        archive: By its content, not by its name, one or the other.
        into: An empty directory.
        largest: Most bytes of all files together, as they come out.

    Raises:
        ModelError: It is no archive, is damaged, too large, or holds what it may not.
        DiskFullError: No room.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                _write(_of_zip(opened), into, largest, archive.name)
        else:
            with _plain(archive) as source:
                bounded = cast("IO[bytes]", _Bounded(source, largest))
                with tarfile.open(fileobj=bounded, mode="r:") as opened_tar:
                    _write(_of_tar(opened_tar), into, largest, archive.name)
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


def _of_zip(archive: zipfile.ZipFile) -> Iterator[tuple[str, IO[bytes]]]:
    for entry in archive.infolist():
        if entry.is_dir():
            continue
        kind = entry.external_attr >> 16 & 0o170000
        if kind not in {0, 0o100000}:
            raise ModelError(f"The archive's {entry.filename!r} is no regular file.", MEND)
        with archive.open(entry) as source:
            yield entry.filename, source


def _of_tar(archive: tarfile.TarFile) -> Iterator[tuple[str, IO[bytes]]]:
    for entry in archive:
        if entry.isdir():
            continue
        source = archive.extractfile(entry) if entry.isreg() else None
        if source is None:
            raise ModelError(f"The archive's {entry.name!r} is no regular file.", MEND)
        yield entry.name, source


def _write(entries: Iterator[tuple[str, IO[bytes]]], into: Path, largest: int, archive: str) -> None:
    left, folders, names = largest, set[str](), set[str]()
    for name, source in entries:
        folder, base = _place(name)
        folders.add(folder)
        names.add(base)
        if len(folders) > 1:
            raise ModelError(f"{archive} holds several directories.", MEND)
        if len(names) > FILES:
            raise ModelError(f"{archive} holds more than {FILES} files.", MEND)
        with (into / base).open("xb") as target:
            while piece := source.read(PIECE):
                left -= len(piece)
                if left < 0:
                    raise ModelError(
                        f"{archive} holds more than {largest / 2**20:g} MiB.",
                        "raise models.version_max_mib, or make it smaller.",
                    )
                target.write(piece)


def _place(name: str) -> tuple[str, str]:
    """Its directory (none, or one) and its name. Raises ModelError where it would lie elsewhere."""
    path = PurePosixPath(name.replace("\\", "/"))
    parts = [part for part in path.parts if part != "."]
    bad = path.is_absolute() or ".." in parts or not parts or len(parts) > 2 or ":" in name or "\0" in name
    if bad or parts[-1].startswith("."):
        raise ModelError(f"The archive's {name!r} would lie outside of the model's directory.", MEND)
    return ("" if len(parts) == 1 else parts[0]), parts[-1]

"""An archive compressed, and read back: each of its files against the digest in it, and the whole against what was written."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterator

from appliance.core.tasks.handlers.backup_tree import MANIFEST, PIECE, line
from appliance.errors import TaskError

LEVEL = 3
"""Of zstd: several times as fast as a disk of a small machine."""
SUFFIX = ".tar.zst"


class Packed:
    """Compresses what it is given, and knows size and digest of what it gave.

    Args:
        raw: The archive.
    """

    def __init__(self, raw: Iterator[bytes]) -> None:
        self.size = 0
        self._digest = hashlib.sha256()
        self._raw = raw

    @property
    def sha256(self) -> str:
        """Of all that it gave, hexadecimal."""
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[bytes]:
        import zstandard

        packing = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj()
        for piece in self._raw:
            yield from self._gave(packing.compress(piece))
        yield from self._gave(packing.flush())

    def _gave(self, piece: bytes) -> Iterator[bytes]:
        if piece:
            self.size += len(piece)
            self._digest.update(piece)
            yield piece


class Stream:
    """Pieces as something to read from; knows size and digest of what was read.

    Args:
        pieces: They; what they raise, `read` raises.
        check: Called before each reading.
    """

    def __init__(self, pieces: Iterator[bytes], check: Callable[[], None] = lambda: None) -> None:
        self.size = 0
        self.digest = hashlib.sha256()
        self._pieces, self._check, self._rest = pieces, check, b""

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes, fewer only at the end; all for a negative number."""
        self._check()
        found: list[bytes] = []
        left = size
        while left:
            piece = self._rest or next(self._pieces, b"")
            if not piece:
                break
            take = piece if size < 0 else piece[:left]
            self._rest = piece[len(take) :]
            found.append(take)
            left -= len(take) if size >= 0 else 0
        told = b"".join(found)
        self.size += len(told)
        self.digest.update(told)
        return told


def verify(pieces: Iterator[bytes], size: int, sha256: str, check: Callable[[], None]) -> int:
    """Read an archive whole.

    Args:
        pieces: As they lie there.
        size: Bytes that it must have.
        sha256: Digest that it must have.
        check: Called again and again; raises where it is to stop.

    Returns:
        How many files it has.

    Raises:
        TaskError: It is not what was written.
    """
    import zstandard

    source = Stream(pieces, check)
    try:
        files = _files(zstandard.ZstdDecompressor().stream_reader(source, read_size=PIECE))  # type: ignore[arg-type]
        while source.read(PIECE):
            continue
    except (tarfile.TarError, zstandard.ZstdError, EOFError) as error:
        raise _other(str(error)) from error
    if (source.size, source.digest.hexdigest()) != (size, sha256):
        raise _other(f"{source.size} bytes of {size}, or another digest")
    return files


def _files(reader: object) -> int:
    lines, files, told = hashlib.sha256(), 0, ""
    with tarfile.open(fileobj=reader, mode="r|", bufsize=PIECE, errorlevel=2) as archive:  # type: ignore[call-overload]
        while (member := archive.next()) is not None:
            archive.members.clear()  # else it keeps all of them
            if not member.isreg():
                continue
            digest, file = hashlib.sha256(), archive.extractfile(member)
            while file is not None and (piece := file.read(PIECE)):
                digest.update(piece)
            if member.name == MANIFEST:
                told = digest.hexdigest()
            else:
                files += 1
                lines.update(line(digest.hexdigest(), member.name))
    if told != lines.hexdigest():
        raise _other("its files are not those of its manifest")
    return files


def _other(why: str) -> TaskError:
    return TaskError(f"Read back, the archive is not what was written: {why}.", "look at that disk, or at its network.")

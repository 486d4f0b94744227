"""Where updates come from: a directory or an address with SHA256SUMS, its signature, and bundles. All of it blocks.

Nothing of a list counts before minisign has found its signature good. What is checked is what is then read: the very bytes.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from appliance.core.lifecycle.inmemory import STEP, fleeting
from appliance.errors import UpdateError

SUMS, SIGNATURE = "SHA256SUMS", "SHA256SUMS.minisig"
LONGEST = 256 * 1024
"""Bytes of a list, or of a signature."""
PATIENCE = 20
"""Seconds for minisign."""
LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
BLOCK = 1 << 20


class SourceError(UpdateError):
    """A source broke off or did not answer: what is asked again may come."""


@dataclass(frozen=True)
class Access:
    """What reading a source takes.

    Attributes:
        key: File with the public key of the releases (minisign).
        proxy: Address of a proxy; empty: as the environment says.
        certificates: File with certificates that are trusted besides the system's.
    """

    key: Path
    proxy: str = ""
    certificates: Path | None = None


@dataclass(frozen=True)
class Part:
    """A file that is being read.

    Attributes:
        start: Where in the file its first byte is.
        size: Bytes of the whole file; None where nobody says.
        blocks: What is left of it; raises UpdateError.
    """

    start: int
    size: int | None
    blocks: Iterator[bytes]


@dataclass(frozen=True)
class About:
    """What a source tells of a file without giving it."""

    size: int | None = None
    """Bytes."""
    changed: float | None = None
    """Wall clock."""


class Source(Protocol):
    """A place with releases."""

    def read(self, name: str, most: int) -> bytes:
        """A small file, whole. Raises UpdateError where it is longer than `most` bytes, or not there."""

    def about(self, name: str) -> About:
        """Size and age of a file, where the source tells. Raises UpdateError."""

    def open(self, name: str, start: int) -> AbstractContextManager[Part]:
        """A file from some byte on, or from its beginning where the source cannot do that. Raises UpdateError."""

    def place(self, name: str) -> str:
        """Path or URL of a file."""


class Directory:
    """A directory: of a NAS, on a USB disk (implements Source).

    Args:
        root: It.
        system: Root of the system.
    """

    def __init__(self, root: Path, system: Path = Path("/")) -> None:
        self._root, self._system = root, system

    def read(self, name: str, most: int) -> bytes:
        """See Source."""
        with self.open(name, 0) as body:
            return whole(body.blocks, name, most)

    def about(self, name: str) -> About:
        """See Source."""
        try:
            found = (self._root / name).stat()
        except OSError as error:
            raise self._told(name, error) from error
        return About(found.st_size, found.st_mtime)

    @contextmanager
    def open(self, name: str, start: int) -> Iterator[Part]:
        """See Source."""
        try:
            file = (self._root / name).open("rb")
        except OSError as error:
            raise self._told(name, error) from error
        with file:
            size = self.about(name).size
            first = start if size is None or start <= size else 0
            yield Part(first, size, self._blocks(name, file, first))

    def _blocks(self, name: str, file: BinaryIO, start: int) -> Iterator[bytes]:
        try:
            file.seek(start)
            while block := file.read(BLOCK):
                yield block
        except OSError as error:
            raise self._told(name, error) from error

    def _told(self, name: str, error: OSError) -> UpdateError:
        if lost := fleeting(self._root, self._system):
            return UpdateError(f"{lost.partition(':')[0]}.", f"{STEP}; then check again.")
        if isinstance(error, FileNotFoundError | NotADirectoryError) and self._root.is_file():
            return UpdateError(f"{self._root} is a file.", f"write the directory in which {SUMS} lies into update.source.")
        if isinstance(error, FileNotFoundError) and not self._root.is_dir():
            return UpdateError(f"{self._root} is not there.", "plug the disk in, or mount the NAS, and check again.")
        if isinstance(error, FileNotFoundError):
            return UpdateError(
                f"There is no {name} in {self._root}.", f"copy the whole release there: bundle, {SUMS}, {SIGNATURE}."
            )
        return SourceError(
            f"{self._root / name} cannot be read: {error.strerror}.", "look at that disk, or copy the release anew."
        )

    def place(self, name: str) -> str:
        """See Source."""
        return str(self._root / name)


def of(place: str, access: Access) -> Source:
    """The source at a place. Raises UpdateError where it is none."""
    if place.startswith("/"):
        return Directory(Path(place))
    if place.lower().startswith(("https://", "http://")):
        from appliance.core.lifecycle.update.source_web import Web

        return Web(place, access)
    raise UpdateError(
        f"{place[:80]!r} is no place for updates." if place else "No source of updates is configured.",
        'write source = "/media/usb/release" or an https address into [update], or name a file: '
        "prime-spark update install /media/usb/prime-spark-VERSION-ARCH.raucb",
    )


def read(place: str, access: Access) -> dict[str, str]:
    """The names that a source offers, with their SHA-256, once the signature was found good.

    Raises:
        UpdateError: It is not there, does not answer, is not signed by this key, or makes no sense.
    """
    source = of(place, access)
    sums = source.read(SUMS, LONGEST)
    verify(sums, source.read(SIGNATURE, LONGEST), access.key)
    return parse(sums)


def verify(content: bytes, signature: bytes, key: Path) -> None:
    """See that a list was signed with the key of the releases.

    Raises:
        UpdateError: It was not; or there is no key, or no minisign here.
    """
    if not key.is_file():
        step = "install the prime-spark package again, or set update.key to the file with the public key."
        raise UpdateError(f"The public key of the releases is not there: {key}.", step)
    with tempfile.TemporaryDirectory(prefix="prime-spark-") as scratch:
        text, proof = Path(scratch, SUMS), Path(scratch, SIGNATURE)
        text.write_bytes(content)
        proof.write_bytes(signature)
        command = ["minisign", "-V", "-m", str(text), "-x", str(proof), "-p", str(key)]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False)  # noqa: S603
        except FileNotFoundError:
            raise UpdateError("minisign is not installed here.", "sudo apt-get install minisign") from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UpdateError(f"minisign did not do its work: {error}.", "see the log, and try again.") from error
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).decode(errors="replace").replace(scratch + "/", "").split())[:200]
        raise UpdateError(
            f"The signature of {SUMS} is not good: {said or 'minisign refused it'}.",
            f"nothing was taken. Get the release anew; where its maker changed keys, set update.key (now {key}).",
        )


def parse(content: bytes) -> dict[str, str]:
    """Names and hashes of a list as sha256sum writes it. Raises UpdateError."""
    found: dict[str, str] = {}
    for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = LINE.fullmatch(line.rstrip())
        if match is None:
            raise UpdateError(
                f"Line {number} of {SUMS} is none of sha256sum's: {line[:60]!r}.", "tell the maker of the release."
            )
        found[match[2].removeprefix("./")] = match[1]
    return found


def whole(blocks: Iterator[bytes], name: str, most: int) -> bytes:
    """A small file, put together. Raises UpdateError where it is longer than `most` bytes."""
    content = b""
    for block in blocks:
        content += block
        if len(content) > most:
            raise UpdateError(f"{name} is longer than {most >> 10} KiB.", "see whether the source is the right place.")
    return content

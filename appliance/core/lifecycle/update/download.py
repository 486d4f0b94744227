"""Fetches a bundle: goes on where it stopped, keeps to its bounds, and is there only with the signed hash. It blocks."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance.core.lifecycle.update import source as sources
from appliance.core.lifecycle.update.model import Release
from appliance.errors import DiskFullError, UpdateError

MOST = 4 << 30
"""Bytes of the largest bundle."""
ROOM = 128 << 20
"""Bytes that stay free on the data partition."""
STEP = 0.01
"""Between two shares that are told."""
TRIES = 5
"""In a row that may bring something and not all of it."""
BLOCK = 1 << 20
Progress = Callable[[float | None], None]
Check = Callable[[], None]


@dataclass
class Work:
    """A bundle on its way.

    Attributes:
        part: Where it grows.
        progress: Told the share that is there; None where unknown.
        check: Looked at for each block; raises where the work is to stop.
    """

    part: Path
    progress: Progress
    check: Check
    have: int = 0
    told: float = -1.0
    digest: Any = field(default_factory=hashlib.sha256)

    def tell(self, size: int | None) -> None:
        """Say how far it is, now and then."""
        share = self.have / size if size else 0.0
        if share - self.told >= STEP or share < self.told or self.have == size:
            self.told = share
            self.progress(share if size else None)

    def resume(self) -> None:
        """Take up what came before. Raises OSError."""
        self.have, self.digest = 0, hashlib.sha256()
        if self.part.is_symlink() or (self.part.exists() and not 0 < self.part.stat().st_size <= MOST):
            self.part.unlink()
        with contextlib.suppress(FileNotFoundError), self.part.open("rb") as file:
            while block := file.read(BLOCK):
                self.check()
                self.digest.update(block)
                self.have += len(block)

    def restart(self) -> None:
        """Begin anew. Raises OSError."""
        self.part.unlink(missing_ok=True)
        self.have, self.digest = 0, hashlib.sha256()


def fetch(release: Release, into: Path, access: sources.Access, progress: Progress, check: Check = lambda: None) -> Path:
    """Bring a bundle onto this machine; at once where it is here already.

    Args:
        release: From the signed list.
        into: Directory for it; made where it is not there. Other bundles in it are removed.
        access: How the source is read.
        progress: Told how far it is, 0…1; None where unknown.
        check: Called often; raises where the work is to stop. What has come is kept.

    Raises:
        DiskFullError: No room for it.
        UpdateError: It did not come whole, or is not the one of the list.
    """
    if not release.sha256:
        raise UpdateError("This bundle is in no signed list.", "install a file with its path, or check the source first.")
    place, _, name = release.place.rpartition("/")
    target = into / name
    work = Work(into / f".{name}.{release.sha256[:16]}.part", progress, check)
    try:
        into.mkdir(mode=0o700, parents=True, exist_ok=True)
        tidy(into, target, work.part)
        if target.exists():
            if _hash(target, check) == release.sha256:
                return target
            target.unlink()
        work.resume()
        if work.digest.hexdigest() != release.sha256:
            _bring(sources.of(place or "/", access), name, work, release)
        _settle(work.part, target)
    except OSError as error:
        told = _disk(error, into)
        if isinstance(told, DiskFullError):  # everything else of the appliance writes there too
            with contextlib.suppress(OSError):
                work.part.unlink(missing_ok=True)
        raise told from error
    return target


def tidy(into: Path, *keep: Path) -> None:
    """Remove bundles, whole and begun, but for those to keep. Raises OSError."""
    for path in [*into.glob("*.raucb"), *into.glob(".*.part")]:
        if path not in keep:
            path.unlink(missing_ok=True)


def _bring(source: sources.Source, name: str, work: Work, release: Release) -> None:
    """Read until all of it is there; a source that breaks off is asked again as long as it brings something."""
    for attempt in range(TRIES):
        before = work.have
        try:
            _read(source, name, work, release)
            break
        except sources.SourceError as error:
            if work.have == before or attempt == TRIES - 1:
                kept = f" {work.have >> 20} MiB of it are here; the next try goes on from there." if work.have >> 20 else ""
                raise UpdateError(f"{error.message}{kept}", error.next_step) from error
    if work.digest.hexdigest() != release.sha256:
        work.restart()
        told = f"{name} is not the bundle of the signed list: another hash. It was removed."
        raise UpdateError(told, "install again, which fetches it anew; where that ends the same way, use another source.")


def _read(source: sources.Source, name: str, work: Work, release: Release) -> None:
    with source.open(name, work.have) as body:
        if body.start != work.have:
            work.restart()
        size = body.size if body.size is not None else release.size
        if size is not None and size > MOST:
            raise UpdateError(
                f"{name} is said to have {size >> 20} MiB; at most {MOST >> 20} are taken.", "use another source."
            )
        _check_room(work.part.parent, (size or 0) - work.have)
        with work.part.open("ab") as file:
            os.fchmod(file.fileno(), 0o600)
            for block in body.blocks:
                work.check()
                if work.have + len(block) > min(MOST, size or MOST):
                    work.restart()
                    raise UpdateError(f"{name} is longer than the source said ({size} bytes).", "use another source.")
                file.write(block)
                work.digest.update(block)
                work.have += len(block)
                work.tell(size)
                if size is None:
                    _check_room(work.part.parent, 0)
            file.flush()
            os.fsync(file.fileno())
        if size is not None and work.have < size:
            raise sources.SourceError(
                f"{name} ended after {work.have} of {size} bytes.", "install again: it goes on from there."
            )


def _check_room(directory: Path, missing: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < missing + ROOM:
        told = f"The bundle needs {max(0, missing) >> 20} MiB more and {ROOM >> 20} MiB to spare; {free >> 20} MiB are free."
        raise DiskFullError(told, f"free space at {directory}: prime-spark doctor says what is large.")


def _hash(path: Path, check: Check) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            check()
            digest.update(block)
    return digest.hexdigest()


def _settle(part: Path, target: Path) -> None:
    part.replace(target)
    directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _disk(error: OSError, into: Path) -> UpdateError | DiskFullError:
    if error.errno in {28, 122}:  # ENOSPC, EDQUOT
        return DiskFullError(
            f"No room for the bundle at {into}: {error.strerror}.",
            "what had come was removed. Free space there, then install again.",
        )
    return UpdateError(f"The bundle cannot be kept at {into}: {error.strerror}.", "look at that disk (dmesg).")

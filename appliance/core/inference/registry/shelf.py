"""The versions on disk: DIRECTORY/NAME/VERSION/manifest.toml, or NAME/manifest.toml where a set-up put one there."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from appliance.core.inference import manifest as manifests
from appliance.core.inference.manifest import Manifest
from appliance.core.inference.registry.archive import disk_error
from appliance.errors import ConflictError, ModelError

log = logging.getLogger(__name__)

STAGING = ".staging"
GONE = ".removed"


@dataclass(frozen=True)
class Found:
    """One version on disk.

    Attributes:
        name: The manifest's; the directory's where it cannot be read.
        version: The manifest's, likewise.
        manifest: None where it cannot be read.
        own: It lies in the appliance's directory, as the registry puts it there.
        size: Bytes.
        error: Why the manifest cannot be read.
        mark: manifest.fingerprint of the manifest; empty where it cannot be read.
    """

    name: str
    version: str
    directory: Path
    manifest: Manifest | None
    own: bool
    size: int
    error: ModelError | None = None
    mark: str = ""

    @property
    def key(self) -> str:
        """name@version."""
        return f"{self.name}@{self.version}"


class Shelf:
    """All places where versions lie. Methods block.

    Args:
        places: Directories in the order of search; they may be missing.
        own: The one of them that the registry writes to.
    """

    def __init__(self, places: list[Path], own: Path) -> None:
        self.places = places
        self._own = own

    def scan(self) -> list[Found]:
        """Every version, in the order of search; of two that are called the same, the first."""
        found: dict[str, Found] = {}
        for place in self.places:
            for directory in _directories(place):
                each = self._look(directory)
                found.setdefault(each.key, each)
        return list(found.values())

    def _look(self, directory: Path) -> Found:
        own, size = directory.parent.parent == self._own, 0
        try:
            size = size_of(directory)
            told = manifests.load(directory)
        except ModelError as error:
            name, version = (directory.parent.name, directory.name) if own else (directory.name, "?")
            return Found(name, version, directory, None, own, size, error)
        if own and (told.name, told.version) != (directory.parent.name, directory.name):
            wrong = ModelError(
                f"{directory} holds {told.name} {told.version}.", "remove the directory, and add the model again."
            )
            return Found(directory.parent.name, directory.name, directory, None, own, size, wrong)
        return Found(told.name, told.version, directory, told, own, size, mark=manifests.fingerprint(told))

    def stage(self) -> Path:
        """An empty directory on the same file system. Raises ModelError, DiskFullError."""
        try:
            (self._own / STAGING).mkdir(mode=0o700, parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(dir=self._own / STAGING))
        except OSError as error:
            raise disk_error(error, f"{self._own} cannot be written") from error

    def unstage(self, directory: Path) -> None:
        """Remove such a directory, with what is left in it."""
        shutil.rmtree(directory, ignore_errors=True)

    def target(self, name: str, version: str) -> Path:
        """Where a version of ours lies, or would."""
        return self._own / name / version

    def taken(self, name: str, version: str) -> bool:
        """Whether something lies there, known or not."""
        return self.target(name, version).exists()

    def put(self, staged: Path, name: str, version: str) -> Path:
        """Move a staged version to its place, whole: it survives a cut of the power, or was never there.

        Raises:
            ConflictError: There is one of this name and version.
            ModelError: The disk refuses; DiskFullError where it is full.
        """
        target = self.target(name, version)
        try:
            for file in staged.iterdir():
                _sync(file)
            _sync(staged)
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if target.exists():
                raise ConflictError(f"{name} {version} is there already.", "give it another version, or remove that one.")
            staged.rename(target)
            _sync(target.parent)
            _sync(self._own)
        except OSError as error:
            raise disk_error(error, f"{name} {version} cannot be put into {self._own}") from error
        return target

    def remove(self, directory: Path) -> None:
        """Remove a version of ours: first out of sight, in one step, then from the disk. Raises ModelError."""
        trash = self._own / GONE
        try:
            trash.mkdir(mode=0o700, exist_ok=True)
            out = Path(tempfile.mkdtemp(dir=trash)) / "version"
            directory.rename(out)
            _sync(directory.parent)
            with contextlib.suppress(OSError):  # other versions lie there
                directory.parent.rmdir()
        except OSError as error:
            raise disk_error(error, f"{directory} cannot be removed") from error
        shutil.rmtree(out.parent, ignore_errors=True)

    def clean(self) -> int:
        """Remove what an earlier life left half done; how many directories that were."""
        left = [path for part in (STAGING, GONE) for path in _sub(self._own / part)]
        for path in left:
            log.warning("%s is left from an addition or a removal that did not end; it goes", path)
            shutil.rmtree(path, ignore_errors=True)
        return len(left)

    def room(self) -> int:
        """Bytes free on the file system of our directory. Raises ModelError."""
        place = next((each for each in (self._own, *self._own.parents) if each.exists()), self._own)
        try:
            return shutil.disk_usage(place).free
        except OSError as error:
            raise disk_error(error, f"{place} cannot be read") from error


def size_of(directory: Path) -> int:
    """Bytes of the files there. Raises ModelError."""
    try:
        return sum(file.stat().st_size for file in directory.iterdir() if file.is_file())
    except OSError as error:
        raise disk_error(error, f"{directory} cannot be read") from error


def _directories(place: Path) -> Iterator[Path]:
    """Those with a manifest, both layouts, by name."""
    for path in _sub(place):
        if path.name.startswith("."):
            continue
        if (path / "manifest.toml").exists():
            yield path
        yield from (each for each in _sub(path) if (each / "manifest.toml").exists())


def _sub(place: Path) -> list[Path]:
    try:
        return sorted(path for path in place.iterdir() if path.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        log.warning("%s cannot be read: %s", place, error)
        return []


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

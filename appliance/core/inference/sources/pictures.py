"""Picture files: one, or those that come into a folder. What is still being written is not read."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, NamedTuple

from appliance.core.inference.image import decode, read_file
from appliance.core.inference.sources.address import PICTURES
from appliance.errors import ImageError, SourceError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from inotify_simple import INotify

log = logging.getLogger(__name__)

SCAN = 2.0
"""Seconds between two looks at a folder, at least; a file that was the same in two of them is whole."""
SHARE = 20
"""A look may take one part in so many of the time."""
WAITING = 10_000
"""Whole files that may wait; further ones are found by a later look."""
LONGEST = 300.0
"""Seconds after its last change for which a file that was not closed is left alone."""


class Limits(NamedTuple):
    """Of picture files."""

    bytes: int
    pixels: int


class PictureShot:
    """A picture file (implements frames.Shot)."""

    position = None

    def __init__(self, path: Path, limits: Limits) -> None:
        self.source = str(path)
        self._limits = limits

    def rgb(self) -> npt.NDArray[np.uint8]:
        """As pixels. Raises SourceError."""
        try:
            data = read_file(Path(self.source), self._limits.bytes)
            return decode(data, self.source, self._limits.pixels).rgb
        except ImageError as error:
            raise SourceError(error.message, error.next_step) from error


class PictureFeed:
    """One picture file (implements frames.Feed). Raises SourceError where it is not there."""

    damaged = 0

    def __init__(self, path: Path, limits: Limits) -> None:
        if not path.is_file():
            raise SourceError(f"{path} is no file.", "give the path of a picture.")
        self._shots = deque([PictureShot(path, limits)])

    def read(self) -> PictureShot | None:
        """The picture, once."""
        return self._shots.popleft() if self._shots else None

    def close(self) -> None:
        """Nothing is held."""


class _Known(NamedTuple):
    stamp: tuple[int, int]
    """Time of its last change in ns, and size."""
    since: float
    """When it was first seen so, monotonic."""
    taken: bool


@dataclass
class Memory:
    """What is known of a folder, from one feed of it to the next: it may be gone for a while, and files may come meanwhile.

    Attributes:
        begun: Whether it was listed once: what comes later is new.
        known: Its files.
        ready: Whole files that were not given yet.
    """

    begun: bool = False
    known: dict[str, _Known] = field(default_factory=dict)
    ready: deque[str] = field(default_factory=deque)


class FolderFeed:
    """Pictures that come into a folder (implements frames.Feed): told by the kernel, and looked for as well.

    The kernel tells when a file was closed or moved there (inotify(7)); it does not for what others write on a NAS. Such a
    file is taken when two looks found it unchanged.

    Args:
        path: The folder.
        limits: Of its files.
        stop: Ends `read`.
        existing: Take what is there already.
        memory: Of the feed before, where it failed.

    Raises:
        SourceError: It is no folder, or may not be read.
    """

    damaged = 0

    def __init__(
        self, path: Path, limits: Limits, stop: Event, *, existing: bool = False, memory: Memory | None = None
    ) -> None:
        memory = memory or Memory()
        self._path = path
        self._limits = limits
        self._stop = stop
        self._ready, self._known = memory.ready, memory.known
        self._open: dict[str, float] = {}
        """Written to, and not closed since → when it was last written to."""
        self._pause = SCAN
        self.beat = self._looked = time.monotonic()
        """When its disk answered last, monotonic: it may wait for pictures for ever, but not for the disk."""
        self._kernel = _watch(path)
        try:
            if not memory.begun:
                self._known |= {name: _Known(stamp, self._looked, not existing) for name, stamp in self._listing().items()}
            memory.begun = True
        except SourceError:
            self.close()
            raise

    def read(self) -> PictureShot | None:
        """The next picture; waits for it. None when it is to stop. Raises SourceError where the folder is gone."""
        while not self._ready:
            if self._stop.is_set():
                return None
            self._listen(0.2)
            self.beat = time.monotonic()
            if time.monotonic() - self._looked >= self._pause:
                self._look()
        return PictureShot(self._path / self._ready.popleft(), self._limits)

    def _listen(self, seconds: float) -> None:
        if self._kernel is None:
            self._stop.wait(seconds)
            return
        from inotify_simple import flags

        for event in self._kernel.read(timeout=int(seconds * 1000)):
            if event.mask & (flags.DELETE_SELF | flags.MOVE_SELF | flags.UNMOUNT):
                raise _gone(self._path)
            if event.mask & flags.Q_OVERFLOW:
                log.warning("%s: more files came than the kernel could tell of; they are looked for", self._path)
            elif event.mask & flags.MODIFY:
                self._open[event.name] = time.monotonic()
            elif event.mask & (flags.CLOSE_WRITE | flags.MOVED_TO):
                self._open.pop(event.name, None)
                self._closed(event.name)

    def _closed(self, name: str) -> None:
        if not is_picture(name):
            return
        try:
            stamp = _stamp((self._path / name).stat())
        except OSError:  # it is gone again, or was moved on
            return
        known = self._known.get(name)
        if known is None or not known.taken or known.stamp != stamp:
            self._take(name, stamp)

    def _take(self, name: str, stamp: tuple[int, int]) -> None:
        if len(self._ready) >= WAITING:
            return
        self._known[name] = _Known(stamp, time.monotonic(), True)
        self._ready.append(name)

    def _look(self) -> None:
        """Find what the kernel did not tell of. Raises SourceError."""
        began = time.monotonic()
        found = self._listing()
        self._open = {name: at for name, at in self._open.items() if name in found and began - at < LONGEST}
        for name in self._known.keys() - found.keys():
            del self._known[name]
        for name, stamp in sorted(found.items(), key=lambda item: item[1]):
            known = self._known.get(name)
            if known is None or known.stamp != stamp:
                self._known[name] = _Known(stamp, began, False)
            elif not known.taken and name not in self._open and stamp[1] and began - known.since >= SCAN:
                self._take(name, stamp)
        self._looked = time.monotonic()
        self._pause = max(SCAN, SHARE * (self._looked - began))

    def _listing(self) -> dict[str, tuple[int, int]]:
        try:
            with os.scandir(self._path) as entries:
                return {entry.name: _stamp(entry.stat()) for entry in entries if is_picture(entry.name) and entry.is_file()}
        except FileNotFoundError:
            if self._path.is_dir():  # a file went while it was looked at
                return {name: known.stamp for name, known in self._known.items()}
            raise _gone(self._path) from None
        except OSError as error:
            raise SourceError(
                f"{self._path} cannot be read: {error.strerror}.", "give this user the right to read it."
            ) from error

    def close(self) -> None:
        """Let go of the watch."""
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None


def is_picture(name: str) -> bool:
    """By its name; hidden ones are another program's unfinished work."""
    return not name.startswith(".") and Path(name).suffix.lower() in PICTURES


def _stamp(found: os.stat_result) -> tuple[int, int]:
    return found.st_mtime_ns, found.st_size


def _gone(path: Path) -> SourceError:
    return SourceError(f"The folder {path} is gone.", "make it again, or mount its disk; it is watched again then.")


def _watch(path: Path) -> INotify | None:
    """The kernel's word on a folder; None where the kernel gives none. Raises SourceError."""
    from inotify_simple import INotify, flags

    if not path.is_dir():
        raise _gone(path) if not path.exists() else SourceError(f"{path} is no folder.", "give the path of a folder.")
    wanted = flags.MODIFY | flags.CLOSE_WRITE | flags.MOVED_TO | flags.DELETE_SELF | flags.MOVE_SELF
    try:
        kernel = INotify()
    except OSError as error:
        log.warning("%s is looked at every %g s: the kernel gives no watch (%s)", path, SCAN, error.strerror)
        return None
    try:
        kernel.add_watch(path, wanted | flags.ONLYDIR)
    except OSError as error:
        kernel.close()
        log.warning("%s is looked at every %g s: the kernel does not watch it (%s)", path, SCAN, error.strerror)
        return None
    return kernel

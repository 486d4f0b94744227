"""Opens sources of every kind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from appliance.core.inference.sources.address import wants_secret
from appliance.core.inference.sources.definition import Definition
from appliance.core.inference.sources.frames import Camera, Feed
from appliance.core.inference.sources.model import Kind
from appliance.core.inference.sources.pictures import FolderFeed, Limits, Memory, PictureFeed
from appliance.core.inference.sources.video import open_video
from appliance.errors import AbsentError, SourceError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

OpenCamera = Callable[[int, str, float], Camera]
"""(which one, size such as "1280x720" or "", frames a second) → the camera, open. Raises AbsentError, SourceError."""


class CameraShot:
    """A camera's picture (implements frames.Shot)."""

    position = None
    source = ""

    def __init__(self, rgb: npt.NDArray[np.uint8]) -> None:
        self._rgb = rgb

    def rgb(self) -> npt.NDArray[np.uint8]:
        """As it came."""
        return self._rgb


class CameraFeed:
    """A camera with a driver of its own (implements frames.Feed)."""

    damaged = 0

    def __init__(self, camera: Camera, timeout: float) -> None:
        self._camera = camera
        self._timeout = timeout

    def read(self) -> CameraShot:
        """The next picture. Raises SourceError."""
        return CameraShot(self._camera.read(self._timeout))

    def close(self) -> None:
        """Let go of it."""
        self._camera.close()


@dataclass(frozen=True)
class Opener:
    """Opens what a definition names.

    Attributes:
        password: Of a source, by its name; blocks; raises StoreError.
        limits: Of pictures and frames.
        cameras: Drivers of hw/, by the kind that they are for.
    """

    password: Callable[[str], str]
    limits: Limits
    cameras: Mapping[Kind, OpenCamera] = field(default_factory=dict)
    folders: WeakKeyDictionary[threading.Event, Memory] = field(default_factory=WeakKeyDictionary)
    """What is known of a folder, as long as its reader lives."""

    def __call__(self, source: Definition, stop: threading.Event) -> Feed:
        """Open; blocks for up to the source's timeout. Raises SourceError."""
        if source.kind is Kind.picture:
            return PictureFeed(Path(source.address), self.limits)
        if source.kind is Kind.folder:
            memory = self.folders.setdefault(stop, Memory())
            return FolderFeed(Path(source.address), self.limits, stop, existing=source.existing, memory=memory)
        if source.kind in self.cameras:
            return self._camera(source)
        if source.kind is Kind.picamera:
            raise SourceError("This version has no driver for that camera.", "use a USB camera, or a stream.")
        secret = self.password(source.name) if source.kind is Kind.stream else ""
        if source.kind is Kind.stream and wants_secret(source.address) and not secret:
            step = f"give it: prime-spark source change {source.name} --password"
            raise SourceError(f"{source.address} has a place for a password, and there is none.", step)
        return open_video(source, secret, self.limits.pixels)

    def _camera(self, source: Definition) -> CameraFeed:
        which = int(source.address.partition(":")[2] or 0)
        try:
            return CameraFeed(self.cameras[source.kind](which, source.size, source.rate), source.timeout)
        except AbsentError as error:
            raise SourceError(error.message, error.next_step) from error

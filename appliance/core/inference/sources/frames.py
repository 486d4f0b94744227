"""Frames between the thread that reads them and the loop that looks at them: a place for one, and the newest wins."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class Frame:
    """One picture of a source (implements ports.Picture).

    Attributes:
        rgb: Height × width × 3, uint8.
        source: Name of the source, or path of the picture.
        taken: When it arrived, seconds on the monotonic clock.
        wall: When it arrived, seconds since the epoch.
    """

    rgb: npt.NDArray[np.uint8]
    source: str
    taken: float
    wall: float

    @property
    def width(self) -> int:
        """Pixels."""
        return int(self.rgb.shape[1])

    @property
    def height(self) -> int:
        """Pixels."""
        return int(self.rgb.shape[0])


class Shot(Protocol):
    """What a feed has read, not converted yet: most are not wanted."""

    @property
    def position(self) -> float | None:
        """Seconds in a file; None where there is no such place."""

    @property
    def source(self) -> str:
        """Its path, where it is a picture file; empty else."""

    def rgb(self) -> npt.NDArray[np.uint8]:
        """As pixels. Raises SourceError where it is damaged."""


class Feed(Protocol):
    """An open source. Methods block; one thread uses it."""

    @property
    def damaged(self) -> int:
        """Pictures and packets that could not be decoded, so far."""

    def read(self) -> Shot | None:
        """The next one; None at the end.

        Raises:
            SourceError: It gives no more.
        """

    def close(self) -> None:
        """Let go of it."""


class Camera(Protocol):
    """A camera's driver in hw/. Methods block."""

    def read(self, timeout: float) -> npt.NDArray[np.uint8]:
        """The next picture, height × width × 3, uint8, RGB. Raises SourceError."""

    def close(self) -> None:
        """Let go of it."""


class Mailbox:
    """A place for one frame.

    Args:
        loop: Of the reader; `put` is called in another thread.
        waits: `put` waits until the frame before was taken; else it takes that one's place.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, waits: bool) -> None:
        self.dropped = 0
        self._loop = loop
        self._waits = waits
        self._frame: Frame | None = None
        self._closed = False
        self._gate = threading.Condition()
        self._filled = asyncio.Event()

    def put(self, frame: Frame) -> None:
        """Leave a frame; with `waits`, return only when there was room."""
        with self._gate:
            while self._waits and self._frame is not None and not self._closed:
                self._gate.wait()
            if self._closed:
                return
            self.dropped += self._frame is not None
            self._frame = frame
        self._call()

    def close(self) -> None:
        """Take no more, and wake whoever waits; what lies there may still be taken."""
        with self._gate:
            self._closed = True
            self._gate.notify_all()
        self._call()

    def _call(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._filled.set)

    async def take(self, seconds: float) -> Frame | None:
        """The frame, as soon as there is one; None after `seconds`, and once it is closed and empty."""
        try:
            async with asyncio.timeout(seconds):
                await self._filled.wait()
        except TimeoutError:
            return None
        with self._gate:
            frame, self._frame = self._frame, None
            if not self._closed:
                self._filled.clear()
            self._gate.notify_all()
            return frame

    @property
    def over(self) -> bool:
        """Whether it is closed and nothing is left in it."""
        with self._gate:
            return self._closed and self._frame is None

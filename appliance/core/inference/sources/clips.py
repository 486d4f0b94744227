"""Pictures of events: JPEG snapshots, and short clips from a little before the event to a little after it."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple, cast

from appliance.core.inference.sources.frames import Frame
from appliance.core.inference.sources.model import SourceEvent
from appliance.errors import SourceError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from av.video.stream import VideoStream

QUALITY = 85
"""Of JPEG."""
SIDE = 640
"""Longest side of a clip, pixels."""
RING = 8 * 1024 * 1024
"""Bytes of frames that one source holds for its clips."""
AT_ONCE = 2
"""Clips of one source that are being recorded."""
CODECS = ("libx264", "mpeg4")
TICKS = 1000
"""A second, in a clip's units of time."""


class Still(NamedTuple):
    """A frame as JPEG."""

    taken: float
    jpeg: bytes


def jpeg(rgb: npt.NDArray[np.uint8], side: int | None = None) -> bytes:
    """A picture as JPEG, reduced to `side` pixels along its longer side; blocks."""
    from PIL import Image

    image = Image.fromarray(rgb)
    if side is not None and max(image.size) > side:
        image.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()


@dataclass
class Recording:
    """A clip that is not over yet."""

    event: SourceEvent
    until: float
    stills: list[Still] = field(default_factory=list)
    size: int = 0


class Clips:
    """The newest frames of a source, and the clips that grow from them.

    Args:
        seconds: How far back a clip begins at most.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ring: deque[Still] = deque()
        self._size = 0
        self._running: list[Recording] = []

    @property
    def wanted(self) -> bool:
        """Whether any rule has clips."""
        return self._seconds > 0

    def add(self, frame: Frame) -> None:
        """Take a frame in; blocks for some milliseconds, so it is called in a thread."""
        still = Still(frame.taken, jpeg(frame.rgb, SIDE))
        self._ring.append(still)
        self._size += len(still.jpeg)
        while self._ring and (self._size > RING or still.taken - self._ring[0].taken > self._seconds):
            self._size -= len(self._ring.popleft().jpeg)
        for recording in self._running:
            if recording.size + len(still.jpeg) <= RING:
                recording.stills.append(still)
                recording.size += len(still.jpeg)

    def begin(self, event: SourceEvent, now: float, seconds: float, saving: int = 0) -> None:
        """Begin a clip.

        Args:
            event: Whose.
            now: Monotonic; half of the clip lies before it.
            seconds: Its length.
            saving: Clips that are being encoded and kept; they count.

        Raises:
            SourceError: There are too many.
        """
        if len(self._running) + saving >= AT_ONCE:
            raise SourceError(f"{AT_ONCE} clips are being recorded or kept already.", "give the rules a longer cooldown.")
        before = [still for still in self._ring if now - still.taken <= seconds / 2]
        self._running.append(Recording(event, now + seconds / 2, before, sum(len(still.jpeg) for still in before)))

    def over(self, now: float) -> list[Recording]:
        """Clips that are complete; they are not held any longer."""
        done = [recording for recording in self._running if now >= recording.until]
        self._running = [recording for recording in self._running if now < recording.until]
        return done

    def all(self) -> list[Recording]:
        """All clips as far as they go; they are not held any longer."""
        done, self._running = self._running, []
        return done


def encode(stills: Sequence[Still]) -> bytes:
    """Frames as an MP4 video with their own times; blocks. Raises SourceError."""
    import av
    import numpy as np
    from PIL import Image

    if not stills:
        raise SourceError("A clip has no frame.", "give the source a higher rate.")
    stream = io.BytesIO()
    codec = next((name for name in CODECS if name in av.codecs_available), None)
    if codec is None:
        raise SourceError("FFmpeg has no encoder for clips here.", "reinstall the package av.")
    try:
        with av.open(stream, "w", format="mp4") as container:
            out = cast("VideoStream", container.add_stream(codec, rate=Fraction(25)))
            first = Image.open(io.BytesIO(stills[0].jpeg))
            out.width, out.height = (side - side % 2 for side in first.size)
            out.pix_fmt, out.codec_context.thread_count = "yuv420p", 1
            out.options = {"preset": "veryfast"} if codec == "libx264" else {}
            out.time_base = out.codec_context.time_base = Fraction(1, TICKS)
            before = -1
            for still in stills:
                image = Image.open(io.BytesIO(still.jpeg)).resize((out.width, out.height))
                frame = av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")
                before = max(before + 1, round((still.taken - stills[0].taken) * TICKS))
                frame.pts, frame.time_base = before, Fraction(1, TICKS)
                container.mux(out.encode(frame))
            container.mux(out.encode(None))
    except (av.FFmpegError, OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or str(error)
        raise SourceError(f"A clip could not be encoded: {told}.", "see the log.") from error
    return stream.getvalue()

"""Video files, RTSP and HTTP streams, and cameras of the kernel, by FFmpeg's libraries (PyAV).

Every wait inside them ends after the source's timeout (FFmpeg's interrupt callback). What they say of an address is never
passed on: it holds the password.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from appliance.core.inference.sources import address as addresses
from appliance.core.inference.sources.definition import Definition
from appliance.core.inference.sources.model import Kind
from appliance.errors import SourceError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

THREADS = 2
"""Of one decoder."""
BAD_ROW = 100
"""Packets in a row that cannot be decoded: then it is given up."""
TRIMMED, SHARE = 5, 0.05
"""Frames, and share of them, that an index may name and a whole file not show (its begin was cut away by an edit list)."""
USUAL_STEP = 1 / 25
"""Seconds from frame to frame where a file does not say."""
NETWORK = "http,https,tcp,udp,rtp,rtsp,rtsps,srtp,tls,crypto,httpproxy"
"""What a stream may open: a playlist from afar names no file of this machine."""


class VideoShot:
    """A decoded frame, not converted yet (implements frames.Shot)."""

    source = ""

    def __init__(self, frame: VideoFrame, position: float | None) -> None:
        self._frame = frame
        self.position = position

    def rgb(self) -> npt.NDArray[np.uint8]:
        """As pixels, upright."""
        import numpy as np

        pixels: npt.NDArray[Any] = self._frame.to_ndarray(format="rgb24")
        turns = round(self._frame.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


class VideoFeed:
    """An open video (implements frames.Feed).

    Args:
        container: Open.
        stream: Its pictures.
        name: The address, for messages.
        live: Its end is a failure.
        max_pixels: Of a frame.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, name: str, live: bool, max_pixels: int) -> None:
        self.damaged = 0
        self._container = container
        self._name = name
        self._live = live
        self._max_pixels = max_pixels
        self._frames = self._decoded(stream)
        self._expected = 0 if live or stream.codec_context.skip_frame == "NONKEY" else stream.frames
        """As the file's index has it; 0 where that is not known."""
        self._count = 0
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        self._step = 1 / fps if fps > 0 else USUAL_STEP
        self._place = -self._step

    def read(self) -> VideoShot | None:
        """The next frame; None at the end of a file. Raises SourceError."""
        import av

        try:
            frame = next(self._frames, None)
        except (av.FFmpegError, OSError, ValueError, RuntimeError) as error:
            raise explain(error, self._name, opening=False) from None
        if frame is not None:
            self._check(frame.width, frame.height)
            self._count += 1
            return VideoShot(frame, None if self._live else self._placed(frame.time))
        if self._live:
            raise SourceError(f"{self._name} ended.", "look whether the camera or its server was restarted.")
        if self._count and self._expected - self._count > max(TRIMMED, SHARE * self._expected):
            text = f"{self._name} breaks off after {self._count} of {self._expected} frames."
            raise SourceError(text, "copy it again; its end is missing, or damaged.")
        return None

    def _placed(self, told: float | None) -> float:
        """Where a file's frame stands, seconds; some have no times, or one time for all, or begin anew in the middle."""
        self._place = told if told is not None and told > self._place else self._place + self._step
        return self._place

    def _decoded(self, stream: VideoStream) -> Iterator[VideoFrame]:
        import av

        bad = 0
        for packet in self._container.demux(stream):
            self.damaged += packet.is_corrupt
            try:
                frames = packet.decode()
            except (av.InvalidDataError, av.error.UndefinedError, av.error.BugError, av.error.PatchWelcomeError):
                bad += 1
                self.damaged += 1
                if bad >= BAD_ROW:
                    raise
                continue
            if frames:
                bad = 0
            yield from frames

    def _check(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            raise SourceError(
                f"{self._name} has frames of {width} x {height} pixels; the limit is {self._max_pixels / 1e6:g} megapixels.",
                "have the camera send smaller ones, or raise inference.max_megapixels.",
            )

    def close(self) -> None:
        """Let go of it."""
        self._frames.close()  # type: ignore[attr-defined]
        self._container.close()


def open_video(source: Definition, secret: str, max_pixels: int) -> VideoFeed:
    """Open a file, a stream or a camera; blocks for up to the source's timeout.

    Args:
        source: What to open.
        secret: Its password; empty for none.
        max_pixels: Of a frame.

    Raises:
        SourceError: It cannot be opened, or has no pictures.
    """
    import av

    url, form, options = _target(source, secret)
    try:
        container = av.open(url, format=form, options=options, timeout=(source.timeout, source.timeout))
    except (av.FFmpegError, OSError, ValueError, RuntimeError) as error:
        raise explain(error, source.address, opening=True) from None
    try:
        return VideoFeed(container, _pictures(container, source), source.address, source.kind.live, max_pixels)
    except SourceError:
        container.close()
        raise


def _target(source: Definition, secret: str) -> tuple[str, str | None, dict[str, str]]:
    """What FFmpeg is told to open."""
    if source.kind is Kind.v4l2:
        asked = {"video_size": source.size, "input_format": source.pixel_format}
        return source.address, "v4l2", {name: value for name, value in asked.items() if value}
    if source.kind is Kind.video:
        return f"file:{source.address}", None, {"protocol_whitelist": "file"}
    options = {"protocol_whitelist": NETWORK}
    if source.address.lower().startswith("rtsp"):
        options |= {"rtsp_transport": source.transport}
    return addresses.filled(source.address, secret), None, options


def _pictures(container: InputContainer, source: Definition) -> VideoStream:
    if not container.streams.video:
        raise SourceError(f"{source.address} has no pictures in it.", "give a video, or another path of the camera.")
    stream = container.streams.video[0]
    context: Any = stream.codec_context
    if context is None:
        raise SourceError(
            f"{source.address} has pictures in a codec that is not supported.", "have it send H.264, H.265, MJPEG, VP9 or AV1."
        )
    context.thread_count = THREADS
    if source.keyframes:
        context.skip_frame = "NONKEY"
    return stream


STEPS = {
    errno.ECONNREFUSED: ("does not listen", "look whether the camera is on, and whether the port is right."),
    errno.ENOENT: ("is not there", "look whether the path is right; of a camera, whether it is plugged in."),
    errno.ENODEV: ("is not there", "plug the camera in again."),
    errno.ENXIO: ("is not there", "plug the camera in again."),
    errno.EBUSY: ("is used by another program", "stop that program."),
    errno.EACCES: ("may not be read by this user", "give this user the right to read it; for a camera: the group video."),
    errno.EHOSTUNREACH: ("cannot be reached", "check the network and the address."),
    errno.ENETUNREACH: ("cannot be reached", "check the network and the address."),
    errno.ETIMEDOUT: ("does not answer", "check the network and the address."),
    errno.ECONNRESET: ("closed the connection", "look whether the camera or its server was restarted."),
    errno.EPIPE: ("closed the connection", "look whether the camera or its server was restarted."),
    errno.EISDIR: ("is a directory", "a directory is a source of the kind folder."),
    errno.EPROTONOSUPPORT: ("does not send in that way", "try the other transport of RTSP: --transport udp, or tcp."),
    errno.EIO: ("does not answer", "check its name or address, and whether the device is still there."),
    errno.ENOMEM: ("needs more memory than there is", "have it send smaller frames."),
}


def explain(error: Exception, name: str, *, opening: bool) -> SourceError:
    """FFmpeg's error as one of ours, without the URL that it was about."""
    import av

    if isinstance(error, av.error.ExitError):
        what = "did not answer in time" if opening else "sent no frame in time"
        return SourceError(f"{name} {what}.", "check the camera and the network, or raise the source's timeout.")
    if isinstance(error, (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError)):
        return SourceError(
            f"{name} refuses user or password.", "put the user into the URL, and give the password as --password."
        )
    if isinstance(error, av.error.HTTPNotFoundError):
        return SourceError(f"{name}: the server has nothing at that path.", "look up the path in the camera's manual.")
    if isinstance(error, (av.error.DecoderNotFoundError, av.error.DemuxerNotFoundError, av.error.PatchWelcomeError)):
        return SourceError(f"{name} has a codec that is not supported.", "have it send H.264, H.265, MJPEG, VP9 or AV1.")
    if isinstance(error, av.error.InvalidDataError):
        return SourceError(f"{name} is no video, or a damaged one.", "play it with another program; copy it again.")
    what, step = STEPS.get(getattr(error, "errno", None) or 0, ("", ""))
    if what:
        return SourceError(f"{name} {what}.", step)
    told = getattr(error, "strerror", None) or type(error).__name__
    return SourceError(f"{name} failed: {told}.", "see docs/sources.md for what may be wrong.")

"""Bytes in, a recording out; what is none, or too long, is refused."""

from __future__ import annotations

import io
import wave
from typing import TYPE_CHECKING, Any

from appliance.core.inference.model import Sound
from appliance.errors import SoundError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LONGEST = 3600.0
"""Seconds of a recording."""
MOST_CHANNELS = 32
MOST_VALUES = 64_000_000
"""Samples of all channels together, 256 MB: an hour of one channel at 16 kHz. A few kB of silence may unpack to far more."""
FORMATS = "wav,w64,aiff,au,caf,flac,mp3,ogg,aac,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,asf,amr"
"""FFmpeg's names. Others name further files, or open ports (SDP): bytes must not have the appliance do that."""
WIDTHS = (1, 2, 3, 4, 8)
"""Bytes of a sample of plain WAV that are read here."""
NEXT = "give a recording as WAV, FLAC, MP3, Ogg or M4A."


def decode(data: bytes, source: str, longest: float = LONGEST) -> Sound:
    """Decode a recording.

    Args:
        data: The file's bytes.
        source: Its name, for messages.
        longest: Refuse more seconds than these.

    Raises:
        SoundError: Not a recording, of an unknown format, truncated, or too long.
    """
    if not data:
        raise SoundError(f"{source} is empty.", NEXT)
    samples, rate = _wave(data, source, longest) or _container(data, source, longest)
    if not samples.size:
        raise SoundError(f"{source} has no samples.", NEXT)
    return Sound(samples, rate, source)


def _wave(data: bytes, source: str, longest: float) -> tuple[npt.NDArray[np.float32], int] | None:
    """Plain WAV; None where it is something else."""
    if data[:4] != b"RIFF":
        return None
    import numpy as np

    try:
        with wave.open(io.BytesIO(data)) as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            raw = file.readframes(file.getnframes())  # as many as are there: who writes into a pipe cannot say how many
    except (wave.Error, EOFError):
        return None
    if width not in WIDTHS:
        return None
    _check(rate, channels, len(raw) // (width * channels), source, longest)
    raw = raw[: len(raw) - len(raw) % (width * channels)]
    if width == 1:  # the only one without a sign
        samples = (np.frombuffer(raw, np.uint8).astype(np.float32) - np.float32(128)) / np.float32(128)
    elif width == 3:
        parts = np.zeros((len(raw) // 3, 4), np.uint8)
        parts[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        samples = parts.view("<i4").reshape(-1).astype(np.float32) / np.float32(2**31)
    else:
        samples = np.frombuffer(raw, f"<i{width}").astype(np.float32) / np.float32(2 ** (8 * width - 1))
    return samples.reshape(-1, channels), rate


def _container(data: bytes, source: str, longest: float) -> tuple[npt.NDArray[np.float32], int]:
    import av
    import numpy as np

    try:
        with av.open(io.BytesIO(data), "r", options={"format_whitelist": FORMATS}) as file:
            if not file.streams.audio:
                raise SoundError(f"{source} has no sound.", NEXT)
            stream = file.streams.audio[0]
            if stream.codec_context is None:
                raise SoundError(f"{source} is coded in a way that is not known here.", NEXT)
            rate = int(stream.rate or 0)
            parts: list[Any] = []
            count, channels = 0, 0
            for frame in file.decode(stream):
                part = _samples(frame, np)
                count, channels = count + len(part), part.shape[1]
                _check(rate, channels, count, source, longest)
                if not parts or parts[0].shape[1] == channels:
                    parts.append(part)
    except (av.FFmpegError, ValueError) as error:
        raise SoundError(f"{source} is not a recording, or is damaged{_why(error)}.", NEXT) from error
    if not parts:
        raise SoundError(f"{source} has no samples.", NEXT)
    return np.concatenate(parts), rate


def _why(error: Exception) -> str:
    """FFmpeg's reason, without its number and the name of a file that there is not; "" where it only says the same."""
    reason = str(getattr(error, "strerror", None) or error)
    return "" if reason.startswith("Invalid data") else f": {reason}"


def _samples(frame: Any, np: Any) -> npt.NDArray[np.float32]:
    """A frame as samples × channels, -1…1."""
    values = frame.to_ndarray()
    values = values.T if frame.format.is_planar else values.reshape(-1, frame.layout.nb_channels)
    if values.dtype.kind == "f":
        result: npt.NDArray[np.float32] = values.astype(np.float32)
        return result
    half = 2.0 ** (8 * values.dtype.itemsize - 1)
    shifted = values.astype(np.float32) - (half if values.dtype.kind == "u" else 0)
    scaled: npt.NDArray[np.float32] = shifted / np.float32(half)
    return scaled


def _check(rate: int, channels: int, count: int, source: str, longest: float) -> None:
    if rate < 1 or not 0 < channels <= MOST_CHANNELS:
        raise SoundError(f"{source} has {channels} channels at {rate} Hz.", NEXT)
    if count * channels > MOST_VALUES:
        raise SoundError(
            f"{source} has more than {MOST_VALUES // 1_000_000} million samples in {channels} channels.",
            "give a piece of it, or fewer channels at a lower rate.",
        )
    if count / rate > longest:
        raise SoundError(f"{source} is longer than {longest:g} s.", "give a shorter one, or a piece of it.")

"""Sound of any rate, width and number of channels as mono, 16 bit.

The package's own converter adds channels up (two loud ones clip), takes two of them at most, and resamples without a filter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appliance.core.voice.model import WIDTH
from appliance.core.voice.wyoming.wire import NonsenseError

if TYPE_CHECKING:
    import soxr

RATES = (4000, 384_000)
WIDTHS = (1, 2, 3, 4)
CHANNELS = 16
"""Most of them."""


class Converter:
    """Converts a stream.

    Args:
        rate: Samples a second of what comes.
        width: Bytes of its samples; 1 is unsigned, the others are signed and little-endian.
        channels: Of what comes; the mean of them is taken.
        to_rate: Samples a second of what goes; None for the same rate.

    Raises:
        NonsenseError: There is no such sound.
    """

    def __init__(self, rate: Any, width: Any, channels: Any, to_rate: int | None = None) -> None:
        whole = all(type(each) is int for each in (rate, width, channels))
        if not whole or not RATES[0] <= rate <= RATES[1] or width not in WIDTHS or not 1 <= channels <= CHANNELS:
            raise NonsenseError(f"sound of {rate!r:.20} Hz, {width!r:.20} bytes, {channels!r:.20} channels")
        self.rate = to_rate or int(rate)
        """Samples a second of what goes."""
        self.format = (rate, width, channels)
        self._block = int(width * channels)
        self._rate = float(rate)
        self._rest = b""
        self._resampler: soxr.ResampleStream | None = None
        if self.rate != rate:
            import soxr

            self._resampler = soxr.ResampleStream(rate, self.rate, 1, dtype="int16", quality="HQ")

    @property
    def seconds_of(self) -> float:
        """Seconds of a byte that comes."""
        return 1.0 / (self._block * self._rate)

    @property
    def plain(self) -> bool:
        """Nothing is to be converted: `feed` costs nothing, else it loads libraries and computes: call it in a thread."""
        return self.format[1:] == (WIDTH, 1) and self._resampler is None

    def feed(self, sound: bytes, *, last: bool = False) -> bytes:
        """Convert the next piece; what is not a whole sample waits for the next one. With `last`, the end comes too."""
        whole = self._rest + sound if self._rest else sound
        cut = len(whole) - len(whole) % self._block
        self._rest = whole[cut:]
        if self.plain:
            return whole[:cut]
        samples = _mono(whole[:cut], self.format[1], self.format[2])
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples, last=last)
        return bytes(samples.tobytes())


def _mono(sound: bytes, width: int, channels: int) -> Any:
    """Samples as int16."""
    import numpy as np

    if width == 1:
        samples = (np.frombuffer(sound, np.uint8).astype(np.int32) - 128) << 8
    elif width == 3:  # the upper two bytes of each
        samples = np.frombuffer(sound, np.uint8).reshape(-1, 3)[:, 1:].copy().view("<i2").reshape(-1).astype(np.int32)
    elif width == 4:
        samples = np.frombuffer(sound, "<i4") >> 16
    else:
        samples = np.frombuffer(sound, "<i2").astype(np.int32)
    if channels > 1:
        samples = samples.reshape(-1, channels).mean(axis=1)
    return np.clip(np.rint(samples), -32768, 32767).astype("<i2")

"""Sound as it comes from the microphone: made good for what listens, and measured for the meters."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from appliance.core.voice.model import RATE, SoundLevel

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FLOOR_DB = -96.0
"""dBFS: what 16 bits can tell at the least."""
WINDOW = 2048
"""Samples (128 ms) of which the level is taken."""
BANDS = 16
LOWEST_HZ = 60.0
HIGHEST_HZ = 8000.0
SETTLE = 31
"""Frames (1 s of them) over which the offset is averaged."""
SILENT_SECONDS = 5.0
CLIPPED_SHARE = 0.002
"""Of the samples of a second at full scale; speech that is too loud reaches percents."""
OFFSET_SHARE = 0.03


class Conditioner:
    """Takes the direct current out of the sound, and measures it. Not for several threads at one time.

    The offset is a running mean over about a second that is taken away along a ramp: it follows a drifting microphone, leaves
    all that can be heard as it is, and adds no delay. Digital silence (a muted microphone) stays so, and teaches nothing.

    Args:
        wall: The wall clock, seconds.
    """

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._offset = 0.0
        self._seen = 0
        self._last: deque[npt.NDArray[np.int16]] = deque()
        self._held = 0
        self._full: deque[tuple[int, int]] = deque()
        self._counted = self._clipped = 0
        self._silent = 0

    @property
    def silent_seconds(self) -> float:
        """How long there has been digital silence: no sample differed from another."""
        return self._silent / RATE

    def feed(self, pcm: bytes) -> bytes:
        """Take sound, best a frame at a time; returns as much, without its offset."""
        import numpy as np

        raw = np.frombuffer(pcm, "<i2")
        if not raw.size:
            return pcm
        low, high = int(raw.min()), int(raw.max())
        self._silent = self._silent + raw.size if low == high else 0
        self._count(raw.size, int(np.count_nonzero((raw == 32767) | (raw == -32768))) if high == 32767 or low == -32768 else 0)
        if low == high == 0:
            return self._keep(raw, pcm)
        before = self._learn(float(raw.mean()))
        ramp = np.linspace(before, self._offset, raw.size)
        clean = np.clip(np.rint(raw - ramp), -32768, 32767).astype("<i2")
        return self._keep(clean, clean.tobytes())

    def _learn(self, mean: float) -> float:
        """Take in the mean of a frame; returns what the offset was taken to be before."""
        self._seen = min(self._seen + 1, SETTLE)
        before = self._offset
        self._offset += (mean - before) / self._seen
        return self._offset if self._seen == 1 else before

    def _count(self, size: int, clipped: int) -> None:
        self._full.append((size, clipped))
        self._counted += size
        self._clipped += clipped
        while self._counted - self._full[0][0] >= RATE:
            size, clipped = self._full.popleft()
            self._counted -= size
            self._clipped -= clipped

    def _keep(self, samples: npt.NDArray[np.int16], pcm: bytes) -> bytes:
        self._last.append(samples)
        self._held += samples.size
        while self._held - self._last[0].size >= WINDOW:
            self._held -= self._last.popleft().size
        return pcm

    def level(self, speech: float = 0.0, direction: int | None = None) -> SoundLevel:
        """Measure the last 128 ms; costs a third of a millisecond, so it is for whoever looks at it.

        0 dBFS is the loudest that can be: a sine at full scale has -3.

        Args:
            speech: Probability that it is speech.
            direction: Degrees, where an array tells it.
        """
        import numpy as np

        last = np.concatenate(self._last)[-WINDOW:] if self._last else np.zeros(0, np.int16)
        wave = last.astype(np.float64) / 32768
        return SoundLevel(
            time=self._wall(),
            rms_db=_db(float(np.mean(wave**2))) if wave.size else FLOOR_DB,
            peak_db=_db(float(np.max(np.abs(wave))) ** 2) if wave.size else FLOOR_DB,
            clipped=self._share(),
            offset=self._offset / 32768,
            bands=bands(wave),
            speech=speech,
            direction=direction,
            problem=self._problem(),
        )

    def _share(self) -> float:
        return self._clipped / self._counted if self._counted else 0.0

    def _problem(self) -> str:
        if self.silent_seconds >= SILENT_SECONDS:
            return "silent"
        if self._share() >= CLIPPED_SHARE:
            return "clipped"
        return "offset" if abs(self._offset) >= OFFSET_SHARE * 32768 else ""


def bands(wave: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """The power in 16 bands, 60 Hz to 8 kHz, even in octaves, dBFS.

    Args:
        wave: Up to WINDOW samples, full scale 1.
    """
    import numpy as np

    if not wave.size:
        return (FLOOR_DB,) * BANDS
    window, edges = _tables()
    padded = np.zeros(WINDOW)
    padded[-wave.size :] = wave
    power = np.abs(np.fft.rfft(padded * window)) ** 2
    power[1:-1] *= 2
    power /= WINDOW * float(np.sum(window**2))  # Parseval: all bins together are the mean square
    return tuple(_db(float(each)) for each in np.add.reduceat(power, edges)[:BANDS])


@cache
def _tables() -> tuple[Any, Any]:
    """The window of Hann, and the first bin of each band, and of what lies beyond."""
    import numpy as np

    hz = LOWEST_HZ * (HIGHEST_HZ / LOWEST_HZ) ** (np.arange(BANDS + 1) / BANDS)
    return np.hanning(WINDOW), np.rint(hz * WINDOW / RATE).astype(int)


def _db(square: float) -> float:
    """The mean of squares (full scale 1) in dBFS."""
    return round(max(FLOOR_DB, 10 * math.log10(square)), 2) if square > 0 else FLOOR_DB

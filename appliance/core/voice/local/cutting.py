"""Sound before it is recognised: without silence at its end, and in parts where it is long."""

from __future__ import annotations

import numpy as np

from appliance.core.voice.model import FRAME, RATE, WIDTH

QUIET = 0.01
"""A frame with so little of the loudest frame's amplitude (40 dB less) is silence at the end."""
MARGIN = 4
"""Frames of it that stay; 128 ms, less than the pause after which speech is recognised for a first time."""
PART = 12 * RATE
"""Samples of the longest part: the encoder's work grows with the square of the length."""
SEEK = 4 * RATE
"""Samples before that in which the quietest place is looked for."""
BYTES = FRAME * WIDTH


def levels(pcm: bytes) -> np.ndarray:
    """RMS of each whole frame, samples from -32768 to 32767."""
    sound = np.frombuffer(pcm[: len(pcm) // BYTES * BYTES], "<i2").astype(np.float32).reshape(-1, FRAME)
    return np.sqrt((sound * sound).mean(1)) if len(sound) else np.zeros(0, np.float32)


def trimmed(pcm: bytes) -> bytes:
    """Without the silence at its end: the same speech with more silence after it is the same sound then, and known already."""
    heights = levels(pcm)
    if not heights.size:
        return pcm
    loud = np.flatnonzero(heights > QUIET * heights.max())
    return pcm[: (int(loud[-1]) + 1 + MARGIN) * BYTES] if loud.size else pcm


def parts(pcm: bytes) -> list[bytes]:
    """Parts of PART samples at most, cut where it is quietest."""
    found = []
    while len(pcm) > PART * WIDTH:
        heights = levels(pcm[(PART - SEEK) * WIDTH : PART * WIDTH])
        at = ((PART - SEEK) // FRAME + int(heights.argmin())) * BYTES
        found.append(pcm[:at])
        pcm = pcm[at:]
    return [*found, pcm]

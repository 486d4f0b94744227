"""Short tones that say what words would say too slowly."""

from __future__ import annotations

from functools import cache

from appliance.core.voice.model import RATE, Speech

NOTES: dict[str, tuple[tuple[float, float], ...]] = {
    "listening": ((660.0, 0.06), (880.0, 0.08)),
    "done": ((880.0, 0.05), (660.0, 0.07)),
    "trouble": ((440.0, 0.06), (0.0, 0.02), (370.0, 0.07)),
}
"""Hertz (0: none) and seconds of each note; 150 ms at most. Plain sines: low ones with overtones are taken for speech."""
LOUDNESS = 0.25
"""Peak, share of full scale."""
EDGE_SECONDS = 0.008
"""Each note swells and fades: without, it would click."""


@cache
def tone(kind: str) -> Speech:
    """A tone: "listening" (rises), "done" (falls) or "trouble" (low, twice).

    Raises:
        KeyError: There is no such tone.
    """
    import numpy as np

    parts = []
    for hertz, seconds in NOTES[kind]:
        time = np.arange(round(seconds * RATE)) / RATE
        wave = np.sin(2 * np.pi * hertz * time)
        edge = np.minimum(1.0, np.minimum(time, time[::-1]) / EDGE_SECONDS)
        parts.append(wave * np.sin(np.pi / 2 * edge) ** 2)
    whole = np.concatenate(parts)
    pcm = np.rint(whole / np.max(np.abs(whole)) * LOUDNESS * 32767).astype("<i2").tobytes()
    return Speech(pcm, RATE, "tone")

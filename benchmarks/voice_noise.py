"""Sounds that are no commands: white and pink noise, hum, many people talking, music."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from appliance.core.voice.model import RATE
from benchmarks.voice_texts import passages
from benchmarks.voice_voices import VOICES, Sound, kept

Values = np.ndarray[Any, np.dtype[Any]]

LEVEL = -26.0
"""dBFS of speech while it is spoken: what ITU-T P.56 is measured at by custom."""
MARGIN = 15.9
"""Frames so many dB below the active level are pauses (ITU-T P.56)."""
BLOCK = RATE // 50
NOISES = ("white", "pink", "babble", "hum")
TALKERS = 6
BABBLE = 60.0
"""Seconds of it that are made; a piece begins anywhere in it."""
NOTES = (0, 2, 4, 7, 9, 12, 14, 16)


def active_level(sound: Sound) -> float:
    """Loudness (dBFS) while somebody speaks, pauses left out: the idea of ITU-T P.56, over blocks of 20 ms."""
    whole = len(sound) // BLOCK * BLOCK
    energy = np.mean((sound[:whole].astype(float) / 32768).reshape(-1, BLOCK) ** 2, axis=1)
    spoken = energy > 0
    for _ in range(20):
        level = float(np.mean(energy[spoken]))
        now = energy > level * 10 ** (-MARGIN / 10)
        if (now == spoken).all():
            break
        spoken = now
    return 10 * float(np.log10(np.mean(energy[spoken])))


def at_level(sound: Sound, level: float = LEVEL) -> Sound:
    """The same, so loud."""
    return clipped(sound * 10 ** ((level - active_level(sound)) / 20))


def clipped(values: Values) -> Sound:
    """As 16 bit."""
    return np.clip(np.round(values), -32768, 32767).astype(np.int16)


def noise(kind: str, count: int, seed: int) -> Values:
    """So many samples with a mean power of 1; the same seed gives the same."""
    random = np.random.default_rng(seed)
    if kind == "babble":
        whole = babble().astype(float)
        begin = int(random.integers(len(whole)))
        values = np.take(whole, np.arange(begin, begin + count), mode="wrap")
    elif kind == "hum":
        time = np.arange(count) / RATE
        values = 0.05 * random.standard_normal(count)
        for k in range(1, 12):
            values += np.sin(2 * np.pi * 50 * k * time + random.uniform(0, 6.28)) / k
    else:
        if kind not in NOISES:
            raise ValueError(f"{kind} is no noise")
        values = random.standard_normal(count)
        if kind == "pink":
            spectrum = np.fft.rfft(values)
            values = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), count)
    return np.asarray(values / np.sqrt(np.mean(values**2)))


def babble() -> Sound:
    """Several voices that read different texts at a time."""

    def make() -> Sound:
        count = int(BABBLE * RATE)
        mix = np.zeros(count)
        for number in range(TALKERS):
            own = passages(seed=900 + number)
            said = np.zeros(0, np.int16)
            while len(said) < count:
                said = np.concatenate([said, at_level(VOICES[number % len(VOICES)].speak(next(own)))])
            mix += said[:count]
        return clipped(mix / TALKERS)

    return kept(("babble", TALKERS, BABBLE), make)


def in_noise(speech: Sound, kind: str, snr: float, seed: int) -> Sound:
    """Speech at LEVEL, and noise so many dB below it while it is spoken."""
    loud = 32768 * 10 ** ((LEVEL - snr) / 20)
    return clipped(at_level(speech).astype(float) + loud * noise(kind, len(speech), seed))


def music(seconds: float, seed: int) -> Sound:
    """Chords, a bass, a tune and a drum, which nobody has composed."""
    random = np.random.default_rng(seed)
    beat = 60 / random.uniform(80, 140)
    mix = np.zeros(int(seconds * RATE) + 4 * RATE)
    for number in range(int(seconds / beat)):
        at = int(number * beat * RATE)
        for tone, loud, long in _beat(number, random):
            values = _tone(110 * 2 ** (tone / 12), long * beat) * loud
            mix[at : at + len(values)] += values
        drum = random.standard_normal(RATE // 10) * np.exp(-np.arange(RATE // 10) / (RATE / 60))
        mix[at : at + len(drum)] += 0.4 * drum
    mix = mix[: int(seconds * RATE)]
    return clipped(32768 * 10 ** (LEVEL / 20) * mix / np.sqrt(np.mean(mix**2)))


def _beat(number: int, random: np.random.Generator) -> Iterator[tuple[int, float, float]]:
    """(half tones above 110 Hz, loudness, beats) of what begins there."""
    root = (0, 5, 7, 9)[number // 4 % 4]
    if number % 4 == 0:
        yield from ((root + step, 0.3, 4.0) for step in (0, 4, 7))
    yield root - 12, 0.5, 1.0
    yield 12 + int(random.choice(NOTES)), 0.5, float(random.choice((0.5, 1.0, 2.0)))


def _tone(frequency: float, seconds: float) -> Values:
    time = np.arange(int(seconds * RATE)) / RATE
    wave = sum(np.sin(2 * np.pi * frequency * k * time) / k**1.5 for k in range(1, 6))
    return np.asarray(wave * np.exp(-time * 3 / seconds))

"""Real speech of the machine's own voices, noise and music, for what listens."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import soxr

from appliance.core.voice.local.wave import unwrapped
from appliance.core.voice.model import FRAME, FRAME_SECONDS, RATE, Frame
from tests.support import needs_program

Wave = npt.NDArray[np.float64]
"""Samples, full scale 32768."""


@cache
def said(text: str, voice: str = "en-us") -> Wave:
    """A text in a voice of espeak-ng ("en-us", …) or flite ("slt", …), 16 kHz, nothing around it."""
    if voice in {"slt", "awb", "rms", "kal16"}:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "said.wav"
            subprocess.run([needs_program("flite"), "-voice", voice, "-t", text, "-o", str(path)], check=True, timeout=60)
            wav = path.read_bytes()
    else:
        command = [needs_program("espeak-ng"), "--stdin", "--stdout", "-v", voice]
        wav = subprocess.run(command, input=text.encode(), capture_output=True, check=True, timeout=60).stdout
    pcm, rate = unwrapped(wav)
    wave = soxr.resample(np.frombuffer(pcm, "<i2").astype(np.float64), rate, RATE)
    loud = np.flatnonzero(np.abs(wave) > 0.01 * np.max(np.abs(wave)))
    return np.asarray(wave[loud[0] : loud[-1] + 1])


def silence(seconds: float) -> Wave:
    return np.zeros(round(seconds * RATE))


def noise(seconds: float, rms: float, seed: int = 1) -> Wave:
    return np.random.default_rng(seed).normal(0, rms, round(seconds * RATE))


def chord(seconds: float, rms: float = 3000) -> Wave:
    """Music of a kind: a chord of decaying notes, four a second."""
    time = np.arange(round(seconds * RATE)) / RATE
    fading = np.exp(-6 * (time % 0.25))
    wave = sum(np.sin(2 * np.pi * 220 * 2 ** (step / 12) * time) for step in (0, 4, 7, 12)) * fading
    return np.asarray(wave / np.sqrt(np.mean(wave**2)) * rms)


def in_noise(wave: Wave, db: float, seed: int = 1) -> Wave:
    """With noise so many dB below its power where it is not silent."""
    sounding = wave[np.abs(wave) > 0]
    rms = float(np.sqrt(np.mean(sounding**2))) / 10 ** (db / 20)
    return wave + noise(len(wave) / RATE, rms, seed)[: len(wave)]


def pcm(*waves: Wave) -> bytes:
    return np.clip(np.rint(np.concatenate(waves)), -32768, 32767).astype("<i2").tobytes()


def frames(sound: bytes, began: float = 100.0) -> Iterator[Frame]:
    """Whole frames; the clock says `began` when the first sample is taken."""
    for number in range(len(sound) // (2 * FRAME)):
        yield Frame(sound[2 * FRAME * number : 2 * FRAME * (number + 1)], began + (number + 1) * FRAME_SECONDS)

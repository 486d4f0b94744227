"""Six synthetic voices that speak any text; what was spoken once is kept."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from appliance.core.voice.model import RATE

Sound = np.ndarray[Any, np.dtype[np.int16]]
"""Mono, 16 bit, RATE samples a second."""
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "prime-spark-bench" / "voice"
QUIET = 60
"""Samples not above it, before and after speech, are taken away."""
EDGE = RATE // 50
"""Samples that are left there."""


@dataclass(frozen=True)
class Voice:
    """One of them.

    Attributes:
        engine: "flite" or "espeak-ng".
        argument: Its name for it.
        tune: Thresholds may be chosen on it; the others are there to tell whether that was right.
    """

    name: str
    engine: str
    argument: str
    tune: bool

    def speak(self, text: str) -> Sound:
        """The sound of a text, without silence around it."""
        return kept(("speak", self.engine, self.argument, text), lambda: self._speak(text))

    def _speak(self, text: str) -> Sound:
        with tempfile.TemporaryDirectory(prefix="spark-voice-") as own:
            file, words = Path(own) / "spoken.wav", Path(own) / "words.txt"
            words.write_text(text)
            if self.engine == "flite":
                command = ["flite", "-voice", self.argument, "-f", str(words), "-o", str(file)]
            else:
                command = ["espeak-ng", "-v", self.argument, "-s", "160", "-f", str(words), "-w", str(file)]
            subprocess.run(command, check=True, capture_output=True, timeout=300)
            return trimmed(read(file))


VOICES = (
    Voice("slt", "flite", "slt", True),
    Voice("rms", "flite", "rms", True),
    Voice("awb", "flite", "awb", False),
    Voice("en-us", "espeak-ng", "en-us", True),
    Voice("en-us+f3", "espeak-ng", "en-us+f3", True),
    Voice("en-gb-x-rp", "espeak-ng", "en-gb-x-rp", False),
)


def read(file: Path) -> Sound:
    """A WAVE file of 16 bit, its first channel, at our rate."""
    with wave.open(str(file)) as source:
        block = np.frombuffer(source.readframes(source.getnframes()), "<i2").reshape(-1, source.getnchannels())
        rate = source.getframerate()
    mono = np.ascontiguousarray(block[:, 0])
    return mono if rate == RATE else np.asarray(soxr.resample(mono, rate, RATE), np.int16)


def trimmed(sound: Sound) -> Sound:
    """It without the silence before and after it."""
    loud = np.flatnonzero(np.abs(sound.astype(int)) > QUIET)
    return sound[max(0, loud[0] - EDGE) : loud[-1] + EDGE] if len(loud) else sound[:0]


def kept(key: tuple[object, ...], make: Callable[[], Sound]) -> Sound:
    """What is kept under a key; made where it is not there yet. Many processes may ask at a time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    file = CACHE / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:24]}.npy"
    if not file.exists():
        part = file.with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as target:
            np.save(target, make())
        part.replace(file)
    return np.asarray(np.load(file), np.int16)

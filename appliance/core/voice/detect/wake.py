"""Wake words: microWakeWord's models hear them, the shipped ones and the operator's own."""

from __future__ import annotations

import functools
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import appliance
from appliance.core.voice.detect.listening import Listening
from appliance.core.voice.detect.manifests import UnusableError, manifest, normal, one_line
from appliance.core.voice.model import Hit, WakeStatus

if TYPE_CHECKING:
    from pymicro_wakeword import MicroWakeWord, MicroWakeWordFeatures

ROOT = str(Path(appliance.__file__).resolve().parent.parent)
"""Where the package lies: it need not be installed."""
TRY_SECONDS = 20.0
"""A model of the operator's is tried so long, in a process of its own: a damaged file ends that, not the appliance."""
SHIPPED = ("alexa", "hey jarvis", "hey mycroft", "okay nabu")
"""What the library's own models hear."""
INSTALL = "pip install -r requirements/run.txt"
LEAST, MOST = 0.4, 0.99
"""Thresholds go no further, however the sensitivity is set; 1 is never reached."""
SPREAD = 6.0
"""How far the sensitivity moves a threshold, in natural logarithms of the odds."""


class WakeModels:
    """Listens for wake words. Not for several threads at one time; making it blocks, for each of `paths` up to seconds.

    What cannot be loaded is told in `statuses`; its phrase is then among `uncovered`, for the speech recognition to hear.

    Args:
        phrases: What to listen for, such as "okay nabu"; those that no model knows are `uncovered`.
        paths: Manifests of further models; their wake words are listened for too.
        sensitivity: 0 to 1; at 0.5 each model's own threshold holds.
        wall: The wall clock, seconds.
    """

    def __init__(
        self, phrases: Iterable[str], paths: Iterable[str] = (), sensitivity: float = 0.5, wall: Callable[[], float] = time.time
    ) -> None:
        self._models: dict[str, Listening] = {}
        self._broken: list[WakeStatus] = []
        wanted = tuple(dict.fromkeys(normal(phrase) for phrase in phrases))
        for path in paths:
            self._add(Path(path).expanduser(), sensitivity, wall)
        for phrase in wanted:
            if phrase in SHIPPED and phrase not in self._models:
                self._load(phrase, None, sensitivity, wall)
        self.uncovered = tuple(phrase for phrase in wanted if phrase not in self._models)
        """Phrases that no model hears."""
        self._front = _features() if self._models else None

    def _add(self, path: Path, sensitivity: float, wall: Callable[[], float]) -> None:
        """Take one of the operator's own, if it is whole."""
        phrase = normal(path.stem)
        try:
            phrase = normal(manifest(path).wake_word)
            tried(path)
        except UnusableError as problem:
            self._broken.append(WakeStatus(phrase, path.name, problem=str(problem)))
            return
        self._load(phrase, path, sensitivity, wall)

    def _load(self, phrase: str, path: Path | None, sensitivity: float, wall: Callable[[], float]) -> None:
        try:
            model = load(path or shipped(phrase))
        except (ImportError, OSError, RuntimeError, ValueError, KeyError) as error:
            told = f"it cannot be loaded: {one_line(error)}. Next: {'see voice.wake_models' if path else INSTALL}"
            self._broken.append(WakeStatus(phrase, path.name if path else "pymicro-wakeword", problem=told))
            return
        self._models[phrase] = Listening(phrase, model, threshold(model.probability_cutoff, sensitivity), wall)

    def feed(self, pcm: bytes) -> tuple[Hit, ...]:
        """Take sound (core.voice.model.RATE, any length); returns what was just heard, highest score first."""
        if self._front is None:
            return ()
        hits: list[Hit] = []
        for features in self._front.process_streaming(pcm):
            hits += [hit for model in self._models.values() if (hit := model.feed(features)) is not None]
        return tuple(sorted(hits, key=lambda hit: -hit.score))

    def statuses(self) -> tuple[WakeStatus, ...]:
        """How each word is that a model hears, or should hear; those of `uncovered` are not among them but where one failed."""
        return (*(model.status() for model in self._models.values()), *self._broken)

    def reset(self) -> None:
        """Forget what was just heard: after a gap, or when an utterance has ended. What is known of the room's noise stays."""
        for model in self._models.values():
            model.reset()


def threshold(cutoff: float, sensitivity: float) -> float:
    """The score that wakes: the model's own at a sensitivity of 0.5; higher sensitivities lower it.

    Args:
        cutoff: The model's own, between 0 and 1.
        sensitivity: 0 to 1.
    """
    odds = math.log(cutoff / (1 - cutoff)) + (0.5 - sensitivity) * SPREAD
    moved = round(1 / (1 + math.exp(-odds)), 4)
    return min(max(cutoff, MOST), max(min(cutoff, LEAST), moved))


def tried(path: Path) -> None:
    """Load a model and let it hear a second of silence, in a process of its own, once for as long as its files are the same.

    Blocks. Raises UnusableError.
    """
    files = (path, path.parent / manifest(path).model)
    try:
        states = tuple((found.st_mtime_ns, found.st_size) for found in map(Path.stat, files))
    except OSError as error:
        raise UnusableError(f"{path} is gone: {one_line(error)}. Next: see voice.wake_models") from None
    _tried(path.absolute(), states)


@functools.lru_cache(16)
def _tried(path: Path, files: tuple[tuple[int, int], ...]) -> None:
    """The same; `files` says which state of the files was tried."""
    code = "import sys; from appliance.core.voice.detect import wake; wake.listen_once(sys.argv[1])"
    command = [sys.executable, "-P", "-c", code, str(path)]
    try:
        ran = subprocess.run(  # noqa: S603 -- our own interpreter, with an argument and no shell
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TRY_SECONDS, check=False,
            env={**os.environ, "PYTHONPATH": ROOT},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnusableError(f"{path} could not be tried: {one_line(error)}") from None
    if ran.returncode:
        said = ran.stderr.decode(errors="replace").strip().splitlines()
        how = said[-1] if ran.returncode > 0 and said else f"a process that loaded it ended with {ran.returncode}"
        raise UnusableError(f"the model of {path} is damaged or of another kind: {one_line(how)}. Next: train it anew")


def listen_once(path: str) -> None:
    """Load a model and use it; for the process that `tried` starts. Raises whatever goes wrong."""
    model = load(Path(path))
    score = None
    for features in _features().process_streaming(bytes(32000)):
        score = model.process_streaming_prob(features)
    if score is None or not 0 <= score <= 1:
        raise ValueError(f"its score is {score}, not between 0 and 1")


def load(path: Path) -> MicroWakeWord:
    """Load a model by its manifest.

    Raises ImportError, OSError, RuntimeError, ValueError or KeyError; but a damaged model ends the process.
    """
    from pymicro_wakeword import MicroWakeWord

    return MicroWakeWord.from_config(path)


def shipped(phrase: str) -> Path:
    """The manifest of a model that came with the library. Raises ImportError, OSError."""
    import pymicro_wakeword

    return Path(pymicro_wakeword.__file__).parent / "models" / f"{phrase.replace(' ', '_')}.json"


def _features() -> MicroWakeWordFeatures:
    from pymicro_wakeword import MicroWakeWordFeatures

    return MicroWakeWordFeatures()

"""Manifests of wake models: the JSON file beside each model of microWakeWord."""

from __future__ import annotations

from pathlib import Path

import msgspec

from appliance.core.printable import printable

SAME = {"ok": "okay"}
"""Words that are written in two ways."""
STEP_MS = 10
"""From one set of features to the next, as the library makes them."""


class Micro(msgspec.Struct):
    """What a manifest says of how to use the model."""

    probability_cutoff: float
    sliding_window_size: int
    feature_step_size: int = STEP_MS


class Manifest(msgspec.Struct):
    """The JSON file beside a model of microWakeWord, version 2."""

    type: str
    wake_word: str
    model: str
    micro: Micro
    version: int = 1


class UnusableError(Exception):
    """Why a model cannot be used, and the next step; it becomes `WakeStatus.problem`."""


def normal(phrase: str) -> str:
    """A phrase as phrases are compared: lower case, single blanks, "ok" as "okay"."""
    words = "".join(char if char.isalnum() or char == "'" else " " for char in phrase.lower()).split()
    return " ".join(SAME.get(word, word) for word in words)


def manifest(path: Path) -> Manifest:
    """Read a manifest, and see that this program can use its model. Raises UnusableError."""
    try:
        told = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise UnusableError(f"{path} is not there. Next: see voice.wake_models") from None
    except (OSError, msgspec.DecodeError) as error:
        raise UnusableError(f"{path} is no manifest of microWakeWord: {one_line(error)}. Next: see voice.wake_models") from None
    phrase, micro = normal(told.wake_word), told.micro
    if told.type != "micro" or told.version < 2 or micro.feature_step_size != STEP_MS:
        raise UnusableError(f"{path} is for another kind of model. Next: train it with microWakeWord, version 2")
    if not phrase or not 0 < micro.probability_cutoff < 1 or not 1 <= micro.sliding_window_size <= 100:
        raise UnusableError(f"{path}: its wake word, cutoff or window cannot be used. Next: see what trained it")
    if not (path.parent / told.model).is_file():
        raise UnusableError(f"the model {told.model} is not beside {path}. Next: put it there")
    return told


def one_line(error: object) -> str:
    """An error's text, short and without control characters."""
    return printable(" ".join(str(error).split()))[:200]

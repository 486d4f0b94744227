"""Looks at what a model gave before anything is read out of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from appliance.core.inference.manifest import Manifest
from appliance.errors import ModelError

Array = npt.NDArray[Any]
SLACK = 0.05
"""By so much a score may leave 0…1: models of half floats or bytes round."""
MEND = "mend the manifest, or use the model's other version."


def arrays(outputs: Sequence[Any], manifest: Manifest) -> list[Array]:
    """The outputs as float32 arrays. Raises ModelError where one is none, or holds what is no number."""
    found = []
    for output in outputs:
        try:
            array = np.asarray(output)
        except ValueError as error:  # lists of different lengths, such as Hailo's boxes by class
            raise ModelError(
                f"{manifest.name} gives lists where an array is wanted.", "set hef_decode in the manifest."
            ) from error
        if array.dtype.kind not in "fiu":
            raise ModelError(f"{manifest.name} gives {array.dtype.name} where numbers are wanted.", MEND)
        array = array.astype(np.float32, copy=False)
        if not np.isfinite(array).all():
            bad = int(array.size - np.isfinite(array).sum())
            raise ModelError(
                f"{manifest.name} gives {bad} values that are no numbers (NaN or infinite) of {array.size}.",
                "verify the model, and the device that it ran on: run it on the CPU.",
            )
        found.append(array)
    return found


def count(found: Sequence[Any], least: int, manifest: Manifest) -> None:
    """Raises ModelError where there are fewer outputs than the head needs."""
    if len(found) < least:
        raise ModelError(f"{manifest.name} gives {len(found)} outputs; its head needs {least}.", MEND)


def probable(scores: Array, manifest: Manifest) -> Array:
    """Scores that are probabilities. Raises ModelError where they are not: nobody may be told of 420 %."""
    if scores.size and not -SLACK <= float(scores.min()) <= float(scores.max()) <= 1 + SLACK:
        raise ModelError(
            f"{manifest.name} gives scores from {scores.min():.3g} to {scores.max():.3g}, which are no probabilities.",
            "set the head's activation in the manifest (or logits), or export the model with it.",
        )
    return np.clip(scores, 0, 1)


def misfit(manifest: Manifest, shapes: Sequence[tuple[int, ...]], asked: str) -> ModelError:
    """An error for outputs of the wrong shape.

    Args:
        manifest: Whose outputs these are.
        shapes: Theirs.
        asked: What the manifest asks for.
    """
    told = ", ".join("x".join(map(str, shape)) for shape in shapes) or "nothing"
    return ModelError(f"{manifest.name} gives {told}; {asked}.", "mend the manifest's labels or head.")


def sigmoid(values: Array) -> Array:
    """1 / (1 + e^-x), without overflow."""
    result: Array = 0.5 * (1 + np.tanh(0.5 * values))
    return result


def softmax(values: Array, axis: int = -1) -> Array:
    """e^x / sum e^x along an axis, without overflow."""
    powers = np.exp(values - values.max(axis, keepdims=True))
    result: Array = powers / powers.sum(axis, keepdims=True)
    return result


def activate(values: Array, how: str, axis: int = -1) -> Array:
    """Softmax, sigmoid, or nothing."""
    if how == "softmax":
        return softmax(values, axis)
    return sigmoid(values) if how == "sigmoid" else values

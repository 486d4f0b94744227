"""What a version must show before it may serve: its files, its shapes, and its self-test, on the devices that will run it."""

from __future__ import annotations

import asyncio
from typing import Any

from appliance.core.findings import Box, Class, Segment
from appliance.core.inference import manifest as manifests
from appliance.core.inference.manifest import Expected
from appliance.core.inference.model import Findings, ModelVersion, Priority
from appliance.core.inference.pipeline import Pipeline, Ran
from appliance.core.inference.registry.served import SAME, overlap
from appliance.errors import ImageError, ModelError, SoundError

WAIT = 120.0
"""Seconds that a self-test may take, loading included."""
LOWEST = 0.05
"""Threshold of a self-test: what it expects says how sure the model must be."""


async def examine(version: ModelVersion, pipeline: Pipeline) -> str:
    """Prove a version; what was shown, in words.

    Raises:
        ModelError: A hash, a shape, the labels, or what it finds is wrong.
        QueueFullError, DeadlineError, AbsentError: It could not be tried now.
    """
    told, directory = version.manifest, version.directory
    await asyncio.to_thread(manifests.verify_all, told, directory)
    file = told.file("self-test")
    if file is None:
        ran = await _try(version, pipeline, blank(version))
        return f"hashes and shapes are right on {ran.device}; the manifest has no self-test, so what it finds is not proven"
    data = await asyncio.to_thread((directory / file.path).read_bytes)
    try:
        sample = await pipeline.decode(version, data, file.path)
        ran = await _try(version, pipeline, sample)
    except (ImageError, SoundError) as error:
        raise ModelError(f"The self-test of {version.key} cannot be used: {error.message}", "mend the manifest.") from error
    for expected in told.expects:
        _check(expected, ran.findings, version.key)
    what = f"{len(told.expects)} expected findings are there" if told.expects else "it ran; nothing is expected of it"
    return f"hashes and shapes are right; self-test on {ran.device}: {what}"


async def _try(version: ModelVersion, pipeline: Pipeline, sample: Any) -> Ran:
    try:
        async with asyncio.timeout(WAIT):
            return await pipeline.run(version, sample, threshold=LOWEST, priority=Priority.high)
    except TimeoutError:
        raise ModelError(
            f"{version.key} gave no answer within {WAIT:.0f} s.", "it is too slow for this machine, or hangs."
        ) from None


def blank(version: ModelVersion) -> Any:
    """A grey picture, or a second of silence: its findings mean nothing, its shapes do."""
    import numpy as np

    from appliance.core.inference.image import DecodedPicture
    from appliance.core.inference.model import Sound

    told = version.manifest
    if told.sound is not None:
        return Sound(np.zeros(max(told.sound.rate, told.sound.window), np.float32), told.sound.rate, "silence")
    if told.input is not None:
        wide, tall = told.input.width, told.input.height
        return DecodedPicture(np.full((tall, wide, 3), 127, np.uint8), "grey", wide, tall)
    raise ModelError(f"The manifest of {version.key} says neither input nor sound.", "mend the manifest.")


def _check(expected: Expected, found: Findings, key: str) -> None:
    wanted = Box(expected.label, expected.score, *expected.box) if expected.box else None
    everything: list[Box | Class | Segment] = [*found.boxes, *found.classes, *found.segments]
    scored = [each for each in everything if each.label == expected.label]
    if any(each.label == expected.label for each in found.masks) and wanted is None:
        return
    if not scored:
        raise ModelError(
            f"The self-test of {key} fails: no {expected.label!r} is found.", "it is not used; get a right version."
        )
    placed = [each for each in scored if wanted is None or (isinstance(each, Box) and overlap(each, wanted) >= SAME)]
    if not placed:
        raise ModelError(f"The self-test of {key} fails: {expected.label!r} is found elsewhere.", "get a right version.")
    best = max(each.score for each in placed)
    if best < expected.score:
        raise ModelError(
            f"The self-test of {key} fails: {expected.label!r} has the score {best:.2f}, not {expected.score:g}.",
            "it is not used; get a right version.",
        )

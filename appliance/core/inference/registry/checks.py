"""What a version must show before it may serve: its files, its shapes, and its self-test, on the devices that will run it."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import msgspec

from appliance.core.findings import Box, Class, Segment
from appliance.core.inference import manifest as manifests
from appliance.core.inference.manifest import Expected
from appliance.core.inference.model import Findings, ModelVersion, Priority
from appliance.core.inference.pipeline import Pipeline, Ran, kinds_of
from appliance.core.inference.registry.served import SAME, overlap
from appliance.errors import AbsentError, DeviceError, ImageError, ModelError, SoundError

WAIT = 120.0
"""Seconds that a self-test may take, loading included."""
LOWEST = 0.05
"""Threshold of a self-test: what it expects says how sure the model must be."""


class Proof(NamedTuple):
    """What was shown.

    Attributes:
        shown: In words.
        kinds: Of the files that passed; those whose device does not work now are not among them.
    """

    shown: str
    kinds: tuple[str, ...]


async def examine(version: ModelVersion, pipeline: Pipeline, kinds: tuple[str, ...] = ()) -> Proof:
    """Prove a version: each of its files that a device can run now, loaded anew from the disk.

    Args:
        version: Which.
        pipeline: Runs it.
        kinds: Of the files to try; empty for all.

    Raises:
        ModelError: A hash, a shape, the labels, or what it finds is wrong.
        QueueFullError, DeadlineError, AbsentError, DeviceError: It could not be tried now.
    """
    await asyncio.to_thread(manifests.verify_all, version.manifest, version.directory)
    sample = await self_test(version, pipeline)
    devices, proven, missed = [], [], list[AbsentError | DeviceError]()
    for kind in kinds or kinds_of(version):
        try:
            ran = await _try(version, kind, pipeline, sample)
        except (AbsentError, DeviceError) as error:
            missed.append(error)
            continue
        for expected in version.manifest.expects if version.manifest.file("self-test") else ():
            _check(expected, ran.findings, version.key)
        devices.append(ran.device)
        proven.append(kind)
    if not proven:
        raise missed[0] if missed else AbsentError(f"{version.key} has no file that a device runs.", "add one to it.")
    return Proof(_told(version, devices, [error.message for error in missed]), tuple(proven))


def _told(version: ModelVersion, devices: list[str], missed: list[str]) -> str:
    expects, on = len(version.manifest.expects), ", ".join(devices)
    later = "".join(f"; not tried yet: {each}" for each in missed)
    if version.manifest.file("self-test") is None:
        return f"hashes and shapes are right on {on}; the manifest has no self-test, so what it finds is not proven{later}"
    what = f"{expects} expected findings are there" if expects else "it ran; nothing is expected of it"
    return f"hashes and shapes are right; self-test on {on}: {what}{later}"


async def self_test(version: ModelVersion, pipeline: Pipeline) -> Any:
    """The input of a version's self-test; a blank one where it has none. Raises ModelError."""
    file = version.manifest.file("self-test")
    if file is None:
        return await asyncio.to_thread(blank, version)
    try:
        data = await asyncio.to_thread((version.directory / file.path).read_bytes)
        return await pipeline.decode(version, data, file.path)
    except OSError as error:
        raise ModelError(f"{file.path} of {version.key} cannot be read: {error.strerror}.", "add the model again.") from error
    except (ImageError, SoundError) as error:
        raise _useless(version, error) from error


def _useless(version: ModelVersion, error: ImageError | SoundError) -> ModelError:
    return ModelError(f"The self-test of {version.key} cannot be used: {error.message}", "mend the manifest.")


async def _try(version: ModelVersion, kind: str, pipeline: Pipeline, sample: Any) -> Ran:
    """Run one kind of its files under a name of its own, so that nothing that is loaded already stands in for it."""
    told = version.manifest
    if kind not in pipeline.working():
        raise AbsentError(f"No device that runs the {kind} file works now.", "see `prime-spark doctor`.")
    others = {"onnx", "hef"} - {kind}
    files = [file for file in told.files if file.kind not in others]
    trial = ModelVersion(msgspec.structs.replace(told, files=files, version=f"{told.version}+{kind}"), version.directory)
    try:
        async with asyncio.timeout(WAIT):
            return await pipeline.run(trial, sample, threshold=LOWEST, priority=Priority.critical)
    except TimeoutError:
        raise ModelError(
            f"{version.key} gave no answer within {WAIT:.0f} s.", "it is too slow for this machine, or hangs."
        ) from None
    except (ImageError, SoundError) as error:
        raise _useless(version, error) from error
    finally:
        await pipeline.forget(trial)


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

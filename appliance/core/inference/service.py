"""Inference as a service: bytes or samples in, results out that are on disk before they are told.

It puts the parts together: the registry says which version, the cache what is known already, the pipeline works it out.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from appliance.core.events import new_id
from appliance.core.inference import preview, showing
from appliance.core.inference.cache import MASK_RUNS, Entry, Key, digest
from appliance.core.inference.counting import Counting
from appliance.core.inference.image import area, read_file
from appliance.core.inference.model import Mask, ModelVersion, Prepared, Priority, Sample
from appliance.core.inference.parts import Parts
from appliance.core.inference.pipeline import BACKENDS, WORKING, Ran
from appliance.core.inference.recent import Recent
from appliance.core.inference.room import Room
from appliance.core.inference.serving import Answered, Asked, Serving, Work
from appliance.core.inference.status import EngineEvent, InferenceStatus
from appliance.core.model import Health, HealthReport, InferenceResult, Severity
from appliance.core.state import Section
from appliance.errors import (
    AbsentError,
    DeadlineError,
    ImageError,
    ModelError,
    QueueFullError,
    SoundError,
)

log = logging.getLogger(__name__)

DECODED = 512 * 2**20
"""Bytes of inputs of files that are decoded at a time; the others wait as they came."""
SHOW = 1.0
"""Seconds between two puts into the live state, where nothing else happens."""
SOON = 0.2
"""Seconds until a change is shown."""
GRAVE = frozenset({"stalled", "failed", "lost", "load-failed"})
"""Events of devices that are warnings."""


class Readied(NamedTuple):
    """An input as a model gets it.

    Attributes:
        kind: Of the file that it is made ready for: "onnx" or "hef".
        size: Width and height of a picture, pixels; 0 of what is none.
        took_ms: Reading and preparing together.
    """

    version: ModelVersion
    kind: str
    prepared: Prepared
    size: tuple[int, int]
    took_ms: float


class InferenceService:
    """Runs models (implements ports.Service and model.Inferer).

    Args:
        parts: See there.
    """

    name = "inference"
    summary = "Runs models on pictures and recordings"
    depends: tuple[str, ...] = ("store",)

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self._painter = ThreadPoolExecutor(1, "preview")  # one picture at a time, however many look
        self._counts = Counting()
        self._under_way: Counter[Priority] = Counter()
        self._recent = Recent()
        self._room = Room(DECODED)
        self._error: ModelError | None = None
        self._serving = Serving(parts, self._run)
        self._open = False
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Find the versions and the devices; models are loaded when first used. Raises StoreError."""
        await self.parts.registry.open()
        await self.parts.updating.open()
        await self.parts.engine.start()
        self._error, self._open = None, True
        self.show()

    async def run(self) -> None:
        """Install what is offered, judge canaries, show how things are, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.parts.updating.run(), name="model updating")
            group.create_task(self._show_regularly(), name="inference show")

    async def stop(self) -> None:
        """Free the models and the devices."""
        self._open = False
        self.show()
        await self._serving.stop()
        await self.parts.proving.stop()
        await self.parts.registry.close()
        await self.parts.intake.close()
        await self.parts.engine.stop()
        self.parts.pipeline.close()

    async def health(self) -> HealthReport:
        """Unhealthy after the model failed, until it works again; degraded while a device does not work."""
        if self._error is not None:
            return HealthReport(Health.unhealthy, self._error.message, self._error.next_step)
        return showing.health(self.parts, self._counts, sum(self._under_way.values()))

    # --- what callers ask

    async def infer_file(self, path: Path, **wanted: Any) -> InferenceResult:
        """Run a model on a file of this machine; arguments and errors as `infer`."""
        try:
            data = await asyncio.to_thread(read_file, path, self.parts.limits.max_bytes)
        except ImageError:
            self._refuse()
            raise
        return await self.infer(data, str(path), **wanted)

    async def infer(
        self, data: bytes, source: str, *, model: str = "", task: str = "", priority: Priority = Priority.normal,
        deadline: float | None = None, threshold: float | None = None, keep: bool = True,
    ) -> InferenceResult:  # fmt: skip
        """Run a model on a file's bytes.

        Args:
            data: A picture or a recording.
            source: Its name.
            model: NAME or NAME@VERSION; empty for the one that serves.
            task: Which task's model, where none is named.
            priority: Whose turn it is.
            deadline: Monotonic seconds; None for the usual time from now.
            threshold: Lowest score (0…1); None for the usual one.
            keep: Whether the result is written to the store and the topics.

        Raises:
            ImageError, SoundError: It is none that can be taken.
            QueueFullError, DeadlineError: Too much waits; it took too long.
            ModelError: The model failed.
            AbsentError: There is no model, or no device for it.
            StoreError: The result could not be kept; it is not told then.
        """
        if len(data) > self.parts.limits.max_bytes:
            raise self._too_large(source)
        sha256, pixels = await asyncio.to_thread(lambda: (digest(data), area(data)))
        lowest = self.parts.limits.threshold if threshold is None else threshold

        async def work(version: ModelVersion, ends: float) -> tuple[Ran, Sample, bool]:
            key = Key(sha256, version.key, version.mark, lowest)
            if (entry := self.parts.cache.get(key)) is not None:
                return entry.ran, entry, True
            async with self._room.take(3 * pixels or 8 * len(data), priority, ends - self.parts.clock.monotonic()):
                sample = await self.parts.pipeline.decode(version, data, source, priority)
                ran = await self._run(version, sample, lowest, priority, ends)
            self.parts.cache.put(key, Entry(ran, *_size(sample)))
            return ran, sample, False

        return await self._ask(work, Asked(source, model, task, priority, deadline, lowest, keep, sha256))

    async def ready(
        self, data: bytes, source: str, *, model: str = "", task: str = "", priority: Priority = Priority.normal
    ) -> Readied:
        """A file's bytes as a model would get them; nothing runs. Arguments and errors as `infer`."""
        if len(data) > self.parts.limits.max_bytes:
            raise self._too_large(source)
        version = self._pick(Asked(source, model, task, priority, None, 0.0, False, ""))
        began, limits = time.perf_counter(), self.parts.limits
        pixels = await asyncio.to_thread(area, data)
        with self.parts.registry.leases.use(version.key):
            async with self._room.take(3 * pixels or 8 * len(data), priority, limits.deadline):
                sample = await self.parts.pipeline.decode(version, data, source, priority)
                kind, prepared = await self.parts.pipeline.ready(version, sample, priority)
        self._counts.prepared += 1
        return Readied(version, kind, prepared, _size(sample), (time.perf_counter() - began) * 1000)

    def _too_large(self, source: str) -> ImageError:
        self._refuse()
        limit = f"{self.parts.limits.max_bytes / 2**20:g} MiB"
        return ImageError(f"{source} is larger than {limit}.", "raise inference.max_file_mib, or make it smaller.")

    async def infer_sample(
        self, sample: Sample, *, source: str, model: str = "", priority: Priority = Priority.normal,
        deadline: float | None = None, keep: bool = True,
    ) -> InferenceResult:  # fmt: skip
        """See model.Inferer."""
        lowest = self.parts.limits.threshold

        async def work(version: ModelVersion, ends: float) -> tuple[Ran, Sample, bool]:
            return await self._run(version, sample, lowest, priority, ends, source), sample, False

        return await self._ask(work, Asked(source, model, "", priority, deadline, lowest, keep, ""))

    def _pick(self, asked: Asked) -> ModelVersion:
        """The version for a request; a name that nobody knows is the caller's fault, not inference's."""
        if not self._open:
            raise AbsentError("Inference does not run.", "see `prime-spark services` for why.")
        try:
            return self.parts.registry.pick(asked.model, asked.task)
        except (ModelError, AbsentError):
            self._refuse()
            raise

    async def _ask(self, work: Work, asked: Asked) -> InferenceResult:
        """Do the work for whichever version is picked, and keep what it came to."""
        version = self._pick(asked)
        if self._under_way[asked.priority] >= self.parts.limits.waiting:
            self._refuse()
            raise QueueFullError(
                f"{self._under_way[asked.priority]} requests of the priority {asked.priority.name} wait already.",
                "try again in a moment.",
            )
        self._under_way[asked.priority] += 1
        try:
            began = time.perf_counter()
            ends = asked.deadline if asked.deadline is not None else self.parts.clock.monotonic() + self.parts.limits.deadline
            answered = await self._serving.answer(work, asked, version, ends)
            result = self._result(answered, asked, (time.perf_counter() - began) * 1000)
            if asked.keep:
                await self.parts.on_result(result)
            self._succeeded(result, keep=asked.keep)
            return result
        except ModelError as error:
            self._failed(error)
            raise
        except (ImageError, SoundError, QueueFullError, DeadlineError, AbsentError):
            self._refuse()
            raise
        finally:
            self._under_way[asked.priority] -= 1

    async def _run(
        self, version: ModelVersion, sample: Sample, lowest: float, priority: Priority, ends: float, source: str = ""
    ) -> Ran:
        ran = await self.parts.pipeline.run(version, sample, threshold=lowest, priority=priority, deadline=ends, source=source)
        self._counts.prepared += 1
        return ran

    def _result(self, answered: Answered, asked: Asked, total_ms: float) -> InferenceResult:
        version, ran, sample, cached = answered
        found, size = ran.findings, _size(sample)
        masks = _bounded(found.masks)
        return InferenceResult(
            result_id=new_id(), time=self.parts.clock.wall(), source=asked.source, model=version.manifest.name,
            model_version=version.manifest.version, task=version.manifest.task, backend=ran.backend, width=size[0],
            height=size[1], boxes=found.boxes, inference_time_ms=round(ran.inference_ms, 2), total_time_ms=round(total_ms, 2),
            cached=cached, sha256=asked.sha256, classes=found.classes, poses=found.poses, masks=masks, segments=found.segments,
            embedding=found.embedding, statistics=found.statistics, device=ran.device, reason=ran.reason,
            fell_back=ran.fell_back, priority=asked.priority.name, queued_ms=None if cached else round(ran.queued_ms, 2),
            masks_left_out=len(found.masks) - len(masks),
        )  # fmt: skip

    # --- what came of it

    def _refuse(self) -> None:
        self._counts.refused += 1
        self._show_soon()

    def _failed(self, error: ModelError) -> None:
        if str(error) != str(self._error):  # a source whose every frame fails is told once
            log.error("inference failed: %s", error)
        self._error = error
        self._counts.failed()
        self._show_soon()

    def _succeeded(self, result: InferenceResult, *, keep: bool) -> None:
        if not result.cached:
            self._error = None
        if keep:
            self._recent.add(result)
        self._counts.done(result, self.parts.clock.monotonic())
        self._show_soon()

    def recent(self) -> tuple[InferenceResult, ...]:
        """The newest results of this run, newest first."""
        return self._recent.all()

    def device_event(self, event: EngineEvent) -> None:
        """Something happened to a device: it is told, and shown at once."""
        severity = Severity.warning if event.kind in GRAVE else Severity.info
        facts = {"device": event.device, "kind": event.kind, "reason": event.reason, "next_step": event.next_step}
        registry = self.parts.registry
        registry.later(registry.tell(f"inference.device-{event.kind}", severity, **facts))
        self._show_soon()

    async def _show_regularly(self) -> None:
        while True:
            await asyncio.sleep(SHOW)
            self.show()

    def _show_soon(self) -> None:
        """Many changes in a row are shown once."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SOON, self.show)

    def show(self) -> None:
        """Put everything into the live state."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        status = self.status()
        working = [BACKENDS.get(device.backend, "") for device in status.engine.devices if device.health in WORKING]
        self.parts.proving.working = frozenset(working)
        self.parts.pipeline.order = tuple(dict.fromkeys([*working, *BACKENDS.values()]))
        self.parts.state.put(Section.inference, status)

    def status(self) -> InferenceStatus:
        """How everything is now."""
        return showing.status(self.parts, self._counts)

    async def preview(self, result: InferenceResult, columns: int, rows: int, mode: str) -> dict[str, Any]:
        """Draw a past result: {"text": …} and, for cell modes, {"rows": cells}.

        Raises:
            ImageError: The file is gone, or is another picture by now.
        """
        limits = self.parts.limits
        return await asyncio.get_running_loop().run_in_executor(
            self._painter, preview.draw, result, (columns, rows), mode, (limits.max_bytes, limits.max_pixels)
        )


def _size(sample: Sample) -> tuple[int, int]:
    """Width and height of a picture, pixels; 0 of what is none."""
    if hasattr(sample, "width"):
        return int(sample.width), int(sample.height)
    if hasattr(sample, "rgb"):
        return int(sample.rgb.shape[1]), int(sample.rgb.shape[0])
    return 0, 0


def _bounded(masks: tuple[Mask, ...]) -> tuple[Mask, ...]:
    """Those of the masks that a message has room for, the first ones first."""
    kept, runs = [], 0
    for mask in masks:
        runs += len(mask.counts)
        if runs <= MASK_RUNS:
            kept.append(mask)
    return tuple(kept)

"""One input through one version: bytes → sample → tensors → a device → findings."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from appliance.core.inference import manifest as manifests
from appliance.core.inference.manifest import Manifest
from appliance.core.inference.model import Answer, Engine, Findings, ModelVersion, Prepared, Priority, Request, Sample, Task
from appliance.core.inference.room import Room
from appliance.core.inference.seals import Seals
from appliance.core.model import Health
from appliance.errors import AbsentError, ApplianceError, ImageError, InferenceError, ModelError, SoundError

log = logging.getLogger(__name__)
T = TypeVar("T")

WORKING = frozenset({Health.healthy, Health.degraded})
"""Devices that take requests."""
FOREVER = 1e6
"""Seconds: work of others ends before."""
TRIES = 2
"""Runs of one input whose devices changed midway."""
TOGETHER = 8
"""Runs of one input that are handed to the engine at once; a long recording must not fill the queues."""


@dataclass(frozen=True)
class Ran:
    """What came of one input.

    Attributes:
        backend: Of the last run, where there were several.
        device: Likewise.
        inference_ms: The device's time of all runs together.
        queued_ms: The longest that one of them waited.
        reason: Why this device.
        fell_back: Any of them ran elsewhere than it should have.
    """

    findings: Findings
    backend: str
    device: str
    inference_ms: float
    queued_ms: float
    reason: str
    fell_back: bool


BACKENDS = {"hailo": "hef", "cpu": "onnx"}
"""Which kind of file a backend runs."""


class _Forms:
    """One input, prepared for the kinds of files that a version has; each kind when it is first wanted."""

    def __init__(self, sample: Sample, tasks: Mapping[str, Task]) -> None:
        self._sample = sample
        self._tasks = tasks
        self._made: dict[str, Prepared] = {}
        self._lock = threading.Lock()

    def of(self, kind: str) -> Prepared:
        """Blocks where it is not made yet. Raises ImageError, SoundError, ModelError."""
        with self._lock:
            if kind not in self._made:
                self._made[kind] = self._tasks[kind].prepare(self._sample)
            return self._made[kind]


class Pipeline:
    """Puts tasks and engine together; knows nothing of which version serves.

    Args:
        engine: Runs tensors.
        make_task: The task for a manifest and a kind of file. Raises ModelError.
        open_bytes: A file's bytes as what the manifest's task takes. Raises ImageError, SoundError.
        seals: Told what the files of each version must be, before a device loads them.
        threads: For decoding, preparing and finishing.
    """

    def __init__(
        self, engine: Engine, make_task: Callable[[Manifest, str], Task],
        open_bytes: Callable[[Manifest, bytes, str], Sample], seals: Seals | None = None, threads: int = 2,
    ) -> None:  # fmt: skip
        self.engine = engine
        self._seals = seals or Seals()
        self.order: tuple[str, ...] = ("hef", "onnx")
        """Kinds of files in the order in which inputs are prepared for them: those of devices that work first."""
        self._make_task = make_task
        self._open = open_bytes
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "inference")
        self._slots = Room(threads)
        self._tasks: dict[tuple[str, Path, tuple[str, ...]], dict[str, Task]] = {}

    async def decode(self, version: ModelVersion, data: bytes, source: str, priority: Priority = Priority.normal) -> Sample:
        """A file's bytes as the version's task takes them. Raises ImageError, SoundError."""
        kind = SoundError if version.manifest.sound is not None else ImageError
        return await self._run(lambda: self._open(version.manifest, data, source), f"read {source}", priority, kind)

    async def ready(self, version: ModelVersion, sample: Sample, priority: Priority = Priority.normal) -> tuple[str, Prepared]:
        """A decoded input as the tensors of the first kind of file that would run, and that kind; see `run`."""
        tasks = await self._tasks_of(version, priority)
        kind = min(tasks, key=self._place)
        return kind, await self._run(lambda: tasks[kind].prepare(sample), f"prepare an input for {version.key}", priority)

    async def run(
        self, version: ModelVersion, sample: Sample, *, threshold: float, priority: Priority = Priority.normal,
        deadline: float | None = None, source: str = "",
    ) -> Ran:  # fmt: skip
        """Run a decoded input; `source` says whose frame it is, for turns among sources.

        Raises:
            ImageError, SoundError: The input is none that this task takes.
            QueueFullError, DeadlineError, ModelError, AbsentError: As Engine.run.
        """
        for _ in range(TRIES):
            if (ran := await self._once(version, sample, threshold, (priority, deadline, source))) is not None:
                return ran
        raise ModelError(f"The device changed again and again while {version.key} ran on one input.", "try again.")

    async def _once(
        self, version: ModelVersion, sample: Sample, threshold: float, how: tuple[Priority, float | None, str]
    ) -> Ran | None:
        """None where the runs of one input went to devices whose outputs do not go together."""
        tasks, priority = await self._tasks_of(version, how[0]), how[0]
        forms, first = _Forms(sample, tasks), next(iter(sorted(tasks, key=self._place)))
        prepared = await self._run(lambda: forms.of(first), f"prepare an input for {version.key}", priority)
        answers = await self._answers(_requests(version, forms, prepared, first, list(tasks), how), prepared)
        kinds = {BACKENDS.get(answer.backend, first) for answer in answers}
        if len(kinds) > 1 and len(tasks) > 1:
            log.warning("the device changed while %s ran on one input; it is run again", version.key)
            return None
        kind = kinds.pop() if len(tasks) > 1 else first
        outputs, names = [answer.outputs for answer in answers], answers[-1].output_names
        findings = await self._run(
            lambda: tasks[kind].finish(outputs, names, forms.of(kind), threshold),
            f"read the outputs of {version.key}",
            priority,
        )
        told = next((answer for answer in answers if answer.fell_back), answers[-1])
        return Ran(
            findings, told.backend, told.device, sum(answer.inference_ms for answer in answers),
            max(answer.queued_ms for answer in answers), told.reason, told.fell_back,
        )  # fmt: skip

    def _place(self, kind: str) -> int:
        return self.order.index(kind) if kind in self.order else len(self.order)

    async def _answers(self, requests: list[Request], prepared: Prepared) -> list[Answer]:
        answers: list[Answer] = []
        if not prepared.carry:
            for start in range(0, len(requests), TOGETHER):
                answers += await self._together(requests[start : start + TOGETHER])
            return answers
        carried: dict[str, Any] = {}
        for request in requests:
            answer = await self.engine.run(replace(request, tensors={**request.tensors, **carried}, others={}))
            outputs = dict(zip(answer.output_names, answer.outputs, strict=True))
            if missing := set(prepared.carry.values()) - outputs.keys():
                raise ModelError(f"{request.model.key} has no output {', '.join(sorted(missing))}.", "mend its manifest.")
            carried = {name: outputs[output] for name, output in prepared.carry.items()}
            answers.append(answer)
        return answers

    async def _together(self, requests: list[Request]) -> list[Answer]:
        if len(requests) == 1:
            return [await self.engine.run(requests[0])]
        tasks = [asyncio.create_task(self.engine.run(request)) for request in requests]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()  # where one failed, nobody wants the others

    async def forget(self, version: ModelVersion) -> None:
        """Free the version in the engine, once its requests are done, and its task."""
        for place in [place for place in self._tasks if place[:2] == (version.key, version.directory)]:
            del self._tasks[place]
        await self.engine.unload(version)

    def close(self) -> None:
        """Let the threads end; a later call starts new ones."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = ThreadPoolExecutor(self._threads, "inference")
        self._tasks.clear()

    async def _tasks_of(self, version: ModelVersion, priority: Priority) -> dict[str, Task]:
        """By the kind of file; one at least. The first time, the files are held against their hashes. Raises ModelError."""
        kinds = kinds_of(version) or ("onnx",)
        place = (version.key, version.directory, kinds)
        if (tasks := self._tasks.get(place)) is None:
            self._seals.expect(version)

            def make() -> dict[str, Task]:
                for kind in kinds:
                    manifests.verify(version.manifest, version.directory, kind)
                return {kind: self._make_task(version.manifest, kind) for kind in kinds}

            tasks = await self._run(make, f"make {version.key} ready", priority)
            self._tasks[place] = tasks
        return tasks

    async def _run(self, work: Callable[[], T], what: str, priority: Priority, fault: type[InferenceError] = ModelError) -> T:
        """Do it in a thread, the most urgent first; what goes wrong is an error of ours: it costs one request."""
        try:
            async with self._slots.take(1, priority, FOREVER):  # the caller's deadline is the engine's to watch
                return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except ApplianceError:
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise AbsentError(f"Inference stopped before it could {what}.", "try again when it runs.") from None
        except MemoryError as error:
            raise fault(f"There was not enough memory to {what}.", "free memory, or give a smaller input.") from error
        except Exception as error:  # of a library, on what nobody foresaw
            log.exception("could not %s", what)
            raise fault(f"It could not {what}: {type(error).__name__}: {error}", "see the log, and report it.") from error

    def working(self) -> frozenset[str]:
        """Kinds of files that a device can run now."""
        devices = self.engine.status().devices
        return frozenset(BACKENDS[each.backend] for each in devices if each.health in WORKING and each.backend in BACKENDS)


def kinds_of(version: ModelVersion) -> tuple[str, ...]:
    """Kinds of files of a version that devices run."""
    return tuple(kind for kind in BACKENDS.values() if version.manifest.file(kind) is not None)


def _requests(
    version: ModelVersion, forms: _Forms, prepared: Prepared, first: str, kinds: list[str],
    how: tuple[Priority, float | None, str],
) -> list[Request]:  # fmt: skip
    def other(kind: str, index: int) -> Callable[[], Mapping[str, Any]]:
        return lambda: forms.of(kind).batches[index]

    priority, deadline, source = how
    return [
        Request(
            version,
            tensors,
            priority,
            deadline,
            source=source,
            kind=first,
            others={kind: other(kind, index) for kind in kinds if kind != first},
        )
        for index, tensors in enumerate(prepared.batches)
    ]

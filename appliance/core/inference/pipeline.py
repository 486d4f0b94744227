"""One input through one version: bytes → sample → tensors → a device → findings."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from appliance.core.inference import manifest as manifests
from appliance.core.inference.manifest import Manifest
from appliance.core.inference.model import Answer, Engine, Findings, ModelVersion, Prepared, Priority, Request, Sample, Task
from appliance.errors import ModelError

T = TypeVar("T")

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
        threads: For decoding, preparing and finishing.
    """

    def __init__(
        self, engine: Engine, make_task: Callable[[Manifest, str], Task],
        open_bytes: Callable[[Manifest, bytes, str], Sample], threads: int = 2,
    ) -> None:  # fmt: skip
        self.engine = engine
        self.order: tuple[str, ...] = ("hef", "onnx")
        """Kinds of files in the order in which inputs are prepared for them: those of devices that work first."""
        self._make_task = make_task
        self._open = open_bytes
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "inference")
        self._tasks: dict[tuple[str, Path], dict[str, Task]] = {}

    async def decode(self, version: ModelVersion, data: bytes, source: str) -> Sample:
        """A file's bytes as the version's task takes them. Raises ImageError, SoundError."""
        return await self._run(lambda: self._open(version.manifest, data, source))

    async def run(
        self, version: ModelVersion, sample: Sample, *, threshold: float, priority: Priority = Priority.normal,
        deadline: float | None = None, source: str = "",
    ) -> Ran:  # fmt: skip
        """Run a decoded input; `source` says whose frame it is, for turns among sources.

        Raises:
            ImageError, SoundError: The input is none that this task takes.
            QueueFullError, DeadlineError, ModelError, AbsentError: As Engine.run.
        """
        tasks = await self._tasks_of(version)
        forms, first = _Forms(sample, tasks), next(iter(sorted(tasks, key=self._place)))
        prepared = await self._run(lambda: forms.of(first))
        answers = await self._answers(
            _requests(version, forms, prepared, first, list(tasks), (priority, deadline, source)), prepared
        )
        kinds = {BACKENDS.get(answer.backend, first) for answer in answers}
        if len(kinds) > 1:
            raise ModelError(f"The device changed while {version.key} ran on one input.", "try again.")
        kind = kinds.pop() if len(tasks) > 1 else first
        outputs, names = [answer.outputs for answer in answers], answers[-1].output_names
        findings = await self._run(lambda: tasks[kind].finish(outputs, names, forms.of(kind), threshold))
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
        self._tasks.pop((version.key, version.directory), None)
        await self.engine.unload(version)

    def close(self) -> None:
        """Let the threads end; a later call starts new ones."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = ThreadPoolExecutor(self._threads, "inference")
        self._tasks.clear()

    async def _tasks_of(self, version: ModelVersion) -> dict[str, Task]:
        """By the kind of file; one at least. The first time, the files are held against their hashes. Raises ModelError."""
        place = (version.key, version.directory)
        if (tasks := self._tasks.get(place)) is None:
            kinds = [kind for kind in BACKENDS.values() if version.manifest.file(kind) is not None] or ["onnx"]

            def make() -> dict[str, Task]:
                for kind in kinds:
                    manifests.verify(version.manifest, version.directory, kind)
                return {kind: self._make_task(version.manifest, kind) for kind in kinds}

            tasks = await self._run(make)
            self._tasks[place] = tasks
        return tasks

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


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

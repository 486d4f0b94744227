"""One input through one version: bytes → sample → tensors → a device → findings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.core.inference.manifest import Manifest
from appliance.core.inference.model import Answer, Engine, Findings, ModelVersion, Prepared, Priority, Request, Sample, Task

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


class Pipeline:
    """Puts tasks and engine together; knows nothing of which version serves.

    Args:
        engine: Runs tensors.
        make_task: The task for a manifest. Raises ModelError.
        open_bytes: A file's bytes as what the manifest's task takes. Raises ImageError, SoundError.
        threads: For decoding, preparing and finishing.
    """

    def __init__(
        self, engine: Engine, make_task: Callable[[Manifest], Task], open_bytes: Callable[[Manifest, bytes, str], Sample],
        threads: int = 2,
    ) -> None:  # fmt: skip
        self.engine = engine
        self._make_task = make_task
        self._open = open_bytes
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "inference")
        self._tasks: dict[tuple[str, Path], Task] = {}

    async def decode(self, version: ModelVersion, data: bytes, source: str) -> Sample:
        """A file's bytes as the version's task takes them. Raises ImageError, SoundError."""
        return await self._run(lambda: self._open(version.manifest, data, source))

    async def run(
        self, version: ModelVersion, sample: Sample, *, threshold: float, priority: Priority = Priority.normal,
        deadline: float | None = None,
    ) -> Ran:  # fmt: skip
        """Run a decoded input.

        Raises:
            ImageError, SoundError: The input is none that this task takes.
            QueueFullError, DeadlineError, ModelError, AbsentError: As Engine.run.
        """
        task = await self._task(version)
        prepared = await self._run(lambda: task.prepare(sample))
        answers = await self._answers(prepared, lambda tensors: Request(version, tensors, priority, deadline))
        names = answers[-1].output_names
        findings = await self._run(lambda: task.finish([answer.outputs for answer in answers], names, prepared, threshold))
        told = next((answer for answer in answers if answer.fell_back), answers[-1])
        return Ran(
            findings, told.backend, told.device, sum(answer.inference_ms for answer in answers),
            max(answer.queued_ms for answer in answers), told.reason, told.fell_back,
        )  # fmt: skip

    async def _answers(self, prepared: Prepared, request: Callable[[Mapping[str, Any]], Request]) -> list[Answer]:
        answers: list[Answer] = []
        if not prepared.carry:
            requests = [request(tensors) for tensors in prepared.batches]
            for start in range(0, len(requests), TOGETHER):
                answers += await self._together(requests[start : start + TOGETHER])
            return answers
        carried: dict[str, Any] = {}
        for tensors in prepared.batches:
            answer = await self.engine.run(request({**tensors, **carried}))
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

    async def _task(self, version: ModelVersion) -> Task:
        place = (version.key, version.directory)
        if (task := self._tasks.get(place)) is None:
            task = await self._run(lambda: self._make_task(version.manifest))
            self._tasks[place] = task
        return task

    async def _run(self, work: Callable[[], Sample]) -> Sample:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

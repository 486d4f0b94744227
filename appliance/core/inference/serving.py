"""One request's way through the versions: drawn, proven, run, observed; the active one stands in for a trial that fails."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

from appliance.core.inference.model import Findings, ModelVersion, Priority, Sample
from appliance.core.inference.parts import Parts
from appliance.core.inference.pipeline import Ran
from appliance.core.observe.spans import child
from appliance.errors import AbsentError, ApplianceError, DeadlineError, ModelError, QueueFullError

log = logging.getLogger(__name__)

SHADOWS = 2
"""Shadows that run at a time; further ones are skipped, and counted."""

Work = Callable[[ModelVersion, float], Awaitable[tuple[Ran, Sample, bool]]]
"""Runs a version until a time (monotonic seconds): what came of it, the input, and whether it was remembered."""
Run = Callable[[ModelVersion, Sample, float, Priority, float], Awaitable[Ran]]
"""Version, input, threshold, priority, until when."""


@dataclass(frozen=True)
class Asked:
    """What a caller asked for; see InferenceService.infer.

    Attributes:
        threshold: Lowest score.
        sha256: Of the input; empty where it is no file.
    """

    source: str
    model: str
    task: str
    priority: Priority
    deadline: float | None
    threshold: float
    keep: bool
    sha256: str

    @property
    def drawn(self) -> bool:
        """The version is the registry's choice; a caller who names one proves nothing about the others' share."""
        return "@" not in self.model


class Answered(NamedTuple):
    """Which version gave what for which input."""

    version: ModelVersion
    ran: Ran
    sample: Sample
    cached: bool


def _facts(answered: Answered) -> dict[str, str | float | bool]:
    """What came of a request, as attributes of its span: neither the input nor what was found."""
    ran = answered.ran
    return {
        "prime_spark.model": answered.version.key, "prime_spark.backend": ran.backend, "prime_spark.device": ran.device,
        "prime_spark.device_ms": round(ran.inference_ms, 3), "prime_spark.queued_ms": round(ran.queued_ms, 3),
        "prime_spark.cached": answered.cached, "prime_spark.fell_back": ran.fell_back,
    }  # fmt: skip


class Serving:
    """Has versions answer.

    Args:
        parts: Registry, proofs, limits.
        run: Runs a shadow.
    """

    def __init__(self, parts: Parts, run: Run) -> None:
        self._parts = parts
        self._run = run
        self._shadows: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """End the shadows that run."""
        for task in self._shadows:
            task.cancel()
        await asyncio.gather(*self._shadows, return_exceptions=True)

    async def answer(self, work: Work, asked: Asked, version: ModelVersion, ends: float) -> Answered:
        """Have a version that was picked answer, or the active one in its place. Raises as InferenceService.infer."""
        with child("inference") as span:
            answered = await self._answer(work, asked, version, ends)
            if span.sampled:
                span.set(_facts(answered))
        return answered

    async def _answer(self, work: Work, asked: Asked, version: ModelVersion, ends: float) -> Answered:
        registry = self._parts.registry
        try:
            ran, sample, cached = await self._in_time(work, version, ends, asked)
        except (ModelError, AbsentError) as error:
            stand_in = self._stand_in(version, asked)
            if stand_in is None:
                raise
            log.warning("%s failed a request that the active version takes over: %s", version.key, error)
            version = stand_in
            ran, sample, cached = await self._in_time(work, version, ends, asked)
        if not cached and (shadow := registry.shadow_of(version)) is not None:
            self._begin_shadow(version, shadow, sample, ran.findings, asked)
        return Answered(version, ran, sample, cached)

    def _stand_in(self, version: ModelVersion, asked: Asked) -> ModelVersion | None:
        """The active version, where a candidate of a split failed: nobody who asked is to suffer from a trial."""
        name = version.manifest.name
        active = self._parts.registry.record(name).active
        if not asked.drawn or not active or active == version.manifest.version:
            return None
        return self._parts.registry.version(f"{name}@{active}")

    async def _in_time(self, work: Work, version: ModelVersion, ends: float, asked: Asked) -> tuple[Ran, Sample, bool]:
        """As `_observed`; what comes too late, or has no device, counts against a version that others wait for."""
        began = time.perf_counter()
        try:
            return await self._observed(work, version, ends, asked)
        except (DeadlineError, AbsentError):
            self._parts.registry.missed(version, (time.perf_counter() - began) * 1000, drawn=asked.drawn)
            raise

    async def _observed(self, work: Work, version: ModelVersion, ends: float, asked: Asked) -> tuple[Ran, Sample, bool]:
        registry, began = self._parts.registry, time.perf_counter()
        usual = asked.threshold == self._parts.limits.threshold
        with registry.leases.use(version.key):
            try:
                ran, sample, cached = await work(await self._parts.proving.ready(version, ends), ends)
            except ModelError:
                registry.observe(version, None, (time.perf_counter() - began) * 1000, drawn=asked.drawn)
                raise
        if not cached:
            took = (time.perf_counter() - began) * 1000
            registry.observe(version, ran.findings, took, drawn=asked.drawn, usual=usual)
        return ran, sample, cached

    def _begin_shadow(self, version: ModelVersion, shadow: ModelVersion, sample: Sample, found: Findings, asked: Asked) -> None:
        if len(self._shadows) >= SHADOWS:
            self._parts.registry.compare(version, found, None)
            return
        task = asyncio.create_task(self._shadow(version, shadow, sample, found, asked), name="shadow")
        self._shadows.add(task)
        task.add_done_callback(self._shadows.discard)

    async def _shadow(self, version: ModelVersion, shadow: ModelVersion, sample: Sample, found: Findings, asked: Asked) -> None:
        """Run the candidate on the same input, at the same threshold; nobody waits for it."""
        limits, registry = self._parts.limits, self._parts.registry

        async def work(wanted: ModelVersion, ends: float) -> tuple[Ran, Sample, bool]:
            return await self._run(wanted, sample, asked.threshold, Priority.low, ends), sample, False

        try:
            ran, _, _ = await self._observed(work, shadow, self._parts.clock.monotonic() + limits.deadline, asked)
        except (QueueFullError, DeadlineError):
            registry.compare(version, found, None)
        except ApplianceError as error:
            log.warning("the shadow %s failed: %s", shadow.key, error)
        else:
            registry.compare(version, found, ran.findings)

"""No file of a version serves before it was proven: what nobody activated, and what came with a device, at its first use."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

import msgspec

from appliance.core.inference.manifest import fingerprint
from appliance.core.inference.model import ModelVersion
from appliance.core.inference.pipeline import Pipeline, kinds_of
from appliance.core.inference.registry.checks import Proof, examine
from appliance.core.inference.registry.records import VersionFacts
from appliance.core.inference.registry.registry import Registry
from appliance.core.model import Severity
from appliance.errors import AbsentError, ApplianceError, DeadlineError, DeviceError, ModelError

log = logging.getLogger(__name__)

Stamp = tuple[tuple[int, int, int], ...]
"""Inode, size and time of change of each file; zeros of one that cannot be looked at."""
AGAIN = 60.0
"""Seconds after which a file that was refused at its first use is tried again: somebody may have mended it."""
KEPT = 256
"""Refusals that are remembered."""


@dataclass(frozen=True)
class Refusal:
    """A file that failed its proof.

    Attributes:
        until: Monotonic seconds.
        stamp: Of the version's files as they were.
    """

    until: float
    stamp: Stamp
    error: ModelError


class Proving:
    """Holds requests back until what they would use is proven.

    Args:
        registry: Knows what was proven before, also in earlier lives.
        pipeline: Runs the self-tests.
    """

    def __init__(self, registry: Registry, pipeline: Pipeline) -> None:
        self._registry = registry
        self._pipeline = pipeline
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._refused: dict[tuple[str, str, str], Refusal] = {}
        """By key, kind and mark."""
        self.working: frozenset[str] = frozenset()
        """Kinds of files that a device can run now; the service keeps it up."""

    async def ready(self, version: ModelVersion, ends: float) -> ModelVersion:
        """The version with those of its files that are proven.

        Args:
            version: Which a request would use.
            ends: Monotonic seconds until which the request's caller waits.

        Raises:
            ModelError: None of them is right.
            DeadlineError: The proof takes longer than the caller waits; it goes on.
            QueueFullError, AbsentError: It could not be tried now.
        """
        mark = version.mark or fingerprint(version.manifest)
        unproven = self._unproven(version, mark)
        if not unproven:
            return version
        await self._look_again(version, mark, unproven)
        todo = tuple(kind for kind in unproven if kind in self.working and (version.key, kind, mark) not in self._refused)
        if todo:
            await self._wait(version, mark, todo, ends)
            unproven = self._unproven(version, mark)
        if len(unproven) == len(kinds_of(version)):
            raise self._why(version, mark, unproven)
        files = [file for file in version.manifest.files if file.kind not in unproven]
        return ModelVersion(msgspec.structs.replace(version.manifest, files=files), version.directory, version.stage, mark)

    def _unproven(self, version: ModelVersion, mark: str) -> tuple[str, ...]:
        facts = self._registry.facts.get(version.key)
        proven = facts.proven if facts is not None else {}
        return tuple(kind for kind in kinds_of(version) if proven.get(kind) != mark)

    async def _look_again(self, version: ModelVersion, mark: str, kinds: tuple[str, ...]) -> None:
        """Forget refusals that are old, or of files that are others by now."""
        places = [place for kind in kinds if (place := (version.key, kind, mark)) in self._refused]
        if not places:
            return
        stamp, now = await asyncio.to_thread(_stamp, version), self._registry.setup.clock.monotonic()
        for place in places:
            if (refusal := self._refused.get(place)) is not None and (refusal.until <= now or refusal.stamp != stamp):
                del self._refused[place]

    def _why(self, version: ModelVersion, mark: str, kinds: tuple[str, ...]) -> ApplianceError:
        for kind in kinds:
            if (refusal := self._refused.get((version.key, kind, mark))) is not None:
                return refusal.error
        return AbsentError(f"{version.key} is not proven yet, and no device works that it could be tried on.", "see `doctor`.")

    async def _wait(self, version: ModelVersion, mark: str, kinds: tuple[str, ...], ends: float) -> None:
        """Prove them, or wait for whoever does already."""
        task = self._under_way.get(version.key)
        if task is None:
            task = asyncio.create_task(self._prove(version, mark, kinds), name=f"prove {version.key}")
            self._under_way[version.key] = task
            task.add_done_callback(lambda done: self._ended(version.key, done))
        left = ends - self._registry.setup.clock.monotonic()
        done, _ = await asyncio.wait([task], timeout=max(0.0, left))
        if not done:
            raise DeadlineError(f"{version.key} is still being proven.", "give it more time, or ask again in a moment.")
        if task.cancelled():
            raise AbsentError(f"Inference stopped before {version.key} was proven.", "try again when it runs.")
        await task

    def _ended(self, key: str, task: asyncio.Task[None]) -> None:
        self._under_way.pop(key, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("%s is not proven: %s", key, error)

    async def stop(self) -> None:
        """End the proofs that are under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _prove(self, version: ModelVersion, mark: str, kinds: tuple[str, ...]) -> None:
        for kind in kinds:
            try:
                self._passed(version, mark, await examine(version, self._pipeline, (kind,)))
            except (DeviceError, AbsentError) as error:
                log.warning("the %s file of %s could not be tried: %s", kind, version.key, error)
            except ModelError as error:
                await self._refuse(version, kind, mark, error)

    def _passed(self, version: ModelVersion, mark: str, proof: Proof) -> None:
        registry = self._registry
        facts = registry.facts.get(version.key, VersionFacts(key=version.key))
        facts = facts.with_proof(proof, mark)
        registry.facts[facts.key] = facts
        registry.later(registry.keep(facts.key))
        log.info("%s: %s", version.key, proof.shown)

    async def _refuse(self, version: ModelVersion, kind: str, mark: str, error: ModelError) -> None:
        while len(self._refused) >= KEPT:
            del self._refused[next(iter(self._refused))]
        until = self._registry.setup.clock.monotonic() + AGAIN
        self._refused[version.key, kind, mark] = Refusal(until, await asyncio.to_thread(_stamp, version), error)
        log.error("the %s file of %s is not used: %s", kind, version.key, error)
        told = {"model": version.manifest.name, "version": version.manifest.version, "kind": kind, "error": error.message}
        await self._registry.tell("model.refused", Severity.warning, **told)


def _stamp(version: ModelVersion) -> Stamp:
    found = []
    for file in version.manifest.files:
        try:
            told = (version.directory / file.path).stat()
        except OSError:  # its absence is a state like another; the proof says what is wrong
            found.append((0, 0, 0))
        else:
            found.append((told.st_ino, told.st_size, told.st_mtime_ns))
    return tuple(found)

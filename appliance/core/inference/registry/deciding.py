"""What changes which version serves: activate, roll back, archive, remove, split; each is one step."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from appliance.core.inference.manifest import fingerprint
from appliance.core.inference.model import ModelVersion, Stage
from appliance.core.inference.pipeline import Pipeline
from appliance.core.inference.registry.checks import examine
from appliance.core.inference.registry.records import Mode, NameRecord, Split, VersionFacts
from appliance.core.inference.registry.registry import Registry
from appliance.core.inference.registry.shelf import Found
from appliance.core.inference.registry.watching import Comparison
from appliance.core.model import Severity
from appliance.errors import ApplianceError, ConflictError, DeviceError, ModelError, NotFoundError

log = logging.getLogger(__name__)


class Deciding:
    """Changes what serves.

    Args:
        registry: What serves.
        pipeline: Tries versions, and frees those that serve no more.
    """

    def __init__(self, registry: Registry, pipeline: Pipeline) -> None:
        self._registry = registry
        self._pipeline = pipeline

    async def activate(self, name: str, version: str, why: str = "", trial: Split | None = None) -> NameRecord:
        """Have a version serve, after it was proven; the one before goes on until its requests have ended.

        Args:
            name: Of the model.
            version: Which.
            why: For people.
            trial: Only if this split is still on: it is its candidate that is to serve.

        Raises:
            NotFoundError: There is none.
            ModelError: It failed its checks; what served before goes on.
            ConflictError: Somebody else decided meanwhile.
            StoreError: It is not on disk; what served before goes on.
        """
        registry = self._registry
        found = registry.look_up(name, version)
        tested = await self._prove(registry.version(found.key))
        async with registry.changing:
            before = registry.record(name)
            self._refuse_changed(found, trial is None or before.split == trial)
            stages = {**before.stages, version: Stage.production.value}
            previous = before.previous
            if before.active and before.active != version:
                previous = before.active
                stages[before.active] = Stage.archived.value
            after = msgspec.structs.replace(before, active=version, previous=previous, stages=stages, split=None)
            await self._switch(before, after, tested)
        await registry.tell(
            "model.activated", Severity.info, model=name, version=version, before=before.active, tested=tested.tested, why=why
        )
        return after

    def _refuse_changed(self, found: Found, same: bool) -> None:
        """Raises ConflictError where what was proven is not there any more, or what was to be changed is another."""
        if not same or self._registry.found.get(found.key) is not found:
            raise ConflictError(f"Something else was decided while {found.key} was proven.", "look at it, and ask again.")

    async def rollback(self, name: str, why: str = "") -> NameRecord:
        """Have the version before serve again. Raises ConflictError where there is none, NotFoundError, and as `activate`."""
        registry = self._registry
        wanted = registry.record(name)
        if not wanted.previous:
            raise self._nothing_before(wanted)
        found = registry.look_up(name, wanted.previous)
        tested = await self._prove(registry.version(found.key))
        async with registry.changing:
            before = registry.record(name)
            self._refuse_changed(found, (before.active, before.previous) == (wanted.active, wanted.previous))
            stages = {**before.stages, before.previous: Stage.production.value, before.active: Stage.archived.value}
            stages.pop("", None)
            after = msgspec.structs.replace(before, active=before.previous, previous=before.active, stages=stages, split=None)
            await self._switch(before, after, tested)
        await registry.tell(
            "model.rolled-back", Severity.warning, model=name, version=after.active, before=before.active, why=why
        )
        return after

    def _nothing_before(self, wanted: NameRecord) -> ApplianceError:
        """Why there is no version to go back to, and what is meant instead."""
        name = wanted.name
        if not any(found.name == name for found in self._registry.found.values()):
            return NotFoundError(f"There is no model {name}.", "list them with `prime-spark model list`.")
        if wanted.split is not None:
            said = f"{name} has no version to go back to; {wanted.split.candidate} is only on trial."
            return ConflictError(said, f"end its trial: prime-spark model split-end {name}")
        return ConflictError(
            f"{name} has no version to go back to.", f"activate one: prime-spark model activate {name} VERSION"
        )

    async def split(
        self, name: str, version: str, mode: Mode, percent: float, *, until: float = 0.0, wanted: int = 0, offer: str = "",
    ) -> Split:  # fmt: skip
        """Give a share of the requests to another version, or run it beside the active one.

        Raises:
            ConflictError: It is the active one, nothing is active, or another canary is under way.
            NotFoundError, ModelError, StoreError: As `activate`.
        """
        registry = self._registry
        found = registry.look_up(name, version)
        self._refuse_split(registry.record(name), version, offer)
        tested = await self._prove(registry.version(found.key))
        async with registry.changing:
            before = registry.record(name)
            self._refuse_split(before, version, offer)
            self._refuse_changed(found, same=True)
            split = Split(
                candidate=version, mode=mode, percent=percent, since=registry.setup.clock.wall(), until=until, wanted=wanted,
                offer=offer,
            )  # fmt: skip
            await registry.put(msgspec.structs.replace(before, split=split), tested)
            registry.comparisons[name] = Comparison()
            registry.begin(f"{name}@{version}")
        await registry.tell(
            "model.split", Severity.info, model=name, version=version, mode=mode, percent=percent, active=before.active
        )
        return split

    def _refuse_split(self, before: NameRecord, version: str, offer: str) -> None:
        if not before.active or before.active == version:
            what = "serves already" if before.active else "has nothing beside it: no version is active"
            raise ConflictError(f"{before.name} {version} {what}.", "choose another version, or activate this one.")
        if before.split is not None and before.split.mode == "canary" and before.split.offer != offer:
            raise ConflictError(
                f"{before.name} {before.split.candidate} is being watched.",
                f"wait, or end it: prime-spark model split-end {before.name}",
            )

    async def end_split(self, name: str, why: str = "") -> Split:
        """Give all requests to the active version again. Raises ConflictError where there is no split, StoreError."""
        registry = self._registry
        async with registry.changing:
            before = registry.record(name)
            if before.split is None:
                raise ConflictError(f"{name} has no split.", "nothing is to be ended.")
            after = msgspec.structs.replace(before, split=None)
            await registry.put(after)
            registry.comparisons.pop(name, None)
            self._retire(f"{name}@{before.split.candidate}")
        await registry.tell("model.split-ended", Severity.info, model=name, version=before.split.candidate, why=why)
        return before.split

    async def archive(self, name: str, version: str) -> None:
        """Mark a version that does not serve as one that may go. Raises ConflictError where it serves, NotFoundError."""
        registry = self._registry
        async with registry.changing:
            registry.look_up(name, version)
            before = registry.record(name)
            self._refuse_used(before, version, "archived")
            await registry.put(msgspec.structs.replace(before, stages={**before.stages, version: Stage.archived.value}))

    async def remove(self, name: str, version: str, why: str = "") -> int:
        """Remove a version from the disk; bytes that came free.

        Raises:
            ConflictError: It serves, or was not put there by the registry.
            NotFoundError, ModelError, StoreError: It is not there; the disk refuses.
        """
        async with self._registry.changing:
            return await self.remove_locked(name, version, why)

    async def remove_locked(self, name: str, version: str, why: str) -> int:
        """As `remove`, for whoever holds `changing`."""
        registry = self._registry
        found = registry.look_up(name, version)
        before = registry.record(name)
        self._refuse_used(before, version, "removed")
        if not found.own:
            raise ConflictError(f"{found.directory} was put there by a set-up, not by `model add`.", "remove it by hand.")
        if found.manifest is not None:
            await self._free(registry.version(found.key))
        stages = {key: stage for key, stage in before.stages.items() if key != version}
        previous = "" if before.previous == version else before.previous
        after = msgspec.structs.replace(before, stages=stages, previous=previous)
        await registry.setup.records.write([after], forget=[found.key])
        registry.names[name] = after
        registry.facts.pop(found.key, None)
        registry.found.pop(found.key, None)
        registry.watching.forget(found.key)
        try:
            await asyncio.to_thread(registry.setup.shelf.remove, found.directory)
        except ApplianceError:
            registry.found[found.key] = found  # it is still there, as one that was added
            raise
        await registry.tell("model.removed", Severity.info, model=name, version=version, bytes=found.size, why=why)
        return found.size

    def _refuse_used(self, record: NameRecord, version: str, what: str) -> None:
        if version == record.active:
            raise ConflictError(
                f"{record.name} {version} serves; it is not {what}.",
                f"activate another one first: prime-spark model activate {record.name} VERSION",
            )
        if record.split is not None and version == record.split.candidate:
            raise ConflictError(
                f"{record.name} {version} gets a share of the requests; it is not {what}.",
                f"end that first: prime-spark model split-end {record.name}",
            )

    async def _prove(self, version: ModelVersion) -> VersionFacts:
        """Its facts with what its checks have shown. Raises ModelError, and tells of it."""
        try:
            proof = await examine(version, self._pipeline)
        except DeviceError:  # not the version's fault
            raise
        except ModelError as error:
            told = {"model": version.manifest.name, "version": version.manifest.version, "error": error.message}
            await self._registry.tell("model.refused", Severity.warning, **told)
            if self._registry.record(version.manifest.name).active != version.manifest.version:
                await self._free(version)  # and what the devices remember of it: it may be mended
            raise
        facts = self._registry.facts.get(version.key, VersionFacts(key=version.key))
        return facts.with_proof(proof, version.mark or fingerprint(version.manifest))

    async def _switch(self, before: NameRecord, after: NameRecord, facts: VersionFacts) -> None:
        """Make `after` true; then let go of what served, once its requests have ended."""
        registry = self._registry
        await registry.put(after, facts)
        registry.comparisons.pop(after.name, None)
        registry.begin(f"{after.name}@{after.active}")
        gone = {before.active, before.split.candidate if before.split else ""} - {"", after.active}
        for version in gone:
            self._retire(f"{after.name}@{version}")

    def _retire(self, key: str) -> None:
        if (found := self._registry.found.get(key)) is not None and found.manifest is not None:
            self._registry.later(self._let_go(self._registry.version(key)))

    async def _let_go(self, version: ModelVersion) -> None:
        """Free a version when its last request has ended, unless it serves again by then."""
        name, number = version.manifest.name, version.manifest.version
        await self._registry.leases.idle(version.key)
        record = self._registry.record(name)
        if number != record.active and (record.split is None or number != record.split.candidate):
            await self._free(version)

    async def _free(self, version: ModelVersion) -> None:
        try:
            await self._pipeline.forget(version)
        except ApplianceError as error:  # it serves nobody: what it holds is all there is to lose
            log.warning("%s was not freed: %s", version.key, error)

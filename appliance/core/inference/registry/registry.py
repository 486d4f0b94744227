"""Which version serves: read from disk and database, changed in one step, asked by every request (implements model.Models)."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

import msgspec

from appliance.core.inference.model import Findings, ModelVersion, Stage
from appliance.core.inference.registry.leases import Leases
from appliance.core.inference.registry.records import Baseline, NameRecord, Records, VersionFacts
from appliance.core.inference.registry.shelf import Found, Shelf
from appliance.core.inference.registry.watching import Comparison, Note, Watching
from appliance.core.ports import Clock
from appliance.errors import AbsentError, ApplianceError, ModelError, NotFoundError
from appliance.settinginference import ModelSettings

log = logging.getLogger(__name__)

LIST = "list them with `prime-spark model list`."


@dataclass(frozen=True)
class Setup:
    """What a registry is made of.

    Attributes:
        shelf: The versions on disk.
        records: The rows.
        settings: Bounds.
        wanted: Name of the model that serves where none is asked for; empty for the first.
        clock: For times.
        note: Tells of events.
    """

    shelf: Shelf
    records: Records
    settings: ModelSettings
    wanted: str
    clock: Clock
    note: Note


class Registry:
    """The versions, and which of them serve.

    Args:
        setup: See there.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.names: dict[str, NameRecord] = {}
        self.facts: dict[str, VersionFacts] = {}
        self.found: dict[str, Found] = {}
        """By key, in the order of search."""
        self.leases = Leases()
        self.changing = asyncio.Lock()
        """Held by whoever changes what serves."""
        self._writing = asyncio.Lock()
        """Held while a row of facts is written, so that none is overwritten with an older one."""
        self.watching = Watching(setup.settings, self._keep_baseline, setup.note)
        self.comparisons: dict[str, Comparison] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._draw = random.Random()  # noqa: S311 which of two models answers is no secret

    async def open(self) -> None:
        """Read the disk and the rows. Raises StoreError."""
        await asyncio.to_thread(self.setup.shelf.clean)
        self.names = await self.setup.records.names()
        self.facts = await self.setup.records.facts()
        await self.scan()
        for name in {each.name for each in self.found.values()}:
            record = self.record(name)
            for version in {record.active, record.split.candidate if record.split else ""} - {""}:
                self.begin(f"{name}@{version}")

    async def scan(self) -> None:
        """Look at the disk again."""
        self.found = {each.key: each for each in await asyncio.to_thread(self.setup.shelf.scan)}

    async def close(self) -> None:
        """Wait for what is being written and told."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=2.0)

    def pick(self, name: str = "", task: str = "") -> ModelVersion:
        """See model.Models; a name may be NAME@VERSION, which no split concerns."""
        if "@" in name:
            return self.version(name)
        if name:
            return self._drawn(self._record(name))
        return self._drawn(self._default(task))

    def active(self) -> ModelVersion:
        """The version that serves where nothing is asked for, whatever share a candidate gets. Raises as `pick`."""
        record = self._default("")
        return self.version(f"{record.name}@{record.active}")

    def _default(self, task: str) -> NameRecord:
        """The record that serves where no name is given. Raises AbsentError, ModelError.

        Names that a set-up laid down come first: what an operator adds serves by its name, before a restart and after it.
        """
        laid = {found.name for found in self.found.values() if not found.own}
        names = sorted(dict.fromkeys(found.name for found in self.found.values()), key=lambda name: name not in laid)
        usable = {name: record for name in names if (record := self._usable(name)) is not None}
        if self.setup.wanted and self.setup.wanted not in usable:
            self._record(self.setup.wanted)
        first = [usable[self.setup.wanted]] if self.setup.wanted else []
        for record in (*first, *usable.values()):
            if not task or self.version(f"{record.name}@{record.active}").manifest.task == task:
                return record
        if usable:
            there = ", ".join(usable)
            raise AbsentError(f"No model is there for {task}; there are: {there}.", "add one: prime-spark model add.")
        if not self.found:
            where = ", ".join(str(place) for place in self.setup.shelf.places)
            raise AbsentError(f"No model is in {where}.", "make setup fetches some; prime-spark model add adds one.")
        raise self._none("No model can be used")

    def _usable(self, name: str) -> NameRecord | None:
        record = self.record(name)
        found = self.found.get(f"{name}@{record.active}")
        return record if found is not None and found.manifest is not None else None

    def _record(self, name: str) -> NameRecord:
        """One whose active version can be used. Raises ModelError."""
        if (usable := self._usable(name)) is not None:
            return usable
        versions = [each for each in self.found.values() if each.name == name]
        if not versions:
            unknown = self._none(f"No model is called {name!r}")
            unknown.code = "not_found"  # whoever asked is wrong, no model is
            raise unknown
        broken = next((each.error for each in versions if each.error is not None), None)
        if broken is not None:
            raise broken
        active = self.record(name).active
        if active:
            raise ModelError(f"{name} {active} serves, but is not on the disk any more.", f"activate another version; {LIST}")
        raise ModelError(f"No version of {name} is active.", f"prime-spark model activate {name} VERSION")

    def _none(self, what: str) -> ModelError:
        names = sorted({each.name for each in self.found.values() if each.manifest is not None})
        broken = [each.error.message for each in self.found.values() if each.error is not None]
        there = "; ".join([f"there are: {', '.join(names) or 'none'}", *broken])
        return ModelError(f"{what}; {there}.".replace("..", "."), "set inference.model, mend what is broken, or add the model.")

    def record(self, name: str) -> NameRecord:
        """What is kept of a name; of one that nobody decided on, or whose version is gone: what a set-up put there serves."""
        kept = self.names.get(name)
        if kept is not None and kept.active and f"{name}@{kept.active}" in self.found:
            return kept
        given = next((each for each in self.found.values() if each.name == name and not each.own and each.manifest), None)
        if kept is not None:
            return kept if given is None else msgspec.structs.replace(kept, active=given.version, split=None)
        return NameRecord(name=name, active=given.version if given is not None else "")

    def version(self, key: str) -> ModelVersion:
        """A version by name@version. Raises ModelError."""
        found = self.found.get(key)
        if found is None:
            raise ModelError(f"There is no {key}.", LIST)
        if found.manifest is None:
            raise found.error or ModelError(f"The manifest of {key} cannot be read.", "add the model again.")
        return ModelVersion(found.manifest, found.directory, self.stage(found), found.mark)

    def look_up(self, name: str, version: str) -> Found:
        """What is on disk of a version. Raises NotFoundError."""
        if (found := self.found.get(f"{name}@{version}")) is None:
            there = ", ".join(each.version for each in self.found.values() if each.name == name)
            raise NotFoundError(f"There is no {name} {version}; {f'there are: {there}' if there else 'nor another one'}.", LIST)
        return found

    def stage(self, found: Found) -> Stage:
        """Of a version: what was decided; else Production where a set-up put it there, Staging where it was added."""
        kept = self.record(found.name).stages.get(found.version)
        return Stage(kept) if kept else Stage.staging if found.own else Stage.production

    def _drawn(self, record: NameRecord) -> ModelVersion:
        split = record.split
        if split is not None and split.mode != "shadow" and self._draw.random() * 100 < split.percent:
            key = f"{record.name}@{split.candidate}"
            if key in self.found:
                return self.version(key)
        return self.version(f"{record.name}@{record.active}")

    def shadow_of(self, version: ModelVersion) -> ModelVersion | None:
        """The version that is to run beside this one on the same input, if any is, this time."""
        record = self.record(version.manifest.name)
        split = record.split
        if split is None or split.mode != "shadow" or version.manifest.version != record.active:
            return None
        key = f"{record.name}@{split.candidate}"
        return self.version(key) if key in self.found and self._draw.random() * 100 < split.percent else None

    def observe(
        self, version: ModelVersion, findings: Findings | None, milliseconds: float, *, drawn: bool = True, usual: bool = True
    ) -> None:
        """See model.Models."""
        if drawn:
            self._count(version, milliseconds, good=findings is not None)
        for each in self.watching.add(version.key, findings, milliseconds, usual=usual):
            self.later(each)

    def missed(self, version: ModelVersion, milliseconds: float, *, drawn: bool = True) -> None:
        """See model.Models."""
        if drawn:
            self._count(version, milliseconds, good=False)

    def _count(self, version: ModelVersion, milliseconds: float, *, good: bool) -> None:
        """For the comparison of a split's two."""
        name, number = version.manifest.name, version.manifest.version
        comparison, record = self.comparisons.get(name), self.record(name)
        if comparison is None or record.split is None:
            return
        if number == record.split.candidate:
            comparison.candidate.add(milliseconds, good=good)
        elif number == record.active:
            comparison.active.add(milliseconds, good=good)

    def compare(self, version: ModelVersion, one: Findings, other: Findings | None) -> None:
        """What the active version and its shadow found on one input; None where the shadow did not come to run."""
        comparison = self.comparisons.get(version.manifest.name)
        if comparison is None:
            return
        if other is None:
            comparison.skipped += 1
        else:
            comparison.compare(one, other)

    def comparison(self, name: str) -> Comparison:
        """Of a name's split."""
        return self.comparisons.setdefault(name, Comparison())

    def later(self, work: Awaitable[None]) -> None:
        """Have something done beside the requests; its failure is logged."""

        async def done() -> None:
            try:
                await work
            except ApplianceError as error:
                log.error("the registry could not keep or tell something: %s", error)

        task = asyncio.create_task(done(), name="model registry")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep_baseline(self, key: str, baseline: Baseline) -> None:
        self.facts[key] = msgspec.structs.replace(self.facts.get(key, VersionFacts(key=key)), baseline=baseline)
        await self.keep(key)

    async def keep(self, key: str) -> None:
        """Write what is known of a version, as it is when its turn comes. Raises StoreError."""
        async with self._writing:
            if (facts := self.facts.get(key)) is not None:
                await self.setup.records.write(facts=[facts])

    def begin(self, key: str) -> None:
        """A version may serve: go on with the baseline that it has."""
        facts = self.facts.get(key)
        self.watching.begin(key, facts.baseline if facts is not None else None)

    async def put(self, record: NameRecord, facts: VersionFacts | None = None) -> None:
        """Make a row true: on disk first, then for the next request. Raises StoreError, and then nothing changed."""
        task = asyncio.create_task(self._put(record, facts))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task])  # whoever holds `changing` holds it until memory and disk say the same
            raise

    async def _put(self, record: NameRecord, facts: VersionFacts | None) -> None:
        async with self._writing:
            if facts is not None and (kept := self.facts.get(facts.key)) is not None:
                facts = msgspec.structs.replace(facts, baseline=kept.baseline)  # it may have become complete meanwhile
            await self.setup.records.write([record], [facts] if facts is not None else [])
            self.names[record.name] = record
            if facts is not None:
                baseline = self.facts.get(facts.key, facts).baseline
                self.facts[facts.key] = msgspec.structs.replace(facts, baseline=baseline)

    async def tell(self, event: str, severity: Any, **facts: Any) -> None:
        """Tell of an event; that it cannot be told undoes nothing."""
        try:
            await self.setup.note(event, severity, facts)
        except ApplianceError as error:
            log.error("%s is not among the events: %s", event, error)

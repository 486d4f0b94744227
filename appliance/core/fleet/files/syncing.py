"""Carries a plan out: folders, files in batches that are proven together, links, modes; what is to go, goes last."""

from __future__ import annotations

import asyncio
import posixpath
import secrets
from collections.abc import Iterator, Mapping, Sequence

from appliance.core.fleet.files.copy import PARALLEL, Copier, Sent
from appliance.core.fleet.files.model import PART_END, Do, Entry, Side, Step, SyncPlan
from appliance.core.fleet.files.progress import Count, Pace
from appliance.core.fleet.files.tree import under
from appliance.errors import ConflictError

BATCH_FILES, BATCH_BYTES = 100, 32 << 20
"""Files that are proven together: so many, or so many bytes."""
LARGE = 8 << 20
"""Bytes from which a file goes alone, and goes on where it was cut."""


class Syncer:
    """Makes a folder of one end like one of the other.

    Args:
        source: Where from.
        target: Where to.
        roots: The folder of each.
        count: Counts.
        pace: Holds back.
    """

    def __init__(self, source: Side, target: Side, roots: tuple[str, str], count: Count, pace: Pace) -> None:
        self._source, self._target = source, target
        self._from, self._to = roots
        self._copier = Copier(source, target, count, pace)
        self.moved = 0
        self.resumed = 0
        self.files = 0
        self.deleted = 0
        self.skipped: list[tuple[str, str]] = []
        """What was changed or vanished while it was copied."""

    async def carry_out(self, plan: SyncPlan, entries: Mapping[str, Entry]) -> None:
        """All steps. Raises ApplianceError; what was done by then is whole.

        Args:
            plan: What to do.
            entries: Path → entry of the source.
        """
        await self._copier.check_room(self._to, plan.bytes)
        replaced = [step for step in plan.steps if step.do is Do.delete and step.why != "only there"]
        in_the_way = {step.path for step in replaced}
        early = [step for step in plan.steps if step.do is Do.delete and _within(step.path, in_the_way)]
        for step in early:
            await self._delete(step)
        await self._target.make_folder(self._to)
        for step in plan.steps:
            if step.do is Do.folder:
                await self._target.make_folder(under(self._to, step.path))
        await self._files([step for step in plan.steps if step.do in {Do.copy, Do.update}], entries)
        await self._rest(plan.steps, entries)
        for step in plan.steps:
            if step.do is Do.delete and step not in early:
                await self._delete(step)

    async def _files(self, steps: Sequence[Step], entries: Mapping[str, Entry]) -> None:
        for batch in batches(steps):
            sent: list[Sent] = []
            for start in range(0, len(batch), PARALLEL):
                some = batch[start : start + PARALLEL]
                done = await asyncio.gather(*(self._send(step, entries[step.path]) for step in some), return_exceptions=True)
                sent += [each for each in done if isinstance(each, Sent)]
                self._note(some, done)
            await self._copier.settle(sent)
            self.files += len(sent)
            self.moved += sum(each.moved for each in sent)
            self.resumed += sum(each.resumed for each in sent)

    async def _send(self, step: Step, entry: Entry) -> Sent:
        way = self._copier.send if entry.size < LARGE else self._copier.send_or_resume
        return await way(under(self._from, step.path), under(self._to, step.path), entry)

    def _note(self, steps: Sequence[Step], done: Sequence[Sent | BaseException]) -> None:
        """What was changed while it was read is told and left; anything else ends the synchronisation."""
        for step, each in zip(steps, done, strict=True):
            if isinstance(each, ConflictError):
                self.skipped.append((step.path, "it was changed while it was read"))
            elif isinstance(each, BaseException):
                raise each

    async def _rest(self, steps: Sequence[Step], entries: Mapping[str, Entry]) -> None:
        for step in steps:
            path, entry = under(self._to, step.path), entries.get(step.path)
            if entry is None:
                continue
            if step.do is Do.link:
                fresh = posixpath.join(posixpath.dirname(path), f".{secrets.token_hex(6)}{PART_END}")
                await self._target.link(entry.target, fresh)
                await self._target.rename(fresh, path)
            elif step.do is Do.mode or (step.do is Do.folder and entry.mode != 0o755):
                await self._target.set(path, entry.mode, None)

    async def _delete(self, step: Step) -> None:
        await self._target.remove(under(self._to, step.path))
        self.deleted += 1


def _within(path: str, roots: set[str]) -> bool:
    return any(path == root or path.startswith(f"{root}/") for root in roots)


def batches(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Files that are proven together; a large one goes alone."""
    batch: list[Step] = []
    total = 0
    for step in steps:
        if batch and (step.size >= LARGE or len(batch) == BATCH_FILES or total + step.size > BATCH_BYTES):
            yield batch
            batch, total = [], 0
        batch.append(step)
        total += step.size
        if step.size >= LARGE:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch

"""Writing without compare-and-swap: put one's own version beside the others, look, and stay or withdraw.

A write is acknowledged only after a listing that was taken while its object was there showed no rival. Of two rivals the
one that was written last sees the other one in its listing, so at most one of them is acknowledged, whatever the clocks
say. Where both see each other the greater version withdraws at once, and the smaller one looks again some times before it
withdraws too. Who withdrew and then finds nobody starts again after a random pause. This asks of the store that a listing
shows every object whose writing had ended before (as S3, MinIO and SeaweedFS promise), and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Protocol

from appliance.core.memory import versions
from appliance.core.memory.keys import key_id
from appliance.core.memory.model import Record
from appliance.core.memory.tier import Diverged
from appliance.core.memory.versions import Entry, View
from appliance.errors import CorruptRecordError, MemoryTierError, TierUnavailableError

log = logging.getLogger(__name__)

ATTEMPTS = 8
LOOKS = (0.05, 0.1, 0.2)
"""Seconds between the looks of the one whose turn it is to stay."""
READS = 5
"""Listings before a reader whose objects keep vanishing gives up."""


class Shelf(Protocol):
    """A store of objects with listings."""

    async def write(self, entry: Entry, record: Record) -> None:
        """Store the record under the entry's name."""

    async def read(self, entry: Entry) -> Record | None:
        """The record; None where the object is gone. Raises CorruptRecordError."""

    async def remove(self, entry: Entry) -> None:
        """Remove one object; one that is gone already is no error."""

    async def entries(self, namespace: str, identifier: str) -> list[Entry]:
        """All objects of one key."""


async def newest(shelf: Shelf, namespace: str, identifier: str) -> Record | None:
    """The head that was modified last, ties by the greater version; None where there is none.

    Raises:
        CorruptRecordError: All heads are damaged.
        TierUnavailableError: Objects keep vanishing between listing and reading.
    """
    for _ in range(READS):
        found = versions.heads(await shelf.entries(namespace, identifier))
        if not found:
            return None
        record = await _latest(shelf, found)
        if record is not None:
            return record
    raise _busy()


async def _latest(shelf: Shelf, found: list[Entry]) -> Record | None:
    records: list[Record] = []
    damage: CorruptRecordError | None = None
    for entry in found:
        try:
            record = await shelf.read(entry)
        except CorruptRecordError as error:
            damage = error
            log.warning("%s; %d other versions of the key are tried", error.message, len(found) - 1)
            continue
        if record is None:
            return None
        records.append(record)
    if not records and damage is not None:
        raise damage
    return max(records, key=lambda record: (record.meta.modified, record.meta.version))


async def write(shelf: Shelf, record: Record, parent: str, known: frozenset[str]) -> Diverged | None:
    """Write a version that replaces those in `known`, of which `parent` is the one to be named.

    Returns:
        None where it stands. Diverged where there is another one, and ours was withdrawn. Its version may be a later one
        than ours that replaced ours (its meta.parent tells).

    Raises:
        TierUnavailableError: The store fails, or too many write this key at the same time. Nothing is acknowledged.
    """
    for attempt in range(ATTEMPTS):
        mine = versions.entry_for(record.meta, parent)
        await shelf.write(mine, record)
        view = await _look(shelf, mine, known)
        if not view.rivals and (view.mine or view.same):
            await _clear(shelf, view)
            return None
        if view.mine:
            await shelf.remove(mine)
        theirs = await _theirs(shelf, mine, known)
        if theirs is not None:
            return Diverged(theirs)
        await asyncio.sleep(random.uniform(0.01, 0.05 * 2 ** min(attempt, 4)))  # noqa: S311 no secret
    raise _busy()


async def _look(shelf: Shelf, mine: Entry, known: frozenset[str]) -> View:
    """Look; where all rivals are to withdraw before us, look again some times."""
    view = versions.judge(await shelf.entries(mine.namespace, mine.key_id), mine, known)
    for pause in LOOKS:
        if not view.mine or not view.rivals or any(rival.version < mine.version for rival in view.rivals):
            break
        if any(rival.parent == mine.version for rival in view.rivals):
            break
        await asyncio.sleep(pause)
        view = versions.judge(await shelf.entries(mine.namespace, mine.key_id), mine, known)
    return view


async def _theirs(shelf: Shelf, mine: Entry, known: frozenset[str]) -> Record | None:
    """The rival that is still there after we withdrew."""
    for _ in range(READS):
        rivals = versions.judge(await shelf.entries(mine.namespace, mine.key_id), mine, known).rivals
        if not rivals:
            return None
        record = await _latest(shelf, list(rivals))
        if record is not None:
            return record
    raise _busy()


async def _clear(shelf: Shelf, view: View) -> None:
    """Remove what was replaced. The write stands already, and the next one clears what is left, so failing does no harm."""
    try:
        for entry in view.replaced:
            await shelf.remove(entry)
    except MemoryTierError as error:
        log.info("Replaced versions stay until the next write of their key: %s", error.message)


async def purge(shelf: Shelf, namespace: str, key: str, version: str) -> None:
    """Remove every attempt at one version, after what it replaced: else that would be the newest again."""
    found = await shelf.entries(namespace, key_id(namespace, key))
    if all(entry.version != version for entry in found):
        return
    gone = versions.ancestors(found, {version})
    for entry in sorted(found, key=lambda entry: (entry.version == version, entry.order)):
        if entry.version in gone:
            await shelf.remove(entry)


def _busy() -> TierUnavailableError:
    return TierUnavailableError("objects: others keep writing this key.", "nothing to do: it is tried again.")

"""Writers of one key without compare-and-swap, in thousands of interleavings: nothing acknowledged is lost unseen."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from appliance.core.memory import settle, versions
from appliance.core.memory.keys import key_id
from appliance.core.memory.model import Record
from appliance.core.memory.versions import Entry
from appliance.errors import TierUnavailableError
from tests.records import make

ID = key_id("default", "k")


class BrokenOffError(Exception):
    """The writer dies here."""


class Shelf:
    """Objects in this process. Every step first waits for its turn, which the seed deals out; some steps break off.

    Args:
        seed: Of the order of the steps.
        breaks: Chance that a writer dies before or after a step.
    """

    def __init__(self, seed: int, breaks: float = 0.0) -> None:
        self.objects: dict[str, Record] = {}
        self.random = random.Random(seed)
        self.breaks = breaks
        self.late: list[str] = []
        """Removals whose writers died, and which are carried out at some time."""

    async def step(self) -> None:
        for _ in range(self.random.randrange(6)):
            await asyncio.sleep(0)
        if self.late and self.random.random() < 0.3:
            self.objects.pop(self.late.pop(), None)
        if self.random.random() < self.breaks:
            raise BrokenOffError

    async def write(self, entry: Entry, record: Record) -> None:
        await self.step()
        self.objects[entry.name] = record
        await self.step()

    async def read(self, entry: Entry) -> Record | None:
        await self.step()
        return self.objects.get(entry.name)

    async def remove(self, entry: Entry) -> None:
        try:
            await self.step()
        except BrokenOffError:
            self.late.append(entry.name)
            raise
        self.objects.pop(entry.name, None)

    async def entries(self, namespace: str, identifier: str) -> list[Entry]:
        await self.step()
        prefix = versions.folder(namespace, identifier)
        found = [versions.parse(name) for name in self.objects if name.startswith(prefix)]
        assert None not in found
        return [entry for entry in found if entry is not None]


class History:
    """What the writers tried, and what they were told."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.records: dict[str, Record] = {}
        self.acknowledged: list[str] = []
        self.diverged = 0
        self.failed = 0

    async def write(self, record: Record, known: str, deliver: Callable[[], Awaitable[Any]] | None = None) -> None:
        """Try until there is an answer, as the queue of a restarted appliance does."""
        self.records[record.meta.version] = record
        for _ in range(30):
            try:
                diverged = await settle.write(self.shelf, record, known, frozenset({known} - {""}))
            except (BrokenOffError, TierUnavailableError):
                self.failed += 1
                continue
            if diverged is None:
                self.acknowledged.append(record.meta.version)
            else:
                self.diverged += 1
            return

    def line(self, version: str) -> set[str]:
        """A version, and what it was made from."""
        found: set[str] = set()
        while version:
            found.add(version)
            version = self.records[version].meta.parent
        return found


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settle, "LOOKS", (0.0, 0.0, 0.0))
    monkeypatch.setattr(settle, "random", Pauses())


class Pauses:
    """Pauses after a lost race: none here, the seed deals out the turns."""

    @staticmethod
    def uniform(low: float, high: float) -> float:
        return 0.0


async def writer(history: History, name: int, rounds: int) -> None:
    """Read, change, write, over and over."""
    for number in range(rounds):
        try:
            there = await settle.newest(history.shelf, "default", ID)
        except (BrokenOffError, TierUnavailableError):
            continue
        parent = there.meta.version if there else ""
        await history.write(make("k", b'"%d-%d"' % (name, number), parent), parent)


@pytest.mark.parametrize("start", range(0, 300, 50))
async def test_what_is_acknowledged_is_the_newest_or_in_its_past(start: int) -> None:
    races = 0
    for seed in range(start, start + 50):
        history = History(Shelf(seed))
        await asyncio.gather(*(writer(history, name, 6) for name in range(3)))
        newest = versions.heads(await history.shelf.entries("default", ID))
        assert len(newest) == 1, f"seed {seed}: {newest}"
        assert set(history.acknowledged) <= history.line(newest[0].version), f"seed {seed}"
        races += history.diverged
    assert races > 50, "the writers hardly met: the test shows nothing"


@pytest.mark.parametrize("start", range(0, 300, 50))
async def test_nothing_acknowledged_vanishes_when_writers_die_and_removals_come_late(start: int) -> None:
    deaths = 0
    for seed in range(start, start + 50):
        history = History(Shelf(seed, breaks=0.04))
        await asyncio.gather(*(writer(history, name, 5) for name in range(3)))
        history.shelf.breaks = 0.0
        newest = versions.heads(await history.shelf.entries("default", ID))
        past = set().union(*(history.line(head.version) for head in newest))
        assert set(history.acknowledged) <= past, f"seed {seed}"
        deaths += history.failed
    assert deaths > 50, "nobody died: the test shows nothing"


async def test_two_first_writers_at_once_are_one_acknowledged_and_one_told() -> None:
    for seed in range(300):
        history = History(Shelf(seed))
        first, second = make("k", b"1"), make("k", b"2")
        order = [first, second] if seed % 2 else [second, first]
        await asyncio.gather(*(history.write(record, "") for record in order))
        assert (len(history.acknowledged), history.diverged) == (1, 1), f"seed {seed}"
        assert len(history.shelf.objects) == 1, f"seed {seed}"


async def test_two_writers_of_the_same_value_are_both_acknowledged_and_one_copy_stays() -> None:
    for seed in range(300):
        history = History(Shelf(seed))
        await asyncio.gather(*(history.write(make("k", b"1"), "") for _ in range(3)))
        assert len(history.acknowledged) == 3, f"seed {seed}"
        left = list(history.shelf.objects.values())
        assert {record.value for record in left} == {b"1"}, f"seed {seed}"
        after = make("k", b"2", left[0].meta.version)
        assert await settle.write(history.shelf, after, left[0].meta.version, frozenset({left[0].meta.version})) is None
        assert [record.value for record in history.shelf.objects.values()] == [b"2"], f"seed {seed}"


async def test_the_same_version_written_at_once_stays() -> None:
    for seed in range(200):
        history = History(Shelf(seed))
        record = make("k", b"1")
        await asyncio.gather(*(history.write(record, "") for _ in range(3)))
        assert {each.meta.version for each in history.shelf.objects.values()} == {record.meta.version}, f"seed {seed}"


def test_names_tell_all_that_a_listing_must_tell() -> None:
    record = make("🔥", b"1", deleted=True)
    entry = versions.entry_for(record.meta, "a" * 32)
    assert versions.parse(entry.name) == entry
    assert entry.name.startswith(f"memory/default/{entry.key_id[:2]}/{entry.key_id}/{record.meta.version}.{'a' * 32}.")
    assert entry.name.endswith(".d")


@pytest.mark.parametrize("name", ["", "memory/", "memory/default/ab/readme.txt", "memory/../x", "backup/a.tar"])
def test_other_objects_are_none_of_ours(name: str) -> None:
    assert versions.parse(name) is None

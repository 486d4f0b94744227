"""What every tier below the local disk promises (core.memory.tier.Replica), asked of all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from appliance.core.memory.documents import DocumentReplica
from appliance.core.memory.keys import key_id
from appliance.core.memory.model import Head, Kind, Record
from appliance.core.memory.nas import NasReplica
from appliance.core.memory.objects import ObjectReplica
from appliance.core.memory.tier import Diverged, Replica
from appliance.core.model import Health
from tests.records import make, tombstone
from tests.servers.nas import Nas
from tests.servers.s3 import Bucket


def objects(s3: Bucket) -> ObjectReplica:
    return ObjectReplica(s3.endpoint, s3.access_key, s3.secret_key, s3.name, False, "edge-1")


def documents(postgres: str) -> DocumentReplica:
    return DocumentReplica(postgres, "edge-1")


def nas(nas: Nas) -> NasReplica:
    return NasReplica(nas.path, "edge-1", 1 << 20)


ALL: dict[str, Callable[[Any], Replica]] = {"s3": objects, "postgres": documents, "nas": nas}
"""How each replica is made from the fixture of that name: a further one is one line."""
SHARED = [name for name in ALL if name != "nas"]
"""Where others write too, so that versions can diverge and tombstones are kept."""


@pytest.fixture(params=ALL)
async def replica(request: pytest.FixtureRequest) -> AsyncIterator[Replica]:
    made = ALL[request.param](request.getfixturevalue(request.param))
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def other(replica: Replica, request: pytest.FixtureRequest) -> AsyncIterator[Replica]:
    """The same tier as another appliance has it, with connections of its own."""
    name = request.node.callspec.params["replica"]
    made = ALL[name](request.getfixturevalue(name))
    await made.open()
    yield made
    await made.close()


shared = pytest.mark.parametrize("replica", SHARED, indirect=True)


async def listed(replica: Replica) -> dict[str, Head]:
    found = [head async for head in replica.heads()]
    assert len({head.key_id for head in found}) == len(found), "one head a key"
    return {head.key_id: head for head in found}


async def write(replica: Replica, record: Record, parent: str = "") -> Record:
    assert await replica.put(record, parent) is None
    return record


async def test_it_says_what_it_is(replica: Replica) -> None:
    assert (replica.name, replica.level) in {("nas", 2), ("objects", 3), ("documents", 3)}
    assert replica.shared == (replica.level == 3)


async def test_it_is_healthy(replica: Replica) -> None:
    report = await replica.health()
    assert report.health is Health.healthy, report


async def test_opening_again_keeps_everything(replica: Replica) -> None:
    record = await write(replica, make())
    await replica.open()
    assert await replica.get("default", "k") == record


async def test_what_is_not_there_is_none(replica: Replica) -> None:
    assert await replica.get("default", "k") is None
    assert await replica.read_id(key_id("default", "k")) is None
    assert await listed(replica) == {}


@pytest.mark.parametrize(
    "key", ["k", "🔥 emoji/../path", "a:b", "x" * 1024, "'; drop table memory_documents; --", "%2e%2e/%00", "Ünï"]
)
async def test_every_key_and_every_field_comes_back(replica: Replica, key: str) -> None:
    meta: dict[str, Any] = {"namespace": "cam.a_b-1", "expires": 1_900_000_000.123456, "tags": ("red", "Zwei Wörter", "🔥")}
    record = await write(replica, make(key, '{"ä": "🔥"}'.encode(), **meta))
    assert await replica.get("cam.a_b-1", key) == record
    assert await replica.read_id(key_id("cam.a_b-1", key)) == record
    assert await replica.get("default", key) is None


@pytest.mark.parametrize("seconds", [0.000001, 1_700_000_000.999999, 1_800_000_000.0, 1_763_710_000.123457, 4_102_444_799.5])
async def test_times_are_exact_to_the_microsecond(replica: Replica, seconds: float) -> None:
    await write(replica, make(modified=seconds, expires=seconds + 1))
    found = await replica.get("default", "k")
    assert found is not None
    assert found.meta.expires is not None
    assert (round(found.meta.modified * 1e6), round(found.meta.expires * 1e6)) == (
        round(seconds * 1e6),
        round((seconds + 1) * 1e6),
    )


@pytest.mark.parametrize(
    "value", [b"null", b'""', b"{}", b'  {"b" : 1,\n"a":1.50, "a": 2}', b'"\\u0000"', b'"\\ud800"', b"[1e999999]"]
)
async def test_a_value_comes_back_to_the_byte(replica: Replica, value: bytes) -> None:
    record = await write(replica, make(value=value))
    assert await replica.get("default", "k") == record


async def test_a_later_version_takes_the_place(replica: Replica) -> None:
    first = await write(replica, make())
    second = await write(replica, make(value=b"2", parent=first.meta.version), first.meta.version)
    assert await replica.get("default", "k") == second
    head = (await listed(replica))[key_id("default", "k")]
    assert (head.version, head.checksum[:32]) == (second.meta.version, second.meta.checksum[:32])
    usage = await replica.usage()
    assert usage is not None
    assert usage.entries == 1
    assert usage.size > 0


async def test_the_same_version_twice_does_no_harm(replica: Replica) -> None:
    first = await write(replica, make())
    second = make(value=b"2", parent=first.meta.version)
    await write(replica, second, first.meta.version)
    await write(replica, second, first.meta.version)
    assert await replica.get("default", "k") == second
    assert len(await listed(replica)) == 1


@shared
async def test_a_tombstone_is_kept_and_listed(replica: Replica) -> None:
    first = await write(replica, make())
    gone = await write(replica, tombstone("k", first.meta.version), first.meta.version)
    assert await replica.get("default", "k") == gone
    head = (await listed(replica))[key_id("default", "k")]
    assert head.deleted
    again = await write(replica, make(value=b"3", parent=gone.meta.version), gone.meta.version)
    assert await replica.get("default", "k") == again


async def test_only_the_named_version_is_purged(replica: Replica) -> None:
    first = await write(replica, make(expires=round(time.time(), 6) - 1))
    await write(replica, make("other"))
    await replica.purge("default", "k", make().meta.version)
    assert await replica.get("default", "k") == first
    await replica.purge("default", "k", first.meta.version)
    assert await replica.get("default", "k") is None
    assert set(await listed(replica)) == {key_id("default", "other")}
    await replica.purge("default", "k", first.meta.version)


@shared
@pytest.mark.parametrize("parent", ["", "0" * 32])
async def test_another_version_there_is_told_and_kept(replica: Replica, parent: str) -> None:
    theirs = await write(replica, make(value=b'"theirs"'))
    assert await replica.put(make(value=b'"mine"', parent=parent), parent) == Diverged(theirs)
    assert await replica.get("default", "k") == theirs
    assert await replica.put(tombstone("k", parent), parent) == Diverged(theirs)
    assert await replica.get("default", "k") == theirs


@shared
async def test_a_late_delivery_of_an_old_version_changes_nothing(replica: Replica) -> None:
    first = await write(replica, make())
    second = await write(replica, make(value=b"2", parent=first.meta.version), first.meta.version)
    diverged = await replica.put(first, "")
    assert diverged == Diverged(second)
    assert diverged.theirs.meta.parent == first.meta.version, "tells the caller that ours was replaced, not contradicted"
    assert await replica.get("default", "k") == second


@shared
async def test_the_same_value_of_another_writer_is_no_conflict(replica: Replica) -> None:
    first = await write(replica, make(device="edge-1"))
    second = await write(replica, make(device="edge-2"))
    assert await replica.get("default", "k") == second
    assert first.meta.checksum == second.meta.checksum
    assert len(await listed(replica)) == 1


@shared
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"tags": ("red",)}),
        ({"tags": ("red",)}, {"tags": ("blue",)}),
        ({"expires": 1_900_000_000.5}, {}),
        ({"expires": 1_900_000_000.5}, {"expires": 1_900_000_000.6}),
    ],
)
async def test_the_same_value_with_other_tags_or_another_expiry_is_another_version(
    replica: Replica, first: dict[str, Any], second: dict[str, Any]
) -> None:
    theirs = await write(replica, make(**first))
    mine = make(**second)
    assert await replica.put(mine, "") == Diverged(theirs)
    assert await replica.get("default", "k") == theirs
    assert await replica.replace(mine, (theirs.meta.version,)) is None
    assert await replica.get("default", "k") == mine


@shared
async def test_the_same_value_with_the_same_tags_and_expiry_is_no_conflict(replica: Replica) -> None:
    await write(replica, make(expires=1_900_000_000.123456, tags=("blue", "red")))
    second = await write(replica, make(expires=1_900_000_000.123456, tags=("blue", "red")))
    assert await replica.get("default", "k") == second


@shared
async def test_the_same_value_of_an_earlier_version_does_not_take_the_place_of_a_later_one(replica: Replica) -> None:
    early, late = make(), make()
    await write(replica, late)
    await write(replica, early)
    found = await replica.get("default", "k")
    assert found is not None
    assert found.meta.checksum == late.meta.checksum
    assert len(await listed(replica)) == 1


@shared
async def test_a_settlement_replaces_all_that_was_seen(replica: Replica) -> None:
    theirs = await write(replica, make(value=b'"theirs"'))
    mine = make(value=b'"mine"')
    assert isinstance(await replica.put(mine, ""), Diverged)
    merged = make(value=b'"both"', parent=theirs.meta.version)
    assert await replica.replace(merged, (mine.meta.version, theirs.meta.version)) is None
    assert await replica.get("default", "k") == merged
    third = make(value=b'"third"')
    assert await replica.replace(third, (mine.meta.version, theirs.meta.version)) == Diverged(merged)
    assert await replica.get("default", "k") == merged


@shared
async def test_of_two_writers_at_once_one_wins_and_the_other_one_is_told(replica: Replica, other: Replica) -> None:
    """Two appliances write from the same parent again and again."""
    parent = ""
    for number in range(15):
        records = [make(value=b'"%d %d"' % (number, writer), parent=parent) for writer in range(2)]
        outcomes = await asyncio.gather(replica.put(records[0], parent), other.put(records[1], parent))
        winners = [record for record, outcome in zip(records, outcomes, strict=True) if outcome is None]
        assert [outcome for outcome in outcomes if outcome is not None] == [Diverged(winners[0])]
        assert await other.get("default", "k") == winners[0]
        parent = winners[0].meta.version


@shared
async def test_no_acknowledged_write_is_lost_among_racing_writers(replica: Replica, other: Replica) -> None:
    records: dict[str, Record] = {}
    acknowledged: set[str] = set()

    async def writer(name: int, replica: Replica) -> None:
        for number in range(8):
            there = await replica.get("default", "k")
            parent = there.meta.version if there else ""
            record = make(value=b'"%d %d"' % (name, number), parent=parent)
            records[record.meta.version] = record
            if await replica.put(record, parent) is None:
                acknowledged.add(record.meta.version)

    await asyncio.gather(writer(1, replica), writer(2, other), writer(3, other))
    newest = await replica.get("default", "k")
    assert newest is not None
    line, version = set(), newest.meta.version
    while version:
        line.add(version)
        version = records[version].meta.parent
    assert acknowledged <= line
    assert len(acknowledged) > 1


@shared
async def test_of_first_writers_at_the_same_moment_one_wins_and_none_fails(replica: Replica, other: Replica) -> None:
    async def both(key: str) -> None:
        first, second = make(key, b'"1"'), make(key, b'"2"')
        told = await asyncio.gather(replica.put(first, ""), other.put(second, ""))
        assert [answer is None for answer in told].count(True) == 1

    for number in range(120 if replica.name == "documents" else 5):
        await asyncio.gather(*(both(f"key {number} {pair}") for pair in range(3)))


async def test_a_thousand_keys_are_all_listed(replica: Replica) -> None:
    records = [make(f"key {number}", b"%d" % number, namespace=f"n{number % 3}") for number in range(1003)]
    gate = asyncio.Semaphore(8)

    async def put(record: Record) -> None:
        async with gate:
            await write(replica, record)

    await asyncio.gather(*(put(record) for record in records))
    found = await listed(replica)
    assert {identifier: head.version for identifier, head in found.items()} == {
        key_id(record.meta.namespace, record.meta.key): record.meta.version for record in records
    }
    assert await replica.read_id(key_id("n2", "key 1001")) == records[1001]


async def test_what_belongs_there(replica: Replica) -> None:
    assert replica.accepts(make().meta)
    assert replica.accepts(make(value=b"\0", kind=Kind.bytes).meta) == (replica.name != "documents")
    assert replica.accepts(tombstone().meta)

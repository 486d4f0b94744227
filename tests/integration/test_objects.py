"""The objects of tier 3 on a real S3 server, and what happens when it fails."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from appliance.core.memory import codec, settle, versions
from appliance.core.memory.keys import key_id
from appliance.core.memory.model import Kind, Record
from appliance.core.memory.objects import Limits, ObjectReplica
from appliance.core.memory.tier import Diverged
from appliance.core.memory.versions import Entry
from appliance.core.model import Health
from appliance.errors import CorruptRecordError, TierUnavailableError
from tests.records import make
from tests.servers.proxy import FaultyProxy
from tests.servers.s3 import Bucket, S3Server

SHORT = Limits(connect=0.5, read=0.7, call=1.5)
BOUND = 10.0
"""Seconds that no call with these limits comes near, also on a busy machine; without limits it would take for ever."""


def replica_of(s3: Bucket, endpoint: str = "", limits: Limits | None = None, secret: str = "") -> ObjectReplica:
    return ObjectReplica(endpoint or s3.endpoint, s3.access_key, secret or s3.secret_key, s3.name, False, "edge-1", limits)


@pytest.fixture
async def replica(s3: Bucket) -> AsyncIterator[ObjectReplica]:
    made = replica_of(s3)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def proxy(s3: Bucket) -> Iterator[FaultyProxy]:
    host, _, port = s3.endpoint.partition(":")
    with FaultyProxy(host, int(port)) as made:
        yield made


@pytest.fixture
async def far(s3: Bucket, proxy: FaultyProxy) -> AsyncIterator[ObjectReplica]:
    """A replica behind a network that fails on order, with little patience."""
    made = replica_of(s3, proxy.endpoint, SHORT)
    await made.open()
    yield made
    await made.close()


async def expect_unavailable(replica: ObjectReplica, record: Record) -> list[str]:
    """Every call fails in time, and says so; what the errors say."""
    said = []
    for call in (replica.get("default", "k"), replica.put(record, ""), replica.read_id("ab" * 16), anext(replica.heads())):
        async with asyncio.timeout(BOUND):
            with pytest.raises(TierUnavailableError) as caught:
                await call
        assert caught.value.next_step
        said.append(str(caught.value))
    async with asyncio.timeout(BOUND):
        report = await replica.health()
    assert report.health is Health.unhealthy
    return [*said, report.reason]


@pytest.mark.parametrize("fault", ["answer", "hang", "refuse"])
async def test_a_failing_network_is_said_in_time_and_recovers(far: ObjectReplica, proxy: FaultyProxy, fault: str) -> None:
    before = make()
    assert await far.put(before, "") is None
    getattr(proxy, fault)()
    await expect_unavailable(far, make(value=b"2"))
    proxy.heal()
    assert await far.get("default", "k") == before
    after = make(value=b"3", parent=before.meta.version)
    assert await far.put(after, before.meta.version) is None
    assert (await far.health()).health is Health.healthy


async def test_a_hung_server_holds_up_neither_the_loop_nor_other_tiers(
    far: ObjectReplica, replica: ObjectReplica, proxy: FaultyProxy
) -> None:
    proxy.hang()
    hung = [asyncio.create_task(far.get("default", f"k{number}")) for number in range(10)]
    assert await replica.put(make(), "") is None
    assert not any(task.done() and task.exception() is None for task in hung)
    outcomes = await asyncio.wait_for(asyncio.gather(*hung, return_exceptions=True), BOUND)
    assert {type(outcome) for outcome in outcomes} == {TierUnavailableError}


async def test_a_write_that_waited_too_long_is_not_carried_out_later(far: ObjectReplica, proxy: FaultyProxy) -> None:
    proxy.hang()
    outcomes = await asyncio.gather(*(far.put(make(f"k{number}"), "") for number in range(12)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {TierUnavailableError}
    proxy.heal()
    assert await far.put(make("after"), "") is None
    assert [head.key_id async for head in far.heads()] == [key_id("default", "after")]


async def test_health_answers_in_time_while_the_server_is_stopped(s3: Bucket, s3_server: S3Server) -> None:
    made = replica_of(s3)
    await made.open()
    s3_server.pause()
    try:
        async with asyncio.timeout(BOUND):
            reports = [await made.health(), await made.health()]
    finally:
        s3_server.resume()
    assert [report.health for report in reports] == [Health.unhealthy] * 2
    await made.close()


async def test_a_killed_server_is_used_again_when_it_is_back(replica: ObjectReplica, s3_server: S3Server) -> None:
    record = make(value=b'"kept"')
    assert await replica.put(record, "") is None
    s3_server.kill()
    with pytest.raises(TierUnavailableError):
        await replica.get("default", "k")
    assert (await replica.health()).health is Health.unhealthy
    s3_server.start()
    assert await replica.get("default", "k") == record


async def test_a_body_cut_short_is_an_error_and_never_a_value(far: ObjectReplica, proxy: FaultyProxy) -> None:
    record = make(value=os.urandom(300_000), kind=Kind.bytes)
    assert await far.put(record, "") is None
    proxy.cut_after(100_000)
    with pytest.raises(TierUnavailableError, match="broke off"):
        await far.get("default", "k")
    proxy.heal()
    assert await far.get("default", "k") == record


async def test_wrong_keys_are_said_with_the_remedy_and_without_the_secret(s3: Bucket, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "a-secret-that-must-not-be-seen"
    wrong = replica_of(s3, secret=secret)
    with pytest.raises(TierUnavailableError) as caught:
        await wrong.open()
    assert "SignatureDoesNotMatch" in caught.value.message or "AccessDenied" in caught.value.message
    assert "secret key" in caught.value.next_step
    report = await wrong.health()
    assert report.health is Health.unhealthy
    chain = [caught.value, caught.value.__cause__, caught.value.__context__ if not caught.value.__suppress_context__ else None]
    for text in (str(chain), repr(wrong), str(report), caplog.text):
        assert secret not in text
    await wrong.close()


async def test_a_bad_name_of_a_bucket_is_said(s3: Bucket) -> None:
    wrong = ObjectReplica(s3.endpoint, s3.access_key, s3.secret_key, "No Bucket", False, "edge-1")
    with pytest.raises(TierUnavailableError, match="No Bucket"):
        await wrong.open()
    await wrong.close()


async def test_a_removed_bucket_is_said_and_made_again_only_on_opening(
    replica: ObjectReplica, s3: Bucket, s3_server: S3Server
) -> None:
    assert await replica.put(make(), "") is None
    s3_server.remove_bucket(s3)
    said = await expect_unavailable(replica, make())
    assert all("NoSuchBucket" in text for text in said)
    await replica.open()
    assert await replica.put(make(), "") is None


async def test_a_bucket_is_made_by_the_first_call_where_opening_failed(s3: Bucket, s3_server: S3Server) -> None:
    fresh = f"{s3.name}-new"
    made = ObjectReplica(s3.endpoint, s3.access_key, s3.secret_key, fresh, False, "edge-1")
    record = make()
    assert await made.put(record, "") is None
    assert await made.get("default", "k") == record
    await made.close()
    s3_server.remove_bucket(Bucket(s3.endpoint, s3.access_key, s3.secret_key, fresh))


def damage(s3_server: S3Server, bucket: str, name: str) -> None:
    """Flip one bit in the middle of an object."""
    client = s3_server.client()
    response = client.get_object(bucket, name)
    data = bytearray(response.read())
    response.close()
    response.release_conn()
    data[len(data) // 2] ^= 1
    client.put_object(bucket, name, io.BytesIO(bytes(data)), len(data))


async def test_a_flipped_bit_is_found_and_can_be_written_over(replica: ObjectReplica, s3: Bucket, s3_server: S3Server) -> None:
    record = make(value=b'"whole"')
    assert await replica.put(record, "") is None
    (entry,) = await replica.entries("default", key_id("default", "k"))
    damage(s3_server, s3.name, entry.name)
    with pytest.raises(CorruptRecordError):
        await replica.get("default", "k")
    with pytest.raises(CorruptRecordError):
        await replica.put(make(value=b'"unaware"'), "")
    after = make(value=b'"new"', parent=record.meta.version)
    assert await replica.put(after, record.meta.version) is None
    assert await replica.get("default", "k") == after


async def test_an_object_that_was_cut_short_is_found(replica: ObjectReplica, s3: Bucket, s3_server: S3Server) -> None:
    record = make(value=os.urandom(10_000), kind=Kind.bytes)
    assert await replica.put(record, "") is None
    (entry,) = await replica.entries("default", key_id("default", "k"))
    for length in (5_000, 10, 0):
        s3_server.client().put_object(s3.name, entry.name, io.BytesIO(codec.encode(record)[:length]), length)
        with pytest.raises(CorruptRecordError):
            await replica.get("default", "k")


class Misread(ObjectReplica):
    """The first reading of an object arrives damaged."""

    reads = 0

    def _fetch(self, name: str) -> Record | None:
        self.reads += 1
        if self.reads == 1:
            raise CorruptRecordError("damaged on its way", "")
        return super()._fetch(name)


async def test_what_was_damaged_on_its_way_is_read_once_more(s3: Bucket) -> None:
    made = Misread(s3.endpoint, s3.access_key, s3.secret_key, s3.name, False, "edge-1")
    record = make()
    assert await made.put(record, "") is None
    assert await made.get("default", "k") == record
    assert made.reads == 2
    await made.close()


async def test_beside_a_damaged_version_a_whole_one_is_read(replica: ObjectReplica, s3: Bucket, s3_server: S3Server) -> None:
    for record in (make(value=b"1"), make(value=b"2")):
        await replica.write(versions.entry_for(record.meta, ""), record)
    entries = await replica.entries("default", key_id("default", "k"))
    damage(s3_server, s3.name, versions.heads(entries)[0].name)
    found = await replica.get("default", "k")
    assert found is not None
    assert found.value == b"1"


async def test_of_two_heads_the_one_modified_last_is_read_and_the_next_writer_is_told(replica: ObjectReplica) -> None:
    late = make(value=b'"late"', modified=1_800_000_002.0)
    early = make(value=b'"early"', modified=1_800_000_001.0)
    for record in (late, early):
        await replica.write(versions.entry_for(record.meta, ""), record)
    assert await replica.get("default", "k") == late
    assert await replica.put(make(value=b'"next"', parent=late.meta.version), late.meta.version) == Diverged(early)
    settled = make(value=b'"settled"', parent=late.meta.version)
    assert await replica.replace(settled, (late.meta.version, early.meta.version)) is None
    assert [entry.version for entry in await replica.entries("default", key_id("default", "k"))] == [settled.meta.version]


async def test_what_a_killed_writer_left_is_written_over_by_its_next_attempt(replica: ObjectReplica) -> None:
    first = make()
    assert await replica.put(first, "") is None
    second = make(value=b"2", parent=first.meta.version)
    await replica.write(versions.entry_for(second.meta, first.meta.version), second)
    assert await replica.put(second, first.meta.version) is None
    assert await replica.get("default", "k") == second
    assert [entry.version for entry in await replica.entries("default", key_id("default", "k"))] == [second.meta.version]


class Overtaken(ObjectReplica):
    """A reader who is overtaken by a writer between its listing and its reading."""

    overtake: Record | None = None

    async def read(self, entry: Entry) -> Record | None:
        record, self.overtake = self.overtake, None
        if record is not None:
            assert await self.put(record, entry.version) is None
        return await super().read(entry)


async def test_a_version_that_vanishes_between_listing_and_reading_is_looked_up_again(s3: Bucket) -> None:
    made = Overtaken(s3.endpoint, s3.access_key, s3.secret_key, s3.name, False, "edge-1")
    first = make()
    assert await made.put(first, "") is None
    made.overtake = second = make(value=b"2", parent=first.meta.version)
    assert await made.get("default", "k") == second
    await made.close()


async def test_failing_to_clear_up_does_not_undo_a_write(replica: ObjectReplica, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make()
    assert await replica.put(first, "") is None
    second = make(value=b"2", parent=first.meta.version)

    async def refuse(entry: Entry) -> None:
        raise TierUnavailableError("gone", "wait")

    with monkeypatch.context() as patched:
        patched.setattr(replica, "remove", refuse)
        assert await replica.put(second, first.meta.version) is None
    assert len(await replica.entries("default", key_id("default", "k"))) == 2
    assert await replica.get("default", "k") == second
    third = make(value=b"3", parent=second.meta.version)
    assert await replica.put(third, second.meta.version) is None
    assert [entry.version for entry in await replica.entries("default", key_id("default", "k"))] == [third.meta.version]


@pytest.mark.parametrize("deleted", [True, False])
async def test_purging_does_not_bring_back_what_was_replaced(replica: ObjectReplica, deleted: bool) -> None:
    """As after a writer that was killed before it cleared up."""
    first = make(value=b"1")
    assert await replica.put(first, "") is None
    second = make(value=b"" if deleted else b"2", parent=first.meta.version, deleted=deleted)
    await replica.write(versions.entry_for(second.meta, first.meta.version), second)
    await replica.purge("default", "k", second.meta.version)
    assert await replica.get("default", "k") is None


async def test_a_closed_replica_can_be_used_again(replica: ObjectReplica) -> None:
    record = make()
    assert await replica.put(record, "") is None
    await replica.close()
    assert await replica.get("default", "k") == record


@pytest.mark.parametrize("size", [0, 1, codec.COMPRESS_ABOVE + 1, 64 * 1024 * 1024])
async def test_values_of_every_size(replica: ObjectReplica, size: int) -> None:
    record = make(value=os.urandom(size), kind=Kind.bytes)
    assert replica.accepts(record.meta)
    assert await replica.put(record, "") is None
    assert await replica.get("default", "k") == record


async def test_a_value_over_the_limit_does_not_belong_there(s3: Bucket) -> None:
    small = ObjectReplica(s3.endpoint, s3.access_key, s3.secret_key, s3.name, False, "edge-1", largest=10)
    assert small.accepts(make(value=b"x" * 10).meta)
    assert not small.accepts(make(value=b"x" * 11).meta)


async def test_objects_of_others_in_the_bucket_are_left_alone(replica: ObjectReplica, s3: Bucket, s3_server: S3Server) -> None:
    for name in ("memory/default/readme.txt", "memory/zz", "models/yolo.onnx"):
        s3_server.client().put_object(s3.name, name, io.BytesIO(b"x"), 1)
    assert [head async for head in replica.heads()] == []
    assert await replica.put(make(), "") is None
    assert len([head async for head in replica.heads()]) == 1
    usage = await replica.usage()
    assert usage is not None
    assert usage.entries == 1


async def test_a_race_that_nobody_wins_is_given_up_and_not_acknowledged(
    replica: ObjectReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rival shows up in every listing while we are there, and is gone when we withdrew."""
    genuine = replica.entries
    rival = versions.entry_for(make(value=b'"rival"', version="0" * 32).meta, "")

    async def haunted(namespace: str, identifier: str) -> list[Entry]:
        found = await genuine(namespace, identifier)
        return [*found, rival] if found else found

    monkeypatch.setattr(replica, "entries", haunted)
    monkeypatch.setattr(settle, "ATTEMPTS", 2)
    with pytest.raises(TierUnavailableError):
        await replica.put(make(), "")
    monkeypatch.undo()
    assert await replica.get("default", "k") is None


def test_a_call_that_hangs_does_not_delay_the_exit(s3: Bucket, proxy: FaultyProxy) -> None:
    proxy.hang()
    code = f"""
import asyncio
from appliance.core.memory.objects import Limits, ObjectReplica
async def main():
    replica = ObjectReplica({proxy.endpoint!r}, "a", "b", "bucket", False, "edge-1", Limits(read=600.0, call=0.5))
    try:
        await replica.get("default", "k")
    except Exception as error:
        print(type(error).__name__)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "TierUnavailableError"


async def test_versions_that_replace_each_other_in_a_circle_are_still_found(replica: ObjectReplica) -> None:
    """As a writer of before made them, whose clearing up failed."""
    first = make(value=b'"first"')
    second = make(value=b'"second"', parent=first.meta.version)
    for record, parent in ((first, second.meta.version), (second, first.meta.version)):
        await replica.write(versions.entry_for(record.meta, parent), record)
    assert [head.version async for head in replica.heads()] == [second.meta.version]
    assert await replica.get("default", "k") == second
    third = make(value=b'"third"', parent=second.meta.version)
    assert await replica.put(third, second.meta.version) is None
    assert [entry.version for entry in await replica.entries("default", key_id("default", "k"))] == [third.meta.version]


@pytest.mark.parametrize("number", range(1, 6))
def test_there_is_always_a_head(number: int) -> None:
    """One version before a circle of some, and one after none of them."""
    records = [make() for _ in range(number + 1)]
    before, *circle = [record.meta for record in records]
    entries = [versions.entry_for(before, "")]
    entries += [versions.entry_for(meta, circle[index - 1].version) for index, meta in enumerate(circle)]
    entries.append(versions.entry_for(circle[0], before.version))
    assert [head.version for head in versions.heads(entries)] == [circle[-1].version]
    alone = versions.entry_for(make().meta, "")
    assert {head.version for head in versions.heads([*entries, alone])} == {circle[-1].version, alone.version}

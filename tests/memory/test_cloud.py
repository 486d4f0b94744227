"""Tier 3 on a real S3 server and a real PostgreSQL, behind a network that fails; two appliances that share them."""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from appliance.core.actions import Invocation
from appliance.core.catalog.memory import memory_actions
from appliance.core.memory import sync as synchroniser
from appliance.core.memory.behind import Shared
from appliance.core.memory.conflicts import Choice, seen
from appliance.core.memory.documents import DocumentReplica
from appliance.core.memory.edge import Put
from appliance.core.memory.eviction import Room
from appliance.core.memory.machinery import SyncPlan
from appliance.core.memory.model import Durability, Kind, Meta, Record
from appliance.core.memory.nas import NasReplica
from appliance.core.memory.objects import Limits, ObjectReplica
from appliance.core.memory.rows import Row
from appliance.core.memory.strategy import Strategy
from appliance.core.memory.tier import Diverged, Replica
from appliance.core.memory.versions import Entry
from appliance.core.model import Actor, Health, HealthReport, Role
from appliance.errors import ConflictError, CorruptRecordError, TierAbsentError, TierFullError, TierUnavailableError
from tests.memory.rig import Rig
from tests.servers.nas import MARKER, Nas
from tests.servers.postgres import PostgresServer
from tests.servers.proxy import FaultyProxy
from tests.servers.s3 import Bucket, S3Server
from tests.support import wait_for

WITHIN = 3.5
"""Seconds in which a fault must show."""
Start = Callable[..., Any]


@pytest.fixture
def s3_far(s3: Bucket) -> Iterator[FaultyProxy]:
    """The S3 server behind a network that fails."""
    host, port = s3.endpoint.split(":")
    with FaultyProxy(host, int(port)) as proxy:
        yield proxy


@pytest.fixture
def postgres_far(postgres: str) -> Iterator[FaultyProxy]:
    """PostgreSQL behind a network that fails."""
    parts = urlsplit(postgres)
    with FaultyProxy(parts.hostname or "", parts.port or 0) as proxy:
        yield proxy


def objects(bucket: Bucket, device: str, proxy: FaultyProxy | None = None) -> ObjectReplica:
    """The bucket as a tier."""
    endpoint = proxy.endpoint if proxy else bucket.endpoint
    limits = Limits(connect=1.0, read=1.0, call=3.0) if proxy else None
    return ObjectReplica(endpoint, bucket.access_key, bucket.secret_key, bucket.name, False, device, limits)


def documents(dsn: str, device: str, proxy: FaultyProxy | None = None) -> DocumentReplica:
    """The database as a tier."""
    return DocumentReplica(dsn.replace(f":{urlsplit(dsn).port}/", f":{proxy.port}/") if proxy else dsn, device)


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts appliances, and stops them at the end."""
    async with AsyncExitStack() as stack:

        async def begin(
            device: str, *tiers: Replica, strategy: Strategy = Strategy.latest_wins, room: Room | None = None
        ) -> Rig:
            plan = SyncPlan(interval=3600, strategy=strategy)
            rig = Rig(tmp_path / device, tiers, device=device, plan=plan, room=room)
            await rig.start()
            stack.push_async_callback(rig.stop)
            for name in rig.parts.replicas.tiers:
                await shows(rig, name, Health.healthy, 15)
            return rig

        yield begin


async def shows(rig: Rig, tier: str, health: Health, within: float = WITHIN) -> None:
    """Wait until a tier is shown so, and the memory as a whole tells of it."""

    async def so() -> bool:
        whole = await rig.service.health()
        return rig.parts.replicas.reports[tier].health is health and f"{tier} {health.value}" in whole.reason

    await wait_for(so, within, f"{tier} is {health.value}; it is {rig.parts.replicas.reports[tier]}")


async def sync(*rigs: Rig) -> None:
    """Synchronise one after the other; no run may fail."""
    for rig in rigs:
        rig.clock.move(1.0)
        for run in await rig.machinery.synchroniser.run_all():
            assert not run.error, run.error


FAULTS: dict[str, Callable[[FaultyProxy], None]] = {
    "refused": FaultyProxy.refuse,
    "hangs": FaultyProxy.hang,
    "503": lambda proxy: proxy.answer(503),
    "cut": lambda proxy: proxy.cut_after(30),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_objects_that_fail_are_told_and_get_later_what_they_are_owed(
    start: Start, s3: Bucket, s3_far: FaultyProxy, fault: str
) -> None:
    rig = await start("pc", objects(s3, "pc", s3_far))
    await rig.memory.set("k", b"1" * 5000, durability=Durability.cloud)
    await asyncio.to_thread(FAULTS[fault], s3_far)
    await shows(rig, "objects", Health.unhealthy)
    with pytest.raises(TierUnavailableError, match="kept at the edge"):
        await rig.memory.set("k", b"2" * 5000, durability=Durability.cloud)
    await rig.memory.delete("gone")
    assert await rig.memory.get("k") == b"2" * 5000
    assert (await rig.parts.ledger.counts())["objects"].waiting >= 1
    await asyncio.to_thread(s3_far.heal)
    await shows(rig, "objects", Health.healthy, 10)
    await rig.delivered()
    agent = await start("agent", objects(s3, "agent"))
    assert await agent.memory.get("k") == b"2" * 5000


@pytest.mark.parametrize("fault", ["refused", "hangs"])
async def test_documents_that_fail_are_told_and_get_later_what_they_are_owed(
    start: Start, postgres: str, postgres_far: FaultyProxy, fault: str
) -> None:
    rig = await start("pc", documents(postgres, "pc", postgres_far))
    await rig.memory.set("k", {"n": 1}, durability=Durability.cloud)
    await asyncio.to_thread(FAULTS[fault], postgres_far)
    await shows(rig, "documents", Health.unhealthy)
    with pytest.raises(TierUnavailableError, match="kept at the edge"):
        await rig.memory.set("k", {"n": 2}, durability=Durability.cloud)
    assert await rig.memory.get("k") == {"n": 2}
    await asyncio.to_thread(postgres_far.heal)
    await shows(rig, "documents", Health.healthy, 10)
    await rig.delivered()
    agent = await start("agent", documents(postgres, "agent"))
    assert await agent.memory.get("k") == {"n": 2}


async def test_servers_that_are_killed(
    start: Start, s3: Bucket, s3_server: S3Server, postgres: str, postgres_server: PostgresServer
) -> None:
    rig = await start("pc", objects(s3, "pc"), documents(postgres, "pc"))
    await asyncio.to_thread(s3_server.kill)
    await asyncio.to_thread(postgres_server.kill)
    await shows(rig, "objects", Health.unhealthy)
    await shows(rig, "documents", Health.unhealthy)
    await rig.memory.set_many({"b": b"bytes", "j": [1]})
    s3_server.start()  # here: each dies with the thread that starts it
    postgres_server.start()
    await rig.delivered()
    agent = await start("agent", objects(s3, "agent"), documents(postgres, "agent"))
    assert await agent.memory.get_many(["b", "j"]) == {"b": b"bytes", "j": [1]}


async def test_a_value_walks_up_from_tier_3(start: Start, s3: Bucket) -> None:
    pc, agent = await start("pc", objects(s3, "pc")), await start("agent", objects(s3, "agent"))
    assert await agent.memory.get("k") is None
    await pc.memory.set("k", b"value", durability=Durability.cloud, tags=["t"])
    await sync(agent)
    assert [copy.tier for copy in (await agent.memory._listing.one("default", "k")).copies] == ["disk", "objects"]
    await agent.memory.evict("k", tier=2)
    assert [copy.tier for copy in (await agent.memory._listing.one("default", "k")).copies] == ["objects"]
    assert await agent.memory.get("k") == b"value"
    assert [copy.tier for copy in (await agent.memory.stat("k")).copies] == ["memory", "disk", "objects"]
    await pc.memory.delete("k")
    await sync(pc, agent)
    assert await agent.memory.get("k") is None


OUTCOMES = [(Strategy.latest_wins, "agent"), (Strategy.cloud_wins, "pc"), (Strategy.edge_wins, "agent")]


@pytest.mark.parametrize(("strategy", "winner"), OUTCOMES)
async def test_conflicts_are_settled_the_same_everywhere(start: Start, postgres: str, strategy: Strategy, winner: str) -> None:
    pc = await start("pc", documents(postgres, "pc"), strategy=strategy)
    agent = await start("agent", documents(postgres, "agent"), strategy=strategy)
    await conflict(pc, agent)
    await sync(agent, pc)
    assert [(await rig.memory.get("k"))["by"] for rig in (pc, agent)] == [winner, winner]
    assert (await pc.parts.ledger.counts(), await agent.parts.ledger.counts()) == ({}, {})


async def conflict(pc: Rig, agent: Rig, key: str = "k") -> None:
    """Both change what both have: the agent a second later, after the cloud has got the other one's."""
    await pc.memory.set(key, {"by": "both", "a": 1, "b": 1})
    await sync(pc, agent)
    await agent.halt()  # it may not deliver by itself before it knows
    pc.clock.move(1.0)
    await pc.memory.set(key, {"by": "pc", "a": 2, "b": 1})
    await sync(pc)
    agent.clock.move(10.0)
    await agent.memory.set(key, {"by": "agent", "a": 1, "b": 2})


async def test_changes_of_different_fields_are_merged(start: Start, postgres: str) -> None:
    pc = await start("pc", documents(postgres, "pc"), strategy=Strategy.merge)
    agent = await start("agent", documents(postgres, "agent"), strategy=Strategy.merge)
    await pc.memory.set("k", {"a": 1, "b": 1})
    await sync(pc, agent)
    await agent.halt()
    await pc.memory.set("k", {"a": 2, "b": 1})
    await sync(pc)
    await agent.memory.set("k", {"a": 1, "b": 2})
    await sync(agent, pc)
    assert await agent.memory.get("k") == await pc.memory.get("k") == {"a": 2, "b": 2}


async def test_what_only_the_nas_has_is_no_common_version(start: Start, postgres: str, nas: Nas) -> None:
    pc = await start("pc", NasReplica(nas.path, "pc", 1 << 20), documents(postgres, "pc"))
    agent = await start("agent", documents(postgres, "agent"))
    await agent.memory.set("k", {"by": "agent"}, durability=Durability.cloud)
    row = await kept_before_it_is_known(pc, {"by": "pc"})
    assert await pc.parts.ledger.base("nas", row.entry) is None
    assert await pc.parts.ledger.base("documents", row.entry) is None
    await sync(pc, agent)
    assert [(await rig.memory.get("k"))["by"] for rig in (pc, agent)] == ["pc", "pc"]


async def kept_before_it_is_known(rig: Rig, value: dict[str, str]) -> Row:
    """A value on the NAS and, in a second version that says the same, on the disk; the cloud has heard of neither."""
    deliverer = rig.machinery.deliverers["documents"]
    async with deliverer.alone:
        for _ in range(2):
            rig.clock.move(1.0)
            await rig.memory.set("k", value, durability=Durability.edge)
            await wait_for(lambda: nothing_owed(rig, "nas"), 10)
        row = await rig.parts.edge.row("default", "k")
    assert row is not None
    return row


async def nothing_owed(rig: Rig, tier: str) -> bool:
    """Whether a tier has all."""
    return tier not in await rig.parts.ledger.counts()


async def test_the_newest_common_version_is_the_base(start: Start, postgres: str, nas: Nas) -> None:
    """While the NAS is away, bases are not forgotten: a newer one takes the older one's place."""
    tiers = NasReplica(nas.path, "pc", 1 << 20), documents(postgres, "pc")
    pc = await start("pc", *tiers, strategy=Strategy.merge)
    agent = await start("agent", documents(postgres, "agent"), strategy=Strategy.merge)
    await pc.memory.set("k", {"n": 1, "pc": 0}, durability=Durability.cloud)
    await pc.delivered()
    (nas.path / MARKER).unlink()
    await shows(pc, "nas", Health.absent)
    await pc.memory.set("k", {"n": 2, "pc": 0}, durability=Durability.cloud)
    await sync(agent)
    await pc.halt()
    await pc.memory.set("k", {"n": 2, "pc": 1})
    agent.clock.move(1.0)
    await agent.memory.set("k", {"n": 1, "pc": 0}, durability=Durability.cloud)
    await sync(pc, agent)
    assert [await rig.memory.get("k") for rig in (pc, agent)] == [{"n": 1, "pc": 1}] * 2


CHOICES: list[tuple[Choice, Any]] = [
    ("mine", "agent"), ("theirs", "pc"), ("both", "agent"), ("value", "edited"),
]  # fmt: skip


@pytest.mark.parametrize(("choice", "winner"), CHOICES)
async def test_a_conflict_waits_for_the_operator(start: Start, postgres: str, choice: Choice, winner: str) -> None:
    pc = await start("pc", documents(postgres, "pc"))
    agent = await start("agent", documents(postgres, "agent"), strategy=Strategy.manual)
    await conflict(pc, agent)
    await sync(agent)
    (found,) = await agent.parts.ledger.conflicts()
    assert (await agent.memory.get("k"))["by"] == "agent"
    with pytest.raises(ConflictError):
        await agent.memory.set("k", {"by": "agent", "a": 1, "b": 2}, durability=Durability.cloud)
    value = b'{"by": "edited"}' if choice == "value" else None
    await agent.machinery.settler.resolve(found.conflict_id, choice, value)
    assert await agent.parts.ledger.conflicts() == []
    await sync(agent, pc)
    assert [(await rig.memory.get("k"))["by"] for rig in (pc, agent)] == [winner, winner]
    if choice == "both":
        assert (await pc.memory.get(f"k.theirs-{found.version[-6:]}"))["by"] == "pc"


@pytest.mark.parametrize("choice", ["mine", "theirs", "both"])
async def test_deleted_here_and_changed_there(start: Start, s3: Bucket, choice: Choice) -> None:
    pc = await start("pc", objects(s3, "pc"))
    agent = await start("agent", objects(s3, "agent"), strategy=Strategy.manual)
    await pc.memory.set("k", b"first")
    await sync(pc, agent)
    await agent.halt()
    await pc.memory.set("k", b"changed")
    await sync(pc)
    await agent.memory.delete("k")
    await sync(agent)
    (found,) = await agent.parts.ledger.conflicts()
    await agent.machinery.settler.resolve(found.conflict_id, choice)
    await sync(agent, pc)
    expected = b"changed" if choice == "theirs" else None
    assert (await pc.memory.get("k"), await agent.memory.get("k")) == (expected, expected)
    beside = await agent.memory.get(f"k.theirs-{found.version[-6:]}")
    assert beside == (b"changed" if choice == "both" else None)


async def test_an_emptied_bucket_gets_everything_again(start: Start, s3: Bucket, s3_server: S3Server) -> None:
    rig = await start("pc", objects(s3, "pc"))
    await rig.memory.set_many({"a": b"1", "b": b"2", "gone": b"3"})
    await rig.memory.delete("gone")
    await rig.delivered()
    client = s3_server.client()

    def names() -> list[str]:
        return [str(item.object_name) for item in client.list_objects(s3.name, recursive=True)]

    for name in await asyncio.to_thread(names):
        await asyncio.to_thread(client.remove_object, s3.name, name)
    await sync(rig)
    assert len(await asyncio.to_thread(names)) == 2
    agent = await start("agent", objects(s3, "agent"))
    assert await agent.memory.get_many(["a", "b", "gone"]) == {"a": b"1", "b": b"2"}


async def test_a_tier_that_is_configured_later_gets_what_there_is(start: Start, s3: Bucket, tmp_path: Path) -> None:
    alone = await start("pc")
    await alone.memory.set_many({"a": b"1", "j": {"x": 1}})
    await alone.stop()
    rig = await start("pc", objects(s3, "pc"))
    await rig.delivered()
    await rig.stop()
    without = await start("pc")
    await without.memory.set("a", b"changed while it was not configured")
    await without.memory.delete("j")
    await without.stop()
    rig = await start("pc", objects(s3, "pc"))
    await rig.delivered()
    agent = await start("agent", objects(s3, "agent"))
    assert await agent.memory.get_many(["a", "j"]) == {"a": b"changed while it was not configured"}


async def test_a_value_of_another_kind_moves_to_another_tier(start: Start, s3: Bucket, postgres: str) -> None:
    pc = await start("pc", objects(s3, "pc"), documents(postgres, "pc"))
    agent = await start("agent", objects(s3, "agent"), documents(postgres, "agent"))
    for value in ({"x": 1}, b"bytes", {"x": 2}, b"again"):
        await pc.memory.set("k", value)
        await sync(pc, agent, pc)
        assert (await pc.memory.get("k"), await agent.memory.get("k")) == (value, value)
        assert await pc.parts.ledger.conflicts() == await agent.parts.ledger.conflicts() == []
    tiers = pc.parts.replicas.tiers
    await pc.delivered()
    assert await tiers["documents"].get("default", "k") is None
    found = await tiers["objects"].get("default", "k")
    assert found is not None
    assert found.value == b"again"


@pytest.mark.parametrize("strategy", Strategy)
async def test_an_own_version_whose_arrival_was_not_told_is_no_conflict(
    start: Start, postgres: str, strategy: Strategy
) -> None:
    """Though both were written at the same time, as the clock tells it."""
    rig = await start("pc", documents(postgres, "pc"), strategy=strategy)
    await rig.memory.set("k", "first", durability=Durability.cloud)
    row = await rig.parts.edge.row("default", "k")
    assert row is not None
    await rig.parts.ledger.moved("documents", row.entry)  # as where the answer to the write was lost
    await rig.memory.set("k", "second", durability=Durability.cloud)
    assert await rig.memory.get("k") == "second"
    record = await rig.parts.replicas.tiers["documents"].get("default", "k")
    assert record is not None
    assert record.value == b'"second"'
    assert await rig.parts.ledger.conflicts() == []


async def test_what_expired_is_gone_for_everybody(start: Start, postgres: str) -> None:
    """Also for one that has only heard of an older value."""
    pc, agent = await start("pc", documents(postgres, "pc")), await start("agent", documents(postgres, "agent"))
    await pc.memory.set("k", "older")
    await sync(pc, agent)
    await pc.memory.set("k", "brief", ttl=60)
    await sync(pc)
    pc.clock.move(100.0)
    agent.clock.move(100.0)
    pc.hot.forget_all()
    assert await pc.memory.get("k") is None
    await sync(pc, agent, pc)
    agent.hot.forget_all()
    assert (await pc.memory.get("k"), await agent.memory.get("k")) == (None, None)


@pytest.mark.parametrize("strategy", [Strategy.latest_wins, Strategy.cloud_wins, Strategy.edge_wins])
async def test_an_older_own_version_does_not_replace_a_newer_one_in_the_cloud(
    start: Start, postgres: str, strategy: Strategy
) -> None:
    """As where the local disk was replaced, and an older copy came back from the NAS while the cloud was away."""
    rig = await start("pc", documents(postgres, "pc"), strategy=strategy)
    await rig.memory.set("k", "older", durability=Durability.cloud)
    found = await rig.parts.edge.get("default", "k")
    assert found is not None
    assert found[1] is not None
    older = found[1]
    rig.clock.move(10.0)
    await rig.memory.set("k", "newer", durability=Durability.cloud)
    await rig.halt()
    await rig.parts.edge.forget(found[0]._replace(meta=(await row_of(rig, "k")).meta))
    await rig.parts.edge.store.write(lambda connection: connection.execute("DELETE FROM purges"))
    await rig.parts.edge.put(Put(older, owed_to=("documents",)))
    rig.hot.forget_all()
    assert await rig.memory.get("k") == "older"
    await rig.machinery.deliverers["documents"].deliver_some()
    await sync(rig)
    record = await rig.parts.replicas.tiers["documents"].get("default", "k")
    assert record is not None
    assert record.value == b'"newer"'
    assert await rig.memory.get("k") == "newer"


async def row_of(rig: Rig, key: str) -> Row:
    """What the disk knows of a key that it knows."""
    row = await rig.parts.edge.row("default", key)
    assert row is not None
    return row


async def untold(rig: Rig) -> Meta:
    """A first version that arrived in the cloud, as where the answer to the write was lost."""
    await rig.memory.set("k", b"first")
    found = await rig.parts.edge.get("default", "k")
    assert found is not None
    assert found[1] is not None
    (replica,) = rig.parts.replicas.tiers.values()
    assert await replica.put(found[1], "") is None
    return found[0].meta


def clears_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch, own: str) -> ObjectReplica:
    """Let nothing but attempts at one version be removed from the bucket."""
    replica = rig.parts.replicas.tiers["objects"]
    assert isinstance(replica, ObjectReplica)
    genuine = replica.remove

    async def fails(entry: Entry) -> None:
        if entry.version != own:
            raise TierUnavailableError("503", "")
        await genuine(entry)

    monkeypatch.setattr(replica, "remove", fails)
    return replica


async def test_a_version_that_was_replaced_in_the_cloud_wins_as_a_fresh_one(
    start: Start, s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its arrival was never told, the agent replaced it twice, and what is replaced cannot be cleared away."""
    pc = await start("pc", objects(s3, "pc"), strategy=Strategy.edge_wins)
    agent = await start("agent", objects(s3, "agent"))
    await pc.halt()
    await agent.halt()
    first = await untold(pc)
    replica = clears_nothing(pc, monkeypatch, first.version)
    clears_nothing(agent, monkeypatch, "")
    await sync(agent)
    for value in (b"second", b"third"):
        await agent.memory.set("k", value)
        await sync(agent)
    await sync(pc)
    wins = (await row_of(pc, "k")).meta.version
    assert [head.version async for head in replica.heads()] == [wins]
    assert wins != first.version
    await sync(agent, pc)
    assert (await pc.memory.get("k"), await agent.memory.get("k")) == (b"first", b"first")


@pytest.mark.parametrize("strategy", Strategy)
async def test_what_replaced_an_own_version_whose_arrival_was_not_told_is_taken_over(
    start: Start, s3: Bucket, strategy: Strategy
) -> None:
    pc, agent = await start("pc", objects(s3, "pc"), strategy=strategy), await start("agent", objects(s3, "agent"))
    await pc.halt()
    await untold(pc)
    await sync(agent)
    await agent.memory.set("k", b"second")
    await sync(agent)
    await sync(pc)
    pc.hot.forget_all()
    assert await pc.memory.get("k") == b"second"
    assert pc.machinery.settler.detected == 0


async def test_a_conflict_that_the_others_have_settled_is_open_no_more(start: Start, postgres: str) -> None:
    """Both say the same again; what this one writes next goes to the cloud as ever."""
    pc = await start("pc", documents(postgres, "pc"))
    agent = await start("agent", documents(postgres, "agent"), strategy=Strategy.manual)
    await conflict(pc, agent)
    await sync(agent)
    assert len(await agent.parts.ledger.conflicts()) == 1
    await pc.memory.set("k", {"by": "agent", "a": 1, "b": 2})
    await sync(pc, agent)
    assert await agent.parts.ledger.conflicts() == []
    await agent.memory.set("k", "next")
    await sync(agent, pc)
    assert await pc.memory.get("k") == "next"
    assert await agent.parts.ledger.counts() == {}


async def test_a_conflict_with_what_is_gone_there_is_open_no_more(start: Start, postgres: str) -> None:
    pc = await start("pc", documents(postgres, "pc"))
    agent = await start("agent", documents(postgres, "agent"), strategy=Strategy.manual)
    await conflict(pc, agent)
    await sync(agent)
    (found,) = await agent.parts.ledger.conflicts()
    await agent.parts.replicas.tiers["documents"].purge("default", "k", found.version)
    await sync(agent)
    assert await agent.parts.ledger.conflicts() == []
    record = await agent.parts.replicas.tiers["documents"].get("default", "k")
    assert record is not None
    assert record.meta.version == (await row_of(agent, "k")).meta.version


async def test_a_damaged_version_of_another_one_is_replaced(
    start: Start, postgres: str, s3: Bucket, s3_server: S3Server
) -> None:
    pc = await start("pc", documents(postgres, "pc"), objects(s3, "pc"))
    agent = await start("agent", documents(postgres, "agent"), objects(s3, "agent"))
    await agent.memory.set("j", {"by": "agent"}, durability=Durability.cloud)
    await agent.memory.set("b", b"agent", durability=Durability.cloud)
    await sql(postgres, "UPDATE prime_spark.memory_documents SET body_text = '{}'")
    client = s3_server.client()
    for item in client.list_objects(s3.name, recursive=True):
        client.put_object(s3.name, str(item.object_name), io.BytesIO(b"damaged"), 7)
    await pc.memory.set("j", {"by": "pc"}, durability=Durability.cloud)
    await pc.memory.set("b", b"pc", durability=Durability.cloud)
    tiers = pc.parts.replicas.tiers
    found = [await tiers["documents"].get("default", "j"), await tiers["objects"].get("default", "b")]
    assert [record and record.value for record in found] == [b'{"by":"pc"}', b"pc"]
    assert await pc.parts.ledger.counts() == {}
    await sync(agent)
    assert await agent.memory.get_many(["j", "b"]) == {"j": {"by": "pc"}, "b": b"pc"}


async def sql(dsn: str, query: str) -> None:
    """Something done in the database behind the memory's back."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(query)
    finally:
        await connection.close()


async def test_a_value_that_is_damaged_here_comes_from_another_tier(start: Start, s3: Bucket, nas: Nas) -> None:
    """And a debt that waits for one that cannot be asked is kept."""
    rig = await start("pc", NasReplica(nas.path, "pc", 1 << 20))
    await rig.memory.set_many({"k": b"value", "lost": b"lost"})
    await rig.delivered()
    await rig.stop()
    rig = Rig(rig.parts.edge.directory, [NasReplica(nas.path, "pc", 1 << 20), objects(s3, "pc")], device="pc")
    await rig.service.start()
    edge, deliverer = rig.parts.edge, rig.machinery.deliverers["objects"]
    await edge.store.write(lambda connection: connection.execute("UPDATE bodies SET body = x'00'"))
    lost = await row_of(rig, "lost")
    await rig.parts.ledger.moved("nas", lost.entry)
    for entry in ((await row_of(rig, "k")).entry, lost.entry):
        await rig.parts.ledger.owe("objects", entry)
    rig.parts.replicas.reports |= dict.fromkeys(("nas", "objects"), HealthReport(Health.healthy, ""))
    assert await deliverer.deliver_some()
    assert await rig.parts.ledger.counts() == {}
    found = await deliverer.replica.get("default", "k")
    assert found is not None
    assert found.value == b"value"
    assert await deliverer.replica.get("default", "lost") is None
    await rig.service.stop()


@pytest.mark.parametrize("tier", ["documents", "objects"])
async def test_changes_of_tags_and_of_the_expiry_are_not_lost(start: Start, postgres: str, s3: Bucket, tier: str) -> None:
    """Though the value is the same."""

    def made(device: str) -> Replica:
        return documents(postgres, device) if tier == "documents" else objects(s3, device)

    value: Any = {"x": 1} if tier == "documents" else b"x"
    pc = await start("pc", made("pc"), strategy=Strategy.merge)
    agent = await start("agent", made("agent"), strategy=Strategy.merge)
    await pc.memory.set("k", value)
    await sync(pc, agent)
    await agent.halt()
    await pc.memory.set("k", value, ttl=600)
    await agent.memory.set("k", value, tags=["keep"])
    await sync(pc)
    await agent.machinery.deliverers[tier].deliver_some()
    await sync(agent, pc)
    metas = [(await row_of(rig, "k")).meta for rig in (pc, agent)]
    assert [meta.tags for meta in metas] == [("keep",), ("keep",)]
    assert all(meta.expires is not None for meta in metas)


async def test_a_value_that_finds_no_room_or_is_damaged_keeps_no_other_one_away(start: Start, postgres: str) -> None:
    pc, agent = await start("pc", documents(postgres, "pc")), await start("agent", documents(postgres, "agent"))
    await agent.halt()
    for key, size in (("good", 10), ("damaged", 10), ("large", 300_000)):
        pc.clock.move(5.0)
        await pc.memory.set(key, "x" * size)
    await pc.delivered()
    await sql(postgres, "UPDATE prime_spark.memory_documents SET body_text = '{}' WHERE key = 'damaged'")
    agent.machinery.evictor.room = Room(200_000)
    (run,) = await agent.machinery.synchroniser.run_all()
    assert run.error.startswith("2 values were left out")
    assert run.pulled == 1
    assert (await row_of(agent, "good")).place == "row"
    agent.machinery.evictor.room = Room(1_000_000)
    await sql(postgres, "DELETE FROM prime_spark.memory_documents WHERE key = 'damaged'")
    await sync(agent)
    assert (await row_of(agent, "large")).place


async def test_a_tier_that_breaks_off_is_asked_again(start: Start, s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synchroniser, "PAUSES", (0.0, 0.0))
    pc, agent = await start("pc", objects(s3, "pc")), await start("agent", objects(s3, "agent"))
    await pc.memory.set("k", b"value", durability=Durability.cloud)
    replica = agent.parts.replicas.tiers["objects"]
    genuine: Callable[[str], Awaitable[Record | None]] = replica.read_id
    tries: list[str] = []

    async def breaks_off(key_id: str) -> Record | None:
        tries.append(key_id)
        if len(tries) < 3:
            raise TierUnavailableError("broken off", "")
        return await genuine(key_id)

    monkeypatch.setattr(replica, "read_id", breaks_off)
    await sync(agent)
    assert (len(tries), (await row_of(agent, "k")).place) == (3, "row")


async def test_what_others_wrote_is_fetched_as_soon_as_a_tier_is_back(
    start: Start, postgres: str, postgres_far: FaultyProxy
) -> None:
    pc, agent = await start("pc", documents(postgres, "pc", postgres_far)), await start("agent", documents(postgres, "agent"))
    await wait_for(lambda: "documents" in pc.machinery.synchroniser.runs, 10)
    await asyncio.to_thread(postgres_far.refuse)
    await shows(pc, "documents", Health.unhealthy)
    await agent.memory.set("k", "new", durability=Durability.cloud)
    await asyncio.to_thread(postgres_far.heal)

    async def here() -> bool:
        return await pc.parts.edge.row("default", "k") is not None

    await wait_for(here, 15)


async def test_a_conflict_is_counted_told_and_fetched_once(
    start: Start, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pc = await start("pc", documents(postgres, "pc"))
    agent = await start("agent", documents(postgres, "agent"), strategy=Strategy.manual)
    await conflict(pc, agent)
    settler, replica = agent.machinery.settler, agent.parts.replicas.tiers["documents"]
    genuine: Callable[[str], Awaitable[Record | None]] = replica.read_id
    fetched: list[str] = []

    async def counted(key_id: str) -> Record | None:
        fetched.append(key_id)
        return await genuine(key_id)

    monkeypatch.setattr(replica, "read_id", counted)
    await sync(agent, agent, agent)
    assert (settler.detected, settler.resolved, len(fetched)) == (1, 0, 1)
    assert [event for event, _ in agent.notes] == ["memory.conflict"]
    assert [run.waiting for run in agent.machinery.synchroniser.runs.values()] == [1]
    await agent.memory.set("k", {"by": "pc", "a": 2, "b": 1})  # what theirs says
    await sync(agent)
    assert (settler.detected, settler.resolved, len(fetched)) == (1, 1, 1)
    assert [event for event, _ in agent.notes] == ["memory.conflict", "memory.conflict-settled"]
    assert await agent.parts.ledger.conflicts() == []


async def test_versions_that_say_the_same_are_counted_as_no_conflict(start: Start, postgres: str) -> None:
    pc, agent = await start("pc", documents(postgres, "pc")), await start("agent", documents(postgres, "agent"))
    await agent.halt()
    await pc.memory.set("k", "same")
    await sync(pc)
    await agent.memory.set("k", "same")
    await sync(agent)
    assert (agent.machinery.settler.detected, agent.machinery.settler.resolved, agent.notes) == (0, 0, [])
    assert await agent.parts.ledger.counts() == {}


async def test_a_damaged_note_of_their_version_is_fetched_again(start: Start, postgres: str) -> None:
    pc = await start("pc", documents(postgres, "pc"))
    agent = await start("agent", documents(postgres, "agent"), strategy=Strategy.manual)
    await conflict(pc, agent)
    await sync(agent)
    await agent.parts.edge.store.write(lambda connection: connection.execute("UPDATE conflicts SET theirs = x'00'"))
    await sync(agent)
    (found,) = await agent.parts.ledger.conflicts()
    assert found.theirs is not None
    assert found.theirs.device == "pc"


@pytest.mark.parametrize(
    ("endpoint", "secret", "told"), [("127.0.0.1:9", "", "no secret key"), ("127.0.0.1:9/path", "s", "path in endpoint")]
)
async def test_what_is_wrong_with_the_s3_settings_is_told_readably(endpoint: str, secret: str, told: str) -> None:
    tier = ObjectReplica(endpoint, "access", secret, "bucket", False, "pc")
    report = await tier.health()
    assert told in report.reason
    assert report.next_step
    await tier.close()


async def test_documents_are_searched_with_and_without_a_namespace(start: Start, postgres: str) -> None:
    pc = await start("pc", documents(postgres, "pc"))
    await pc.memory.set("k", {"text": "green apples"}, namespace="fruit", durability=Durability.cloud)
    search = next(action for action in memory_actions(pc.service, pc.state) if action.name == "memory.search")
    call = Invocation(Actor("ada", Role.viewer, "ssh"), "memory.search", "1")
    wanted: list[tuple[dict[str, Any], int]] = [
        ({}, 1),
        ({"namespace": "fruit"}, 1),
        ({"namespace": "o"}, 0),
        ({"tags": ["x"]}, 0),
    ]
    for more, count in wanted:
        assert len(await search.handler(call, search.params(text="apples", **more))) == count


async def test_a_deletion_goes_where_the_value_went(start: Start, postgres: str) -> None:
    """Also of a value that only tier 1 has as yet."""
    pc = await start("pc", documents(postgres, "pc"))
    await pc.halt()
    await pc.memory.set("k", {"a": 1}, durability=Durability.memory)
    assert await pc.memory.delete("k")
    assert "documents" in await pc.parts.ledger.counts()
    await pc.memory.set("j", b"bytes")
    await pc.memory.set("j", {"a": 1}, durability=Durability.memory)
    assert await pc.memory.delete("j")
    assert (await pc.parts.ledger.counts())["documents"].waiting == 2


async def test_a_settlement_that_finds_yet_another_version_is_still_owed(
    start: Start, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pc = await start("pc", documents(postgres, "pc"))
    agent = await start("agent", documents(postgres, "agent"))
    tier, replicas = agent.parts.replicas.tiers["documents"], agent.parts.replicas
    await agent.halt()
    await pc.memory.set("k", {"by": "pc"}, durability=Durability.cloud)
    replicas.reports["documents"] = HealthReport(Health.unhealthy, "away", "wait")
    agent.clock.move(10.0)
    await agent.memory.delete("k")  # of a value of which nothing is known
    replicas.reports["documents"] = HealthReport(Health.healthy, "there")
    replace = tier.replace

    async def overtaken(record: Record, seen: tuple[str, ...]) -> Diverged | None:
        monkeypatch.setattr(tier, "replace", replace)
        await pc.memory.set("k", {"by": "pc", "later": True}, durability=Durability.cloud)
        return await replace(record, seen)

    monkeypatch.setattr(tier, "replace", overtaken)
    await sync(agent, pc)
    assert (await pc.memory.get("k"), await agent.memory.get("k")) == (None, None)


async def test_a_decision_that_finds_no_room_waits(start: Start, postgres: str) -> None:
    pc = await start("pc", documents(postgres, "pc"))
    agent = await start("agent", documents(postgres, "agent"), strategy=Strategy.manual, room=Room(300_000))
    await conflict(pc, agent)
    await sync(agent)
    await agent.memory.set("large", random.Random(1).randbytes(280_000))  # no tier below takes it, so it may not go
    (found,) = await agent.parts.ledger.conflicts()
    with pytest.raises(TierFullError):
        await agent.machinery.settler.resolve(found.conflict_id, "value", b'"%s"' % (b"x" * 90_000))
    assert len(await agent.parts.ledger.conflicts()) == 1
    await agent.machinery.settler.resolve(found.conflict_id, "mine")
    assert (await agent.memory.get("k"))["by"] == "agent"


def breaks_off(monkeypatch: pytest.MonkeyPatch, tier: Replica) -> None:
    """The next settlement does not arrive there."""
    replace = tier.replace

    async def broken(record: Record, seen: tuple[str, ...]) -> Diverged | None:
        monkeypatch.setattr(tier, "replace", replace)
        raise TierUnavailableError("broken off", "wait")

    monkeypatch.setattr(tier, "replace", broken)


async def test_a_settlement_that_was_cut_short_goes_on_from_what_it_has_heeded(
    start: Start, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pc = await start("pc", documents(postgres, "pc"), strategy=Strategy.merge)
    agent = await start("agent", documents(postgres, "agent"), strategy=Strategy.merge)
    await conflict(pc, agent)
    await agent.memory.set("k", {"by": "both", "a": 1, "b": 2})
    breaks_off(monkeypatch, agent.parts.replicas.tiers["documents"])
    row = await agent.parts.edge.row("default", "k")
    assert row is not None
    with pytest.raises(TierUnavailableError):
        await agent.machinery.deliverers["documents"].deliver_now("default", "k")
    pc.clock.move(1.0)
    await pc.memory.set("k", {"by": "pc", "a": 3, "b": 1})
    await sync(pc, agent, pc)
    assert [await rig.memory.get("k") for rig in (pc, agent)] == [{"by": "pc", "a": 3, "b": 2}] * 2


async def test_a_decision_that_this_disk_has_goes_to_a_tier_that_broke_off(
    start: Start, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pc = await start("pc", documents(postgres, "pc"))
    agent = await start("agent", documents(postgres, "agent"), strategy=Strategy.manual)
    await conflict(pc, agent)
    await sync(agent)
    (found,) = await agent.parts.ledger.conflicts()
    replicas = agent.parts.replicas
    replicas.reports["documents"] = HealthReport(Health.unhealthy, "away", "wait")
    with pytest.raises(TierUnavailableError, match="away"):
        await agent.machinery.settler.resolve(found.conflict_id, "mine")
    assert len(await agent.parts.ledger.conflicts()) == 1
    replicas.reports["documents"] = HealthReport(Health.healthy, "there")
    breaks_off(monkeypatch, replicas.tiers["documents"])
    await agent.machinery.settler.resolve(found.conflict_id, "mine")
    assert await agent.parts.ledger.conflicts() == []
    await sync(agent, pc)
    assert [(await rig.memory.get("k"))["by"] for rig in (pc, agent)] == ["agent"] * 2


@pytest.mark.parametrize("winner", ["pc", "agent"])
async def test_a_synchronisation_that_is_cancelled_leaves_nothing_old_in_tier_1(
    start: Start, postgres: str, monkeypatch: pytest.MonkeyPatch, winner: str
) -> None:
    """As a job that somebody cancels between the disk and tier 1."""
    strategy = Strategy.cloud_wins if winner == "pc" else Strategy.merge
    pc = await start("pc", documents(postgres, "pc"))
    agent = await start("agent", documents(postgres, "agent"), strategy=strategy)
    await conflict(pc, agent)
    front, reached, go = agent.parts.front, asyncio.Event(), asyncio.Event()
    remove = front.remove

    async def slowly(names: Iterable[str]) -> None:
        reached.set()
        await go.wait()
        await remove(names)

    if winner == "agent":  # a clean merge, which is put in the place of what is here
        await agent.memory.set("k", {"by": "both", "a": 1, "b": 2})
    monkeypatch.setattr(front, "remove", slowly)
    running = asyncio.create_task(agent.machinery.synchroniser.run_all())
    await reached.wait()
    running.cancel()
    await asyncio.wait({running})
    go.set()

    async def gone() -> bool:
        return await agent.hot.get("default:k") is None

    await wait_for(gone)
    assert (await agent.memory.get("k"))["by"] == "pc"


async def test_of_two_writers_at_once_the_later_on_disk_stays_the_one(start: Start, postgres: str) -> None:
    """The other one's may have arrived in the cloud, without this appliance having been told."""
    pc = await start("pc", documents(postgres, "pc"))
    await pc.halt()
    shared, writer = Shared("default", (), pc.clock.wall(), None), pc.machinery.writer
    first, second = await writer.records([(shared, "k", Kind.json, b"1"), (shared, "k", Kind.json, b"2")])
    await writer.keep([second], None)
    found = await pc.parts.edge.get("default", "k")
    assert found is not None
    assert found[1] is not None
    await pc.parts.replicas.tiers["documents"].put(found[1], "")
    await writer.keep([first], None)
    await sync(pc)
    pc.hot.forget_all()
    assert await pc.memory.get("k") == 1
    assert (pc.machinery.settler.detected, await pc.parts.ledger.counts()) == (0, {})


@pytest.mark.parametrize("side", ["mine", "theirs"])
async def test_what_changed_since_it_was_looked_at_is_not_decided(start: Start, postgres: str, side: str) -> None:
    pc = await start("pc", documents(postgres, "pc"))
    agent = await start("agent", documents(postgres, "agent"), strategy=Strategy.manual)
    await conflict(pc, agent)
    await sync(agent)
    looked_at = await seen_of(agent)
    if side == "mine":
        await agent.memory.set("k", {"by": "agent", "later": True})
    else:
        await pc.memory.set("k", {"by": "pc", "later": True}, durability=Durability.cloud)
        await sync(agent)
    (found,) = await agent.parts.ledger.conflicts()
    with pytest.raises(ConflictError, match="changed since you looked"):
        await agent.machinery.settler.resolve(found.conflict_id, "mine", seen=looked_at)
    assert len(await agent.parts.ledger.conflicts()) == 1
    await agent.machinery.settler.resolve(found.conflict_id, "theirs", seen=await seen_of(agent))
    assert (await agent.memory.get("k")).get("later", False) is (side == "theirs")


async def seen_of(rig: Rig) -> str:
    """What names both versions of the one conflict there is."""
    (found,) = await rig.parts.ledger.conflicts()
    row = await rig.parts.edge.row("default", "k")
    assert row is not None
    assert found.theirs is not None
    return seen(row.meta, found.theirs)


async def test_nobody_else_settles_while_the_operator_does(
    start: Start, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after another strategy was configured: a synchronisation would decide what waits."""
    pc = await start("pc", documents(postgres, "pc"))
    agent = await start("agent", documents(postgres, "agent"), strategy=Strategy.manual)
    await conflict(pc, agent)
    await sync(agent)
    now = agent.clock.wall()
    await agent.stop()
    agent = await start("agent", documents(postgres, "agent"), strategy=Strategy.latest_wins)
    await agent.halt()
    agent.clock.wall_now = now
    tier, settler = agent.parts.replicas.tiers["documents"], agent.machinery.settler
    replace = tier.replace
    beside: list[asyncio.Task[None]] = []

    async def slowly(record: Record, seen: tuple[str, ...]) -> Diverged | None:
        if not beside:
            beside.append(asyncio.create_task(sync(agent)))
            await asyncio.wait(beside, timeout=0.5)
        return await replace(record, seen)

    monkeypatch.setattr(tier, "replace", slowly)
    (found,) = await agent.parts.ledger.conflicts()
    await settler.resolve(found.conflict_id, "mine")
    await asyncio.gather(*beside)
    assert (settler.resolved, await agent.parts.ledger.conflicts()) == (1, [])
    await sync(pc)
    assert [(await rig.memory.get("k"))["by"] for rig in (pc, agent)] == ["agent"] * 2


async def test_a_damaged_note_hides_no_other_conflict(start: Start, postgres: str) -> None:
    pc = await start("pc", documents(postgres, "pc"))
    agent = await start("agent", documents(postgres, "agent"), strategy=Strategy.manual)
    await conflict(pc, agent)
    await conflict(pc, agent, "other")
    await sync(agent)
    first, second = await agent.parts.ledger.conflicts()
    sql = "UPDATE conflicts SET theirs = x'00' WHERE conflict_id = ?"
    await agent.parts.edge.store.write(lambda connection: connection.execute(sql, (first.conflict_id,)))
    listed = {each.conflict_id: each.theirs for each in await agent.parts.ledger.conflicts()}
    assert listed == {first.conflict_id: None, second.conflict_id: second.theirs}
    with pytest.raises(CorruptRecordError, match="note of their version") as told:
        await agent.machinery.settler.find(first.conflict_id)
    assert "sync run" in told.value.next_step
    await agent.machinery.settler.resolve(second.conflict_id, "mine")


async def test_a_conflict_of_two_first_versions_ends_where_theirs_is_gone(start: Start, postgres: str) -> None:
    pc = await start("pc", documents(postgres, "pc"))
    agent = await start("agent", documents(postgres, "agent"), strategy=Strategy.manual)
    await agent.halt()
    await pc.memory.set("k", "pc")
    await sync(pc)
    await agent.memory.set("k", "agent")
    await sync(agent)
    (found,) = await agent.parts.ledger.conflicts()
    await agent.parts.replicas.tiers["documents"].purge("default", "k", found.version)
    await sync(agent)
    assert (await agent.parts.ledger.conflicts(), await agent.parts.ledger.counts()) == ([], {})


@pytest.mark.parametrize("choice", ["mine", "theirs", "both", "merged"])
async def test_a_conflict_with_a_tier_that_is_not_configured_any_more(start: Start, postgres: str, choice: Choice) -> None:
    pc = await start("pc", documents(postgres, "pc"))
    agent = await start("agent", documents(postgres, "agent"), strategy=Strategy.manual)
    await conflict(pc, agent)
    await sync(agent)
    await agent.stop()
    agent = await start("agent", strategy=Strategy.manual)
    (found,) = await agent.parts.ledger.conflicts()
    if choice == "merged":
        with pytest.raises(TierAbsentError, match="documents is not configured"):
            await agent.machinery.settler.resolve(found.conflict_id, choice)
        return
    await agent.machinery.settler.resolve(found.conflict_id, choice)
    assert await agent.parts.ledger.conflicts() == []
    assert (await agent.memory.get("k"))["by"] == ("pc" if choice == "theirs" else "agent")
    beside = await agent.memory.get(f"k.theirs-{found.version[-6:]}")
    assert (beside is not None) == (choice == "both")


@pytest.mark.parametrize("expired", [False, True])
async def test_theirs_is_kept_beside_a_long_key_until_it_expires(start: Start, s3: Bucket, expired: bool) -> None:
    pc = await start("pc", objects(s3, "pc"))
    agent = await start("agent", objects(s3, "agent"), strategy=Strategy.manual)
    key = "ü" * 512
    await agent.halt()
    await pc.memory.set(key, b"pc", ttl=1000)
    await sync(pc)
    await agent.memory.set(key, b"agent")
    await sync(agent)
    (found,) = await agent.parts.ledger.conflicts()
    assert found.theirs is not None
    assert found.theirs.expires is not None
    agent.clock.move(found.theirs.expires - agent.clock.wall() + (1.0 if expired else -0.5))
    await agent.machinery.settler.resolve(found.conflict_id, "both")
    beside = [name for name, _ in await names(agent) if name != key]
    assert len(beside) == (0 if expired else 1)
    assert all(len(name.encode()) <= 1024 for name in beside)
    if not expired:
        agent.clock.move(1.0)

        async def gone() -> bool:
            return await agent.memory.get(beside[0]) is None

        await wait_for(gone, 10, "tier 1 forgets it when its time has come")


async def names(rig: Rig) -> list[tuple[str, bool]]:
    """(key, deleted) of all that the disk knows."""
    return await rig.parts.edge.store.read(
        lambda connection: [(row[0], bool(row[1])) for row in connection.execute("SELECT key, deleted FROM entries")]
    )


async def test_a_delivery_waits_while_a_synchronisation_acts_on_what_it_read(
    start: Start, s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both settle the same conflict: what the synchronisation had read before must not win against what was delivered."""
    tier = objects(s3, "pc")
    pc = await start("pc", tier)
    agent = await start("agent", objects(s3, "agent"))
    await agent.memory.set("k", b"older")
    await sync(agent)
    await pc.halt()
    pc.clock.move(10)
    await pc.memory.set("k", b"newer", durability=Durability.memory)
    await pc.memory.flush()
    read, go_on, real = asyncio.Event(), asyncio.Event(), tier.read_id

    async def slow(key_id: str) -> Record | None:
        found = await real(key_id)
        read.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(tier, "read_id", slow)
    pulling = asyncio.create_task(pc.machinery.synchroniser.run_all())
    await asyncio.wait_for(read.wait(), 10)
    delivering = asyncio.create_task(pc.machinery.deliverers["objects"].deliver_now("default", "k"))
    done, _ = await asyncio.wait({delivering}, timeout=1.0)
    assert not done
    go_on.set()
    await asyncio.gather(pulling, delivering)
    assert await pc.memory.get("k") == b"newer"
    await sync(pc)
    await sync(agent)
    assert await agent.memory.get("k") == b"newer"

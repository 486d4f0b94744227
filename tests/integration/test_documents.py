"""The documents of tier 3 on a real PostgreSQL, and what happens when it fails."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from appliance.core.memory.documents import LARGEST, DocumentReplica
from appliance.core.memory.keys import key_id
from appliance.core.memory.model import Kind, Record
from appliance.core.memory.tier import Diverged
from appliance.core.model import Health
from appliance.errors import CorruptRecordError, InvalidArgumentsError, TierUnavailableError
from tests.records import make, tombstone
from tests.servers.postgres import PostgresServer
from tests.servers.proxy import FaultyProxy

BOUND = 10.0
"""Seconds that no call comes near, also on a busy machine; without limits it would take for ever."""


@pytest.fixture
async def replica(postgres: str) -> AsyncIterator[DocumentReplica]:
    made = DocumentReplica(postgres, "edge-1")
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def proxy(postgres: str) -> Iterator[FaultyProxy]:
    with FaultyProxy("127.0.0.1", urlsplit(postgres).port or 0) as made:
        yield made


@pytest.fixture
async def far(postgres: str, proxy: FaultyProxy) -> AsyncIterator[DocumentReplica]:
    """A replica behind a network that fails on order, with little patience."""
    dsn = postgres.replace(f":{urlsplit(postgres).port}/", f":{proxy.port}/")
    made = DocumentReplica(dsn, "edge-1", connect=0.7, command=0.7)
    await made.open()
    yield made
    await made.close()


async def sql(dsn: str, query: str, *arguments: Any) -> list[Any]:
    """Something done in the database behind the replica's back."""
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(query, *arguments))
    finally:
        await connection.close()


async def store(replica: DocumentReplica, key: str, value: Any, **meta: Any) -> Record:
    record = make(key, json.dumps(value).encode(), **meta)
    assert await replica.put(record, "") is None
    return record


async def expect_unavailable(replica: DocumentReplica) -> None:
    for call in (replica.get("default", "k"), replica.put(make(), ""), anext(replica.heads()), replica.search("x")):
        async with asyncio.timeout(BOUND):
            with pytest.raises(TierUnavailableError) as caught:
                await call
        assert caught.value.next_step
    async with asyncio.timeout(BOUND):
        assert (await replica.health()).health is Health.unhealthy


@pytest.mark.parametrize("fault", ["hang", "refuse"])
async def test_a_failing_network_is_said_in_time_and_recovers(far: DocumentReplica, proxy: FaultyProxy, fault: str) -> None:
    record = await store(far, "k", 1)
    getattr(proxy, fault)()
    await expect_unavailable(far)
    proxy.heal()
    assert await far.get("default", "k") == record
    assert (await far.health()).health is Health.healthy


async def test_an_answer_that_breaks_off_is_an_error(far: DocumentReplica, proxy: FaultyProxy) -> None:
    record = await store(far, "k", "x" * 100_000)
    proxy.cut_after(20_000, http=False)
    with pytest.raises(TierUnavailableError):
        await far.get("default", "k")
    proxy.heal()
    assert await far.get("default", "k") == record


async def test_connections_cut_while_idle_are_replaced_unseen(far: DocumentReplica, proxy: FaultyProxy) -> None:
    record = await store(far, "k", 1)
    await asyncio.gather(*(far.get("default", "k") for _ in range(8)))
    for _ in range(3):
        proxy.cut_now()
        assert await far.get("default", "k") == record


async def test_connections_ended_by_the_server_are_replaced_unseen(replica: DocumentReplica, postgres: str) -> None:
    record = await store(replica, "k", 1)
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'prime-spark edge-1'"
    for _ in range(3):
        assert await sql(postgres, others)
        assert await replica.get("default", "k") == record


async def test_a_killed_server_is_used_again_when_it_is_back(replica: DocumentReplica, postgres_server: PostgresServer) -> None:
    record = await store(replica, "k", 1)
    postgres_server.kill()
    try:
        await expect_unavailable(replica)
    finally:
        postgres_server.start()
    assert await replica.get("default", "k") == record, "the first call"
    assert await replica.put(make(value=b"2"), record.meta.version) is None


async def test_a_stopped_server_is_said_in_time(postgres: str, postgres_server: PostgresServer) -> None:
    made = DocumentReplica(postgres, "edge-1", connect=0.7, command=0.7)
    record = await store(made, "k", 1)
    postgres_server.pause()
    try:
        async with asyncio.timeout(BOUND):
            assert (await made.health()).health is Health.unhealthy
    finally:
        postgres_server.resume()
    assert await made.get("default", "k") == record
    await made.close()


async def test_wrong_keys_are_said_with_the_remedy_and_without_the_password(
    postgres: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for user, database in (("nobody-here", ""), ("postgres", "/no_such_database")):
        parts = urlsplit(postgres)
        secret = "s%2Fecret%20word"
        wrong = DocumentReplica(f"postgresql://{user}:{secret}@127.0.0.1:{parts.port}{database or parts.path}", "edge-1")
        with pytest.raises(TierUnavailableError) as caught:
            await wrong.open()
        assert "password" in caught.value.next_step
        report = await wrong.health()
        assert report.health is Health.unhealthy
        for text in (str(caught.value), repr(wrong), str(report), caplog.text):
            assert "ecret" not in text
        await wrong.close()


@pytest.mark.parametrize(
    "dsn", ["nonsense://u:geheim@h/d", "postgresql://u:geheim@127.0.0.1:notaport/d", "geheim", "postgresql://u:geheim@[x/d"]
)
async def test_a_senseless_address_is_said_without_the_password(dsn: str) -> None:
    wrong = DocumentReplica(dsn, "edge-1")
    with pytest.raises(TierUnavailableError) as caught:
        await wrong.open()
    report = await wrong.health()
    assert report.health is Health.unhealthy
    assert "geheim" not in str(caught.value) + repr(wrong) + str(report)


async def test_a_read_only_database_is_said(postgres: str, replica: DocumentReplica) -> None:
    record = await store(replica, "k", 1)
    await sql(postgres, f"ALTER DATABASE {urlsplit(postgres).path[1:]} SET default_transaction_read_only = on")
    again = DocumentReplica(postgres, "edge-1")
    assert await again.health() == await again.health()
    assert (await again.health()).health is Health.unhealthy
    again._opened = True
    assert await again.get("default", "k") == record
    with pytest.raises(TierUnavailableError, match="read-only"):
        await again.put(make(value=b"2"), record.meta.version)
    await again.close()


async def test_a_lost_table_is_said_and_made_again_on_opening(postgres: str, replica: DocumentReplica) -> None:
    await sql(postgres, "DROP SCHEMA prime_spark CASCADE")
    await expect_unavailable(replica)
    await replica.open()
    await store(replica, "k", 1)


async def test_appliances_that_start_at_once_make_the_tables_once(postgres: str) -> None:
    made = [DocumentReplica(postgres, f"edge-{number}") for number in range(6)]
    await asyncio.gather(*(each.open() for each in made))
    assert [row["version"] for row in await sql(postgres, "SELECT version FROM prime_spark.memory_migrations")] == [1]
    for each in made:
        await each.close()


async def test_tables_of_another_program_are_refused(postgres: str, replica: DocumentReplica) -> None:
    await sql(postgres, "UPDATE prime_spark.memory_migrations SET sha256 = 'other'")
    with pytest.raises(TierUnavailableError, match="version 1 of its tables"):
        await DocumentReplica(postgres, "edge-1").open()


async def test_a_row_changed_by_others_is_not_believed(postgres: str, replica: DocumentReplica) -> None:
    record = await store(replica, "k", {"n": 1})
    await sql(postgres, "UPDATE prime_spark.memory_documents SET body_text = '{\"n\": 2}'")
    with pytest.raises(CorruptRecordError):
        await replica.get("default", "k")
    after = make(value=b"3")
    assert await replica.put(after, record.meta.version) is None
    assert await replica.get("default", "k") == after


async def test_no_prepared_statement_stays_in_a_session(postgres: str) -> None:
    """Poolers hand a session from one client to the next."""
    made = DocumentReplica(postgres, "edge-1")
    await store(made, "k", {"n": 1}, tags=("a",))
    await made.get("default", "k")
    assert [head async for head in made.heads()]
    assert await made.search("k", ["a"])
    assert await made.find({"n": 1})
    assert await made._rows("SELECT name FROM pg_prepared_statements WHERE name <> ''") == []
    await made.close()


LAMP = {"room": "hall", "text": "The Lamp isn't bright\nnaïve", "n": [1, {"deep": True}]}


async def test_documents_are_found_by_words(replica: DocumentReplica) -> None:
    await store(replica, "lamp/1", LAMP, tags=("Light", "first floor"))
    await store(replica, "heater", {"room": "attic", "text": "warm"}, namespace="other", tags=("heat",))
    for text in ("lamp", "BRIGHT", '"lamp isn\'t bright"', "naïve", "floor", "light hall", "hall -warm", "nothing or lamp"):
        assert [found.meta.key for found in await replica.search(text)] == ["lamp/1"], text
    for text in ("dark", "lamp -hall", '"bright lamp"', "'; drop table x; --", '"', "&|!()<->:*", "🔥"):
        assert await replica.search(text) == [], text
    assert {found.meta.key for found in await replica.search("")} == {"lamp/1", "heater"}
    assert {found.meta.key for found in await replica.search("room")} == {"lamp/1", "heater"}
    assert [found.meta.key for found in await replica.search("room", namespace="other")] == ["heater"]
    assert [found.meta.key for found in await replica.search("", ["Light"])] == ["lamp/1"]
    assert await replica.search("", ["Light", "heat"]) == []
    assert len(await replica.search("room", limit=1)) == 1
    (found,) = await replica.search("bright")
    assert "[bright]" in found.snippet
    assert found.rank > 0


async def test_a_word_in_the_key_counts_more_than_one_in_the_value(replica: DocumentReplica) -> None:
    await store(replica, "a", {"text": "door"})
    await store(replica, "door", {"text": "x"})
    assert [found.meta.key for found in await replica.search("door")] == ["door", "a"]


async def test_documents_are_found_by_their_parts(replica: DocumentReplica) -> None:
    await store(replica, "lamp", LAMP)
    await store(replica, "other", {"room": "attic"})
    for part in ({"room": "hall"}, {"n": [1]}, {"n": [{"deep": True}]}, {"room": "hall", "text": LAMP["text"]}):
        assert [found.meta.key for found in await replica.find(part)] == ["lamp"], part
    for part in ({"room": "cellar"}, {"room": "hall", "x": 1}, [1], {"room": "a\0"}):
        assert await replica.find(part) == [], part
    assert len(await replica.find({})) == 2
    assert await replica.find({}, namespace="none") == []
    for nonsense in (object(), {"a": float("nan")}):
        with pytest.raises(InvalidArgumentsError):
            await replica.find(nonsense)


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
async def test_words_that_are_no_text_are_refused(replica: DocumentReplica, text: str) -> None:
    with pytest.raises(InvalidArgumentsError):
        await replica.search(text)


async def test_what_is_gone_is_not_found(replica: DocumentReplica) -> None:
    lamp = await store(replica, "lamp", LAMP)
    await store(replica, "old", LAMP, expires=1_600_000_000.0)
    assert [found.meta.key for found in await replica.search("bright")] == ["lamp"]
    assert [found.meta.key for found in await replica.find({"room": "hall"})] == ["lamp"]
    assert await replica.put(tombstone("lamp", lamp.meta.version), lamp.meta.version) is None
    assert await replica.search("") == []
    assert await replica.find({}) == []


def largest_documents() -> dict[str, str]:
    """JSON texts of the greatest size with as many different words as can be."""
    dice = random.Random(1)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"

    def words(alphabet: str, length: int, glue: str) -> str:
        size = 0
        found = []
        while size < LARGEST - 100:
            word = "".join(dice.choices(alphabet, k=length))
            found.append(word)
            size += len((word + glue).encode())
        return glue.join(found)

    return {
        "short words": words(letters, 3, " "),
        "hyphens": words(letters, 4, "-"),
        "paths": words(letters, 5, "/"),
        "four bytes each": words("".join(chr(0x20000 + number) for number in range(500)), 4, " "),
        "one word": "x" * (LARGEST - 10),
        "quotes": '\\"' * (LARGEST // 2 - 10),
    }


@pytest.mark.parametrize("name", ["short words", "hyphens", "paths", "four bytes each", "one word", "quotes"])
async def test_the_greatest_documents_fit(replica: DocumentReplica, name: str) -> None:
    record = make(value=f'"{largest_documents()[name]}"'.encode())
    assert replica.accepts(record.meta)
    assert await replica.put(record, "") is None
    assert await replica.get("default", "k") == record


async def test_json_that_jsonb_refuses_is_kept_to_the_byte_and_found_by_words(replica: DocumentReplica, postgres: str) -> None:
    deep = b"[" * 20_000 + b"]" * 20_000
    values = [b'{"a": "nul \\u0000 lamp"}', b'{"a": "half \\ud800 lamp"}', b'{"lamp": 1e999999}', deep]
    for number, value in enumerate(values):
        record = make(f"k{number}", value)
        assert await replica.put(record, "") is None
        assert await replica.get("default", f"k{number}") == record
    assert len(await replica.search("lamp")) == 3
    assert [row["n"] for row in await sql(postgres, "SELECT count(body) AS n FROM prime_spark.memory_documents")] == [0]


async def test_what_does_not_belong_there(replica: DocumentReplica) -> None:
    assert not replica.accepts(make(value=b"x" * (LARGEST + 1)).meta)
    assert not replica.accepts(make(value=b"1", kind=Kind.bytes).meta)
    with pytest.raises(InvalidArgumentsError):
        await replica.put(make(value=b"\xff"), "")


async def test_a_time_beyond_the_calendar_is_the_last_of_it(replica: DocumentReplica) -> None:
    await store(replica, "k", 1, expires=1e15)
    found = await replica.get("default", "k")
    assert found is not None
    assert found.meta.expires is not None
    assert found.meta.expires > 250_000_000_000


async def test_a_rival_that_vanishes_between_comparing_and_reading_is_no_rival(
    postgres: str, replica: DocumentReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = await store(replica, "k", "theirs")
    genuine = replica.get

    async def late(namespace: str, key: str) -> Record | None:
        await replica.purge("default", "k", theirs.meta.version)
        return await genuine(namespace, key)

    monkeypatch.setattr(replica, "get", late)
    mine = make(value=b'"mine"')
    assert await replica.put(mine, "") is None
    monkeypatch.undo()
    assert await replica.get("default", "k") == mine
    assert await replica.put(make(value=b'"other"'), "") == Diverged(mine)


async def test_heads_are_listed_while_others_write(replica: DocumentReplica) -> None:
    for number in range(30):
        await store(replica, f"k{number}", number)
    seen = []
    async for head in replica.heads():
        seen.append(head.key_id)
        if len(seen) == 10:
            await store(replica, "new", 1)
    assert {key_id("default", f"k{number}") for number in range(30)} <= set(seen)


def test_the_schema_is_part_of_the_package() -> None:
    from appliance.core.memory.documents import _scripts

    assert [version for version, _ in _scripts()] == [1]

"""The sink's dead letters, looked at, tried again and thrown away from the appliance."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.core.analytics.timescale import Database
from appliance.core.model import Actor, Role
from appliance.core.streams.model import DeadLetter, Message, Priority, Refused
from appliance.core.streams.sink_batch import Batch, Letter
from appliance.core.streams.sink_decode import Brought
from appliance.core.streams.sink_letters import SinkLetters
from appliance.core.streams.sink_writer import Writer
from appliance.errors import DatabaseError, InvalidArgumentsError, NotFoundError, StreamError
from appliance.runtime import Appliance
from tests.servers.fixtures import Topics
from tests.servers.postgres import PostgresServer
from tests.sink.rig import Rig, assert_rollups, place_of, running, telemetry
from tests.streams.test_service import configured, started
from tests.support import ManualClock, wait_for

ADMIN = Actor("ada", Role.admin, "console")


@pytest.fixture
async def rig(kafka: Topics, postgres: str) -> Rig:
    made = Rig(kafka, postgres)
    await made.make_topics()
    return made


@pytest.fixture
async def database(rig: Rig) -> AsyncIterator[Database]:
    made = Database(place_of(rig.dsn), "", "letters test", size=2)
    yield made
    await made.close()


async def test_a_letter_whose_event_can_be_used_now_is_stored_once(rig: Rig, database: Database) -> None:
    early = telemetry(7.0, moment=time.time() + 7200)
    await rig.send("edge.telemetry", [early, early])
    async with running(rig.sink()):
        await rig.wait_count(2, "dead_letters")
    clock = ManualClock(time.time())
    letters = SinkLetters(database, clock, rig.kafka.prefix)
    first, second = await letters.list()
    assert first.origin == second.origin == "sink"
    assert msgspec.json.decode((await letters.get(first.letter_id)).body)["id"] == early["id"]
    with pytest.raises(StreamError, match="still cannot be used: from the future"):
        await letters.retry(first.letter_id)
    assert await rig.count("dead_letters") == 2
    clock.move(7200)
    outcomes = await asyncio.gather(*(letters.retry(first.letter_id) for _ in range(3)), return_exceptions=True)
    assert sorted(type(each).__name__ for each in outcomes) == ["NoneType", "NotFoundError", "NotFoundError"]
    await letters.retry(second.letter_id)
    assert await rig.count() == 1
    assert await letters.list() == []
    await assert_rollups(rig)


async def test_letters_that_are_of_no_use_stay_until_they_are_thrown_away(rig: Rig, database: Database) -> None:
    await rig.send("edge.telemetry", [b"no JSON", b"{" * 100_000])
    async with running(rig.sink()):
        await rig.wait_count(2, "dead_letters")
    letters = SinkLetters(database, ManualClock(time.time()), rig.kafka.prefix)
    large, small = sorted(await letters.list(), key=lambda each: -each.size)
    with pytest.raises(StreamError, match="only 65536 were kept"):
        await letters.retry(large.letter_id)
    with pytest.raises(StreamError, match="not JSON"):
        await letters.retry(small.letter_id)
    assert (await letters.get(small.letter_id)).body == "no JSON"
    for each in (large, small):
        await letters.discard(each.letter_id)
        for act in (letters.get, letters.retry, letters.discard):
            with pytest.raises(NotFoundError):
                await act(each.letter_id)
    with pytest.raises(NotFoundError):
        await letters.get("no id at all")


async def test_what_the_server_refuses_again_stays(rig: Rig, database: Database) -> None:
    await rig.send("edge.telemetry", [telemetry(1.0)])
    async with running(rig.sink()):
        await rig.wait_count(1)
        await rig.rows("ALTER TABLE device_metrics ADD CONSTRAINT no_seven CHECK (value <> 7)")
        await rig.send("edge.telemetry", [telemetry(7.0)])
        await rig.wait_count(1, "dead_letters")
    letters = SinkLetters(database, ManualClock(time.time()), rig.kafka.prefix)
    (letter,) = await letters.list()
    with pytest.raises(StreamError, match="no_seven"):
        await letters.retry(letter.letter_id)
    assert await rig.count("dead_letters") == 1
    await rig.rows("ALTER TABLE device_metrics DROP CONSTRAINT no_seven")
    await letters.retry(letter.letter_id)
    assert (await rig.count(), await rig.count("dead_letters")) == (2, 0)
    await assert_rollups(rig)


POSTGRES = """
[analytics]
host = "127.0.0.1"
port = {port}
user = "postgres"
database = "{database}"
tls = "disable"
"""


async def test_the_actions_show_both_kinds(home: Path, kafka: Topics, postgres: str, postgres_server: PostgresServer) -> None:
    await kafka.server.remove_topics("models.updates")  # what other tests left there would become letters
    place = place_of(postgres)
    writing = Database(place, "", "test")
    await writing.open()
    batch, now = Batch(0, 100), time.time()
    bodies = [b"no JSON", msgspec.json.encode(telemetry(1.0))]
    for offset, body in enumerate(bodies):
        batch.letters.append(Letter(Brought(topic="edge.telemetry", partition=0, offset=offset, key=b"pi", value=body), "why"))
    await Writer(writing, "test").write(batch)
    await writing.close()
    appliance = await started(home, configured(kafka) + POSTGRES.format(port=place.port, database=place.database))

    async def call(name: str, *, confirm: bool = False, **args: Any) -> Any:
        return await appliance.dispatcher.invoke(name, args, ADMIN, confirm=confirm)

    async def listed(origin: str = "") -> list[DeadLetter]:
        found: list[DeadLetter] = await call("streams.dead-letters", origin=origin)
        return found

    try:
        await wait_for(lambda: status(appliance, "streams") == "healthy", 40.0)
        refused = Refused(Message("1", "edge.telemetry", b"pi", b"{}", Priority.low, now), "too large")
        assert appliance.domains is not None
        await appliance.domains.streams.outbox.letters.add_messages("outbox", [refused], now)
        assert sorted(each.origin for each in await listed()) == ["outbox", "sink", "sink"]
        assert [each.origin for each in await listed("outbox")] == ["outbox"]
        sinks = {each.offset: each for each in await listed("sink")}
        assert (await call("streams.dead-letter", letter_id=sinks[0].letter_id[-12:])).body == "no JSON"
        with pytest.raises(StreamError, match="not JSON"):
            await call("streams.retry", letter_id=sinks[0].letter_id)
        assert await call("streams.retry", letter_id="all") == {"retried": 2, "kept": 1}
        with pytest.raises(InvalidArgumentsError):
            await call("streams.retry", letter_id="")
        postgres_server.kill()
        await appliance.domains.streams.outbox.letters.add_messages("outbox", [refused._replace(reason="again")], now)
        assert {each.origin for each in await listed()} == {"outbox"}
        assert (await call("streams.discard", letter_id="all", confirm=True))["discarded"] >= 1
        for origin in ("sink", ""):  # nothing else is there to show, and no list would mean that there are none
            with pytest.raises(DatabaseError, match="refuses connections: no server listens there"):
                await listed(origin)
        postgres_server.recover()
        assert await call("streams.discard", letter_id=sinks[0].letter_id, confirm=True) == {"discarded": 1}
        assert await listed("sink") == []
    finally:
        await appliance.stop()


def status(appliance: Appliance, name: str) -> str:
    """How a service is."""
    assert appliance.supervisor is not None
    return next(each.health.value for each in appliance.supervisor.statuses() if each.name == name)

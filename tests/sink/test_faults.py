"""The database and Kafka come and go; several sinks share a group; partitions come and go with time."""

from __future__ import annotations

import asyncio
import time

import asyncpg
import pytest

from appliance.core.analytics.rows import DAY, METRICS, SENSORS
from appliance.core.analytics.timescale import Database
from appliance.core.streams.kafka_consumer import Place
from appliance.core.streams.sink_decode import Now
from appliance.core.streams.sink_figures import STALLS, Figures
from appliance.core.streams.sink_upkeep import Upkeep, name_of
from appliance.errors import AbsentError, DatabaseError, LinkDownError
from appliance.settings import AnalyticsSettings
from tests.servers.fixtures import Topics
from tests.servers.postgres import PostgresServer
from tests.sink.rig import Rig, assert_rollups, place_of, running, telemetry
from tests.support import ManualClock, free_port, wait_for


@pytest.fixture
async def rig(kafka: Topics, postgres: str) -> Rig:
    made = Rig(kafka, postgres)
    await made.make_topics()
    return made


def some(first: int, count: int) -> list[dict[str, object]]:
    """Events with numbers of their own."""
    return [telemetry(float(number)) for number in range(first, first + count)]


async def test_a_database_that_is_away_is_waited_for(rig: Rig, postgres_server: PostgresServer) -> None:
    async with running(rig.sink()) as sink:
        await rig.send("edge.telemetry", some(0, 10))
        await rig.wait_count(10)
        await asyncio.to_thread(postgres_server.kill)
        await rig.send("edge.telemetry", some(10, 10))

        async def told() -> bool:
            report = await sink.health()
            return report.health.value == "unhealthy" and report.reason.startswith("database:")

        await wait_for(told, 20.0)
        postgres_server.start()  # in this thread: it would end with another one
        await rig.wait_count(20)

        async def well() -> bool:
            return (await sink.health()).health.value == "healthy"

        await wait_for(well, 20.0)
    await assert_rollups(rig)


async def test_no_server_is_told_in_plain_words() -> None:
    database = Database(AnalyticsSettings(host="127.0.0.1", port=free_port(), user="x"), "", "test")
    with pytest.raises(DatabaseError, match="refuses connections: no server listens there") as told:
        await database.open()
    assert "Errno" not in told.value.message
    assert "analytics.port" in told.value.next_step


def test_the_lag_is_not_told_while_kafka_does_not_answer() -> None:
    figures = Figures()
    figures.lag = {"edge.telemetry": 3}
    assert figures.details(0.0)["lag"] == {"edge.telemetry": 3}
    figures.trouble("kafka", LinkDownError("away."))
    report = figures.report(0.0, 3)
    assert (report.health.value, report.details["lag"]) == ("unhealthy", None)
    figures.trouble("kafka", None)
    assert figures.details(0.0)["lag"] == {"edge.telemetry": 3}


def test_messages_that_wait_and_do_not_come_are_told() -> None:
    """Kafka says what it has, and hands nothing over: nothing fails, and all the same the sink is not well."""
    figures = Figures()
    figures.lag = {"edge.telemetry": 300}
    figures.moved(10, 0.0)
    figures.moved(10, STALLS - 1)
    assert figures.report(STALLS, 3).health.value == "healthy"
    figures.moved(10, STALLS)
    report = figures.report(STALLS, 3)
    assert (report.health.value, report.reason) == ("degraded", "300 messages wait, and none came for 60 s")
    figures.moved(11, STALLS + 1)
    assert figures.report(STALLS + 1, 3).health.value == "healthy"
    figures.lag = {"edge.telemetry": 0}
    figures.moved(11, 10 * STALLS)
    assert figures.report(10 * STALLS, 3).health.value == "healthy"


async def test_a_broker_that_hangs_is_told_in_plain_words(rig: Rig) -> None:
    async with running(rig.sink()) as sink:
        await rig.send("edge.telemetry", some(0, 1))
        await rig.wait_count(1)
        await asyncio.to_thread(rig.kafka.server.pause)

        async def told() -> bool:
            return "no answer within 5 s" in (await sink.health()).reason

        try:
            await wait_for(told, 30.0)
        finally:
            await asyncio.to_thread(rig.kafka.server.resume)


async def test_a_read_only_database_is_told_and_waited_for(rig: Rig) -> None:
    name = place_of(rig.dsn).database
    async with running(rig.sink()) as sink:
        await rig.send("edge.telemetry", some(0, 10))
        await rig.wait_count(10)
        await rig.rows(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        await rig.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'prime-spark sink%'")
        await rig.send("edge.telemetry", some(10, 10))

        async def told() -> bool:
            report = await sink.health()
            return "read-only" in report.reason and "standby" in report.next_step

        await wait_for(told, 20.0)
        connection = await asyncpg.connect(rig.dsn, timeout=10)
        await connection.execute("SET default_transaction_read_only = off")
        await connection.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await connection.close()
        await rig.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'prime-spark sink%'")
        await rig.wait_count(20)


async def test_kafka_that_is_away_is_told_and_waited_for(rig: Rig) -> None:
    async with running(rig.sink()) as sink:
        await rig.send("edge.telemetry", some(0, 10))
        await rig.wait_count(10)
        await asyncio.to_thread(rig.kafka.server.kill)

        async def told() -> bool:
            report = await sink.health()
            return report.health.value == "unhealthy" and report.reason.startswith("kafka:")

        await wait_for(told, 40.0)
        rig.kafka.server.recover()  # in this thread: it would end with another one
        await rig.send("edge.telemetry", some(10, 10))
        await rig.wait_count(20, timeout=60.0)


async def test_whoever_was_overtaken_stores_nothing_and_reads_anew(rig: Rig) -> None:
    await rig.send("edge.telemetry", some(0, 10))
    async with running(rig.sink()) as sink:
        await rig.wait_count(10)
        topic = f"{rig.kafka.prefix}edge.telemetry"
        (row,) = await rig.rows("SELECT partition FROM stream_offsets WHERE topic = $1 AND next_offset = 10", topic)
        await rig.rows("UPDATE stream_offsets SET next_offset = 4 WHERE topic = $1 AND partition = $2", topic, row[0])
        await rig.send("edge.telemetry", some(10, 10))
        await rig.wait_count(20)
        await wait_for(lambda: sink.figures.fenced >= 1 and sink.figures.known == 6, 20.0)
        assert await rig.writer_offset(sink, Place(topic, row[0])) == 20
    await assert_rollups(rig)


async def test_two_sinks_share_the_partitions_and_store_all_once(rig: Rig) -> None:
    first, second = rig.sink(batch_rows=100), rig.sink(batch_rows=100)
    for device in range(12):
        events = [telemetry(float(number), f"pi-{device}") for number in range(100)]
        await rig.send("edge.telemetry", events, key=f"pi-{device}".encode())
    async with running(first):
        await wait_for(lambda: first.figures.rows, 20.0)
        async with running(second):
            await wait_for(lambda: len(second._positions) >= 6, 30.0)
            await rig.send("edge.telemetry", some(1000, 100))
            await rig.wait_count(1300)
        await rig.send("edge.telemetry", some(2000, 100))
        await rig.wait_count(1400, timeout=40.0)
    await assert_rollups(rig)


async def test_a_topic_that_was_made_anew_is_read_from_its_begin(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.core.streams.sink.PATIENCE", 0.0)
    async with running(rig.sink()):
        await rig.send("edge.telemetry", some(0, 10))
        await rig.wait_count(10)
    topic = f"{rig.kafka.prefix}edge.telemetry"
    await rig.kafka.server.remove_topics(topic)
    await rig.kafka.server.create_topic(topic, 3)
    await rig.send("edge.telemetry", some(10, 5))
    async with running(rig.sink()):
        await rig.wait_count(15)


async def test_retention_drops_whole_partitions_only_where_two_clocks_agree(rig: Rig) -> None:
    database = Database(place_of(rig.dsn), "", "upkeep test")
    await database.open()
    upkeep, now = Upkeep(database), time.time()
    old, kept = (int(now - days * DAY) // DAY * DAY for days in (33, 29))
    try:
        await upkeep.ensure({METRICS: {old, kept}, SENSORS: set()})
        assert "differ" in await upkeep.round(Now(now, now + 90 * DAY))
        assert {name_of(METRICS, old), name_of(METRICS, kept)} <= await partitions(rig)
        assert await upkeep.round(Now(now, now)) == ""
        left = await partitions(rig)
        assert name_of(METRICS, kept) in left
        assert name_of(METRICS, old) not in left
        assert name_of(METRICS, int(now) // DAY * DAY + 2 * DAY) in left
        await upkeep.ensure({METRICS: {old}})
        assert name_of(METRICS, old) in await partitions(rig)
    finally:
        await database.close()


async def partitions(rig: Rig) -> set[str]:
    """Names of all partitions."""
    return {row[0] for row in await rig.rows("SELECT inhrelid::regclass::text FROM pg_inherits")}


async def test_dead_letters_are_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.core.streams.sink_upkeep.LETTERS_MOST", 5)
    await rig.send("edge.telemetry", [b"no"] * 20)
    async with running(rig.sink()) as sink:
        await rig.wait_count(20, "dead_letters")
        assert sink.figures.letters == 20
        await sink._look_after()
        assert await rig.count("dead_letters") == 5
        assert sink._upkeep.dropped_letters == 15


@pytest.mark.parametrize("days", [400, -400])
async def test_a_clock_that_is_wrong_costs_nothing(rig: Rig, days: int) -> None:
    async with running(rig.sink(ManualClock(time.time() + days * DAY))) as sink:
        await rig.send("edge.telemetry", some(0, 10))
        await rig.wait_count(10)
        assert "differ" in (await sink.health()).reason
        assert await rig.count("dead_letters") == 0


WRONG = [
    ({"database": "nowhere"}, "does not exist", "analytics.database"),
    ({"user": "nobody"}, "nobody", "analytics.user"),
    ({"port": free_port()}, "refuses connections: no server listens there", "the server"),
    ({"host": "no-such-host.invalid"}, "has no address", "the DNS"),
]


@pytest.mark.parametrize(("wrong", "what", "step"), WRONG)
async def test_a_wrong_address_is_told(postgres: str, wrong: dict[str, object], what: str, step: str) -> None:
    database = Database(place_of(postgres).model_copy(update=wrong), "very-secret", "test")
    with pytest.raises(DatabaseError, match=what) as caught:
        await database.open()
    assert step in caught.value.next_step
    assert "very-secret" not in str(caught.value)


async def test_a_user_without_rights_is_told(postgres: str) -> None:
    connection = await asyncpg.connect(postgres, timeout=10)
    await connection.execute("DROP ROLE IF EXISTS reader_only; CREATE ROLE reader_only LOGIN")
    try:
        database = Database(place_of(postgres).model_copy(update={"user": "reader_only"}), "", "test")
        with pytest.raises(DatabaseError, match="permission denied") as caught:
            await database.open()
        assert "GRANT" in caught.value.next_step
        await database.close()
    finally:
        await connection.execute("DROP ROLE reader_only")
        await connection.close()


async def test_a_database_of_somebody_else_is_left_alone(postgres: str) -> None:
    connection = await asyncpg.connect(postgres, timeout=10)
    await connection.execute("CREATE TABLE device_metrics (mine int)")
    database = Database(place_of(postgres), "", "test")
    with pytest.raises(DatabaseError, match="did not make"):
        await database.open()
    assert await connection.fetchval("SELECT to_regclass('analytics_migrations')") is None
    await connection.close()
    await database.close()


async def test_without_configuration_it_is_absent(rig: Rig) -> None:
    sink = rig.sink()
    sink._database = Database(AnalyticsSettings(), "", "test")
    with pytest.raises(AbsentError, match="No analytics database"):
        await sink.start()

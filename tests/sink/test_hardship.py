"""A slow, full or closed database, a bad network, a stopped process, numbers and messages that are too great."""

from __future__ import annotations

import asyncio
import functools
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from appliance.core.analytics.rows import DAY, METRICS
from appliance.core.analytics.timescale import Database
from appliance.core.model import HealthReport
from appliance.core.streams import sink_sql
from appliance.core.streams.kafka_consumer import Place
from appliance.core.streams.sink import Sink
from appliance.core.streams.sink_decode import Now
from appliance.core.streams.sink_upkeep import Upkeep, name_of
from appliance.errors import DatabaseError, LinkDownError
from tests.servers.child import Child
from tests.servers.fixtures import Topics
from tests.servers.nas import detach
from tests.servers.postgres import PostgresServer, private_directory
from tests.servers.proxy import FaultyProxy
from tests.sink.rig import Rig, assert_rollups, envelope, place_of, running, telemetry
from tests.support import capability, wait_for

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def rig(kafka: Topics, postgres: str) -> Rig:
    made = Rig(kafka, postgres)
    await made.make_topics()
    return made


def some(first: int, count: int) -> list[dict[str, object]]:
    """Events with numbers of their own."""
    return [telemetry(float(number)) for number in range(first, first + count)]


async def unwell(sink: Sink, what: str) -> HealthReport:
    """Wait until the sink says what fails."""

    async def told() -> HealthReport | None:
        report = await sink.health()
        return report if report.health.value == "unhealthy" and report.reason.startswith(what) else None

    found: HealthReport = await wait_for(told, 60.0, f"the sink says that {what} fails")
    return found


async def is_well(sink: Sink) -> bool:
    """Whether nothing fails."""
    return (await sink.health()).health.value == "healthy"


async def stored_or_told(rig: Rig, sink: Sink, number: int) -> bool:
    """Whether so many rows are there, or the sink says what keeps them."""
    return await rig.count() >= number or not await is_well(sink)


async def test_great_numbers_of_both_signs_are_summed_up_by_the_server(rig: Rig) -> None:
    database = Database(place_of(rig.dsn), "", "test")
    await database.open()
    await database.close()
    connection = await asyncpg.connect(rig.dsn, timeout=10)
    try:
        await connection.execute("CREATE TABLE rest PARTITION OF device_metrics DEFAULT")
        fill = (
            "INSERT INTO {} SELECT '2026-01-01Z', 'pi', 'great', CASE g % 2 WHEN 0 THEN 9e149 ELSE -9e149 END, NULL, "
            "gen_random_uuid() FROM generate_series(1, 40000) AS g"
        )
        async with connection.transaction():
            await connection.execute(sink_sql.staging(METRICS))
            await connection.execute(fill.format("staging_device_metrics"))
            assert await connection.fetchval(sink_sql.unstage(METRICS, rollups=True)) == 40000
        (row,) = await connection.fetch("SELECT avg_value, min_value, count FROM device_metrics_hourly")
        assert tuple(row) == (pytest.approx(0.0, abs=1e140), -9e149, 40000)
        with pytest.raises(asyncpg.NumericValueOutOfRangeError):  # why it is not avg
            await connection.fetchval("SELECT avg(value) FROM device_metrics")
    finally:
        await connection.close()


async def test_great_numbers_again_and_again_stop_nothing(rig: Rig) -> None:
    events = [telemetry(9e149 * (-1) ** number, id=None) | {"id": event["id"]} for number, event in enumerate(some(0, 300))]
    await rig.send("edge.telemetry", [*events, *events, *some(0, 3)])
    async with running(rig.sink()):
        await rig.wait_count(303)
        assert await rig.count("dead_letters") == 0


async def test_a_message_over_four_mebibytes_is_set_aside_and_stops_nothing(rig: Rig) -> None:
    topic = f"{rig.kafka.prefix}edge.telemetry"
    await rig.kafka.server.remove_topics(topic)
    await rig.kafka.server.create_topic(topic, 1, max_message_bytes=8 << 20)
    large = b'{"v":1,"x":"' + b"y" * (5 << 20) + b'"}'
    async with AIOKafkaProducer(bootstrap_servers=rig.kafka.bootstrap, max_request_size=8 << 20) as producer:
        await producer.send_and_wait(topic, large, key=b"pi-1")
    await rig.send("edge.telemetry", some(0, 10))
    async with running(rig.sink()) as sink:
        await rig.wait_count(10)
        assert sink.figures.letters == 1
    (letter,) = await rig.rows("SELECT reason, size, length(body) AS kept FROM dead_letters")
    assert "too large" in letter["reason"]
    assert (letter["size"], letter["kept"]) == (len(large), 64 * 1024)


WAITS = "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.004); RETURN NEW; END'"
SLOW = "CREATE TRIGGER slow BEFORE INSERT ON device_metrics FOR EACH ROW EXECUTE FUNCTION wait()"


async def test_a_slow_database_gets_smaller_batches(rig: Rig) -> None:
    sink = rig.sink(batch_rows=1000, wait_ms=2000)
    async with running(sink):
        await rig.send("edge.telemetry", some(0, 1))
        await rig.wait_count(1)
        await rig.rows(WAITS)
        await rig.rows(SLOW)
        sink._writer.limit = 1.5  # 800 rows take more than three
        await rig.send("edge.telemetry", some(1, 800))
        await rig.wait_count(801, timeout=60.0)
    await assert_rollups(rig)


async def test_kafka_is_told_nothing_of_partitions_that_were_given_away(rig: Rig) -> None:
    async with running(rig.sink()) as sink:
        await rig.send("edge.telemetry", some(0, 10))
        await rig.wait_count(10)
        await sink._consumer.commit({Place("elsewhere", 0): 10})


async def test_a_sink_that_was_stopped_and_goes_on_stores_nothing_twice(rig: Rig, tmp_path: Path) -> None:
    child = Child(tmp_path / "sink.log")
    for device in range(6):  # on all partitions
        await rig.send(
            "edge.telemetry", [telemetry(float(each), f"pi-{device}") for each in range(2000)], f"pi-{device}".encode()
        )
    command = [sys.executable, "-m", "tests.sink.apart", rig.kafka.bootstrap, rig.kafka.prefix, rig.dsn]
    child.spawn(command, lambda: True, env={"PYTHONPATH": str(ROOT)})
    try:
        await wait_for(rig.count, 30.0, "the first rows")
        child.pause()  # in the middle of what it does
        before = await rig.count()
        assert before < 12_000
        async with running(rig.sink()) as second:
            await rig.wait_count(12_000, timeout=60.0)
            assert second.figures.rows["device_metrics"] > 0
            child.resume()
            await rig.send("edge.telemetry", some(5000, 500))
            await wait_for(lambda: child.log.read_text().count("partitions of") >= 2, 30.0, "it is of the group again")
            await rig.send("edge.telemetry", some(6000, 500))
            await rig.wait_count(13_000, timeout=40.0)
    finally:
        child.kill()
    await assert_rollups(rig)


SCRAM = "host all all 127.0.0.1/32 scram-sha-256\n"


@contextmanager
def own_server(template: Path, home: Path) -> Iterator[PostgresServer]:
    """A server of the test's own, in a directory that it may spoil."""
    server = PostgresServer(home, template)
    server._make_data()
    try:
        yield server
    finally:
        server.kill()


async def test_a_wrong_password_is_told_and_the_right_one_is_taken(postgres_template: Path) -> None:
    home = private_directory()
    try:
        with own_server(postgres_template, home) as server:
            server.start()
            dsn = server.create_database("closed")
            connection = await asyncpg.connect(dsn, timeout=10)
            await connection.execute("CREATE ROLE spark LOGIN SUPERUSER PASSWORD 'right-one'")
            await connection.close()
            (server.data / "pg_hba.conf").write_text(SCRAM)
            server.restart()
            place = place_of(dsn).model_copy(update={"user": "spark"})
            for wrong in ("wrong-one", ""):
                refused = Database(place, wrong, "test")
                with pytest.raises(DatabaseError, match="password") as caught:
                    await refused.open()
                assert "analytics.password" in caught.value.next_step
                assert "wrong-one" not in str(caught.value)
                await refused.close()
            right = Database(place, "right-one", "test")
            assert (await right.open()).version >= 1
            await right.close()
    finally:
        shutil.rmtree(home)


async def test_a_bad_network_on_both_sides_loses_and_doubles_nothing(
    rig: Rig, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.core.streams.sink_figures.STALLS", 2.0)
    kafka = rig.kafka.proxy
    with FaultyProxy("127.0.0.1", postgres_server.port) as network:
        dsn = rig.dsn.replace(f":{postgres_server.port}/", f":{network.port}/")
        sink = rig.sink(dsn=dsn, bootstrap=rig.kafka.server.bootstrap("PROXIED"), batch_rows=100)
        faults = [network.cut_now, kafka.cut_now, lambda: network.cut_after(3000, http=False), lambda: network.delay(0.02),
                  lambda: kafka.cut_after(50_000, http=False), network.refuse, lambda: network.throttle(20_000)]  # fmt: skip
        async with running(sink):
            sent = 0
            for fault in faults:
                await asyncio.to_thread(fault)
                await rig.send("edge.telemetry", some(sent, 300))
                sent += 300
                here = functools.partial(stored_or_told, rig, sink, sent)
                await wait_for(here, 60.0, "all is stored, or the sink says why not", every=0.05)
                await asyncio.to_thread(network.heal)
                await asyncio.to_thread(kafka.heal)
                await rig.wait_count(sent, timeout=60.0)
                await wait_for(lambda: is_well(sink), 60.0, "the sink is well again")
            await asyncio.to_thread(network.hang)
            await rig.send("edge.telemetry", some(sent, 300))
            await unwell(sink, "database:")
            await asyncio.to_thread(network.heal)
            await rig.wait_count(sent + 300, timeout=60.0)
    await assert_rollups(rig)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 96 MiB that PostgreSQL's user can reach."""
    home = private_directory()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96m,mode=711", "none", str(home)]
    done = subprocess.run(mount, capture_output=True, check=False)
    capability(done.returncode == 0, "the right to mount (root)")
    try:
        yield home
    finally:
        detach(home)
        home.rmdir()


async def test_a_full_disk_of_the_database_is_waited_for(rig: Rig, postgres_template: Path, small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    with own_server(postgres_template, small_disk) as server:
        server.start()
        rig.dsn = server.create_database("small")
        async with running(rig.sink(batch_rows=2000)) as sink:
            await rig.send("edge.telemetry", some(0, 100))
            await rig.wait_count(100)
            ballast.write_bytes(bytes(max(0, shutil.disk_usage(small_disk).free - 64 * 1024)))
            now = time.time()
            filling = [telemetry(float(each), tags=None, moment=now - each / 100) for each in range(100, 20_100)]
            await rig.send("edge.telemetry", filling)
            report = await unwell(sink, "database:")
            assert report.next_step
            ballast.unlink()
            server.recover()  # where no room was left for its log it ended itself
            await rig.wait_count(20_100, timeout=60.0)
        await assert_rollups(rig)


async def test_a_partition_that_somebody_detached_is_attached_again(rig: Rig) -> None:
    async with running(rig.sink()):
        await rig.send("edge.telemetry", some(0, 10))
        await rig.wait_count(10)
        (name,) = (await rig.rows("SELECT tableoid::regclass::text FROM device_metrics LIMIT 1"))[0]
        await rig.rows(f"ALTER TABLE device_metrics DETACH PARTITION {name}")
        await rig.send("edge.telemetry", some(10, 10))
        await rig.wait_count(20)
    await assert_rollups(rig)


async def test_an_old_partition_that_is_read_is_dropped_later_and_fails_nothing(rig: Rig) -> None:
    database = Database(place_of(rig.dsn), "", "upkeep test")
    await database.open()
    upkeep, now = Upkeep(database), time.time()
    old = int(now - 40 * DAY) // DAY * DAY
    reader = await asyncpg.connect(rig.dsn, timeout=10)
    there = "SELECT to_regclass($1) IS NOT NULL"
    try:
        await upkeep.ensure({METRICS: {old}})
        async with reader.transaction():
            await reader.fetch("SELECT count(*) FROM device_metrics")
            assert await upkeep.round(Now(now, now)) == ""
            assert await rig.value(there, name_of(METRICS, old))
        await upkeep.round(Now(now, now))
        assert not await rig.value(there, name_of(METRICS, old))
    finally:
        await reader.close()
        await database.close()


async def test_clocks_that_are_both_years_ahead_drop_nothing_and_refuse_nothing(rig: Rig) -> None:
    ahead = time.time() + 730 * DAY
    async with running(rig.sink()) as sink:
        await rig.send("edge.telemetry", some(0, 10))
        await rig.wait_count(10)
        await sink._upkeep.round(Now(ahead, ahead))
        assert await rig.count() == 10
        sink._now = lambda: Now(ahead, ahead)  # type: ignore[method-assign]
        await rig.send("edge.telemetry", some(10, 10))
        await rig.wait_count(20)
        assert await rig.count("device_metrics_hourly") > 0
    await assert_rollups(rig)


async def test_the_marks_of_transactions_are_no_lag(rig: Rig) -> None:
    topic = f"{rig.kafka.prefix}cloud.aggregated"
    producer = AIOKafkaProducer(bootstrap_servers=rig.kafka.bootstrap, transactional_id=f"{rig.kafka.prefix}windows")
    await producer.start()
    try:
        for number in range(3):
            async with producer.transaction():
                event = envelope({"window": number}, moment=time.time() + 7200)  # the end of its window
                await producer.send_and_wait(topic, msgspec.json.encode(event), key=b"pi-1")
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"never given", key=b"pi-1")
        await producer.abort_transaction()
    finally:
        await producer.stop()
    async with running(rig.sink()) as sink:
        await rig.wait_count(3, "analytics_events")

        async def passed() -> bool:
            mine = [place for place in sink._positions if place.topic == topic]
            ends = {place: last for place, (_, last) in (await sink._consumer.bounds(mine)).items()} if mine else {}
            stored = await sink._writer.offsets()
            return (
                bool(ends)
                and all(stored.get(place) == last for place, last in ends.items())
                and not any(sink._lag(ends).values())
            )

        await wait_for(passed, 20.0)
        assert await rig.count("dead_letters") == 0


async def test_a_partition_that_cannot_be_read_stops_no_other(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.core.streams.sink.PLACE_AGAIN", 0.5)
    for device in range(9):  # on all partitions
        await rig.send("edge.telemetry", [telemetry(1.0, f"pi-{device}")], f"pi-{device}".encode())
    sink = rig.sink()
    asked, leaderless = sink._consumer.bounds, {Place(f"{rig.kafka.prefix}edge.telemetry", 0)}

    async def bounds(places: Collection[Place]) -> dict[Place, tuple[int, int]]:
        if leaderless & set(places):
            raise LinkDownError("It has no leader.")  # as a cluster that lost brokers has them for minutes
        return await asked(places)

    sink._consumer.bounds = bounds  # type: ignore[method-assign]
    async with running(sink):
        await wait_for(rig.count, 30.0, "the rows of the others")
        assert await rig.count() < 9
        leaderless.clear()
        await rig.wait_count(9)

"""Fixtures for the servers. One PostgreSQL, S3 and Kafka for each worker, started by the first test that wants them."""

from __future__ import annotations

import fcntl
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.order import last_users

if TYPE_CHECKING:  # the clients are slow to import, and most runs want none of them
    from tests.servers.kafka import KafkaServer
    from tests.servers.kafka_cluster import KafkaCluster
    from tests.servers.nas import Nas
    from tests.servers.nut import NutServer
    from tests.servers.postgres import PostgresServer
    from tests.servers.proxy import FaultyProxy
    from tests.servers.redis import RedisServer
    from tests.servers.s3 import Bucket, S3Server
    from tests.servers.sound import SoundRoom

LAST = pytest.StashKey[dict[str, pytest.Item]]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """See which test is the last one that wants a broker."""
    session.stash[LAST] = last_users(session.items)


@pytest.hookimpl(trylast=True)  # when the test's own fixtures are gone
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """End a broker after the last test that wants it: it would take a part of a processor until the end of the run."""
    for name, last in item.session.stash[LAST].items():
        if item is last and isinstance(item, pytest.Function):
            item._fixtureinfo.name2fixturedefs[name][-1].finish(item._request)


@dataclass(frozen=True)
class Topics:
    """A test's share of a broker that others use too.

    Args:
        server: the broker, which serves before and after each test.
        bootstrap: its host and port, plain.
        prefix: what the names of the test's topics and groups begin with.
        proxy: makes the network fail for the clients of server.client("PROXIED").
    """

    server: KafkaServer
    bootstrap: str
    prefix: str
    proxy: FaultyProxy


@pytest.fixture(scope="session")
def postgres_template(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """An initialised data directory, made once for all workers, to copy."""
    from tests.servers.postgres import make_template

    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    with (shared / "postgres-template.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        template = shared / "template"
        return template if template.exists() else make_template(shared)


@pytest.fixture(scope="session")
def postgres_server(postgres_template: Path) -> Iterator[PostgresServer]:
    """This worker's PostgreSQL, which a test may pause, kill and start: the next test finds it serving."""
    from tests.servers.postgres import PostgresServer, private_directory

    directory = private_directory()
    try:
        with PostgresServer(directory, postgres_template) as server:
            yield server
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Iterator[str]:
    """The DSN of a new, empty database."""
    name = f"test_{secrets.token_hex(8)}"
    yield postgres_server.create_database(name)
    postgres_server.recover()
    postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """This worker's S3 server, which a test may pause, kill and start: the next test finds it serving."""
    from tests.servers.s3 import S3Server

    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(s3_server: S3Server) -> Iterator[Bucket]:
    """A new, empty bucket, its endpoint and keys."""
    bucket = s3_server.create_bucket()
    yield bucket
    s3_server.recover()
    s3_server.remove_bucket(bucket)


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A Redis of the test's own, on a UNIX socket."""
    from tests.servers.redis import RedisServer

    with tempfile.TemporaryDirectory(prefix="prime-spark-redis-") as short, RedisServer(Path(short)) as server:
        yield server


@pytest.fixture
def nas(tmp_path: Path) -> Iterator[Nas]:
    """A share of the test's own, mounted."""
    from tests.servers.nas import Nas

    with Nas(tmp_path / "nas") as share:
        yield share


@pytest.fixture(scope="session")
def nut_server() -> Iterator[NutServer]:
    """This worker's upsd with one UPS "sim"; tests use nut."""
    from tests.servers.nut import NutServer

    with tempfile.TemporaryDirectory(prefix="prime-spark-nut-") as short, NutServer(Path(short)) as server:
        yield server


@pytest.fixture
def nut(nut_server: NutServer) -> Iterator[NutServer]:
    """A real upsd with one UPS "sim" on mains, charged to 90 %, which a test may change, pause, kill and start."""
    yield nut_server
    nut_server.recover()


@pytest.fixture(scope="session")
def kafka_and_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KafkaServer, FaultyProxy]]:
    """This worker's broker with all kinds of listeners, and what its clients of PROXIED go through."""
    from tests.servers.kafka import KafkaServer
    from tests.servers.kafka_security import SECURED
    from tests.servers.proxy import FaultyProxy

    server = KafkaServer(tmp_path_factory.mktemp("kafka"), (*SECURED, "PROXIED"))
    with FaultyProxy("127.0.0.1", server.port("PROXIED")) as proxy:
        server.advertised["PROXIED"] = proxy.port
        with server:
            yield server, proxy


@pytest.fixture(scope="session")
def kafka_server(kafka_and_proxy: tuple[KafkaServer, FaultyProxy]) -> KafkaServer:
    """This worker's broker. Tests that pause, kill or start it use kafka: the next one finds it serving."""
    return kafka_and_proxy[0]


@pytest.fixture
def kafka(kafka_and_proxy: tuple[KafkaServer, FaultyProxy]) -> Iterator[Topics]:
    """A prefix of the test's own on that broker; its topics are removed afterwards."""
    from tests.servers.kafka import run_apart

    server, proxy = kafka_and_proxy
    topics = Topics(server, server.bootstrap(), f"test-{secrets.token_hex(4)}.", proxy)
    yield topics
    proxy.heal()
    server.recover()
    run_apart(server.remove_topics(topics.prefix))


@pytest.fixture(scope="session")
def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """This worker's three brokers; tests use kafka_cluster; see tests.order."""
    from tests.servers.kafka_cluster import KafkaCluster

    with KafkaCluster(tmp_path_factory.mktemp("kafka-cluster")) as cluster:
        yield cluster


@pytest.fixture
def kafka_cluster(running_cluster: KafkaCluster) -> KafkaCluster:
    """Three brokers that serve, whatever the test before has left of them. Topics stay: give each a name of its own."""
    running_cluster.recover()
    return running_cluster


@pytest.fixture(scope="session")
def running_room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoundRoom]:
    """This worker's room with a microphone of 6 channels; tests use sound_room."""
    from tests.servers.sound import SoundRoom

    with SoundRoom(tmp_path_factory.mktemp("sound-room")) as room:
        yield room


@pytest.fixture
def sound_room(running_room: SoundRoom) -> Iterator[SoundRoom]:
    """A room with a ReSpeaker's 6 channels and a speaker, which a test may unplug, pause, kill and start."""
    yield running_room
    running_room.recover()

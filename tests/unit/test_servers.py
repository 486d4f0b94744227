"""The servers of the tests work, and their faults are real ones."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis
import urllib3
from minio import Minio
from minio.error import S3Error

from tests.servers.child import Child, ServerError
from tests.servers.nas import MARKER, Nas, mounted
from tests.servers.postgres import PostgresServer
from tests.servers.proxy import FaultyProxy
from tests.servers.redis import RedisServer
from tests.servers.s3 import Bucket, S3Server
from tests.support import wait_for_sync

READ = "import pathlib, sys; sys.stdout.write(pathlib.Path(sys.argv[1]).read_text())"


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_what_does_not_start_says_why(tmp_path: Path) -> None:
    child = Child(tmp_path / "broken.log")
    with pytest.raises(ServerError, match=r"ended with 7(.|\n)*no such thing"):
        child.spawn(["sh", "-c", "echo no such thing >&2; exit 7"], lambda: False)
    with pytest.raises(ServerError, match=r"not ready within(.|\n)*waits"):
        child.spawn(["sh", "-c", "echo waits; exec sleep 100"], lambda: False, timeout=0.2)
    assert not child.running


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_and_its_mounts_end_with_a_test_that_is_killed(tmp_path: Path, nas: Nas, number: signal.Signals) -> None:
    code = (
        "import sys, time; from pathlib import Path; from tests.servers.nas import Nas\n"
        "share = Nas(Path(sys.argv[1])); share.start(); print(share.child.pid, flush=True); time.sleep(100)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "other")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as test:
        assert test.stdout is not None
        pid = int(test.stdout.readline())
        assert mounted(tmp_path / "other" / "mount")
        test.send_signal(number)
    wait_for_sync(lambda: gone(pid), message="bindfs ends")
    both = [tmp_path / "other" / each for each in ("mount", "backing")]
    wait_for_sync(lambda: not any(mounted(each) for each in both), message="both are unmounted")
    assert (nas.path / MARKER).exists()  # another one's share is left alone


def test_redis_answers_and_forgets_when_killed(redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        assert client.set("key", b"value")
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "allkeys-lru"}
        redis_server.kill()
        with pytest.raises(redis.ConnectionError):
            client.get("key")
        redis_server.start()
        assert client.get("key") is None


def test_redis_hangs_when_paused(redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_server.url, socket_timeout=0.2, retry=None) as client:
        redis_server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        redis_server.resume()
        assert client.ping()


async def test_postgres_gives_each_test_an_empty_database(postgres: str) -> None:
    connection = await asyncpg.connect(postgres)
    try:
        assert await connection.fetchval("select count(*) from pg_stat_user_tables") == 0
        await connection.execute("create table kept (body jsonb)")
        assert await connection.fetchval("select '{\"a\": 1}'::jsonb ->> 'a'") == "1"
    finally:
        await connection.close()


async def test_postgres_killed_drops_connections_and_keeps_what_it_committed(
    postgres_server: PostgresServer, postgres: str
) -> None:
    connection = await asyncpg.connect(postgres)
    await connection.execute("create table kept (number int); insert into kept values (42)")
    postgres_server.kill()
    with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
        await connection.fetchval("select 1")
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await asyncpg.connect(postgres)
    postgres_server.start()
    connection = await asyncpg.connect(postgres)
    try:
        assert await connection.fetchval("select number from kept") == 42
        assert await connection.fetchval("show fsync") == "off"
    finally:
        await connection.close()


async def test_postgres_hangs_when_paused_also_for_those_connected(postgres_server: PostgresServer, postgres: str) -> None:
    connection = await asyncpg.connect(postgres)
    try:
        postgres_server.pause()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(asking := asyncio.ensure_future(connection.fetchval("select 1"))), 0.2)
        with pytest.raises(TimeoutError):
            await asyncpg.connect(postgres, timeout=0.2)
        postgres_server.resume()
        assert await asking == 1
    finally:
        connection.terminate()


def test_a_test_may_leave_a_server_dead_or_hung(redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        for harm in (redis_server.kill, redis_server.pause, redis_server.stop):
            harm()
            redis_server.recover()
            assert client.ping()


async def test_postgres_behind_a_cut_network(postgres_server: PostgresServer) -> None:
    with FaultyProxy("127.0.0.1", postgres_server.port) as proxy:
        dsn = postgres_server.dsn().replace(str(postgres_server.port), str(proxy.port))
        connection = await asyncpg.connect(dsn)
        assert await connection.fetchval("select 1") == 1
        proxy.cut_after(1000, http=False)
        with pytest.raises((OSError, asyncpg.InterfaceError, asyncpg.PostgresError)):
            await connection.fetchval("select 1")
        connection = await asyncpg.connect(dsn)
        with pytest.raises((OSError, asyncpg.InterfaceError, asyncpg.PostgresError)):
            await connection.fetchval("select repeat('x', 100000)")
        proxy.hang()
        with pytest.raises(TimeoutError):
            await asyncpg.connect(dsn, timeout=0.2)


def test_s3_keeps_objects_over_a_kill(s3_server: S3Server, s3: Bucket) -> None:
    client = s3_server.client()
    client.put_object(s3.name, "a/b", io.BytesIO(b"value"), 5)
    with client.get_object(s3.name, "a/b") as answer:
        assert answer.read() == b"value"
    wrong = Minio(s3.endpoint, s3.access_key, "wrong", secure=False)
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        wrong.stat_object(s3.name, "a/b")
    s3_server.restart()
    with client.get_object(s3.name, "a/b") as answer:
        assert answer.read() == b"value"


@pytest.fixture
def proxied(s3_server: S3Server, s3: Bucket) -> Iterator[tuple[FaultyProxy, Callable[[], bytes]]]:
    """A proxy before S3, and a function that reads an object of 200 kB through it without retries."""
    s3_server.client().put_object(s3.name, "key", io.BytesIO(bytes(200_000)), 200_000)
    with FaultyProxy("127.0.0.1", s3_server.port) as proxy:
        pool = urllib3.PoolManager(timeout=1.0, retries=False)
        client = Minio(proxy.endpoint, s3.access_key, s3.secret_key, secure=False, http_client=pool, region="us-east-1")

        def read() -> bytes:
            with client.get_object(s3.name, "key") as answer:
                return answer.read()

        yield proxy, read
        pool.clear()


def test_s3_behind_a_faulty_network(proxied: tuple[FaultyProxy, Callable[[], bytes]]) -> None:
    proxy, read = proxied
    assert read() == bytes(200_000)
    proxy.cut_after(150_000)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        read()
    proxy.refuse()
    with pytest.raises(urllib3.exceptions.NewConnectionError):
        read()
    proxy.hang()
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        read()
    proxy.answer(503)
    with pytest.raises(S3Error, match="SlowDown"):
        read()
    proxy.delay(1.5)  # longer than the client waits
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        read()
    before = proxy.accepted
    proxy.heal()
    assert read() == bytes(200_000)
    assert proxy.accepted == before + 1


def reader(path: Path) -> subprocess.Popen[str]:
    """A process that reads a file of the share: should it hang, then not the test."""
    return subprocess.Popen([sys.executable, "-c", READ, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_hung_nas_answers_nobody_until_it_goes_on(nas: Nas) -> None:
    (nas.path / "file").write_text("value")
    nas.hang()
    with reader(nas.path / "file") as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(timeout=1.0)
        nas.resume()
        assert process.communicate(timeout=20)[0] == "value"


def test_a_hung_nas_can_be_taken_away_and_comes_back(nas: Nas) -> None:
    (nas.path / "file").write_text("value")
    nas.hang()
    with reader(nas.path / "file") as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(timeout=1.0)
        nas.unmount()
        assert "Error" in process.communicate(timeout=20)[1]
    assert list(nas.path.iterdir()) == []
    nas.remount()
    assert (nas.path / "file").read_text() == "value"
    assert (nas.path / MARKER).exists()


def test_a_full_and_a_read_only_nas(nas: Nas) -> None:
    nas.fill()
    with pytest.raises(OSError, match="No space") as full:
        (nas.path / "file").write_bytes(bytes(100_000))
    assert full.value.errno == errno.ENOSPC
    nas.free()
    (nas.path / "file").write_bytes(bytes(100_000))
    nas.read_only()
    with pytest.raises(OSError, match="Read-only") as fixed:
        (nas.path / "other").touch()
    assert fixed.value.errno == errno.EROFS
    assert (nas.path / "file").stat().st_size == 100_000
    nas.read_only(False)
    (nas.path / "other").touch()


def test_a_nas_comes_back_from_every_state(nas: Nas) -> None:
    (nas.path / "file").write_text("value")
    for harm in (nas.hang, nas.kill, nas.unmount, nas.restart):
        harm()
        nas.recover()
        assert (nas.path / "file").read_text() == "value"


def test_a_nas_is_cleaned_up_in_every_state(tmp_path: Path) -> None:
    for state in ("hang", "kill", "unmount", "read_only", "fill"):
        with Nas(tmp_path / state) as share:
            getattr(share, state)()
        assert not mounted(share.path)
        assert not mounted(share.backing)
        assert os.listdir(share.path) == []

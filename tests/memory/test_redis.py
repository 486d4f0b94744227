"""Tier 1 on a real Redis that is restarted, killed, stopped, filled, emptied and given other data: never a stale value."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
import redis as bare

from appliance.core.memory.model import Durability
from appliance.core.memory.redis import RedisTier
from appliance.core.memory.redis_server import RedisServer
from appliance.core.memory.redis_wire import connect
from appliance.core.model import Health, Phase
from appliance.core.services import Supervisor
from appliance.core.supervision import Policy
from appliance.errors import AbsentError
from tests.memory.rig import Rig, running
from tests.servers.redis import RedisServer as Server
from tests.support import ManualClock, needs_program, wait_for, wait_for_sync

WITHIN = 3.5
"""Seconds in which a fault must show."""


def on(server: Server, home: Path, device: str = "pc", password: str = "") -> Rig:
    """A memory with its tier 1 there."""
    return Rig(home, hot=RedisTier(server.url, password, device), device=device)


async def shows(rig: Rig, health: Health, told: str = "") -> None:
    """Wait until tier 1 is shown so, in its status and in the health of the whole."""

    async def so() -> bool:
        tier, whole = rig.shown("redis"), (await rig.service.health()).health
        well = Health.healthy if health is Health.healthy else Health.degraded
        return tier.health is health and told in tier.reason and whole is well

    await wait_for(so, WITHIN, f"redis is {health.value}; it is {rig.shown('redis')}")


async def comes_from_redis(rig: Rig, key: str) -> None:
    """Wait until tier 1 gives it again."""

    async def hit() -> bool:
        before = rig.parts.front.stats.hits
        await rig.memory.get(key)
        return rig.parts.front.stats.hits > before

    await wait_for(hit, WITHIN)


@pytest.fixture
async def rig(redis_server: Server, tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(on(redis_server, tmp_path)) as rig:
        await shows(rig, Health.healthy)
        yield rig


async def test_values_come_from_redis_and_end_there_in_time(rig: Rig) -> None:
    await rig.memory.set_many({"a": b"1", "b": {"x": 1}}, ttl=60)
    hits = rig.parts.front.stats.hits
    assert await rig.memory.get_many(["a", "b", "c"]) == {"a": b"1", "b": {"x": 1}}
    assert rig.parts.front.stats.hits == hits + 2
    with bare.Redis.from_url(rig.hot._url) as client:  # type: ignore[attr-defined]
        (name,) = client.keys("*default:a")
        assert 0 < client.pttl(name) <= 60_000


@pytest.mark.parametrize("how", ["restart", "kill"])
async def test_a_redis_that_comes_back_empty_loses_nothing(rig: Rig, redis_server: Server, how: str) -> None:
    await rig.memory.set_many({f"k{index}": index for index in range(50)})
    await rig.memory.set("m", b"memory", durability=Durability.memory)
    if how == "kill":
        await asyncio.to_thread(redis_server.kill)
        assert await rig.memory.get("k7") == 7
        await shows(rig, Health.unhealthy)
        await rig.memory.set("k8", "while it was away")
        await asyncio.to_thread(redis_server.start)
    else:
        await asyncio.to_thread(redis_server.restart)
        await rig.memory.set("k8", "while it was away")
    await shows(rig, Health.healthy)
    expected = {f"k{index}": index for index in range(50)} | {"k8": "while it was away", "m": b"memory"}
    assert await rig.memory.get_many(list(expected)) == expected
    await comes_from_redis(rig, "k8")


async def test_a_redis_that_hangs_is_left_out(rig: Rig, redis_server: Server) -> None:
    await rig.memory.set("k", b"before")
    await asyncio.to_thread(redis_server.pause)
    async with asyncio.timeout(5.0):
        assert await rig.memory.get("k") == b"before"
        await rig.memory.set("k", b"after")
        assert await rig.memory.get("k") == b"after"
    await shows(rig, Health.unhealthy)
    await asyncio.to_thread(redis_server.resume)
    await shows(rig, Health.healthy)
    assert await rig.memory.get("k") == b"after"
    rig.parts.edge.store.close()  # what is there now comes from tier 1 alone
    assert await rig.memory.get("k") == b"after"
    await asyncio.to_thread(rig.parts.edge.store.open)


async def test_a_hang_that_nobody_notices_shows_within_a_probe(rig: Rig, redis_server: Server) -> None:
    await asyncio.to_thread(redis_server.pause)
    await shows(rig, Health.unhealthy)


async def test_a_full_redis_that_evicts_nothing(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as short, Server(Path(short), maxmemory="3mb", policy="noeviction") as server:
        async with running(on(server, tmp_path)) as rig:
            await shows(rig, Health.degraded, "noeviction")
            values = {f"k{index}": os.urandom(20_000) for index in range(200)}
            for key, value in values.items():
                await rig.memory.set(key, value)
            await shows(rig, Health.unhealthy, "Redis takes no more")
            assert await rig.memory.get_many(list(values)) == values
            await rig.memory.set("k0", b"newer", ttl=60)
            assert await rig.memory.get("k0") == b"newer"
            with bare.Redis.from_url(server.url) as client:
                client.config_set("maxmemory-policy", "allkeys-lru")
            await shows(rig, Health.healthy)
            assert await rig.memory.get("k0") == b"newer"


async def test_what_redis_evicts_is_counted_and_found_below(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as short, Server(Path(short), maxmemory="4mb") as server:
        async with running(on(server, tmp_path)) as rig:
            values = {f"k{index}": os.urandom(20_000) for index in range(300)}
            for key, value in values.items():
                await rig.memory.set(key, value)
            await wait_for(lambda: rig.shown("redis").evictions > 0, WITHIN)
            assert await rig.memory.get_many(list(values)) == values


async def test_an_emptied_redis_gives_nothing_and_is_used_again(rig: Rig, redis_server: Server) -> None:
    await rig.memory.set("k", b"value")
    with bare.Redis.from_url(redis_server.url) as client:
        client.flushall()
    assert await rig.memory.get("k") == b"value"
    await shows(rig, Health.healthy)
    await comes_from_redis(rig, "k")


def dump(client: bare.Redis) -> dict[bytes, bytes]:
    """Everything there, as RESTORE takes it."""
    return {name: client.dump(name) for name in client.keys("*")}


async def test_older_values_under_the_same_names_are_not_believed(rig: Rig, redis_server: Server) -> None:
    await rig.memory.set_many({"k": b"old", "gone": b"old"})
    with bare.Redis.from_url(redis_server.url) as client:
        marks = rig.hot._marks  # type: ignore[attr-defined]
        before = dump(client)
        await rig.memory.set("k", b"new")
        await rig.memory.delete("gone")
        await wait_for(lambda: not set(marks) & set(rig.hot._marks))  # type: ignore[attr-defined]
        for name, value in before.items():
            client.restore(name, 0, value, replace=True)
        assert await rig.memory.get("k") == b"new"
        assert await rig.memory.get("gone") is None
        assert await rig.memory.get_many(["k", "gone"]) == {"k": b"new"}


async def test_an_older_data_set_at_a_restart_is_not_believed(rig: Rig, redis_server: Server) -> None:
    """Though it comes back so soon that its marker is still good."""
    await rig.memory.set_many({"k": b"old", "gone": b"old"})
    with bare.Redis.from_url(redis_server.url) as client:
        client.save()
    await rig.memory.set("k", b"new")
    await rig.memory.delete("gone")
    assert (redis_server.directory / "dump.rdb").exists()
    await asyncio.to_thread(redis_server.kill)
    await asyncio.to_thread(redis_server.start)
    with bare.Redis.from_url(redis_server.url) as client:
        assert client.keys("*default:gone")  # it did load the older one
    assert await rig.memory.get("k") == b"new"
    assert await rig.memory.get("gone") is None
    assert await rig.memory.get_many(["gone", "k"]) == {"k": b"new"}
    await shows(rig, Health.healthy)
    assert await rig.memory.get("k") == b"new"


async def test_a_wrong_password_is_told(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as short, Server(Path(short)) as server:
        with bare.Redis.from_url(server.url) as client:
            client.config_set("requirepass", "right")
        async with running(on(server, tmp_path / "a", password="wrong")) as rig:
            await rig.memory.set("k", b"value")
            assert await rig.memory.get("k") == b"value"
            await shows(rig, Health.unhealthy, "refuses us")
            assert "wrong" not in rig.shown("redis").reason
        async with running(on(server, tmp_path / "b", password="right")) as rig:
            await shows(rig, Health.healthy)
        with bare.Redis.from_url(server.url, password="right") as client:
            client.config_set("requirepass", "")


async def test_two_appliances_on_one_server_do_not_see_each_other(redis_server: Server, tmp_path: Path) -> None:
    other = on(redis_server, tmp_path / "agent", "agent")
    async with running(on(redis_server, tmp_path / "pc")) as pc, running(other) as agent:
        await pc.memory.set("k", b"of pc")
        assert await agent.memory.get("k") is None
        await agent.memory.set("k", b"of agent")
        assert (await pc.memory.get("k"), await agent.memory.get("k")) == (b"of pc", b"of agent")
    async with running(on(redis_server, tmp_path / "pc")) as pc:
        assert await pc.memory.get("k") == b"of pc"
        with bare.Redis.from_url(redis_server.url) as client:
            kept = [name for name in client.keys("ps:pc:*") if b"\0" not in name]  # markers apart
            assert [name for name in kept if not name.startswith(pc.hot._epoch.encode())] == []  # type: ignore[attr-defined]


async def test_older_epochs_go_while_it_runs(rig: Rig, redis_server: Server) -> None:
    with bare.Redis.from_url(redis_server.url) as client:
        for turn in range(3):
            await rig.memory.set_many({f"k{turn}.{index}": b"x" for index in range(100)})
            rig.hot.forget_all()
        await rig.memory.set("last", b"x")

        def clean() -> bool:
            epoch = rig.hot._epoch.encode()  # type: ignore[attr-defined]
            names = client.keys("ps:pc:*")
            return bool(names) and all(name.startswith(epoch) for name in names)

        await wait_for(clean, WITHIN)
        await comes_from_redis(rig, "last")


async def test_writers_at_once_leave_one_value_in_redis_and_on_disk(rig: Rig) -> None:
    for turn in range(40):
        writes = [(b"%d" % (10 * turn + index), list(Durability)[index % 2]) for index in range(8)]
        await asyncio.gather(*(rig.memory.set("k", value, durability=durability) for value, durability in writes))
        seen = await rig.memory.get("k")
        await rig.memory.flush()
        assert await rig.memory.get("k") == seen
        rig.hot.forget_all()
        assert await rig.memory.get("k") == seen
        await rig.parts.front.probe()


async def test_a_writer_that_is_cancelled_leaves_no_older_value_in_redis(rig: Rig) -> None:
    for turn in range(60):
        task = asyncio.create_task(rig.memory.set("k", turn, durability=list(Durability)[turn % 2]))
        for _ in range(turn):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        await rig.memory.flush()
        await rig.memory.set("other", turn)  # the disk writes one after the other: by now the first is there, or never
        seen = await rig.memory.get("k")
        rig.hot.forget_all()
        await rig.parts.front.probe()
        assert await rig.memory.get("k") == seen


@pytest.fixture
def socket() -> Iterator[Path]:
    """A short path."""
    needs_program("redis-server")
    with tempfile.TemporaryDirectory(prefix="prime-spark-redis-") as short:
        yield Path(short) / "redis.sock"


async def test_the_private_server_is_started_again_when_it_dies(socket: Path, tmp_path: Path) -> None:
    server = RedisServer(socket, "64mb", "allkeys-lru")
    rig = Rig(tmp_path, hot=RedisTier(f"unix://{socket}", "", "pc"))
    supervisor = Supervisor([server], rig.state, ManualClock(), Policy(backoff_base=0.05))
    supervisor.start()
    await supervisor.settled()
    try:
        async with running(rig):
            await shows(rig, Health.healthy)
            await rig.memory.set("k", b"value")
            assert server._process is not None
            first = server._process.pid
            os.kill(first, signal.SIGKILL)
            assert await rig.memory.get("k") == b"value"
            await wait_for(lambda: server._process is not None and server._process.pid != first)
            await shows(rig, Health.healthy)
            assert supervisor.phase_of("redis") is Phase.running
            assert await rig.memory.get("k") == b"value"
    finally:
        await supervisor.stop()
    assert not socket.exists()


PARENT = """
import asyncio, sys
from pathlib import Path
from appliance.core.memory.redis_server import RedisServer
from appliance.core.memory.redis_wire import connect
async def main():
    server = RedisServer(Path(sys.argv[1]), "64mb", "allkeys-lru")
    await server.start()
    print(server._process.pid, flush=True)
    await server.run()
asyncio.run(main())
"""


def test_the_private_server_dies_with_its_parent(socket: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(socket)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent.stdout:
        child = psutil.Process(int(parent.stdout.readline()))
        assert child.is_running()
        parent.kill()
        parent.wait(10)
        wait_for_sync(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


async def test_the_private_server_is_absent_where_it_is_not_installed(socket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(socket.parent))
    with pytest.raises(AbsentError, match="not installed"):
        await RedisServer(socket, "64mb", "allkeys-lru").start()


async def test_a_client_that_was_closed_leaves_no_connection_behind(redis_server: Server) -> None:
    client = connect(redis_server.url, "", 2.0, lambda _: None)
    await client.ping()
    under_way = [asyncio.create_task(client.ping()) for _ in range(5)]
    await asyncio.sleep(0)
    await client.aclose()
    await asyncio.wait(under_way)
    for task in under_way:
        task.exception()  # answered, or cut
    with pytest.raises(bare.ConnectionError, match="closed"):
        await client.ping()
    pool = client.connection_pool
    assert not any(each.is_connected for each in (*pool._available_connections, *pool._in_use_connections))


async def test_what_was_closed_holds_no_connection(redis_server: Server) -> None:
    tier = RedisTier(redis_server.url, "", "pc")
    with bare.Redis.from_url(redis_server.url) as client:
        before = client.info("clients")["connected_clients"]
        await tier.open()
        await tier.open()  # another try
        assert await tier.get("nothing") is None
        assert client.info("clients")["connected_clients"] == before + 1
        await tier.close()
        await wait_for(lambda: client.info("clients")["connected_clients"] == before)
        await tier.close()

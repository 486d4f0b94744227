"""Random operations, faults and restarts against a model of the memory: no difference may be found."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings

from appliance.core.memory import absent, hot
from appliance.core.memory.documents import DocumentReplica
from tests.memory.programs import Step, World, programs
from tests.servers.proxy import FaultyProxy

EXAMPLES = int(os.environ.get("PRIME_SPARK_EXAMPLES", "25"))
HUNT = "PRIME_SPARK_EXAMPLES" in os.environ or any(word.startswith("--hypothesis-seed") for word in sys.argv)
"""By default every run is the same run: luck does not decide whether it passes. Who hunts names examples or a seed."""
ALWAYS = ("forget", "later", "crash", "restart", "hot_down", "hot_up", "nas_away", "nas_back", "deliver")
CLOCKS = ("clock_back", "clock_on")
CLOUD = ("cloud_away", "cloud_back", "sync", "sync")
rules = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=not HUNT,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


def carry_out(world: World, steps: list[Step], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run one program; tier 1 and the cache of absent keys go by the world's clock."""
    clock = SimpleNamespace(monotonic=world.clock.monotonic)

    async def main() -> None:
        await world.start()
        try:
            await world.run(steps)
        finally:
            await world.stop()

    with monkeypatch.context() as patched:
        patched.setattr(hot, "time", clock)
        patched.setattr(absent, "time", clock)
        asyncio.run(main())


@given(steps=programs(1, (*ALWAYS, *CLOCKS), ("bytes", "json")))
@rules
def test_one_appliance_with_a_nas(steps: list[Step], monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        carry_out(World(Path(directory)), steps, monkeypatch)


@given(steps=programs(1, (*ALWAYS, *CLOCKS), ("bytes", "json")))
@rules
def test_one_appliance_with_a_small_nas(steps: list[Step], monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        carry_out(World(Path(directory), nas_room=200_000), steps, monkeypatch)


@pytest.fixture
def far(postgres: str) -> Iterator[tuple[str, FaultyProxy]]:
    """A database behind a network that can be cut."""
    parts = urlsplit(postgres)
    with FaultyProxy(parts.hostname or "", parts.port or 0) as proxy:
        yield postgres.replace(f":{parts.port}/", f":{proxy.port}/"), proxy


def in_the_cloud(far: tuple[str, FaultyProxy], names: tuple[str, ...], directory: str, nas_room: int = 0) -> World:
    """A world whose cloud is empty, and answers."""
    dsn, proxy = far
    proxy.heal()

    async def clear() -> None:
        import asyncpg

        connection = await asyncpg.connect(dsn)
        await connection.execute("DROP SCHEMA IF EXISTS prime_spark CASCADE")
        await connection.close()

    asyncio.run(clear())
    world = World(Path(directory), lambda device: [DocumentReplica(dsn, device)], names, nas_room=nas_room)
    world.proxy = proxy
    return world


@given(steps=programs(1, (*ALWAYS, *CLOCKS, *CLOUD), ("bytes", "json", "json")))
@rules
def test_one_appliance_with_nas_and_cloud(
    steps: list[Step], far: tuple[str, FaultyProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        carry_out(in_the_cloud(far, ("pc",), directory), steps, monkeypatch)


@given(steps=programs(1, (*ALWAYS, *CLOCKS, *CLOUD), ("bytes", "json", "json")))
@rules
def test_one_appliance_with_a_small_nas_and_cloud(
    steps: list[Step], far: tuple[str, FaultyProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        carry_out(in_the_cloud(far, ("pc",), directory, nas_room=150_000), steps, monkeypatch)


@given(steps=programs(2, (*ALWAYS, *CLOUD), ("json",)))
@rules
def test_two_appliances_that_share_a_cloud(
    steps: list[Step], far: tuple[str, FaultyProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        world = in_the_cloud(far, ("pc", "agent"), directory)
        ending = [Step("cloud_back"), Step("nas_back"), Step("nas_back", 1), *(Step("sync", device) for device in (0, 1, 0))]
        carry_out(world, [*steps, *ending], monkeypatch)

"""Many connections, slow ones, and ones that never read: each is bounded, told so, and nobody else waits for them."""

from __future__ import annotations

import asyncio
import os
import resource
from pathlib import Path

import httpx
import pytest

from appliance.api import bounded
from appliance.api.limits import FEWEST, OWN, room_for
from tests.api.rig import Api, serving
from tests.support import wait_for

MANY = int(os.environ.get("PRIME_SPARK_CONNECTIONS", "400"))
"""Connections at one time; 10000 for the whole test."""
PLACES = 64 if MANY < 2000 else 1024
pytestmark = pytest.mark.timeout(600 if MANY > 1000 else 120)


@pytest.fixture
def descriptors() -> object:
    """As many as the test needs: both ends are in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 3 * MANY + 1000)), hard))
    yield None
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_flood_of_connections_is_turned_away_and_nobody_waits(tmp_path: Path, descriptors: object) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    async with serving(home, f"connections = {PLACES}\n") as api:
        async with api.client(await api.token("vera")) as client:
            assert (await client.get("/api/auth/me")).status_code == 200  # a connection that is kept
            over = asyncio.Event()
            asking = asyncio.create_task(ask(client, over))
            held = await flood(api.port, MANY)
            over.set()  # cancelled in the midst of a request, it would close the connection that it has
            await asking
            assert (await client.get("/api/auth/me")).status_code == 200, "who was there before goes on, and waits for nobody"
            told = [reader for reader, _ in held if reader.at_eof() or reader._buffer]  # type: ignore[attr-defined]
            await wait_for(lambda: len(api.access._http._servers[0][0].server_state.connections) <= PLACES)
            turned_away = [await reader.read() for reader in told]
            polite = [text for text in turned_away if text.startswith(b"HTTP/1.1 503 ") and b"Retry-After: " in text]
            assert len(polite) >= MANY // 2, (len(polite), len(turned_away))
            cut_off = len(turned_away) - len(polite)  # they had a place, and said nothing for as long as a head may take
            assert cut_off == sum(not text for text in turned_away)
            for _, writer in held:
                writer.transport.abort()
            protocol = api.access._http._servers[0][0].config.http_protocol_class
            await wait_for(lambda: sum(protocol.hosts.values()) <= 1)
        async with api.client(await api.token("vera")) as client:
            assert (await client.get("/api/auth/me")).status_code == 200, "there is room again"


async def ask(client: httpx.AsyncClient, over: asyncio.Event) -> None:
    """Again and again, over one connection."""
    while not over.is_set():
        assert (await client.get("/api/auth/me")).status_code == 200
        await asyncio.sleep(0.05)


async def flood(port: int, count: int) -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    held: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    for begin in range(0, count, 100):
        opened = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port) for _ in range(min(100, count - begin))))
        held += opened
    most = max(8, PLACES // 2)

    async def answered() -> bool:
        return sum(bool(reader.at_eof() or reader._buffer) for reader, _ in held) >= count - most  # type: ignore[attr-defined]

    await wait_for(answered, timeout=60)
    return held


async def test_slow_heads_hold_no_place_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "HEADER_SECONDS", 0.5)
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    async with serving(home, "connections = 64\n") as api, api.client(await api.token("vera")) as client:
        assert (await client.get("/api/auth/me")).status_code == 200
        slow = [asyncio.create_task(drip(api)) for _ in range(20)]
        assert (await client.get("/api/auth/me")).status_code == 200
        assert await asyncio.gather(*slow) == [b""] * 20


async def drip(api: Api) -> bytes:
    """A head that never ends, a few bytes at a time, until it is cut off."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(b"GET /health HTTP/1.1\r\n")
    answer = asyncio.create_task(reader.read())
    try:
        while not answer.done():
            writer.write(b"X-Slow: 1\r\n")
            await asyncio.wait({answer}, timeout=0.05)
        return b"" if isinstance(answer.exception(), ConnectionError) else answer.result()
    finally:
        writer.close()


def test_connections_leave_descriptors_for_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [1024, 4096]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: limits.__setitem__(0, wanted[0]))
    assert room_for(100) == 100
    assert limits[0] == 1024
    assert room_for(1024) == 1024
    assert limits[0] == 1024 + OWN
    assert room_for(100_000) == 4096 - OWN
    limits[:] = [256, 256]
    assert room_for(1024) == FEWEST

"""The balancer's process where it goes wrong, and a check whose answer is a trap."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from appliance.core.deploy.balancer import Balancer
from appliance.core.deploy.hands import Remote
from appliance.core.deploy.haproxy import Front, ServerLine
from appliance.core.deploy.model import Replica
from appliance.core.deploy.probes import Probes
from appliance.core.deploy.spec import parse
from appliance.errors import DeployError
from tests.deploy.rig import make_base
from tests.deploy.test_parts import GOOD
from tests.support import free_port, needs_program, wait_for


@pytest.fixture
def base() -> Iterator[Path]:
    needs_program("haproxy")
    found = make_base()
    yield found
    shutil.rmtree(found)


async def test_one_that_is_frozen_is_ended_and_started_anew(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.core.deploy.haproxy.ANSWER", 1.0)
    monkeypatch.setattr("appliance.core.deploy.balancer.GOING", 2.0)
    balancer, front = Balancer(base / "b"), Front("web", free_port(), "127.0.0.1", "http")
    try:
        await balancer.apply([front])
        frozen = balancer.status().pid
        assert frozen is not None
        os.kill(frozen, signal.SIGSTOP)

        async def anew() -> bool:
            with suppress(DeployError):
                await balancer.apply([front])
            return balancer.status().pid not in {frozen, None}

        await wait_for(anew, 60, "another one")
        await balancer.apply([front])
        async with httpx.AsyncClient(trust_env=False) as client:  # on every try: the frozen one has its socket no more
            answers = [await client.get(f"http://127.0.0.1:{front.listen}/", timeout=10) for _ in range(10)]
        assert {answer.status_code for answer in answers} == {503}
    finally:
        await balancer.stop()


async def test_what_haproxy_refuses_and_too_long_a_path_are_told(base: Path) -> None:
    bad = Front("web", free_port(), "127.0.0.1", "http", (ServerLine("a b", "127.0.0.1", 1, 100.0),))
    with pytest.raises(DeployError, match=r"refuses its configuration: \[ALERT\].*unknown keyword"):
        await Balancer(base / "b").apply([bad])
    with pytest.raises(DeployError, match="path of more than 96 bytes"):
        await Balancer(base / ("x" * 120)).apply([Front("web", free_port(), "127.0.0.1", "http")])


async def test_an_answer_that_unpacks_to_gigabytes_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(20)) + packer.flush()
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
        writer.write(head + packed)
        await writer.drain()
        writer.close()

    spec = parse(GOOD + '[health]\nkind = "http"\n')
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    probes = Probes(Remote(None, "/srv"))  # type: ignore[arg-type]
    try:
        replica = Replica("id", "web", 1, "1", "n", server.sockets[0].getsockname()[1], address="127.0.0.1")
        assert await probes.check(spec, replica, None) == ""  # type: ignore[arg-type]
        assert b"accept-encoding: identity" in asked[0].lower()
    finally:
        await probes.close()
        server.close()

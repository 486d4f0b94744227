"""Eight SSH consoles at once, keys pressed in each: key to repaint, lag of the core loop, cost of a session."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import asyncssh

from appliance.verbs.client import SocketClient
from benchmarks.rows import Figure, at_most, percentile
from benchmarks.terminal import OnTerminal, appliance, new_home

SESSIONS, KEYS = 8, 40
PASSWORD = "correct horse battery"


class Screen(asyncssh.SSHClientSession[bytes]):
    """Counts what arrives."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.written = 0

    def data_received(self, data: bytes, datatype: object) -> None:
        """The appliance painted."""
        self.written += len(data)
        self.arrived.set()


def run() -> list[Figure]:
    """All figures of one run."""
    with new_home() as home, appliance(Path(home)) as started:
        started.until(b"Overview")
        started.services_up()
        client = SocketClient(Path(home) / "run/api.sock")
        client.invoke("setup.complete", {"admin": "ada", "password": PASSWORD})
        port = next(each["details"]["port"] for each in client.invoke("service.list", {}) if each["name"] == "ssh")
        before = _idle(started)
        waits, lags, cost = asyncio.run(_measure(started, client, port))
    return [
        at_most(
            "key to repaint, 8 sessions, p95",
            1000 * percentile(waits, 0.95),
            "ms",
            50.0,
            "median",
            1000 * percentile(waits, 0.5),
        ),
        at_most(
            "core loop's answer under keys, p99",
            1000 * percentile(lags, 0.99),
            "ms",
            25.0,
            "median",
            1000 * percentile(lags, 0.5),
        ),
        at_most("CPU of a further idle SSH session", (cost[0] - before[0]) / SESSIONS, "%", 1.0),
        at_most("RSS of a further SSH session", (cost[1] - before[1]) / SESSIONS, "MB", 5.0),
    ]


def _idle(started: OnTerminal) -> tuple[float, float]:
    started.drain(5)
    return started.idle(15)


async def _measure(
    started: OnTerminal, client: SocketClient, port: int
) -> tuple[list[float], list[float], tuple[float, float]]:
    async with asyncssh.connect(
        "127.0.0.1", port, username="ada", password=PASSWORD, known_hosts=None, client_keys=None
    ) as link:
        opened = [await _open(link) for _ in range(SESSIONS)]
        await asyncio.sleep(3)
        stop = asyncio.Event()
        probe = asyncio.create_task(_probe(client, stop))
        waits = [wait for each in await asyncio.gather(*(_press(chan, screen) for chan, screen in opened)) for wait in each]
        stop.set()
        lags = await probe
        await asyncio.sleep(3)
        cost = await asyncio.to_thread(started.idle, 15)
        for chan, _ in opened:
            chan.write(b"q")
        await asyncio.sleep(1)
    return waits, lags, cost


async def _open(link: asyncssh.SSHClientConnection) -> tuple[asyncssh.SSHClientChannel[bytes], Screen]:
    screen = Screen()
    chan, _ = await link.create_session(lambda: screen, term_type="xterm-256color", term_size=(80, 24), encoding=None)
    return chan, screen


async def _press(chan: asyncssh.SSHClientChannel[bytes], screen: Screen) -> list[float]:
    """Cursor keys in the table of Services, one every 250 ms: each moves the cursor and so repaints two rows."""
    chan.write(b"2")
    await asyncio.sleep(1)
    waits = []
    for index in range(KEYS):
        screen.arrived.clear()
        began = time.perf_counter()
        chan.write(b"j" if index % 8 < 4 else b"k")
        await asyncio.wait_for(screen.arrived.wait(), 5)
        waits.append(time.perf_counter() - began)
        await asyncio.sleep(0.25)
    return waits


async def _probe(client: SocketClient, stop: asyncio.Event) -> list[float]:
    """Round trips of a query to the core loop over the control socket: an upper bound of the loop's lag."""
    lags = []
    while not stop.is_set():
        began = time.perf_counter()
        await asyncio.to_thread(client.invoke, "session.list", {})
        lags.append(time.perf_counter() - began)
        await asyncio.sleep(0.02)
    return lags

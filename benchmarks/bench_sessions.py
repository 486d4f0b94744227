"""Eight SSH consoles at once, keys pressed in each: key to repaint, lag of the core loop, cost of a session.

The floor is a bare asyncssh server that echoes the same keys to as many clients.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import asyncssh

from appliance.core.figures import percentile
from appliance.verbs.client import SocketClient
from benchmarks.rows import Figure, at_most
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


Console = tuple[asyncssh.SSHClientChannel[bytes], Screen]
"""A channel, and what arrives on it."""


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
    with _echo() as echo_port:
        floor = asyncio.run(_measure_echo(echo_port))
    return [
        at_most(f"key to repaint, {SESSIONS} sessions, p95", p95(waits), "ms", 50.0, "asyncssh echo, p95", p95(floor)),
        at_most("core loop's answer under keys, p99", 1000 * percentile(lags, 0.99), "ms", 25.0),
        at_most("CPU of a further idle SSH session", (cost[0] - before[0]) / SESSIONS, "%", 1.0),
        at_most("RSS of a further SSH session", (cost[1] - before[1]) / SESSIONS, "MB", 5.0),
    ]


def p95(seconds: list[float]) -> float:
    """In milliseconds."""
    return round(1000 * percentile(seconds, 0.95), 3)


def _idle(started: OnTerminal) -> tuple[float, float]:
    started.drain(5)
    return started.idle(15)


async def _measure(
    started: OnTerminal, client: SocketClient, port: int
) -> tuple[list[float], list[float], tuple[float, float]]:
    async with _opened(port) as consoles:
        await asyncio.sleep(3)
        stop = asyncio.Event()
        probe = asyncio.create_task(_probe(client, stop))
        waits = await _press_all(consoles)
        stop.set()
        lags = await probe
        await asyncio.sleep(3)
        cost = await asyncio.to_thread(started.idle, 15)
        for chan, _ in consoles:
            chan.write(b"q")
        await asyncio.sleep(1)
    return waits, lags, cost


async def _measure_echo(port: int) -> list[float]:
    async with _opened(port) as consoles:
        return await _press_all(consoles)


@asynccontextmanager
async def _opened(port: int) -> AsyncIterator[list[Console]]:
    """Consoles over connections of their own, as people have them."""
    async with AsyncExitStack() as stack:
        consoles = []
        for _ in range(SESSIONS):
            link = await stack.enter_async_context(
                asyncssh.connect("127.0.0.1", port, username="ada", password=PASSWORD, known_hosts=None, client_keys=None)
            )
            consoles.append(await _open(link))
        yield consoles


@contextmanager
def _echo() -> Iterator[int]:
    """The floor's port; its process ends with the block."""
    command = [sys.executable, "-m", "benchmarks.echo"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        if server.stdin is None or server.stdout is None:
            raise RuntimeError("no pipes to the echo server")
        try:
            yield int(server.stdout.readline())
        finally:
            server.terminate()


async def _press_all(consoles: list[Console]) -> list[float]:
    return [wait for each in await asyncio.gather(*(_press(*console) for console in consoles)) for wait in each]


async def _open(link: asyncssh.SSHClientConnection) -> Console:
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

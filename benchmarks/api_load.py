"""Asks an HTTP server over kept connections, as fast as it answers, or listens to streams; one process on one core.

`python -m benchmarks.api_load` with a Wanted as JSON on its standard input; it prints a Found.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time

import msgspec

LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class Wanted(msgspec.Struct):
    """What to do.

    Attributes:
        requests: Whole requests, one for each identity; asked in turns.
        connections: Kept open at one time.
        seconds: How long, after the first half second.
        streams: 0, or how many streams to open with the first request instead.
    """

    port: int
    core: int
    requests: list[str]
    connections: int = 16
    seconds: float = 3.0
    streams: int = 0


class Found(msgspec.Struct):
    """What came of it."""

    times: list[float]
    """Seconds of each request."""
    wrong: int
    seconds: float
    first: str = ""
    """The head of an answer that was wrong."""


class Asker(asyncio.Protocol):
    """One connection: a request, its answer, the next one."""

    def __init__(self, request: bytes, found: Found, begins: float) -> None:
        self._request, self._found, self._begins = request, found, begins
        self._got = bytearray()
        self._need = 0
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._got.clear()
        self._need = 0
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """A part of an answer."""
        self._got += data
        if not self._need:
            end = self._got.find(b"\r\n\r\n")
            if end < 0:
                return
            told = LENGTH.search(self._got, 0, end)
            self._need = end + 4 + (int(told[1]) if told else 0)
        if len(self._got) >= self._need:
            now = time.perf_counter()
            if self._sent >= self._begins:
                self._found.times.append(now - self._sent)
            if not self._got.startswith(b"HTTP/1.1 20"):
                self._found.wrong += 1
                self._found.first = self._found.first or self._got[:600].decode("latin-1")
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """It ended."""


async def ask(wanted: Wanted) -> Found:
    """See Wanted."""
    found = Found([], 0, wanted.seconds)
    begins = time.perf_counter() + 0.5
    loop, made = asyncio.get_running_loop(), []
    for number in range(wanted.connections):
        request = wanted.requests[number % len(wanted.requests)].encode()
        made.append(
            await loop.create_connection(lambda request=request: Asker(request, found, begins), "127.0.0.1", wanted.port)  # type: ignore[misc]
        )
    await asyncio.sleep(max(0.0, begins - time.perf_counter()) + wanted.seconds)
    for transport, _ in made:
        transport.abort()
    return found


async def listen(wanted: Wanted) -> Found:
    """Open the streams, say so on a line, and read them until the standard input ends."""
    found = Found([], 0, 0.0)
    made = []
    for number in range(wanted.streams):
        reader, writer = await asyncio.open_connection("127.0.0.1", wanted.port)
        writer.write(wanted.requests[number % len(wanted.requests)].encode())
        made.append((reader, writer))

    async def drain(reader: asyncio.StreamReader) -> None:
        while data := await reader.read(65536):
            found.seconds += len(data)

    heads = [await reader.readline() for reader, _ in made]
    found.wrong = sum(b" 200 " not in head for head in heads)
    tasks = [asyncio.create_task(drain(reader)) for reader, _ in made]
    print(len(heads) - found.wrong, flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    for task in tasks:
        task.cancel()
    for _, writer in made:
        writer.transport.abort()
    return found


def load(wanted: Wanted) -> Found:
    """Ask from another process."""
    command = [sys.executable, "-m", "benchmarks.api_load"]
    done = subprocess.run(command, input=msgspec.json.encode(wanted) + b"\n", stdout=subprocess.PIPE, check=True)
    return msgspec.json.decode(done.stdout, type=Found)


def main() -> None:
    """As a program."""
    wanted = msgspec.json.decode(sys.stdin.readline(), type=Wanted)
    os.sched_setaffinity(0, {wanted.core})
    found = asyncio.run(listen(wanted) if wanted.streams else ask(wanted))
    sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")


if __name__ == "__main__":
    main()

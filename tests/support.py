"""What tests share: waiting for conditions, free ports, what must be installed, a clock that the test moves."""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import pytest

Condition = Callable[[], Any | Awaitable[Any]]


async def wait_for(condition: Condition, timeout: float = 10.0, message: str = "", *, every: float = 0.01) -> Any:
    """Return the condition's value as soon as it is true; fail after `timeout` seconds, saying what was awaited.

    It is looked at every so many seconds: more often than that costs too much where a look is dear.
    """
    ends = time.monotonic() + timeout
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > ends:
            raise AssertionError(f"not within {timeout:g} s: {message or inspect.getsource(condition).strip()}")
        await asyncio.sleep(every)


def wait_for_sync(condition: Callable[[], Any], timeout: float = 10.0, message: str = "") -> Any:
    """The same without a loop."""
    ends = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > ends:
            raise AssertionError(f"not within {timeout:g} s: {message or inspect.getsource(condition).strip()}")
        time.sleep(0.01)
    return value


def free_port() -> int:
    """A TCP port on loopback that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def free_ports(count: int) -> list[int]:
    """TCP ports of loopback that were free a moment ago, all different."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def capability(present: bool, what: str) -> None:
    """Skip the test where something is missing; under CI=true, where set-up should have installed it, fail instead."""
    if present:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, although set-up installs it")
    pytest.skip(f"{what} is missing; make setup installs it")


def needs_program(name: str) -> str:
    """The path of a program that set-up installs; else see capability."""
    path = shutil.which(name)
    capability(path is not None, name)
    return str(path)


class ManualClock:
    """Two clocks that the test moves (ports.Clock)."""

    def __init__(self, wall: float = 1_800_000_000.0) -> None:
        self.wall_now = wall
        self.monotonic_now = 1000.0

    def wall(self) -> float:
        """Seconds since the epoch."""
        return self.wall_now

    def monotonic(self) -> float:
        """Seconds from a start."""
        return self.monotonic_now

    def move(self, seconds: float) -> None:
        """Let time go by on both."""
        self.wall_now += seconds
        self.monotonic_now += seconds

"""Where the network is: this machine's own, or a named namespace (`ip netns`), which containers and tests use."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

NAMESPACES = Path("/run/netns")
CLONE_NEWNET = 0x40000000
"""sched.h; os.setns exists from Python 3.12."""
T = TypeVar("T")


class Space:
    """One network namespace; without a name, the one that the process is in."""

    def __init__(self, name: str | None = None) -> None:
        self.name = name

    async def run(self, function: Callable[[], T]) -> T:
        """What a function returns that a thread calls here: sockets and processes that it makes belong here.

        Raises:
            OSError: There is no such namespace, or no right to enter it; or what the function raises.
        """
        if self.name is None:
            return await asyncio.to_thread(function)
        return await asyncio.to_thread(self._within, function)

    async def work(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What a coroutine returns that a thread runs here in a loop of its own: the caller's loop is not held meanwhile."""
        return await self.run(lambda: asyncio.run(function()))

    def _within(self, function: Callable[[], T]) -> T:
        """In a thread of its own, which ends: a thread that was moved must not do anything else."""

        def work() -> T:
            self._enter()
            return function()

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(work).result()

    def _enter(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        with (NAMESPACES / str(self.name)).open("rb") as file:
            if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
                number = ctypes.get_errno()
                raise OSError(number, f"{os.strerror(number)}: namespace {self.name}")

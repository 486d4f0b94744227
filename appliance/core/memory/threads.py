"""Daemon threads for blocking client libraries: bounded waits, nothing that delays the exit, no late surprises."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
Call = tuple[Future[Any], Callable[[], Any]]


class DaemonPool:
    """Runs blocking calls in up to `size` daemon threads, which start when needed.

    Unlike concurrent.futures.ThreadPoolExecutor it never joins its threads when the process ends, so that one call that
    hangs delays nothing.

    Args:
        name: Of the threads.
        size: Most calls at a time; further ones wait, and their time counts.
    """

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._threads = 0
        self._lock = threading.Lock()

    async def run(self, work: Callable[[], T], limit: float) -> T:
        """The call's result.

        A call that was not begun when the time is over is never begun. One that was goes on in its thread, so `work`
        must have a time limit of its own.

        Args:
            work: Blocks.
            limit: Seconds to wait, time in the queue included.

        Raises:
            TimeoutError: The time is over.
        """
        future: Future[T] = Future()
        with self._lock:
            grow = self._threads < self._size
            self._threads += grow
            calls = self._calls
            calls.put((future, work))
        if grow:
            threading.Thread(target=_work, args=(calls,), name=f"{self._name}-{self._threads}", daemon=True).start()
        async with asyncio.timeout(limit):
            return await asyncio.wrap_future(future)

    def close(self) -> None:
        """End the threads after what is queued; a later call starts new ones."""
        with self._lock:
            threads, self._threads = self._threads, 0
            calls, self._calls = self._calls, queue.SimpleQueue()
        for _ in range(threads):
            calls.put(None)


def _work(calls: queue.SimpleQueue[Call | None]) -> None:
    while (call := calls.get()) is not None:
        future, work = call
        if not future.set_running_or_notify_cancel():
            continue
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 handed to the caller
            future.set_exception(error)
        else:
            future.set_result(result)
        del call, future, work

"""Blocking calls of one device or bus, one after the other, in a thread that may hang without holding anything else."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Any, TypeVar

from appliance.errors import DeviceStalledError

T = TypeVar("T")


class Lane:
    """One thread for one bus: what hangs on it makes its own callers wait, and nobody else.

    The thread is a daemon, begun with the first call: one that hangs in the kernel keeps no process from ending. While a
    call is overdue, further ones are refused at once, so that no more than one thread ever hangs; when it comes back,
    the lane serves again.

    Args:
        name: As people know it, such as "/dev/i2c-1".
        next_step: What to do about it when it hangs.
    """

    def __init__(self, name: str, next_step: str) -> None:
        self.name = name
        self._next_step = next_step
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._overdue: Future[Any] | None = None

    async def run(self, work: Callable[[], T], limit: float) -> T:
        """What `work` returns or raises; blocks nobody.

        Args:
            work: Called in the lane's thread, after those that came before.
            limit: Seconds until DeviceStalledError is raised; the call itself may go on.
        """
        future = self.submit(work)
        try:
            async with asyncio.timeout(limit):
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            if future.done() and not future.cancelled():  # its own TimeoutError (ETIMEDOUT), or just in time
                return future.result()
            raise self._late(future, limit) from error

    def run_blocking(self, work: Callable[[], T], limit: float) -> T:
        """The same for a caller that may block."""
        return self.wait(self.submit(work), limit)

    def wait(self, future: Future[T], seconds: float, limit: float | None = None) -> T:
        """What a submitted call returns or raises; blocks.

        Args:
            future: Of this lane.
            seconds: Until DeviceStalledError is raised.
            limit: Seconds to name in it.
        """
        try:
            return future.result(seconds)
        except NotYet as error:
            if future.done():
                raise
            raise self._late(future, seconds if limit is None else limit) from error

    def close(self) -> None:
        """Let the thread end after what it was given; a later call begins another."""
        with self._lock:
            if self._thread is not None:
                self._jobs.put(None)
            self._thread = None

    def _late(self, future: Future[Any], limit: float) -> DeviceStalledError:
        if not future.cancel():  # it runs: nobody can stop it
            self._overdue = future
        return DeviceStalledError(f"{self.name} does not answer within {limit:g} s.", self._next_step)

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Have it called after those that came before. Raises DeviceStalledError while one of them is overdue."""
        with self._lock:
            if self._overdue is not None:
                if not self._overdue.done():
                    raise DeviceStalledError(f"{self.name} hangs: an earlier look did not come back.", self._next_step)
                self._overdue = None
            if self._thread is None:
                self._jobs = queue.SimpleQueue()
                self._thread = threading.Thread(target=_serve, args=(self._jobs,), name=f"lane {self.name}", daemon=True)
                self._thread.start()
            job: Future[T] = Future()
            self._jobs.put((job, work))
            return job


def together(works: Sequence[tuple[Lane, Callable[[], T]]], limit: float) -> list[T | DeviceStalledError]:
    """Calls in several lanes side by side, for a caller that may block.

    Args:
        works: Lane and call.
        limit: Seconds for all of them.

    Returns:
        What each returned, or that it did not. What one raises is raised.
    """
    ends = time.monotonic() + limit
    begun: list[Future[T] | DeviceStalledError] = []
    for lane, work in works:
        try:
            begun.append(lane.submit(work))
        except DeviceStalledError as error:
            begun.append(error)
    found: list[T | DeviceStalledError] = []
    for (lane, _), future in zip(works, begun, strict=True):
        if isinstance(future, DeviceStalledError):
            found.append(future)
            continue
        try:
            found.append(lane.wait(future, max(0.0, ends - time.monotonic()), limit))
        except DeviceStalledError as error:
            found.append(error)
    return found


def _serve(jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]) -> None:
    while (job := jobs.get()) is not None:
        future, work = job
        if not future.set_running_or_notify_cancel():
            continue
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - raised again where the call is awaited
            future.set_exception(error)
        else:
            future.set_result(result)

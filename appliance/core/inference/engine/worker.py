"""Threads of a device: what blocks runs there, and one that never returns is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LOOK = 0.1
"""Seconds between two looks whether there is reason for patience still."""


@dataclass
class _Job:
    function: Callable[[], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    begun: bool = False


class Worker:
    """One daemon thread that does one thing after another; begun at the first.

    Args:
        name: Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.lost = False
        """What it does took too long: what waits behind that is not begun either."""

    async def run(self, function: Callable[[], Any], limit: float, patient: Callable[[], bool] | None = None) -> Any:
        """Do it there.

        Args:
            function: What.
            limit: Seconds, from its begin.
            patient: Where it says so when they are over, they begin anew once it does not say so any more.

        Raises:
            TimeoutError: It took longer than `limit` seconds; the thread goes on with it, so take another worker.
            Exception: Whatever it raises.
        """
        loop = asyncio.get_running_loop()
        job = _Job(function, loop.create_future(), loop)
        if self._thread is None:
            self._thread = threading.Thread(target=_work, args=(self._jobs,), name=self._name, daemon=True)
            self._thread.start()
        self._jobs.put(job)
        timer = _Timer(self, job, limit, patient)
        try:
            return await job.future
        finally:
            timer.cancel()

    def end(self, then: Callable[[], None] | None = None) -> None:
        """Let the thread end, once it is done with what it does; a later `run` begins another one.

        Args:
            then: Called on the loop when it is done with it, if it ever is.
        """
        if then is not None:
            loop = asyncio.get_running_loop()
            last = _Job(lambda: None, loop.create_future(), loop)
            last.future.add_done_callback(lambda _: then())
            self._jobs.put(last)
        self._jobs.put(None)
        self._jobs, self._thread = queue.SimpleQueue(), None


def _work(jobs: queue.SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        result, error = None, None
        if job.future.done():  # nobody waits for it any more
            continue
        job.begun = True
        try:
            result = job.function()
        except BaseException as raised:  # noqa: BLE001 raised again where it is awaited
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop ended meanwhile
            job.loop.call_soon_threadsafe(_settle, job.future, result, error)
        del job, result, error  # inputs and outputs live no longer than the run


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


class _Timer:
    """Ends the waiting for a job."""

    def __init__(self, worker: Worker, job: _Job, limit: float, patient: Callable[[], bool] | None) -> None:
        self._worker, self._job, self._limit, self._patient = worker, job, limit, patient
        self._deaf = False
        self._handle = job.loop.call_later(limit, self._expire)

    def _expire(self) -> None:
        if self._job.future.done():
            return
        if self._again():
            self._handle = self._job.loop.call_later(min(self._limit, LOOK) if self._deaf else self._limit, self._expire)
            return
        self._worker.lost = True
        self._job.future.set_exception(TimeoutError(f"no answer within {self._limit:g} s"))

    def _again(self) -> bool:
        """Whether its time begins anew: it was not begun, or was not heard until now."""
        if not self._job.begun:
            return not self._worker.lost
        was, self._deaf = self._deaf, self._patient is not None and self._patient()
        return was or self._deaf

    def cancel(self) -> None:
        """It is over."""
        self._handle.cancel()

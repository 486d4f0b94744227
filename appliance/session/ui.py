"""The UI thread: its own event loop, which carries every App, so that painting never delays a device."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")

ANSWER = 2.0
"""Seconds in which the loop must have taken a turn; below the time limit of a health probe."""


class UiLoop(asyncio.SelectorEventLoop):
    """A loop whose tasks are never eager.

    From Python 3.12 on each App makes all tasks of its loop eager; this loop carries SSH connections too, and is the
    same on every Python.
    """

    def set_task_factory(self, factory: Any) -> None:
        """Keep the factory that the loop has."""
        log.debug("task factory %r not taken", factory)


class UiThread:
    """A thread with an event loop."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="ui", daemon=True)

    def start(self) -> None:
        """Start the thread; returns when its loop runs."""
        self._thread.start()
        self._ready.wait()

    def _run(self) -> None:
        loop = UiLoop()
        self._loop = loop
        asyncio.set_event_loop(loop)
        loop.call_soon(self._ready.set)
        try:
            loop.run_forever()
        finally:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left, timeout=1))
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop. Raises RuntimeError before start."""
        if self._loop is None:
            raise RuntimeError("the UI thread was not started")
        return self._loop

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the UI loop; from any thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the UI loop and await it on the caller's."""
        return await asyncio.wrap_future(self.submit(work))

    async def answers(self, deadline: float = ANSWER) -> bool:
        """Whether the loop still takes turns: what runs on it serves nobody while it does not."""
        if not self._thread.is_alive():
            return False
        turn = asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self.loop)
        done, _ = await asyncio.wait({asyncio.wrap_future(turn)}, timeout=deadline)
        turn.cancel()
        return bool(done)

    def stop(self, deadline: float = 3.0) -> None:
        """End the loop and the thread; blocks up to `deadline` seconds."""
        if self._loop is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # the loop closed in the meantime
                self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(deadline)
            if self._thread.is_alive():
                log.error("the UI thread did not end within %g s", deadline)

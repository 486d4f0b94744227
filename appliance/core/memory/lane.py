"""A thread of its own for calls that may hang for ever, such as those on an NFS mount whose server is gone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from appliance.errors import TierUnavailableError

T = TypeVar("T")
log = logging.getLogger(__name__)

FIRST_PATIENCE, LONGEST_PATIENCE = 60.0, 3600.0
"""Seconds until a call that hangs is given up though nothing has changed; twice as long each time, until one ends."""
Allowed = Callable[[], None]
"""Called before what cannot be undone. Raises TierUnavailableError where the call was given up meanwhile."""


class _Call:
    def __init__(self, work: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.work = work
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()

    def run(self) -> None:
        """Run in the lane's thread, and hand the outcome over."""
        result, error = None, None
        try:
            result = self.work()
        except Exception as caught:  # noqa: BLE001 handed to the caller
            error = caught
        self.hand_over(result, error)

    def hand_over(self, result: Any, error: Exception | None) -> None:
        """From any thread."""
        with contextlib.suppress(RuntimeError):  # the caller's loop is closed: nobody waits
            self.loop.call_soon_threadsafe(self._settle, result, error)

    def _settle(self, result: Any, error: Exception | None) -> None:
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class _Worker:
    """One thread with its queue."""

    def __init__(self, name: str, world: Callable[[], str]) -> None:
        self._name = name
        self._world = world
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._began: float | None = None
        self._limit = 0.0
        """Of the call that runs, seconds."""
        self._seen = ""
        """The world in which that call began."""
        self.given_up = False
        self.ended_one = False
        threading.Thread(target=self._loop, name=f"lane {name}", daemon=True).start()

    def put(self, work: Callable[[Allowed], T], limit: float) -> asyncio.Future[T]:
        call = _Call(lambda: self._timed(work, limit), asyncio.get_running_loop())
        self._calls.put(call)
        return call.future

    def _timed(self, work: Callable[[Allowed], T], limit: float) -> T:
        self._seen = self._world()
        self._limit, self._began = limit, time.monotonic()
        try:
            return work(self._allowed)
        finally:
            self._began = None
            self.ended_one = True

    def _allowed(self) -> None:
        if self.given_up:
            raise TierUnavailableError(f"{self._name}: the call came too late.", "nothing: it is tried again by itself.")

    def stuck(self) -> float | None:
        """Seconds for which a call has been running beyond its limit; None where none is."""
        began = self._began
        if began is None:
            return None
        over = time.monotonic() - began
        return over if over > self._limit else None

    def moved_on(self) -> bool:
        """Whether the call that hangs waits for something that is not there any more."""
        return self._world() != self._seen

    def give_up(self, error: TierUnavailableError) -> None:
        """Leave the thread to its call; what is queued behind fails."""
        self.given_up = True
        with contextlib.suppress(queue.Empty):
            while True:
                call = self._calls.get_nowait()
                if call is not None:
                    call.hand_over(None, error)
        self.end()

    def end(self) -> None:
        """After what is queued."""
        self._calls.put(None)

    def _loop(self) -> None:
        while (call := self._calls.get()) is not None:
            if not call.future.cancelled():
                call.run()


class Lane:
    """Runs calls one after the other in a daemon thread. While one hangs, further ones are refused at once.

    A call that hangs is given up, with its thread, as soon as what it was made on is not there any more (a mount that was
    taken away and made anew), or after a long time.

    Args:
        name: Of the tier, for errors.
        world: Tells what the calls are made on; must never hang.
    """

    def __init__(self, name: str, world: Callable[[], str] = str) -> None:
        self._name = name
        self._world = world
        self._worker: _Worker | None = None
        self._patience = FIRST_PATIENCE
        self.given_up = 0
        """Threads that were left behind."""

    def check(self) -> None:
        """Raises TierUnavailableError where a call hangs and is worth waiting for."""
        worker = self._worker
        if worker is None or (hung := worker.stuck()) is None:
            return
        if not worker.moved_on() and hung < self._patience:
            raise self._hung(hung)
        log.warning("%s: a call has hung for %.0f s and is given up", self._name, hung)
        self._patience = FIRST_PATIENCE if worker.ended_one else min(LONGEST_PATIENCE, 2 * self._patience)
        worker.give_up(self._hung(hung))
        self._worker = None
        self.given_up += 1

    async def run(self, work: Callable[[Allowed], T], limit: float) -> T:
        """Run a call, and wait for it for `limit` seconds.

        Raises:
            TierUnavailableError: It takes longer (it goes on in its thread), or an earlier one still hangs.
        """
        self.check()
        if self._worker is None:
            self._worker = _Worker(self._name, self._world)
        future = self._worker.put(work, limit)
        try:
            async with asyncio.timeout(limit + 0.05):
                return await future
        except TimeoutError:
            raise self._hung(limit) from None

    def _hung(self, seconds: float) -> TierUnavailableError:
        return TierUnavailableError(
            f"{self._name}: no answer for {seconds:.0f} s, it hangs.",
            "check the network and the server that it is mounted from.",
        )

    def close(self) -> None:
        """End the thread after what is queued; one that hangs is left behind (it ends with the process)."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        if (hung := worker.stuck()) is not None:
            worker.give_up(self._hung(hung))
        else:
            worker.end()

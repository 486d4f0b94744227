"""A thread of its own for calls that may hang for ever, such as those on an NFS mount whose server is gone."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from appliance.errors import TierUnavailableError

T = TypeVar("T")


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
        with contextlib.suppress(RuntimeError):  # the caller's loop is closed: nobody waits
            self.loop.call_soon_threadsafe(self._settle, result, error)

    def _settle(self, result: Any, error: Exception | None) -> None:
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class Lane:
    """Runs calls one after the other in a daemon thread. While one hangs, further ones are refused at once.

    Args:
        name: Of the tier, for errors.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._began: float | None = None
        self._limit = 0.0
        """Of the call that runs, seconds."""

    def stuck(self) -> float | None:
        """Seconds for which a call has been running beyond its limit; None where none is."""
        began = self._began
        if began is None:
            return None
        over = time.monotonic() - began
        return over if over > self._limit else None

    def check(self) -> None:
        """Raises TierUnavailableError where a call hangs."""
        if (hung := self.stuck()) is not None:
            raise self._hung(hung)

    async def run(self, work: Callable[[], T], limit: float) -> T:
        """Run a call, and wait for it for `limit` seconds.

        Raises:
            TierUnavailableError: It takes longer (it goes on in its thread), or an earlier one still hangs.
        """
        self.check()
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name=f"lane {self._name}", daemon=True)
            self._thread.start()
        call = _Call(lambda: self._timed(work, limit), asyncio.get_running_loop())
        self._calls.put(call)
        try:
            async with asyncio.timeout(limit + 0.05):
                return await call.future  # type: ignore[no-any-return]
        except TimeoutError:
            raise self._hung(limit) from None

    def _timed(self, work: Callable[[], T], limit: float) -> T:
        self._limit, self._began = limit, time.monotonic()
        try:
            return work()
        finally:
            self._began = None

    def _hung(self, seconds: float) -> TierUnavailableError:
        return TierUnavailableError(
            f"{self._name}: no answer for {seconds:.0f} s, it hangs.",
            "check the network and the server that it is mounted from.",
        )

    def _loop(self) -> None:
        while (call := self._calls.get()) is not None:
            if not call.future.cancelled():
                call.run()

    def close(self) -> None:
        """End the thread after what is queued; one that hangs is left behind (it ends with the process)."""
        if self._thread is not None:
            self._calls.put(None)
            self._thread = None

"""The threads of one device: one for each batch that runs, one that loads and resets, one that reads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from appliance.core.inference.engine.worker import Worker
from appliance.errors import DeviceStalledError, ModelError

log = logging.getLogger(__name__)

LEFT_BEHIND = 4
"""Threads of a slot that hang, from which on it is given up until one of them comes back, or the engine is started anew."""


class Threads:
    """Of one device. Used on the event loop alone.

    Args:
        name: Of the device, for messages.
        backend: Of the device, for the threads' names.
        slots: Batches at the same time.
        patient: Says that the device may be deaf for a good reason now (it loads a model): then no time runs out.
    """

    def __init__(self, name: str, backend: str, slots: int, patient: Callable[[], bool]) -> None:
        self._name, self._backend, self._slots, self._patient = name, backend, slots, patient
        self._begin()

    def _begin(self) -> None:
        self._left_behind = self._out = 0
        self._round = object()
        """Renewed: what hung before says nothing any more."""
        self._free = [Worker(f"{self._backend}-{index}") for index in range(self._slots)]
        self._control, self._poller = Worker(f"{self._backend}-control"), Worker(f"{self._backend}-poll")

    @property
    def free(self) -> bool:
        """One is free for a batch."""
        return bool(self._free)

    @property
    def spent(self) -> bool:
        """None is left for batches: so many hang that no further one is begun."""
        return not self._free and not self._out

    def take(self) -> Worker:
        """One for a batch; `give` must follow."""
        self._out += 1
        return self._free.pop()

    def give(self, worker: Worker, *, hung: bool) -> None:
        """Give it back; one that hangs is replaced, but not for ever."""
        self._out -= 1
        if hung:
            began = self._round
            worker.end(lambda: self._came_back(began))
            self._left_behind += 1
            if self._left_behind >= LEFT_BEHIND * self._slots:
                log.error("%d threads of %s hang; one is not replaced any more", self._left_behind, self._name)
                return
            worker = Worker(f"{self._backend}-{self._left_behind + self._slots}")
        self._free.append(worker)

    def _came_back(self, began: object) -> None:
        """A thread that hung has ended after all: its place can be filled again."""
        if began is not self._round:
            return
        self._left_behind -= 1
        if len(self._free) + self._out < self._slots:
            self._free.append(Worker(f"{self._backend}-{self._left_behind + self._slots}"))

    async def run(self, worker: Worker, function: Callable[[], Any], limit: float, what: str) -> Any:
        """Run something in one that was taken.

        Raises:
            ModelError: It failed, or there was not enough memory.
            DeviceStalledError: It took longer than `limit` seconds; its cause is a TimeoutError, and the thread is lost.
        """
        return await self._do(worker, function, limit, what, self._patient)

    async def control(self, function: Callable[[], Any], limit: float, what: str, *, patient: bool = False) -> Any:
        """Load, reset, close, …: one after another. Raises as `run`; a thread that hangs is replaced."""
        worker = self._control
        try:
            return await self._do(worker, function, limit, what, self._patient if patient else None)
        except DeviceStalledError as error:
            if isinstance(error.__cause__, TimeoutError) and worker is self._control:
                worker.end()
                self._control = Worker(f"{self._backend}-control")
            raise

    async def poll(self, function: Callable[[], Any], limit: float, what: str) -> Any:
        """Read the device, beside all else. Raises as `run`."""
        worker = self._poller
        try:
            return await self._do(worker, function, limit, what, self._patient)
        except DeviceStalledError as error:
            if isinstance(error.__cause__, TimeoutError) and worker is self._poller:
                worker.end()
                self._poller = Worker(f"{self._backend}-poll")
            raise

    async def renew(self, last: Callable[[], Any], limit: float) -> None:
        """Do a last thing, let all of them end, and begin anew."""
        worker = Worker(f"{self._backend}-close")
        try:
            await self._do(worker, last, limit, "close", None)
        except ModelError as error:
            log.warning("%s", error)
        for each in (*self._free, self._control, self._poller, worker):
            each.end()
        self._begin()

    async def _do(
        self, worker: Worker, function: Callable[[], Any], limit: float, what: str, patient: Callable[[], bool] | None
    ) -> Any:
        try:
            return await worker.run(function, limit, patient)
        except TimeoutError as error:
            raise DeviceStalledError(f"{self._name} did not {what} within {limit:g} s.", "it is reset; see the log.") from error
        except (ModelError, asyncio.CancelledError):
            raise
        except MemoryError as error:
            raise ModelError(
                f"There was not enough memory on {self._name} to {what}.", "free memory, or use a smaller model."
            ) from error
        except Exception as error:
            log.exception("%s could not %s", self._name, what)
            raise ModelError(f"{self._name} could not {what}: {type(error).__name__}: {error}", "see the log.") from error

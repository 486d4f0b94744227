"""The worker's side: does tasks, several at a time, the more urgent first; stops them when it is told to, or has lost them."""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from appliance.core.events import new_id
from appliance.core.tasks.model import Capability
from appliance.core.tasks.wire import Begun, Order, Result, Stop
from appliance.errors import ApplianceError, InvalidArgumentsError, NotAuthorizedError, NotFoundError, TaskError

log = logging.getLogger(__name__)

FINAL = (InvalidArgumentsError, NotFoundError, NotAuthorizedError)
"""Errors that would be the same again."""
ERROR = 2000
"""Most characters of an error."""
FEW, SHORT = 6, 64
"""Names of a small result, and characters of each and of its value: less than the least bound of a result, 1 KiB."""
REMEMBERED = 10_000
"""Most orders that are remembered, so that one which comes twice is carried out once."""


class Handler(Protocol):
    """Does the tasks of one type."""

    name: str
    summary: str

    def available(self) -> bool:
        """Whether it can do them on this machine now; cheap."""

    async def run(self, payload: Any, order: Order) -> Any:
        """Do one; what it came to, as plain JSON. Raises ApplianceError. Cancelled where the task is, or runs too long."""


class Report(Protocol):
    """Tells the dispatcher."""

    async def begun(self, told: Begun) -> bool:
        """A task is about to begin; returns when that is known there, False where it must not."""

    async def ended(self, told: Result) -> None:
        """What came of it; returns when that is known there."""

    async def returned(self, told: Begun) -> None:
        """It is given back."""


@dataclass
class _Held:
    order: Order
    taken: float
    task: asyncio.Task[None] | None = None


@dataclass
class Figures:
    """What an executor has done since its start."""

    completed: int = 0
    failed: int = 0
    stopped: int = 0
    stale: int = 0
    """Orders that came too late, or for an earlier life."""
    last: str = ""


class Executor:
    """Does tasks.

    Args:
        name: The worker's.
        handlers: By the type of task.
        limit: Most tasks at one time.
        result_kib: Largest result, KiB.
        report: Tells of them.
    """

    def __init__(self, name: str, handlers: Mapping[str, Handler], limit: int, result_kib: int, report: Report) -> None:
        self.name = name
        self.limit = limit
        self.session = new_id()
        self.figures = Figures()
        self.stopping = False
        self._handlers = handlers
        self._most = result_kib * 1024
        self._report = report
        self._held: dict[str, _Held] = {}
        self._seen: OrderedDict[str, tuple[int, float]] = OrderedDict()
        """Lease and end of the orders of this life that were taken lately; older ones are stale by themselves."""
        self._queue: list[tuple[int, int, str]] = []
        self._count = 0
        self._active = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def capabilities(self) -> tuple[Capability, ...]:
        """What can be done now."""
        able = [each for each in self._handlers.values() if each.available()]
        return tuple(Capability(each.name, each.summary) for each in sorted(able, key=lambda each: each.name))

    def has(self) -> tuple[tuple[str, int], ...]:
        """(task, lease) of all that it has, until their ends are known to the dispatcher."""
        return tuple((task_id, held.order.lease) for task_id, held in self._held.items())

    def take(self, order: Order) -> None:
        """Do this as soon as there is room."""
        now = time.monotonic()
        known = self._held.get(order.task_id)
        newest = max(self._seen.get(order.task_id, (0, 0.0))[0], known.order.lease if known is not None else 0)
        if order.session != self.session or self.stopping or newest >= order.lease:
            self.figures.stale += 1
            return
        self._remember(order, now)
        if known is not None:  # what it had before counts no more
            self._drop(order.task_id, known)
        self._held[order.task_id] = _Held(order, now)
        self._count += 1
        heapq.heappush(self._queue, (-order.priority, self._count, order.task_id))
        self._next()

    def _remember(self, order: Order, now: float) -> None:
        seen = self._seen
        seen[order.task_id] = (order.lease, now + order.lease_s)
        seen.move_to_end(order.task_id)
        while len(seen) > REMEMBERED or next(iter(seen.values()))[1] < now:
            seen.popitem(last=False)

    def stop(self, told: Stop) -> bool:
        """Do it no more; False where it is not here, or under another lease."""
        held = self._held.get(told.task_id)
        if held is None or held.order.lease > told.lease or told.session != self.session:
            return False
        log.info("task %s is stopped: %s", told.task_id, told.reason)
        self.figures.stopped += 1
        self._drop(told.task_id, held)
        self._next()
        return True

    async def give_back(self, told: Stop) -> bool:
        """Give it back where it was not begun; whether it was."""
        held = self._held.get(told.task_id)
        if held is None or held.task is not None or held.order.lease != told.lease:
            return False
        del self._held[told.task_id]
        await self._report.returned(_about(held.order))
        return True

    def fence(self) -> list[Begun]:
        """Everything is lost: stop it, and begin a new life. Returns what was stopped."""
        lost = [_about(held.order) for held in self._held.values()]
        for task_id, held in list(self._held.items()):
            self._drop(task_id, held)
        self._queue.clear()
        self._seen.clear()
        self.session = new_id()
        return lost

    async def drain(self, deadline: float) -> list[Begun]:
        """Take nothing more, and let what runs end; after `deadline` seconds it is stopped.

        Returns:
            What is given back: it was not begun, or not finished.
        """
        self.stopping = True
        back = [_about(held.order) for held in self._held.values() if held.task is None]
        for told in back:
            self._held.pop(told.task_id, None)
        self._queue.clear()
        try:
            async with asyncio.timeout(deadline):
                await self._idle.wait()
        except TimeoutError:
            unfinished = [held for held in self._held.values() if held.task is not None]
            back += [_about(held.order) for held in unfinished]
            for held in unfinished:
                self._drop(held.order.task_id, held)
            await asyncio.wait([held.task for held in unfinished if held.task is not None], timeout=1.0)
        return back

    def _drop(self, task_id: str, held: _Held) -> None:
        self._held.pop(task_id, None)
        if held.task is not None:
            held.task.cancel()

    def _next(self) -> None:
        while self._active < self.limit and self._queue:
            held = self._held.get(heapq.heappop(self._queue)[2])
            if held is None or held.task is not None:
                continue
            self._active += 1
            self._idle.clear()
            held.task = asyncio.create_task(self._run(held), name=f"task {held.order.type}")
            held.task.add_done_callback(lambda done, held=held: self._done(held, done))  # type: ignore[misc]

    def _done(self, held: _Held, task: asyncio.Task[None]) -> None:
        self._active -= 1
        if self._held.get(held.order.task_id) is held:
            del self._held[held.order.task_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the end of task %s was not told: %s", held.order.task_id, error, exc_info=error)
        if not self._active:
            self._idle.set()
        self._next()

    async def _run(self, held: _Held) -> None:
        order = held.order
        if not await self._report.begun(_about(order)):
            return
        began = time.perf_counter()
        result = await self._outcome(held, lambda: (time.perf_counter() - began) * 1000)
        if result.status == "completed":
            self.figures.completed += 1
        else:
            self.figures.failed += 1
            self.figures.last = f"{order.type}: {result.error}"[:200]
        await self._report.ended(result)

    async def _outcome(self, held: _Held, took: Callable[[], float]) -> Result:
        order = held.order

        def made(status: str, error: str = "", **more: Any) -> Result:
            plain = error[:ERROR].encode(errors="replace").decode()  # names of files may hold what UTF-8 has no form for
            return Result(
                task_id=order.task_id, status=status, worker=self.name, session=order.session, lease=order.lease,
                duration_ms=round(took(), 3), error=plain, **more,
            )  # fmt: skip

        handler = self._handlers.get(order.type)
        if handler is None:
            return made("failed", error=f"{self.name} does no tasks of the type {order.type}", final=True)
        seconds = order.limit_s
        if order.left_s is not None:  # it may have stood in the reserve for a while
            seconds = min(seconds, order.left_s - (time.monotonic() - held.taken))
        if seconds <= 0:
            return made("failed", error="its deadline passed before it was begun", final=True)
        try:
            async with asyncio.timeout(seconds) as limit:
                value = await handler.run(order.payload, order)
            if not _small(value):
                value = await asyncio.to_thread(self._bounded, value)
            return made("completed", result=value)
        except TimeoutError as error:
            if not limit.expired():
                return made("failed", error=f"TimeoutError: {error}")
            return made("failed", error=f"it took longer than {seconds:g} s")
        except ApplianceError as error:
            final = isinstance(error, FINAL) or (isinstance(error, TaskError) and error.final)
            return made("failed", error=str(error), final=final)
        except Exception as error:
            log.exception("a task of the type %s broke its handler", order.type)
            return made("failed", error=f"{type(error).__name__}: {error}")

    def _bounded(self, value: Any) -> Any:
        """A result within its bound, as plain JSON; what it is instead where it is not."""
        try:
            body = msgspec.json.encode(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise TaskError(f"Its result has no form in JSON: {error}.", "see the log.", final=True) from error
        if len(body) > self._most:
            return {"left_out": f"the result has {len(body)} bytes; {self._most} are kept (tasks.result_kib)"}
        return msgspec.json.decode(body)


def _small(value: Any) -> bool:
    """Whether it is plain, and of a size that needs no look: a few names with short values."""
    if isinstance(value, dict):
        return (
            len(value) <= FEW
            and all(isinstance(name, str) and _short(name) for name in value)
            and all(each is None or isinstance(each, bool | float) or _short(each) for each in value.values())
        )
    return value is None or isinstance(value, bool) or _short(value)


def _short(value: Any) -> bool:
    if isinstance(value, int):
        return -(2**53) < value < 2**53
    return isinstance(value, str) and len(value) <= SHORT and value.isascii()


def _about(order: Order) -> Begun:
    return Begun(task_id=order.task_id, worker=order.worker, session=order.session, lease=order.lease)

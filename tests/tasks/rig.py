"""A dispatcher with a real store, and workers of the tests' own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from appliance.core.clock import SystemClock
from appliance.core.ports import Clock
from appliance.core.state import LiveState
from appliance.core.store import Store
from appliance.core.tasks.book import TaskBook
from appliance.core.tasks.desk import Desk
from appliance.core.tasks.executor import Handler
from appliance.core.tasks.model import Capability, Task
from appliance.core.tasks.service import Ground, TasksService
from appliance.core.tasks.wire import Beat, Begun, Order, Result, Stop
from appliance.core.tasks.wishes import Wish
from appliance.errors import LinkDownError, TaskError
from appliance.settingtasks import TaskSettings

QUICK: dict[str, Any] = {"retry_seconds": 0.01, "retry_longest_seconds": 0.02, "beat_seconds": 0.1}


class Echo:
    """Gives back what it got; fails, breaks, waits or sleeps where the payload says so."""

    name = "echo"
    summary = "Give the payload back"

    def __init__(self, name: str = "echo") -> None:
        self.name = name
        self.seen: list[Any] = []
        self.cancelled: list[str] = []
        self.gate = asyncio.Event()
        self.open = True

    def available(self) -> bool:
        return self.open

    async def run(self, payload: Any, order: Order) -> Any:
        self.seen.append(payload.get("n", order.task_id))
        try:
            if payload.get("wait"):
                await self.gate.wait()
            if payload.get("sleep"):
                await asyncio.sleep(payload["sleep"])
        except asyncio.CancelledError:
            self.cancelled.append(order.task_id)
            raise
        if payload.get("fail", 0) >= order.attempt:
            raise TaskError("it was asked to fail", final=bool(payload.get("final")))
        if payload.get("break"):
            raise ZeroDivisionError("broken")
        return {"back": payload, "attempt": order.attempt}


class Paper:
    """A worker on paper: keeps its orders, and says what the test has it say (implements roster.Outlet)."""

    def __init__(self, name: str = "paper", session: str = "s1", limit: int = 2, types: Sequence[str] = ("echo",)) -> None:
        self.name, self.session, self.limit, self.types = name, session, limit, tuple(types)
        self.orders: list[Order] = []
        self.stops: list[tuple[Stop, bool]] = []
        self.number = 0
        self.hears = True
        self.broken = False

    async def give(self, orders: Sequence[Order]) -> None:
        if self.broken:
            raise LinkDownError("broken")
        self.orders += orders

    async def stop(self, stop: Stop, *, recall: bool) -> None:
        self.stops.append((stop, recall))

    def beat(self, *running: Order, session: str = "", stopping: bool = False) -> Beat:
        self.number += 1
        self.session = session or self.session
        return Beat(
            worker=self.name, session=self.session, number=self.number, limit=self.limit,
            capabilities=tuple(Capability(each) for each in self.types), stopping=stopping,
            running=tuple((each.task_id, each.lease) for each in running),
        )  # fmt: skip

    def begun(self, order: Order) -> Begun:
        return Begun(task_id=order.task_id, worker=self.name, session=order.session, lease=order.lease)

    def result(self, order: Order, status: str = "completed", **more: Any) -> Result:
        return Result(
            task_id=order.task_id, status=status, worker=self.name, session=order.session, lease=order.lease,
            duration_ms=1.0, **more,
        )  # fmt: skip


class Rig:
    """The service with what stands around it."""

    def __init__(self, path: Path, clock: Clock | None = None, handlers: Sequence[Handler] = (), **settings: Any) -> None:
        self.store = Store(path / "appliance.sqlite")
        self.clock = clock or SystemClock()
        self.state = LiveState(self.clock)
        self.settings = TaskSettings(**{**QUICK, **settings})
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.desk = Desk(TaskBook(self.store, self.settings.keep), self.settings, self.clock, self._tell)
        self.service = TasksService(Ground(
            desk=self.desk, settings=self.settings, handlers={each.name: each for each in handlers}, name="control-pc",
            state=self.state, clock=self.clock,
        ))  # fmt: skip

    async def _tell(self, event: str, attributes: dict[str, Any]) -> None:
        self.told.append((event, attributes))

    async def submit(self, kind: str = "echo", payload: Any = None, **more: Any) -> Task:
        return await self.service.dispatcher.submit(Wish(kind, payload or {}, **more), "tester")

    async def task(self, task: Task | str) -> Task:
        task_id = task if isinstance(task, str) else task.task_id
        return (await self.desk.book.show(task_id)).task

    async def ended(self, task: Task) -> Task:
        async with asyncio.timeout(20):
            await self.desk.ended(task.task_id)
        return await self.task(task)


@asynccontextmanager
async def running(path: Path, *, run: bool = True, **given: Any) -> AsyncIterator[Rig]:
    """A service that runs (or, with run=False, only is started: the test moves it by hand)."""
    rig = Rig(path, **given)
    rig.store.open()
    await rig.service.start()
    work = asyncio.create_task(rig.service.run()) if run else None
    try:
        yield rig
    finally:
        if work is not None:
            work.cancel()
            await asyncio.wait({work})
        await rig.service.stop()
        rig.store.close()
        if work is not None and not work.cancelled():
            work.result()

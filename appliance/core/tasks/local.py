"""This machine's own worker: orders and results go from hand to hand, also where there is no Kafka."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import msgspec

from appliance import __version__
from appliance.core.backoff import backoff
from appliance.core.tasks.dispatcher import Dispatcher
from appliance.core.tasks.executor import Executor, Handler
from appliance.core.tasks.model import Worker
from appliance.core.tasks.roster import Member
from appliance.core.tasks.wire import Begun, Order, Result, Stop
from appliance.errors import StoreError
from appliance.settingtasks import TaskSettings

log = logging.getLogger(__name__)

FIRST, LONGEST = 0.2, 10.0
"""Seconds between tries to write what a task came to."""

T = TypeVar("T")


class LocalWorker:
    """A worker inside the appliance (implements roster.Outlet and executor.Report).

    Args:
        name: This device's.
        dispatcher: Its dispatcher.
        handlers: By the type of task.
        settings: The group tasks.
    """

    hears = True

    def __init__(self, name: str, dispatcher: Dispatcher, handlers: Mapping[str, Handler], settings: TaskSettings) -> None:
        self.name = name
        self._dispatcher = dispatcher
        self.executor = Executor(name, handlers, settings.limit, settings.result_kib, self)

    def member(self) -> Member:
        """As the dispatcher follows it."""
        executor = self.executor
        worker = Worker(
            name=self.name, capabilities=executor.capabilities(), limit=executor.limit, running=0, version=__version__,
            session=executor.session, local=True,
        )  # fmt: skip
        return Member(worker, self)

    def refresh(self, member: Member) -> None:
        """What it can do now, and does."""
        able = self.executor.capabilities()
        if able != member.worker.capabilities:
            log.info("%s does now: %s", self.name, ", ".join(each.name for each in able) or "nothing")
            member.change(capabilities=able)
            self._dispatcher.desk.poke()
        if member.worker.running != len(self.executor.has()):
            member.worker = msgspec.structs.replace(member.worker, running=len(self.executor.has()))

    async def give(self, orders: Sequence[Order]) -> None:
        """See roster.Outlet."""
        for order in orders:
            self.executor.take(order)

    async def stop(self, stop: Stop, *, recall: bool) -> None:
        """See roster.Outlet."""
        if recall:
            await self.executor.give_back(stop)
        else:
            self.executor.stop(stop)

    async def begun(self, told: Begun) -> bool:
        """See executor.Report."""
        return await _insist(lambda: self._dispatcher.begun(told))

    async def ended(self, told: Result) -> None:
        """See executor.Report."""
        await _insist(lambda: self._dispatcher.ended(told))

    async def returned(self, told: Begun) -> None:
        """See executor.Report."""
        await _insist(lambda: self._dispatcher.returned(told))

    async def close(self, deadline: float) -> None:
        """Let what runs end for a while, and give the rest back."""
        for told in await self.executor.drain(deadline):
            try:
                await self._dispatcher.returned(told, "the appliance stopped")
            except StoreError as error:
                log.error("that %s waits again could not be written: %s", told.task_id, error.message)


async def _insist(write: Callable[[], Awaitable[T]]) -> T:
    """Write until it is on disk; a disk that is full for a while must not lose what a task came to."""
    failures = 0
    while True:
        try:
            return await write()
        except StoreError as error:
            failures += 1
            log.warning("what a task came to is not on disk yet: %s", error.message)
            await asyncio.sleep(backoff(failures, FIRST, LONGEST))

"""The outbox on real SQLite, with a producer of the tests: it can refuse, hang, fail after storing half, and be slow."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from appliance.core.events import Event, HealthChanged, HostMetrics, InferenceCompleted, Noted, new_id
from appliance.core.outbox import Outbox
from appliance.core.store import Store
from appliance.core.streams.file import MIGRATIONS
from appliance.core.streams.model import Message, OutboxStatus, Refused
from appliance.core.streams.outbox import StreamOutbox
from appliance.errors import LinkDownError
from appliance.settings import OutboxSettings
from tests.support import ManualClock, wait_for


class Broker:
    """A double of the broker's port (streams.model.Producer); it outlives the appliance."""

    def __init__(self) -> None:
        self.stored: list[Message] = []
        self.up = True
        self.half = False
        """The next failure stores the first half all the same."""
        self.refuse: Callable[[Message], bool] = lambda _: False
        self.hang = False
        self.gate: asyncio.Event | None = None
        """An answer waits for it."""
        self.calls = 0

    async def send(self, messages: Sequence[Message]) -> list[Refused]:
        self.calls += 1
        await asyncio.sleep(0)
        if self.hang:
            await asyncio.Event().wait()
        if self.gate is not None:
            await self.gate.wait()
        good = [each for each in messages if not self.refuse(each)]
        if not self.up:
            if self.half:
                self.stored += good[: len(good) // 2]
            raise LinkDownError("No broker answers.", "look at the network.")
        self.stored += good
        return [Refused(each, "too large") for each in messages if self.refuse(each)]

    def numbers(self, topic: str) -> list[int]:
        """What came for a topic: the numbers that `event` gave, at their first coming."""
        found = dict.fromkeys(each.id for each in self.stored if each.topic == topic)
        bodies = {each.id: msgspec.json.decode(each.value) for each in self.stored}
        return [number_of(bodies[each]) for each in found]


def number_of(document: dict[str, object]) -> int:
    """The number of an event of `event`."""
    data = msgspec.convert(document["data"], dict[str, object])
    carrier = data.get("metrics") or data.get("attributes") or data.get("details") or data.get("result")
    return int(msgspec.convert(carrier, dict[str, Any])["n"])


KINDS = ("telemetry", "health", "note", "result")
TOPICS = {"telemetry": "edge.telemetry", "health": "system.health", "note": "analytics.events", "result": "edge.ai.inference"}


def event(kind: str, number: int, size: int = 0, time: float = 1_800_000_000.0) -> Event:
    """A numbered event with so many random bytes beside."""
    noise = random.Random(number).randbytes(size // 2).hex()
    if kind == "telemetry":
        return HostMetrics(time=time, metrics={"n": float(number)}, tags={"noise": noise})
    if kind == "health":
        return HealthChanged(time=time, component=noise, status="healthy", message="", details={"n": number})
    if kind == "note":
        return Noted(time=time, event=noise, severity="info", attributes={"n": number})
    return InferenceCompleted(
        time=time, id=new_id(), model="m", model_version="1", task="t", backend="cpu", inference_time_ms=1.0,
        total_time_ms=1.0, cached=False, result={"n": number, "noise": noise},
    )  # fmt: skip


class Rig:
    """One life of the outbox after the other, in one folder."""

    def __init__(self, home: Path, broker: Broker | None = None, **settings: float) -> None:
        self.home = home
        self.broker = broker or Broker()
        self.clock = ManualClock()
        self.settings = OutboxSettings.model_validate(settings)
        self.capacity = 100_000

    async def open(self) -> None:
        """All but the run."""
        self.state = Store(self.home / "state.sqlite")
        self.state.open()
        self.journal = Outbox(self.state, "pc", capacity=self.capacity, wall=self.clock.wall)
        await self.journal.load()
        self.store = Store(self.home / "streams.sqlite", MIGRATIONS)
        self.outbox = StreamOutbox(self.journal, self.store, self.clock, self.settings, "pc")
        self.outbox._keeper.tick = 0.02
        await self.outbox.start()
        self.task: asyncio.Task[None] | None = None

    def run(self) -> None:
        self.task = asyncio.create_task(self.outbox.run(self.broker))

    async def halt(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait({self.task})
            if not self.task.cancelled() and (error := self.task.exception()) is not None:
                raise error
            self.task = None

    async def stop(self) -> None:
        """In order."""
        await self.halt()
        await self.outbox.stop()
        await asyncio.to_thread(self.state.close)

    async def crash(self) -> None:
        """As after kill -9: nothing is brought to disk that is not there."""
        await self.halt()
        await asyncio.to_thread(self.store.close)
        await asyncio.to_thread(self.state.close)

    async def put(self, kind: str, *numbers: int, size: int = 0) -> None:
        for number in numbers:
            made = event(kind, number, size, self.clock.wall())
            if made.durable:
                await self.journal.append(made)
            else:
                self.outbox.offer(made)

    async def drained(self) -> OutboxStatus:
        """Wait until nothing waits."""

        async def empty() -> OutboxStatus | None:
            status = await self.outbox.status()
            return None if status.waiting else status

        with contextlib.suppress(AssertionError):
            status: OutboxStatus = await wait_for(empty, 20)
            return status
        raise AssertionError(f"still waiting: {await self.outbox.status()}")

    def down(self) -> None:
        self.broker.up = False
        self.outbox.link(False)

    def up(self) -> None:
        self.broker.up = True
        self.outbox.link(True)


@asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[Rig]:
    """One life."""
    await rig.open()
    rig.run()
    try:
        yield rig
    finally:
        await rig.stop()

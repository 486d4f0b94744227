"""How the service reads topics of orders, with a reader that the tests write for: what breaks a handler, what comes again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from appliance.core.actions import Action, Invocation, NoParams
from appliance.core.bus import Bus
from appliance.core.model import Health
from appliance.core.refusals import Refusals
from appliance.core.state import LiveState
from appliance.core.streams import topics
from appliance.core.streams.build import refusal_writer
from appliance.core.streams.kafka_reader import Record
from appliance.core.streams.model import LinkState, LinkStatus
from appliance.core.streams.service import Parts, StreamService
from appliance.core.streams.traffic import Traffic
from tests.streams import test_commands as commands
from tests.streams.outbox_rig import Rig
from tests.support import wait_for


def record(offset: int, value: bytes, topic: str = topics.COMMANDS) -> Record:
    return Record(topic, 0, offset, 0.0, b"pi", value)


@dataclass
class Log:
    """One partition that lives in memory, with what its group committed; stands for Kafka's reader."""

    records: list[Record] = field(default_factory=list)
    committed: int = 0
    there: bool = True
    readers: int = 0
    position: int = 0

    async def start(self, _: list[str]) -> None:
        self.readers += 1
        self.position = self.committed

    def has(self, _: str) -> bool:
        return self.there

    async def take(self) -> list[Record]:
        await asyncio.sleep(0.005)
        found = self.records[self.position :]
        self.position += len(found)
        return found

    async def commit(self, record: Record) -> None:
        self.committed = record.offset + 1

    async def stop(self) -> None:
        return None


@dataclass
class Following:
    """A service before such a log."""

    service: StreamService
    rig: commands.Rig
    box: Rig
    log: Log
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def follow(self, handler: Callable[[Record], Awaitable[None]] | None = None) -> asyncio.Task[None]:
        task = asyncio.create_task(self.service._follow(topics.COMMANDS, "commands", handler or self.service._command))
        self.tasks.append(task)
        return task

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.fixture
async def following(tmp_path: Path) -> AsyncIterator[Following]:
    box = Rig(tmp_path)
    (tmp_path / "commands").mkdir()
    await box.open()
    rig = await commands.make(tmp_path / "commands", box.clock, commands.STRANGER)
    parts: Any = SimpleNamespace(
        device_id="pi", access=object(), outbox=box.outbox, journal=box.journal, bus=Bus(box.journal),
        state=LiveState(box.clock),
        clock=box.clock, traffic=Traffic(box.clock.monotonic), commander=rig.commander, updates=None, watch=None,
        refusals=Refusals(refusal_writer(rig.audit)), bounds=box.settings,
    )  # fmt: skip
    service = StreamService(Parts(**vars(parts)))
    up, log = asyncio.Event(), Log()
    up.set()
    service.link = SimpleNamespace(up=up)  # type: ignore[assignment]
    service._reader = lambda _="": log  # type: ignore[assignment,method-assign,return-value]
    found = Following(service, rig, box, log)
    yield found
    await found.end()
    await rig.refusals.close(1.0)
    await parts.refusals.close(1.0)
    await asyncio.to_thread(rig.store.close)
    await box.stop()


async def test_a_message_that_breaks_its_handler_is_set_aside_and_the_next_one_read(following: Following) -> None:
    handled: list[bytes] = []

    async def handler(each: Record) -> None:
        if each.value == b"bad":
            raise TypeError("unhashable type: 'list' \ud800")
        handled.append(each.value)

    following.log.records = [record(0, b"bad"), record(1, b"good")]
    task = following.follow(handler)
    await wait_for(lambda: following.log.committed == 2 or task.done())
    assert not task.done()
    assert handled == [b"good"]
    letters = await following.box.outbox.letters.list(10, "commands")
    assert [(each.offset, each.size, "unhashable" in each.reason) for each in letters] == [(0, 3, True)]


async def test_hostile_bytes_stop_no_reading(following: Following) -> None:
    evil = [b'{"v":1,"type":"command","device_id":[]}', b'{"data":{"action":"\\ud800"}}']
    following.log.records = [*(record(at, each) for at, each in enumerate(evil)), record(2, following.rig.signed())]
    task = following.follow()
    await wait_for(lambda: following.log.committed == 3 or task.done())
    assert not task.done()
    assert len(following.rig.done) == 1
    assert await following.box.outbox.letters.list(10, "commands") == []


async def test_a_command_that_restarts_the_service_is_carried_out_once_and_is_no_replay(following: Following) -> None:
    go, begun = asyncio.Event(), asyncio.Event()

    async def restart(_: Invocation, __: NoParams) -> None:
        begun.set()
        await go.wait()

    following.rig.commander._dispatcher.registry.add(Action("test.restart", "Restart", restart))
    following.log.records = [record(0, following.rig.signed(action="test.restart", args={}))]
    first = following.follow()
    await begun.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    following.follow()
    await asyncio.sleep(0)
    assert following.log.readers == 1
    go.set()
    await wait_for(lambda: following.log.committed == 1)
    assert following.rig.commander.stats().refused == {}
    assert [each.status for each in following.rig.replies] == ["completed"]


async def test_a_topic_of_orders_that_is_not_there_degrades_the_service(following: Following) -> None:
    following.log.there = False
    status = LinkStatus(state=LinkState.up, reason="connected")
    following.service.link = SimpleNamespace(up=following.service.connected.up, status=status)  # type: ignore[assignment]
    following.box.outbox.link(True)
    following.follow()

    async def degraded() -> bool:
        report = await following.service.health()
        return report.health is Health.degraded and "commands is not read: The topic is not on the broker" in report.reason

    await wait_for(degraded)
    following.log.there = True

    async def healthy() -> bool:
        return (await following.service.health()).health is Health.healthy

    await wait_for(healthy)


async def test_stopping_brings_what_waits_to_disk_before_it_waits_for_tails(following: Following) -> None:
    order: list[str] = []
    outbox, box_stop = following.box.outbox, following.box.outbox.stop

    async def stop() -> None:
        order.append("outbox")
        await box_stop()

    async def tails() -> None:
        order.append("tails")

    outbox.stop, following.service.tails.stop = stop, tails  # type: ignore[method-assign]
    await following.service.stop()
    assert order == ["outbox", "tails"]
    outbox.stop = box_stop  # type: ignore[method-assign]

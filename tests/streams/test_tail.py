"""Tails, with readers that the tests give."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from aiokafka import TopicPartition

from appliance.core.streams.kafka_reader import KafkaReader, Record
from appliance.core.streams.tail import TAILS, Tails
from appliance.core.streams.traffic import Traffic
from appliance.errors import LinkDownError
from appliance.verbs.streams import fresh
from tests.streams.kafka_rig import access
from tests.support import ManualClock, wait_for


class Reader:
    """Gives what the test put there; fails while it is told to."""

    def __init__(self, records: list[Record], fails: list[bool]) -> None:
        self.records = records
        self.fails = fails

    async def start_near_end(self, topic: str, _: int) -> None:
        if self.fails:
            await asyncio.sleep(0.05)
            raise LinkDownError(f"{topic} is away.")

    async def take(self, *_: object) -> list[Record]:
        await asyncio.sleep(0.005)
        found, self.records = self.records, []
        return found

    async def stop(self) -> None:
        return None


@pytest.fixture
async def tails() -> AsyncIterator[tuple[Tails, list[Record], list[bool]]]:
    records, fails, clock = list[Record](), list[bool](), ManualClock()
    found = Tails(lambda: cast("KafkaReader", Reader(list(records), fails)), clock.monotonic, clock.wall)
    yield found, records, fails
    await found.stop()


async def test_tails_that_failed_when_their_callers_were_gone_make_room(
    tails: tuple[Tails, list[Record], list[bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _, fails = tails
    monkeypatch.setattr("appliance.core.streams.tail.FIRST", 0.001)
    fails.append(True)
    for number in range(TAILS):
        with pytest.raises(LinkDownError, match="does not give"):
            await found.read(f"t{number}", 0, 10, "", is_regex=False)
    await wait_for(lambda: all(task.done() for _, task in found._tails.values()))
    fails.clear()
    monkeypatch.setattr("appliance.core.streams.tail.FIRST", 10.0)
    assert await found.read("another", 0, 10, "", is_regex=False) == []


async def test_a_tail_that_begins_anew_gives_all_to_who_saw_the_one_before(
    tails: tuple[Tails, list[Record], list[bool]],
) -> None:
    found, records, _ = tails
    records += [Record("t", 0, offset, float(offset), b"k", b"{}") for offset in range(5)]
    seen = await wait_for(lambda: found.read("t", 0, 10, "", is_regex=False))
    await found.stop()
    records.append(Record("t", 0, 5, 5.0, b"k", b"{}"))
    again = await wait_for(lambda: found.read("t", seen[-1].number, 10, "", is_regex=False))
    assert [each.offset for each in again] == [0, 1, 2, 3, 4, 5]
    later = Tails(found._reader, ManualClock(start := ManualClock().wall() + 60).monotonic, lambda: start)
    try:
        anew = await wait_for(lambda: later.read("t", seen[-1].number, 10, "", is_regex=False))
        assert [each.offset for each in anew] == [0, 1, 2, 3, 4, 5]
    finally:
        await later.stop()
    shown: deque[tuple[int, int, float]] = deque(maxlen=100)
    assert [each["offset"] for each in fresh(msgspec.to_builtins(seen), shown)] == [0, 1, 2, 3, 4]
    assert [each["offset"] for each in fresh(msgspec.to_builtins(again), shown)] == [5]


async def test_messages_that_are_only_looked_at_do_not_count() -> None:
    async def getmany(**_: object) -> dict[Any, list[Any]]:
        return {TopicPartition("t", 0): [SimpleNamespace(offset=0, timestamp=0, key=b"", value=b"x", headers=())]}

    for traffic, counted in ((Traffic(ManualClock().monotonic), 1), (None, 0)):
        reader = KafkaReader(access("127.0.0.1:1"), traffic)
        reader._consumer = SimpleNamespace(getmany=getmany)
        assert len(await reader.take()) == 1
        assert (traffic.of("t").received if traffic else 0) == counted

"""The lanes before a producer that the tests give: what is missing, given up, or not remembered."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import LeaderNotAvailableError

from appliance.core.streams import kafka_lanes
from appliance.core.streams.kafka_lanes import Lanes
from appliance.core.streams.model import Message
from appliance.core.streams.traffic import Traffic
from appliance.errors import LinkDownError
from tests.streams.kafka_rig import message


class Batch:
    """Takes everything."""

    def append(self, **_: object) -> int:
        return 1

    def close(self) -> None:
        return None


class Taking:
    """A producer whose topics are those named; each batch ends as `error` says."""

    def __init__(self, *topics: str) -> None:
        self.topics = set(topics)
        self.error: Exception | None = None
        self.sent: list[str] = []
        self.client = SimpleNamespace(cluster=self, fetch_all_metadata=self.fetch)

    async def fetch(self) -> Any:
        return SimpleNamespace(topics=lambda: self.topics, unauthorized_topics=set[str]())

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return {0} if topic in self.topics else None

    async def partitions_for(self, _: str) -> set[int]:
        return {0}

    def create_batch(self) -> Batch:
        return Batch()

    async def send_batch(self, _: Batch, topic: str, partition: int) -> asyncio.Future[None]:
        future = asyncio.get_running_loop().create_future()
        self.sent.append(topic)
        if self.error is not None:
            future.set_exception(self.error)
        else:
            future.set_result(None)
        return future


async def why_not(topic: str, partition: int) -> LinkDownError:
    return LinkDownError(f"{topic} [{partition}] has no leader.")


async def waits(topic: str) -> LinkDownError:
    return LinkDownError(f"{topic} is away.")


def lanes() -> Lanes:
    return Lanes(Traffic(time.monotonic), why_not)


async def carried(found: Lanes, producer: Taking, *messages: Message) -> list[str]:
    return [each.message.id for each in await found.carry(producer, messages, waits)]


async def test_a_topic_that_is_away_does_not_keep_the_others_waiting() -> None:
    found, producer, sent = lanes(), Taking("there"), [message("away", 1), message("there", 2)]
    for _ in range(2):
        with pytest.raises(LinkDownError, match="away"):
            await carried(found, producer, *sent)
    assert producer.sent == ["there"]
    producer.topics.add("away")
    assert await carried(found, producer, *sent) == []
    assert producer.sent == ["there", "away"]


async def test_a_batch_that_nobody_leads_is_told_as_that_and_costs_no_producer() -> None:
    found, producer, sent = lanes(), Taking("led"), message("led", 1)
    producer.error = LeaderNotAvailableError()
    with pytest.raises(LinkDownError, match="no leader"):
        await carried(found, producer, sent)
    producer.error = None
    assert await carried(found, producer, sent) == []


async def test_what_was_refused_is_told_however_much_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_lanes, "REMEMBERED", 10)
    found, producer = lanes(), Taking("there")
    found._settled = {str(number): None for number in range(11)}
    huge = message("there", 1)._replace(value=b"x" * (kafka_lanes.LARGEST + 1))
    assert await carried(found, producer, huge, message("there", 2)) == [huge.id]
    assert len(found._settled) <= 11


def test_the_reason_is_looked_for_before_the_library_gives_a_batch_up() -> None:
    from appliance.core.streams.kafka import ANSWER_MS

    assert kafka_lanes.PATIENCE * 1000 < ANSWER_MS

"""The link while its producer is replaced, with producers that the tests give: no broker is needed for that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from appliance.core.streams.kafka_lanes import RenewalError
from appliance.core.streams.kafka_link import KafkaLink
from appliance.errors import LinkDownError
from tests.streams.kafka_rig import access, message, running_link
from tests.support import wait_for


class Metadata:
    """What a client tells of its cluster."""

    async def fetch_all_metadata(self) -> Any:
        return SimpleNamespace(brokers=list)

    async def close(self) -> None:
        return None


class Made:
    """A producer that is there."""

    def __init__(self) -> None:
        self.client = Metadata()
        self._sender = SimpleNamespace(sender_task=None)

    async def stop(self) -> None:
        return None


@pytest.fixture
async def link(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KafkaLink]:
    async def probe(_: object) -> str:
        return "b:1"

    monkeypatch.setattr("appliance.core.streams.kafka_link.probe", probe)
    monkeypatch.setattr("appliance.core.streams.kafka_link.WATCH", 0.02)

    async def make(server: str) -> Any:
        return Made()

    async with running_link(access("127.0.0.1:1")) as (found, _told):
        found._make = make  # type: ignore[method-assign]
        await found.up.wait()
        yield found


async def test_a_send_that_is_cancelled_while_a_producer_is_made_leaves_the_link_usable(link: KafkaLink) -> None:
    begun, go = asyncio.Event(), asyncio.Event()
    worn = [True]

    async def slow(server: str) -> Any:
        begun.set()
        await go.wait()
        return Made()

    async def carry(*_: object) -> list[object]:
        if worn.pop() if worn else False:
            raise RenewalError("OutOfOrderSequenceNumber", progress=False)
        return []

    link._make = slow  # type: ignore[method-assign]
    link._lanes.carry = carry  # type: ignore[method-assign, assignment]
    sending = asyncio.create_task(link.send([message("edge.telemetry", 1)]))
    await begun.wait()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    again = asyncio.create_task(link.send([message("edge.telemetry", 1)]))
    go.set()
    async with asyncio.timeout(10):
        assert await again == []


async def test_a_producer_that_cannot_be_replaced_is_made_by_connecting_anew(link: KafkaLink) -> None:
    make = link._make

    async def broken(server: str) -> Any:
        raise RuntimeError("of the library")

    async def worn(*_: object) -> list[object]:
        raise RenewalError("OutOfOrderSequenceNumber", progress=False)

    async def carry(*_: object) -> list[object]:
        return []

    link._make, link._lanes.carry = broken, worn  # type: ignore[method-assign, assignment]
    with pytest.raises((RuntimeError, LinkDownError)):
        await link.send([message("edge.telemetry", 1)])
    link._make, link._lanes.carry = make, carry  # type: ignore[method-assign, assignment]
    await wait_for(lambda: link._producer is not None and link.up.is_set())
    assert await link.send([message("edge.telemetry", 1)]) == []

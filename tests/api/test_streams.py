"""Event streams: those who come back get what they missed, a gap is told, and many cost one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from appliance.api import feed as feeds
from appliance.api import streams as event_streams
from appliance.api.feed import Feed, Gap, Reader, Told
from appliance.core.bus import Bus
from appliance.core.events import HostMetrics, Noted
from tests.api.rig import Api
from tests.support import wait_for

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Nowhere:
    """A journal that keeps nothing."""

    async def append(self, _: Any) -> int:
        return 1


def noted(number: int) -> Noted:
    return Noted(time=1_800_000_000.0 + number, event=f"n{number}", severity="info", attributes={})


def names(batch: list[Told | Gap]) -> list[str]:
    return [json.loads(each.text)["data"]["event"] if isinstance(each, Told) else f"gap {each.missed}" for each in batch]


@asynccontextmanager
async def feeding() -> AsyncIterator[tuple[Feed, Bus]]:
    bus = Bus(Nowhere())
    feed = Feed(bus, "device")
    feed.join()
    try:
        yield feed, bus
    finally:
        feed.leave()
        feed.close()


async def publish(feed: Feed, bus: Bus, *numbers: int) -> None:
    before = feed._next
    for number in numbers:
        await bus.publish(noted(number))
    await wait_for(lambda: feed._next >= before + len(numbers))


async def test_who_comes_back_gets_what_followed() -> None:
    async with feeding() as (feed, bus):
        fresh = Reader(feed, "")
        await publish(feed, bus, 1, 2, 3)
        batch = await fresh.batch()
        assert names(batch) == ["n1", "n2", "n3"]
        second = batch[1]
        assert isinstance(second, Told)
        assert names(await Reader(feed, second.id).batch()) == ["n3"]
        assert f"id: {second.id}\nevent: analytics.events\ndata: " in second.sse.decode()


async def test_a_gap_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "KEPT", 3)
    async with feeding() as (feed, bus):
        slow = Reader(feed, "")
        await publish(feed, bus, 1)
        first = (await Reader(feed, "0").batch())[-1]
        assert isinstance(first, Told)
        await publish(feed, bus, *range(2, 8))
        assert feed.kept[0] == 3
        assert names(await slow.batch()) == ["gap 4", "n5", "n6", "n7"]
        assert names(await Reader(feed, first.id).batch()) == ["gap None", "n5", "n6", "n7"]
        unknown = Reader(feed, "ffffffff-0000-7000-8000-000000000000")
        assert names(await unknown.batch()) == ["gap None"]


async def test_what_the_bus_gave_up_is_a_gap_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "WAITING", 4)
    async with feeding() as (feed, bus):
        reader = Reader(feed, "")
        for number in range(10):  # at a stretch: nobody takes them over meanwhile
            await bus.publish(noted(number))
        await wait_for(lambda: feed._dropped == 6)
        await publish(feed, bus, 10)
        assert names(await reader.batch()) == ["n6", "n7", "n8", "n9", "gap 6", "n10"]


async def test_kept_bytes_are_bounded_and_what_cannot_be_told_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "KEPT_BYTES", 4000)
    async with feeding() as (feed, bus):
        reader = Reader(feed, "")
        await bus.publish(HostMetrics(time=1.0, metrics={}, tags={"bad": "\ud800"}))
        await publish(feed, bus, *range(50))
        assert feed.kept[1] <= 4000
        assert 1 <= feed.kept[0] < 50
        assert names(await reader.batch())[-1] == "n49"


async def test_nothing_is_kept_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "LINGER", 0.05)
    bus = Bus(Nowhere())
    feed = Feed(bus, "device")
    feed.join()
    await publish(feed, bus, 1)
    feed.leave()
    await wait_for(lambda: feed.kept == (0, 0) and not bus.status())
    feed.join()
    await publish(feed, bus, 2)
    assert feed.kept[0] == 1
    feed.leave()
    feed.close()


async def lines_of(answer: httpx.Response, most: int) -> list[str]:
    found = []
    async for line in answer.aiter_lines():
        found.append(line)
        if sum(each.startswith("data: ") for each in found) == most:
            return found
    return found


async def test_a_topic_that_no_event_has_is_refused(api: Api) -> None:
    async with api.client(await api.token("vera")) as client:
        refused = await client.get("/api/v1/events?topics=analytics.events,nope")
    assert refused.status_code == 422
    assert "'nope'" in refused.text
    assert "analytics.events" in refused.json()["error"]["next_step"]


async def test_a_browser_that_comes_back_resumes(api: Api) -> None:
    bus = api.appliance.bus
    async with api.client(await api.token("vera")) as client, asyncio.timeout(60):
        async with client.stream("GET", "/api/v1/events?topics=analytics.events") as answer:
            publishing = asyncio.create_task(bus.publish(noted(1)))
            lines = await lines_of(answer, 1)
            await publishing
        mark = next(line[4:] for line in lines if line.startswith("id: "))
        assert "retry: 3000" in lines
        await bus.publish(noted(2))
        async with client.stream("GET", "/api/v1/events", headers={"Last-Event-ID": mark}) as answer:
            told = [json.loads(line[6:]) for line in await lines_of(answer, 1) if line.startswith("data: ")]
        assert told[0]["data"]["event"] == "n2"
        lost = {"Last-Event-ID": "0" * 500}
        async with client.stream("GET", "/api/v1/events", headers=lost) as answer:
            assert "event: gap" in await lines_of(answer, 2)
    url = api.url.replace("http", "ws") + f"/api/v1/ws?last_event_id={mark}"
    async with asyncio.timeout(60), connect(url, subprotocols=[f"bearer.{await api.token('vera')}"]) as socket:  # type: ignore[list-item]
        assert json.loads(await socket.recv())["data"]["event"] == "n2"


async def test_a_token_that_is_revoked_ends_its_streams(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_streams, "LOOK", 0.1)
    made = await api.invoke("api.token-create", name="listener", user="vera", role="viewer")
    async with asyncio.timeout(60), api.client(made["token"]) as client, client.stream("GET", "/api/v1/events") as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        await api.invoke("api.token-revoke", name="listener")
        async for _ in lines:
            pass

"""Sending commands: now, or not at all; and where nobody knows, the error says so."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaProducer

from appliance.core.clock import SystemClock
from appliance.core.secrets import Secrets
from appliance.core.streams import kafka_admin, kafka_link, kafka_once, topics
from appliance.core.streams.issuing import Issuer
from appliance.core.streams.kafka_link import KafkaLink
from appliance.core.streams.kafka_once import UnansweredError, send
from appliance.core.streams.model import Message
from appliance.errors import LinkDownError
from tests.servers.fixtures import Topics
from tests.streams.kafka_rig import access, message, running_link, stored
from tests.support import wait_for


class Keys:
    """A key that is always there."""

    def get_or_create(self, _: str) -> bytes:
        return bytes(range(32))


async def issue(link: KafkaLink, device: str) -> str:
    issuer = Issuer("me", cast("Secrets", Keys()), SystemClock())
    return await issuer.send(link, device, "power.off", {}, 120, "", confirm=True)


async def issued(kafka: Topics, device: str) -> list[dict[str, Any]]:
    return [each for _, _, each in await stored(kafka.bootstrap, "cloud.commands", device)]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.core.streams.kafka_link.ONCE", 2.0)


async def there(kafka: Topics) -> None:
    await kafka_admin.prepare(access(kafka.bootstrap), [topics.TopicSpec("cloud.commands", "in")], create=True)


@pytest.mark.usefixtures("quick")
async def test_a_command_goes_out_now_or_not_at_all(kafka: Topics) -> None:
    await there(kafka)
    device = f"{kafka.prefix}device"
    async with running_link(access(kafka.server.bootstrap("PROXIED"))) as (link, _):
        await link.up.wait()
        await issue(link, device)
        await asyncio.to_thread(kafka.proxy.refuse)
        with pytest.raises(LinkDownError, match=r"refuses connections|Unable to bootstrap|closed the connection"):
            await issue(link, device)
    assert len(await issued(kafka, device)) == 1


@pytest.mark.usefixtures("quick")
async def test_a_command_without_an_answer_says_so_and_is_not_repeated(kafka: Topics, monkeypatch: pytest.MonkeyPatch) -> None:
    await there(kafka)
    device = f"{kafka.prefix}device"
    async with running_link(access(kafka.server.bootstrap("PROXIED"))) as (link, _):
        await link.up.wait()
        end = kafka_link.end

        async def ended(producer: AIOKafkaProducer) -> None:
            await end(producer)
            await asyncio.to_thread(kafka.proxy.heal)

        async def silent(producer: AIOKafkaProducer, given: Message) -> None:
            await asyncio.to_thread(kafka.proxy.hang)
            await send(producer, given)

        monkeypatch.setattr(kafka_link, "end", ended)
        monkeypatch.setattr(kafka_once, "send", silent)
        with pytest.raises(UnansweredError, match=r"not known.*may have arrived.*until \d\d:\d\d:\d\d UTC") as told:
            await issue(link, device)
        assert "cloud.commands" in told.value.next_step

        async def goes() -> bool:
            with suppress(LinkDownError):
                return await link.send([message("cloud.commands", 1, device)]) == []
            return False

        await wait_for(goes, 40)  # what the link had kept would have gone before it
    assert [each["type"] for each in await issued(kafka, device)] == ["test"]

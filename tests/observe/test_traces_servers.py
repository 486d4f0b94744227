"""Traces through a real Kafka and a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from appliance.core.analytics.timescale import Database
from appliance.core.events import Noted
from appliance.core.observe.otel import Maker
from appliance.core.observe.spans import Spans
from appliance.errors import DatabaseError
from appliance.settings import AnalyticsSettings
from tests.observe.test_traces import PARENT, TRACE
from tests.servers.fixtures import Topics
from tests.streams.test_commands import client_sign
from tests.streams.test_service import KEY, Running, configured, started
from tests.support import wait_for


@pytest_asyncio.fixture
async def running(home: Path, kafka: Topics) -> AsyncIterator[Running]:
    """An appliance before Kafka, whose spans are kept here."""
    appliance = await started(home, configured(kafka))
    found = Running(appliance, kafka.bootstrap)
    try:
        await wait_for(found.is_up, 40)
        yield found
    finally:
        await appliance.stop()


async def test_a_trace_goes_out_with_an_event_and_comes_in_with_a_command(running: Running, kafka: Topics) -> None:
    spans: list[Any] = []
    observer = running.appliance.observer
    observer.spans.switch(Maker({"service.name": "test"}, 0.0, spans.append).begin)  # nothing but what others began
    with observer.spans.span("outside", parent=PARENT):
        event = Noted(time=running.appliance.clock.wall(), event="test.traced", severity="info", attributes={})
        await running.appliance.bus.publish(event)
    consumer = AIOKafkaConsumer("analytics.events", bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        while True:
            message = await consumer.getone()
            if event.id.encode() in message.value:
                break
    finally:
        await consumer.stop()
    assert [(name, value.decode().split("-")[1]) for name, value in message.headers] == [("traceparent", TRACE)]

    other = "1af7651916cd43dd8448eb211c80319c"
    body = client_sign(running.command("user.list", reply_to=""), KEY)
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
    await producer.start()
    try:
        header = ("traceparent", PARENT.replace(TRACE, other).encode())
        await producer.send_and_wait("cloud.commands", body, key=running.device.encode(), headers=[header])
    finally:
        await producer.stop()
    await wait_for(lambda: "process cloud.commands" in {span.name for span in spans}, 20)
    found = {span.name: span for span in spans if format(span.context.trace_id, "032x") == other}
    assert {"process cloud.commands", "action user.list", "sqlite write"} <= set(found)
    assert found["action user.list"].parent.span_id == found["process cloud.commands"].context.span_id


async def test_statements_of_postgresql_are_parts_of_their_request(postgres: str) -> None:
    place = urlsplit(postgres)
    settings = AnalyticsSettings(
        host=place.hostname or "", port=place.port or 0, user=place.username or "", database=place.path[1:], tls="disable"
    )
    database, spans, seen = Database(settings, place.password or "", "test"), Spans(), list[Any]()
    spans.switch(Maker({"service.name": "test"}, 1.0, seen.append).begin)
    try:
        with spans.span("request"):
            await database.run(lambda connection: connection.fetchval("SELECT 40 + $1::int", 2))
            with pytest.raises(DatabaseError):
                await database.run(lambda connection: connection.execute("SELECT 'a secret' FROM nowhere"))
        await database.run(lambda connection: connection.fetchval("SELECT 1"))  # of no request
        await wait_for(lambda: len([span for span in seen if span.name == "statement"]) == 2)
    finally:
        await database.close()
    assert sorted(span.name for span in seen) == ["postgresql", "postgresql", "request", "statement", "statement"]
    texts = [span.attributes["db.query.text"] for span in seen if span.name == "statement"]
    assert texts == ["SELECT ? + $?::int", "SELECT ? FROM nowhere"]
    failed = [span.attributes.get("error.type", "") for span in seen if span.name == "statement"]
    assert failed == ["", "UndefinedTableError"]

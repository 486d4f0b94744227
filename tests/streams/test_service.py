"""The whole appliance before a real Kafka: commands and replies, telemetry, tails, dead letters, lag, and no Kafka at all."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance import cli, config, paths
from appliance.core import metrics
from appliance.core.alerts.rules import backlog, kafka_lag
from appliance.core.events import new_id, rfc3339
from appliance.core.logs import LogRing
from appliance.core.model import Actor, Health, Role
from appliance.core.state import Section
from appliance.core.streams.model import LinkState, StreamsStatus
from appliance.errors import ConfirmationRequiredError, InvalidArgumentsError, LinkDownError, StreamError
from appliance.runtime import Appliance
from appliance.verbs.client import SocketClient
from appliance.verbs.context import Context
from tests.servers.fixtures import Topics
from tests.streams.kafka_rig import amount, stored
from tests.streams.test_commands import client_sign, public
from tests.support import wait_for

ADMIN = Actor("ada", Role.admin, "console")
KEY = Ed25519PrivateKey.generate()
CONFIG = """
[node]
device_id = "{device}"
[ssh]
enabled = false
[telemetry]
interval_seconds = 0.5
[sink]
group = "{group}"
[kafka]
bootstrap_servers = "{servers}"
[commands.issuers.cloud]
public_key = "{key}"
role = "admin"
"""


class Running:
    """An appliance, and what a program in the cloud does."""

    def __init__(self, appliance: Appliance, servers: str) -> None:
        self.appliance = appliance
        self.servers = servers
        self.device = appliance.settings.node.device_id

    async def call(self, name: str, *, confirm: bool = False, **args: Any) -> Any:
        return await self.appliance.dispatcher.invoke(name, args, ADMIN, confirm=confirm)

    def status(self) -> StreamsStatus | None:
        found = self.appliance.state.get(Section.streams).value
        return found if isinstance(found, StreamsStatus) else None

    def is_up(self) -> bool:
        found = self.status()
        return found is not None and found.link.state is LinkState.up

    async def publish(self, topic: str, value: bytes) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.servers)
        await producer.start()
        try:
            await producer.send_and_wait(topic, value, key=self.device.encode())
        finally:
            await producer.stop()

    def command(self, action: str, **changes: Any) -> dict[str, Any]:
        now = self.appliance.clock.wall()
        data = {
            "action": action,
            "args": {},
            "issued_by": "cloud",
            "expires_at": rfc3339(now + 60),
            "reply_to": "cloud.replies",
        }
        return {
            "v": 1, "id": new_id(), "timestamp": rfc3339(now), "source": "cloud", "device_id": self.device, "type": "command",
            "data": {**data, **changes},
        }  # fmt: skip

    async def envelopes(self, topic: str) -> list[dict[str, Any]]:
        return [document for _, _, document in await stored(self.servers, topic, self.device)]


async def started(home: Path, text: str) -> Appliance:
    where = paths.find({"PRIME_SPARK_HOME": str(home)})
    where.config.parent.mkdir(parents=True, exist_ok=True)
    where.config.write_text(text)
    environ = {**os.environ, "PRIME_SPARK_HOME": str(home)}
    appliance = Appliance(config.load(where, environ), where, LogRing(), environ)
    appliance.start([])
    return appliance


def configured(kafka: Topics, servers: str = "") -> str:
    name = kafka.prefix.strip(".")
    return CONFIG.format(device=name, group=f"{name}-sink", servers=servers or kafka.bootstrap, key=public(KEY))


@pytest.fixture
async def running(home: Path, kafka: Topics) -> AsyncIterator[Running]:
    appliance = await started(home, configured(kafka))
    found = Running(appliance, kafka.bootstrap)
    try:
        await wait_for(found.is_up, 30)
        yield found
    finally:
        await appliance.stop()


async def test_a_signed_command_restarts_a_service_and_is_answered(running: Running, kafka: Topics) -> None:
    if "cloud.replies" not in await topics_of(kafka):
        await kafka.server.create_topic("cloud.replies", 1)
    command = running.command("service.restart", args={"name": "figures"})
    await running.publish("cloud.commands", client_sign(command, KEY))

    async def reply() -> dict[str, Any] | None:
        found = [each for each in await running.envelopes("cloud.replies") if each["type"] == "command.reply"]
        return next((each["data"] for each in found if each["data"]["command_id"] == command["id"]), None)

    data = await wait_for(reply, 30)
    assert data["status"] == "completed"
    assert data["result"]["name"] == "figures"
    rows = [row for row in await running.appliance.audit.entries() if row.action == "service.restart"]
    assert {(row.actor, row.via, row.role) for row in rows} == {("cloud", "kafka", "admin")}
    assert {row.outcome for row in rows} == {"started", "ok"}
    await running.publish("cloud.commands", client_sign(command, KEY))
    await running.publish("cloud.commands", json.dumps(running.command("service.restart")).encode())
    wanted = {"replayed": 1, "unsigned": 1}  # beside what other tests left for other devices
    await wait_for(lambda: wanted.items() <= running.status().commands.refused.items(), 20)  # type: ignore[union-attr]
    assert running.status().commands.accepted == 1  # type: ignore[union-attr]


async def topics_of(kafka: Topics) -> list[str]:
    async with kafka.server.admin() as admin:
        return list(await admin.list_topics())


async def test_telemetry_and_events_arrive_in_the_envelope_of_the_contract(running: Running, kafka: Topics) -> None:
    async def both() -> bool:
        seen = await running.envelopes("edge.telemetry"), await running.envelopes("analytics.events")
        return bool(seen[0]) and any(each["data"].get("event") == "appliance.started" for each in seen[1])

    await wait_for(both, 30)
    options = ("--formatter-property", "print.key=true")
    there = await amount(kafka.bootstrap, "edge.telemetry")  # other devices may have written, and other tests
    lines = await asyncio.to_thread(kafka.server.console_consumer, "edge.telemetry", there, *options)
    envelope = next(json.loads(value) for key, _, value in (line.partition("\t") for line in lines) if key == running.device)
    assert set(envelope) == {"v", "id", "timestamp", "source", "device_id", "type", "data"}
    assert (envelope["v"], envelope["source"], envelope["device_id"]) == (1, "edge", running.device)
    assert envelope["timestamp"].endswith("Z")
    assert envelope["data"]["metrics"]["memory_usage"] > 0
    status = running.status()
    assert status is not None
    assert {each.name: each.problem for each in status.topics if each.name == "edge.telemetry"} == {"edge.telemetry": ""}
    text = metrics.text(running.appliance.state)
    assert "edge_kafka_up 1.0" in text
    assert 'edge_kafka_messages_sent_total{topic="edge.telemetry"}' in text
    assert "edge_offline_queue_size" in text
    assert backlog(running.appliance.state)[0].value is not None


async def test_a_group_that_stays_behind_is_measured(running: Running, kafka: Topics) -> None:
    group, topic = running.appliance.settings.sink.group, f"{kafka.prefix}lag"
    await kafka.server.create_topic(topic, 1)
    assert kafka_lag(running.appliance.state)[0].value is None
    for _ in range(3):
        await running.publish(topic, b"{}")
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka.bootstrap, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    await consumer.getone()
    await consumer.commit()
    await consumer.stop()
    await wait_for(lambda: [each.lag for each in running.status().groups if each.topic == topic] == [2], 20)  # type: ignore[union-attr]
    assert kafka_lag(running.appliance.state)[0].value == 2


async def test_a_topic_is_watched_with_a_filter(running: Running, kafka: Topics) -> None:
    topic = f"{kafka.prefix}tail"
    await kafka.server.create_topic(topic, 1)
    for number in range(5):
        await running.publish(topic, json.dumps({"number": number}).encode())
    found = await wait_for(lambda: running.call("streams.tail", topic=topic, limit=3), 15)
    assert [each.document["number"] for each in found] == [2, 3, 4]
    await running.publish(topic, b'{"number": 77}')
    last = found[-1].number
    newer = await wait_for(lambda: running.call("streams.tail", topic=topic, after=last, filter="77"), 15)
    assert [each.document for each in newer] == [{"number": 77}]
    assert await running.call("streams.tail", topic=topic, filter="number.: [23]}", regex=True, limit=50) == found[:2]
    with pytest.raises(InvalidArgumentsError, match="no regular expression"):
        await running.call("streams.tail", topic=topic, filter="(", regex=True)
    with pytest.raises(LinkDownError, match="not on the broker"):
        await running.call("streams.tail", topic=f"{kafka.prefix}nowhere")


async def test_an_offered_model_is_told_and_nothing_is_pretended(running: Running) -> None:
    offer = {"model": "yolo", "version": "9", "artifact": "s3://models/yolo.onnx", "sha256": "a" * 64, "stage": "production",
             "device_ids": [running.device], "rollout": {"strategy": "canary", "percent": 10}}  # fmt: skip
    envelope = {"v": 1, "id": new_id(), "timestamp": "2026-01-01T00:00:00Z", "source": "cloud", "device_id": "*", "type": "x"}
    await running.publish("models.updates", json.dumps({**envelope, "data": {**offer, "device_ids": ["another"]}}).encode())
    await running.publish("models.updates", json.dumps({**envelope, "data": {**offer, "sha256": "short"}}).encode())
    await running.publish("models.updates", json.dumps({**envelope, "data": offer}).encode())
    await wait_for(lambda: running.status().offers, 20)  # type: ignore[union-attr]
    offers = running.status().offers  # type: ignore[union-attr]
    assert [(each.model, each.version) for each in offers] == [("yolo", "9")]
    assert (offers[0].state, "model install" in offers[0].note) == ("offered", True)
    letters = await running.call("streams.dead-letters", origin="updates")
    assert any("sha256" in each.reason for each in letters)
    with pytest.raises(StreamError):
        await running.call("streams.retry", letter_id=letters[0].letter_id)
    whole = await running.call("streams.dead-letter", letter_id=letters[0].letter_id)
    assert "short" in whole.body
    with pytest.raises(ConfirmationRequiredError):
        await running.call("streams.discard", letter_id=letters[0].letter_id)
    await running.call("streams.discard", letter_id=letters[0].letter_id, confirm=True)


async def test_a_command_of_ours_has_our_signature(running: Running) -> None:
    told = await running.call("streams.public-key")
    assert told["public_key"] in told["configure_elsewhere"]
    sent = await running.call("streams.send-command", device="other-pi", action="service.list", confirm=True)

    async def there() -> dict[str, Any] | None:
        found = [
            document
            for _, _, document in await stored(running.servers, "cloud.commands", "other-pi")
            if document["id"] == sent["command_id"]
        ]
        return found[0] if found else None

    envelope = await wait_for(there, 15)
    from appliance.core.streams import signing

    signing.verify(envelope, told["public_key"])
    assert (envelope["device_id"], envelope["data"]["issued_by"]) == ("other-pi", running.device)


async def test_pause_keeps_events_and_resume_sends_them(running: Running) -> None:
    await running.call("streams.pause")
    before = len(await running.envelopes("edge.telemetry"))
    await wait_for(lambda: running.status().outbox.paused and running.status().outbox.waiting > 0, 15)  # type: ignore[union-attr]
    await running.call("streams.resume")

    async def more() -> bool:
        return len(await running.envelopes("edge.telemetry")) > before

    await wait_for(more, 15)


async def test_the_command_line_shows_the_streams(running: Running) -> None:
    def line(*words: str) -> tuple[int, str]:
        where, out = running.appliance.paths, io.StringIO()
        return cli.run(words, Context(SocketClient(where.api_socket), where, {}, out, 140, colour=False), out), out.getvalue()

    await wait_for(running.appliance.paths.api_socket.exists)
    code, text = await asyncio.to_thread(line, "streams", "status")
    assert (code, "link up" in text, "edge.telemetry" in text) == (0, True, True), text
    code, text = await asyncio.to_thread(line, "streams", "status", "--json")
    assert json.loads(text)["link"]["state"] == "up"
    await wait_for(lambda: running.envelopes("edge.telemetry"), 20)

    async def tailed() -> bool:  # it shows the newest of all devices, and on a loaded machine ours may not be among them yet
        code, text = await asyncio.to_thread(line, "streams", "tail", "edge.telemetry", "--once", "--filter", running.device)
        assert code == 0, text
        return "host.metrics" in text

    await wait_for(tailed, 30)
    assert (await asyncio.to_thread(line, "streams", "dead-letters"))[0] == 0
    code, text = await asyncio.to_thread(line, "streams", "replay", "3600", "--json")
    assert (code, json.loads(text)["events"] > 0) == (0, True), text


async def test_a_broker_that_is_away_degrades_and_says_why(home: Path, kafka: Topics) -> None:
    kafka.proxy.refuse()
    appliance = await started(home, configured(kafka, kafka.server.bootstrap("PROXIED")))
    found = Running(appliance, kafka.bootstrap)
    try:
        await wait_for(lambda: found.status() and found.status().link.state is LinkState.down, 20)  # type: ignore[union-attr]
        await wait_for(lambda: found.status().outbox.waiting > 0, 20)  # type: ignore[union-attr]
        service = appliance.domains.streams  # type: ignore[union-attr]
        report = await service.health()
        assert (report.health, "refuses connections" in report.reason) == (Health.degraded, True)
        kafka.proxy.heal()
        await wait_for(found.is_up, 40)
        await wait_for(lambda: found.status().outbox.waiting == 0, 20)  # type: ignore[union-attr]
    finally:
        await appliance.stop()


ABSENT = """
import asyncio, os, sys
from appliance import config, paths
from appliance.core.logs import LogRing
from appliance.core.model import Health
from appliance.core.state import Section
from appliance.runtime import Appliance
from tests.support import wait_for

def status(appliance):
    return next((each for each in appliance.state.get(Section.services).value or () if each.name == "streams"), None)

async def main():
    where = paths.find()
    appliance = Appliance(config.load(where, os.environ), where, LogRing(), dict(os.environ))
    appliance.start([])
    await wait_for(lambda: (found := status(appliance)) and found.health is Health.absent and found.next_step, 20)
    print(status(appliance).next_step, "|", appliance.state.get(Section.streams).value.link.state)
    await appliance.stop()
    print("loaded", *sorted(name for name in sys.modules if "." not in name))

asyncio.run(main())
"""


async def test_without_kafka_it_is_absent_and_nothing_is_loaded(home: Path) -> None:
    command = [sys.executable, "-c", ABSENT]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "set kafka.bootstrap_servers" in done.stdout
    assert "| absent" in done.stdout
    assert "aiokafka" not in done.stdout.split()


async def test_a_topic_of_orders_that_nobody_made_degrades_the_service(home: Path, kafka: Topics) -> None:
    if "cloud.commands" in await topics_of(kafka):
        async with kafka.server.admin() as admin:
            await admin.delete_topics(["cloud.commands"])
    appliance = await started(home, configured(kafka).replace("[kafka]", "[kafka]\ncreate_topics = false"))
    try:

        async def told() -> bool:
            report = await appliance.domains.streams.health()  # type: ignore[union-attr]
            return report.health is Health.degraded and "is not read: The topic is not on the broker" in report.reason

        await wait_for(lambda: Running(appliance, kafka.bootstrap).is_up(), 30)
        await wait_for(told, 20)
    finally:
        await appliance.stop()

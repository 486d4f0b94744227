"""The brokers of the tests are Apache Kafka, keep what they acknowledged, and their faults are real ones."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError

from tests.servers.child import ServerError
from tests.servers.fixtures import Topics
from tests.servers.kafka import KafkaServer
from tests.servers.kafka_cluster import KafkaCluster
from tests.servers.kafka_security import SECURED, Authority, Security
from tests.support import wait_for

SAFE: dict[str, Any] = {"enable_idempotence": True, "acks": "all", "compression_type": "snappy"}  # as the contract wants it


async def send(client: dict[str, Any], topic: str, values: list[bytes], **settings: Any) -> None:
    async with AIOKafkaProducer(**client, **(SAFE | settings)) as producer:
        for sent in [await producer.send(topic, each, key=b"key", partition=0) for each in values]:
            await sent


async def read(client: dict[str, Any], topic: str, count: int, **settings: Any) -> list[bytes]:
    """The values of a topic's first messages."""
    values: list[bytes] = []
    async with AIOKafkaConsumer(topic, **client, auto_offset_reset="earliest", **settings) as consumer:
        async with asyncio.timeout(30):
            while len(values) < count:
                values.append((await consumer.getone()).value)
    return values


async def end(client: dict[str, Any], topic: str) -> int:
    """How many messages the topic's first partition has."""
    where = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(**client)
    try:  # a consumer that could not start must be stopped too
        await consumer.start()
        return int((await consumer.end_offsets([where]))[where])
    finally:
        await consumer.stop()


async def test_messages_come_back_also_to_a_group_that_goes_on(kafka: Topics) -> None:
    topic, client = f"{kafka.prefix}telemetry", kafka.server.client()
    values = [b"message %d " % each + bytes(1000) for each in range(20)]
    await kafka.server.create_topic(topic)
    await send(client, topic, values)
    assert await read(client, topic, 20, group_id=topic, max_poll_records=20) == values
    await send(client, topic, [b"more"])
    assert await read(client, topic, 1, group_id=topic) == [b"more"]
    stored = next(kafka.server.data.glob(f"{topic}-0/*.log")).stat().st_size
    assert stored < 10_000  # of 20 kB: they were compressed


async def test_topics_are_made_by_name_only_and_with_their_settings(kafka: Topics) -> None:
    await kafka.server.create_topic(f"{kafka.prefix}known", partitions=3, max_message_bytes=2000)
    assert len((await kafka.server.metadata(f"{kafka.prefix}known"))["topics"][0]["partitions"]) == 3
    with pytest.raises(KafkaError, match=r"MessageSizeTooLarge|too large|TooLarge"):
        await send(kafka.server.client(), f"{kafka.prefix}known", [bytes(5000)], compression_type=None)
    async with AIOKafkaProducer(**kafka.server.client(), request_timeout_ms=300) as producer:
        with pytest.raises(KafkaError):
            await producer.send_and_wait(f"{kafka.prefix}unknown", b"message")
    async with kafka.server.admin() as admin:
        assert f"{kafka.prefix}unknown" not in await admin.list_topics()


async def test_an_idempotent_producer_stores_once_what_it_sends_twice(kafka: Topics) -> None:
    topic, server, proxy = f"{kafka.prefix}once", kafka.server, kafka.proxy
    values = [b"%d" % each for each in range(50)]
    await server.create_topic(topic)
    async with AIOKafkaProducer(**server.client("PROXIED"), **SAFE, request_timeout_ms=1000) as producer:
        await producer.send_and_wait(topic, b"first")
        before = proxy.accepted
        server.pause()  # what is sent now waits in its socket
        sent = [await producer.send(topic, each) for each in values]
        await wait_for(lambda: proxy.accepted > before, 30, "the producer gives up and connects anew")
        server.resume()
        await asyncio.gather(*sent)
    assert await read(server.client(), topic, 51) == [b"first", *values]
    assert await end(server.client(), topic) == 51


async def test_a_broker_behind_a_cut_network(kafka: Topics) -> None:
    topic, server = f"{kafka.prefix}cut", kafka.server
    await server.create_topic(topic)
    async with AIOKafkaProducer(**server.client("PROXIED"), **SAFE) as producer:
        await producer.send_and_wait(topic, b"before")
        kafka.proxy.refuse()
        sent = await producer.send(topic, b"during")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(sent), 0.3)
        assert await end(server.client(), topic) == 1  # others reach it
        kafka.proxy.heal()
        await sent
    assert await read(server.client(), topic, 2) == [b"before", b"during"]


async def test_a_killed_broker_keeps_what_it_acknowledged(kafka: Topics) -> None:
    topic, server = f"{kafka.prefix}kept", kafka.server
    await server.create_topic(topic)
    async with AIOKafkaProducer(**server.client(), **SAFE) as producer:
        await producer.send_and_wait(topic, b"before")
        server.kill()
        with pytest.raises(KafkaConnectionError):
            await end(server.client(), topic)
        server.start()
        await producer.send_and_wait(topic, b"after")  # the same producer goes on
    assert await read(server.client(), topic, 2) == [b"before", b"after"]


async def test_a_paused_broker_answers_nobody_until_it_goes_on(kafka: Topics) -> None:
    topic, server = f"{kafka.prefix}paused", kafka.server
    await server.create_topic(topic)
    async with AIOKafkaProducer(**server.client(), **SAFE) as producer:
        await producer.send_and_wait(topic, b"before")
        server.pause()
        sent = await producer.send(topic, b"during")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(sent), 0.3)
        server.resume()
        await sent
    assert await read(server.client(), topic, 2) == [b"before", b"during"]


@pytest.mark.parametrize("security", SECURED)
async def test_tls_and_passwords(kafka: Topics, security: Security, caplog: pytest.LogCaptureFixture) -> None:
    topic = f"{kafka.prefix}{security}"
    await kafka.server.create_topic(topic)
    client = kafka.server.client(security)
    await send(client, topic, [b"message"])
    assert await read(client, topic, 1) == [b"message"]
    if security.startswith("SASL"):
        caplog.set_level(logging.WARNING, "aiokafka")  # which the appliance's own code silences in its process
        for mechanism in ("PLAIN", "SCRAM-SHA-256"):
            assert await read(client | {"sasl_mechanism": mechanism}, topic, 1) == [b"message"]
        with pytest.raises(KafkaConnectionError):  # aiokafka logs why
            await end(client | {"sasl_plain_password": "wrong"}, topic)
        assert "invalid credentials" in caplog.text


async def test_tls_refuses_strangers(kafka: Topics, tmp_path: Path) -> None:
    server, other = kafka.server, Authority(tmp_path)
    client = server.client("SSL")
    with pytest.raises(KafkaConnectionError):  # the broker's certificate is none of this authority's
        await end(client | {"ssl_context": ssl.create_default_context(cafile=str(other.path))}, "any")
    with pytest.raises(KafkaConnectionError):  # TLS is not optional
        await end({"bootstrap_servers": server.bootstrap("SSL"), "request_timeout_ms": 1000}, "any")
    await server.create_topic(f"{kafka.prefix}any")
    known = ssl.create_default_context(cafile=str(server.access.authority.path))
    known.load_cert_chain(server.access.authority.issue("client"))
    assert await end(client | {"ssl_context": known}, f"{kafka.prefix}any") == 0
    known.load_cert_chain(other.issue("stranger"))
    with pytest.raises(KafkaConnectionError):  # nor does the broker know this client's
        await end(client | {"ssl_context": known}, "any")


async def test_the_console_consumer_prints_what_was_sent(kafka: Topics) -> None:
    topic, server = f"{kafka.prefix}printed", kafka.server
    await server.create_topic(topic)
    await send(server.client(), topic, [b'{"v":1}', "23 °C".encode()])
    keys = ("--formatter-property", "print.key=true")
    assert await asyncio.to_thread(server.console_consumer, topic, 2, *keys) == ['key\t{"v":1}', "key\t23 °C"]


def test_what_does_not_start_says_why(tmp_path: Path) -> None:
    server = KafkaServer(tmp_path, cluster="-4_l6g3nShT-eMCtK--X8w")  # such ids occur, and are no options of the tool
    server.settings["log.retention.ms"] = "soon"
    with pytest.raises(ServerError, match=r"soon(.|\n)*log\.retention\.ms|log\.retention\.ms(.|\n)*soon"):
        server.start()
    assert not server.child.running


async def test_a_killed_broker_of_three_costs_nothing(kafka_cluster: KafkaCluster) -> None:
    topic = "survives"
    await kafka_cluster.nodes[1].create_topic(topic)
    leader = await kafka_cluster.nodes[1].leader(topic)
    witness = kafka_cluster.nodes[leader % 3 + 1]
    async with AIOKafkaProducer(**kafka_cluster.client(), **SAFE) as producer:
        sent = [await producer.send(topic, b"%d" % each) for each in range(100)]
        kafka_cluster.nodes[leader].kill()
        sent += [await producer.send(topic, b"%d" % each) for each in range(100, 200)]
        await asyncio.wait_for(asyncio.gather(*sent), 60)
        assert await witness.leader(topic) not in {leader, -1}
        assert leader not in await witness.in_sync(topic)
        kafka_cluster.recover()

        async def whole() -> bool:
            return await witness.in_sync(topic) == {1, 2, 3}

        await wait_for(whole, 30, "the killed one has caught up")
        await producer.send_and_wait(topic, b"200")
    assert await read(kafka_cluster.client(), topic, 201) == [b"%d" % each for each in range(201)]


async def test_with_two_of_three_paused_nothing_is_acknowledged(kafka_cluster: KafkaCluster) -> None:
    topic = "waits"
    await kafka_cluster.nodes[1].create_topic(topic)
    async with AIOKafkaProducer(**kafka_cluster.client(), **SAFE) as producer:
        await producer.send_and_wait(topic, b"before")
        for each in (1, 2):
            kafka_cluster.nodes[each].pause()
        sent = await producer.send(topic, b"after")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(sent), 1.0)
        kafka_cluster.recover()
        await asyncio.wait_for(sent, 60)
    assert await read(kafka_cluster.client(), topic, 2) == [b"before", b"after"]


async def test_a_leader_moves_on_order(kafka_cluster: KafkaCluster) -> None:
    topic = "moves"
    await kafka_cluster.nodes[1].create_topic(topic)
    to = await kafka_cluster.nodes[1].leader(topic) % 3 + 1
    async with AIOKafkaProducer(**kafka_cluster.client(), **SAFE) as producer:
        await producer.send_and_wait(topic, b"before")
        await asyncio.to_thread(kafka_cluster.move_leader, topic, to)

        async def moved() -> bool:
            return await kafka_cluster.nodes[1].leader(topic) == to

        await wait_for(moved, message="the leader has moved")
        await producer.send_and_wait(topic, b"after")
    assert await read(kafka_cluster.client(), topic, 2) == [b"before", b"after"]

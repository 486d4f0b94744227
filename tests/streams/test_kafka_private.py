"""The private parts of aiokafka that the link and the readers stand on: a new version that moves them must be told here."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from appliance.core.streams.kafka_lanes import _size
from appliance.core.streams.kafka_link import end
from tests.servers.fixtures import Topics
from tests.streams.kafka_rig import access


async def test_the_cluster_tells_leader_and_in_sync_replicas_of_a_partition(kafka: Topics) -> None:
    topic = f"{kafka.prefix}parts"
    await kafka.server.create_topic(topic, 1)
    producer = AIOKafkaProducer(**access(kafka.bootstrap).arguments(), enable_idempotence=True)
    await producer.start()
    try:
        await producer.partitions_for(topic)
        known = producer.client.cluster._partitions[topic][0]
        assert known.leader >= 0
        assert list(known.isr) == [known.leader]
    finally:
        await producer.stop()


async def test_a_producer_has_a_task_that_sends_and_ends_with_it(kafka: Topics) -> None:
    producer = AIOKafkaProducer(**access(kafka.bootstrap).arguments(), enable_idempotence=True)
    await producer.start()
    sender = producer._sender.sender_task
    assert isinstance(sender, asyncio.Task)
    assert not sender.done()
    await end(producer)
    assert sender.done()


async def test_a_batch_says_how_large_it_is_when_it_is_compressed(kafka: Topics) -> None:
    producer = AIOKafkaProducer(**access(kafka.bootstrap).arguments(), compression_type="snappy")
    await producer.start()
    try:
        batch = producer.create_batch()
        batch.append(key=b"k", value=b"x" * 10_000, timestamp=None)
        assert 0 < _size(batch) < 5000
    finally:
        await producer.stop()


async def test_a_consumer_has_a_client_that_asks_for_all_topics(kafka: Topics) -> None:
    topic = f"{kafka.prefix}all"
    await kafka.server.create_topic(topic, 2)
    consumer = AIOKafkaConsumer(**access(kafka.bootstrap).arguments(), group_id=None)
    await consumer.start()
    try:
        found = await consumer._client.fetch_all_metadata()
        assert found.partitions_for_topic(topic) == {0, 1}
        assert not consumer.partitions_for_topic(f"{kafka.prefix}nowhere")
    finally:
        await consumer.stop()

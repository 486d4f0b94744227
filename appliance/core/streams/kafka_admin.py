"""Looks at the cluster, makes missing topics, and measures how far consumer groups are behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from appliance.core.streams import topics
from appliance.core.streams.kafka import Access, describe
from appliance.core.streams.model import GroupLag
from appliance.core.streams.topics import TopicFacts, TopicSpec
from appliance.errors import LinkDownError

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer
    from aiokafka.admin import AIOKafkaAdminClient

EXISTS = 36
"""Kafka's code of a topic that somebody else has made meanwhile."""
TOPIC = 2
"""Kafka's number of topics among what has settings."""
LEADERS = 15.0
"""Seconds that a new topic may take until all partitions have a leader."""
GROUPS = 50
"""Most groups whose lag is measured."""


class Cluster(NamedTuple):
    """What was found."""

    brokers: tuple[str, ...]
    topics: Mapping[str, TopicFacts]
    created: tuple[str, ...]


@asynccontextmanager
async def _admin(access: Access) -> AsyncIterator[AIOKafkaAdminClient]:
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    client = AIOKafkaAdminClient(**await asyncio.to_thread(access.arguments))
    try:
        await client.start()
        yield client
    except (KafkaError, OSError, TimeoutError) as error:
        raise await describe(access.settings.bootstrap_servers, access, error) from error
    finally:
        await client.close()


async def prepare(access: Access, specs: Iterable[TopicSpec], *, create: bool) -> Cluster:
    """Look at the topics; make those that are missing.

    Args:
        access: To the cluster.
        specs: Topics that should be there.
        create: Whether missing ones are made.

    Raises:
        LinkDownError: The cluster does not answer, or does not make a topic.
    """
    async with _admin(access) as admin:
        found = await admin.describe_cluster()
        brokers = tuple(f"{each['host']}:{each['port']}" for each in found["brokers"])
        there = set(await admin.list_topics())
        missing = [each.name for each in specs if each.name not in there]
        if missing and create:
            await _create(admin, missing, min(topics.REPLICAS, len(brokers)))
            await _led(admin, missing)
        present = [each.name for each in specs if each.name in there or create]
        return Cluster(brokers, await _facts(admin, present), tuple(missing) if create else ())


async def _create(admin: AIOKafkaAdminClient, names: list[str], replicas: int) -> None:
    from aiokafka.admin import NewTopic
    from aiokafka.errors import for_code

    wanted = [NewTopic(name, topics.PARTITIONS, replicas, topic_configs=topics.created_with()) for name in names]
    answer = await admin.create_topics(wanted)
    for name, code, *message in answer.topic_errors:
        if code not in {0, EXISTS}:
            told = message[0] if message and message[0] else for_code(code).__name__
            raise LinkDownError(
                f"The topic {name} cannot be made: {told}.",
                "give the user the right to create topics, or make it on the broker.",
            )


async def _led(admin: AIOKafkaAdminClient, names: list[str]) -> None:
    """Wait until new topics have leaders. Raises TimeoutError."""
    async with asyncio.timeout(LEADERS):
        while True:
            found = await admin.describe_topics(names)
            parts = [part for each in found for part in each["partitions"]]
            if len(parts) == topics.PARTITIONS * len(names) and all(part["leader"] >= 0 for part in parts):
                return
            await asyncio.sleep(0.1)


async def _facts(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, TopicFacts]:
    if not names:
        return {}
    settings = await _settings(admin, names)
    found = {}
    for each in await admin.describe_topics(names):
        if not each["error_code"]:
            copies = min((len(part["replicas"]) for part in each["partitions"]), default=0)
            found[each["topic"]] = TopicFacts(len(each["partitions"]), copies, settings.get(each["topic"], {}))
    return found


async def _settings(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    found: dict[str, dict[str, str]] = {}
    for answer in answers:
        for code, _, _, name, entries in ((*each[:4], each[4]) for each in answer.resources):
            if not code:
                found[name] = {entry[0]: str(entry[1]) for entry in entries if entry[1] is not None}
    return found


async def lags(access: Access, consumer: AIOKafkaConsumer, groups: Iterable[str], prefixes: tuple[str, ...]) -> list[GroupLag]:
    """How far groups are behind.

    Args:
        access: To the cluster.
        consumer: One without a group, to ask for the ends of partitions.
        groups: Names.
        prefixes: All groups whose names begin so, too.

    Returns:
        One for each group and topic that is known; a group that does not exist has none.

    Raises:
        LinkDownError: The cluster does not answer.
    """
    wanted = set(groups)
    async with _admin(access) as admin:
        names = sorted({each[0] for each in await admin.list_consumer_groups()})
        mine = [name for name in names if name in wanted or name.startswith(prefixes)][:GROUPS]
        return [lag for name in mine for lag in await _lag(admin, consumer, name)]


async def _lag(admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer, group: str) -> list[GroupLag]:
    from aiokafka import TopicPartition

    committed = await admin.list_consumer_group_offsets(group)
    names = {each.topic for each in committed}
    found = {each["topic"]: each["partitions"] for each in await admin.describe_topics(sorted(names))} if names else {}
    parts = [TopicPartition(name, part["partition"]) for name, listed in found.items() for part in listed]
    if not parts:
        return []
    ends, begins = await consumer.end_offsets(parts), await consumer.beginning_offsets(parts)
    members = await _members(admin, group)
    behind: dict[str, int] = {}
    for each in parts:
        at = committed[each].offset if each in committed else -1
        behind[each.topic] = behind.get(each.topic, 0) + max(0, ends[each] - max(at, begins[each]))
    return [GroupLag(group=group, topic=name, lag=count, members=members) for name, count in sorted(behind.items())]


async def _members(admin: AIOKafkaAdminClient, group: str) -> int | None:
    answers: list[Any] = await admin.describe_consumer_groups([group])
    for answer in answers:
        for each in answer.groups:
            if not each[0]:
                return len(each[5])
    return None

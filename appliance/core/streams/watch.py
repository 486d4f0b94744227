"""Looks at the cluster's topics and groups while the link is up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from appliance.core.ports import Clock
from appliance.core.streams import kafka_admin, topics
from appliance.core.streams.kafka import Access
from appliance.core.streams.kafka_link import BATCH
from appliance.core.streams.kafka_reader import KafkaReader
from appliance.core.streams.model import GroupLag, TopicStatus
from appliance.core.streams.topics import TopicFacts
from appliance.core.streams.traffic import Traffic
from appliance.errors import LinkDownError

log = logging.getLogger(__name__)

LAGS = 5.0
"""Seconds between two measurements of the groups' lags."""
FACTS = 60.0
"""Seconds between two looks at the topics' settings."""
WINDOWS = "prime-spark-windows"


class ClusterWatch:
    """What is known of the cluster.

    Args:
        access: To it.
        traffic: Counts of this appliance.
        clock: For the intervals.
        sink_group: Whose lag is measured, besides those of the windows.
    """

    def __init__(self, access: Access, traffic: Traffic, clock: Clock, sink_group: str) -> None:
        self._access = access
        self._traffic = traffic
        self._clock = clock
        self._groups = (sink_group,)
        self._brokers = 0
        self._facts: Mapping[str, TopicFacts] | None = None
        self.groups: tuple[GroupLag, ...] = ()
        """Empty while it is not known."""

    async def prepare(self) -> tuple[tuple[str, ...], int, dict[str, int]]:
        """Look, and make what is missing (see KafkaLink). Raises LinkDownError."""
        found = await kafka_admin.prepare(self._access, topics.CONTRACT, create=self._access.settings.create_topics)
        for name in found.created:
            log.info("the topic %s was made", name)
        self._brokers, self._facts = len(found.brokers), found.topics
        limits = [facts.number("max.message.bytes") for facts in found.topics.values()]
        needed = {name: facts.number("min.insync.replicas") or 1 for name, facts in found.topics.items()}
        return found.brokers, min([BATCH, *(limit for limit in limits if limit)]), needed

    async def make(self, topic: str) -> None:
        """Make one topic, as those of the contract are. Raises LinkDownError."""
        found = await kafka_admin.prepare(self._access, [topics.TopicSpec(topic, "both")], create=True)
        for name in found.created:
            log.info("the topic %s was made", name)
        self._facts = {**(self._facts or {}), **found.topics}

    def topics(self) -> tuple[TopicStatus, ...]:
        """The contract's topics first, then others that had messages."""
        directions = {each.name: each.direction for each in topics.CONTRACT}
        others = sorted(set(self._traffic.topics) - set(directions))
        return tuple(self._status(name, directions.get(name, "both")) for name in (*directions, *others))

    def _status(self, name: str, direction: str) -> TopicStatus:
        facts = self._facts.get(name) if self._facts is not None else None
        known = self._facts is not None and name in topics.NAMES
        counts, (rate, byte_rate) = self._traffic.of(name), self._traffic.rates(name)
        return TopicStatus(
            name=name, direction=direction, partitions=facts.partitions if facts else None,
            replication=facts.replication if facts else None, sent=counts.sent, received=counts.received, rate=rate,
            byte_rate=byte_rate, refused=counts.refused, problem=topics.problem(facts, self._brokers) if known else "",
        )  # fmt: skip

    async def run(self, up: asyncio.Event, reader: Callable[[], KafkaReader]) -> None:
        """Measure until cancelled; only while the link is up."""
        while True:
            await up.wait()
            asker = reader()
            try:
                await asker.start()
                await self._measure(up, asker)
            except LinkDownError as error:
                log.warning("the lag of the groups is not known: %s", error.message)
            finally:
                self.groups = ()
                await asker.stop()
            await asyncio.sleep(LAGS)

    async def _measure(self, up: asyncio.Event, asker: KafkaReader) -> None:
        looked = self._clock.monotonic()
        while up.is_set():
            self.groups = tuple(await kafka_admin.lags(self._access, asker.consumer, self._groups, (WINDOWS,)))
            if self._clock.monotonic() - looked > FACTS:
                looked = self._clock.monotonic()
                found = await kafka_admin.prepare(self._access, topics.CONTRACT, create=False)
                self._brokers, self._facts = len(found.brokers), found.topics
            await asyncio.sleep(LAGS)

"""quixstreams' application with a bound to each of its waits for Kafka, and with its topics made in one request.

The library waits without end in transactions and where a producer registers. A wait that ends with an error ends the
application, which is then built again from the last transaction. Where offsets go into a transaction, librdkafka does not look
at the time that it is given (its issue 5456), and waits for a group coordinator that has left its list of brokers until any
connection changes its state (issue 5511), which without traffic is never. So idle connections are closed soon: see AWAKE.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import wait
from typing import Any

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka import Producer as RawProducer
from quixstreams import Application
from quixstreams.internal_producer import InternalProducer
from quixstreams.kafka.producer import Producer
from quixstreams.models.topics import Topic, TopicAdmin, TopicConfig, TopicManager
from quixstreams.models.topics.exceptions import CreateTopicFailure, CreateTopicTimeout

from appliance.agent.windows_log import RECONNECT

BOUND = 5.0
"""Seconds for one step of a transaction; the library tries a step three times."""
AWAKE = {"connections.max.idle.ms": 2000, "metadata.max.age.ms": 2500, "log.connection.close": False}
"""Of the transactional producer: connections change their state at least so often, and what is cached grows old."""
ANSWER = 10.0
"""Seconds for a question to a broker, and for a topic to be made."""


class BoundedApplication(Application):
    """An application that never waits without end, and leaves the signals to the process that runs it in a thread."""

    def _setup_signal_handlers(self) -> None:
        """They are the agent's."""

    def _get_internal_producer(self, on_error: Any = None, transactional: bool | None = None) -> InternalProducer:
        """The library's, on a client with bounds."""
        made = super()._get_internal_producer(on_error, transactional)
        if self._config.exactly_once if transactional is None else transactional:
            made._producer = _BoundedProducer(
                self._config.broker_address,
                extra_config=self._config.producer_extra_config,
                flush_timeout=self._config.flush_timeout,
                transactional=True,
            )
        return made

    def _get_topic_manager(self) -> TopicManager:
        admin = PromptAdmin(self._config.broker_address, extra_config=dict(RECONNECT))
        return TopicManager(
            admin, self._config.consumer_group, timeout=ANSWER, create_timeout=ANSWER,
            auto_create_topics=self._config.auto_create_topics,
        )  # fmt: skip

    def prepare_stores(self, stores: Sequence[str], between: Topic) -> None:
        """Make the changelogs of some stores, as the library would one by one.

        Args:
            stores: Their names.
            between: The topic that their windows read.

        Raises:
            KafkaException: No broker answers.
            CreateTopicFailure: One cannot be made.
        """
        manager = self._topic_manager
        assert isinstance(manager._admin, PromptAdmin)
        config = TopicManager.derive_topic_config([between])
        config.extra_config["cleanup.policy"] = "compact"
        names = [changelog(self._config.consumer_group, between.name, store) for store in stores]
        wanted = [Topic(name, create_config=config) for name in names]
        if self._config.auto_create_topics:
            manager._admin.create_topics(wanted, timeout=ANSWER, finalize_timeout=ANSWER)
        manager._admin.remember(names)


class _BoundedProducer(Producer):
    """A transactional producer whose steps end within BOUND seconds."""

    @property
    def _producer(self) -> RawProducer:
        if self._inner_producer is None:
            made = RawProducer(self._producer_config)
            made.init_transactions(2 * BOUND)
            self._inner_producer = made
        return self._inner_producer

    def send_offsets_to_transaction(
        self, positions: list[TopicPartition], group_metadata: Any, timeout: float | None = None
    ) -> None:
        super().send_offsets_to_transaction(positions, group_metadata, _bound(timeout))

    def commit_transaction(self, timeout: float | None = None) -> None:
        super().commit_transaction(_bound(timeout))

    def abort_transaction(self, timeout: float | None = None) -> None:
        super().abort_transaction(_bound(timeout))


def _bound(timeout: float | None) -> float:
    return BOUND if timeout is None else min(BOUND, timeout)


class PromptAdmin(TopicAdmin):
    """Looks at each topic once, and does not sleep a second for each that it makes."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._found: dict[str, TopicConfig] = {}

    def remember(self, names: Sequence[str]) -> None:
        """Look at many topics in one request. Those that were only just made may take a moment to be seen."""
        ends = time.monotonic() + ANSWER
        missing = list(names)
        while missing and time.monotonic() < ends:
            seen = super().inspect_topics(missing, timeout=ANSWER)
            self._found |= {name: config for name, config in seen.items() if config is not None}
            missing = [name for name in missing if name not in self._found]
            time.sleep(0.05 if missing else 0)

    def inspect_topics(self, topic_names: list[str], timeout: float = ANSWER) -> dict[str, TopicConfig | None]:
        """As the library's, from memory where it was seen before."""
        missing = [name for name in topic_names if name not in self._found]
        seen = super().inspect_topics(missing, timeout=timeout) if missing else {}
        return {name: self._found.get(name) or seen[name] for name in topic_names}

    def create_topics(self, topics: list[Topic], timeout: float = ANSWER, finalize_timeout: float = ANSWER) -> None:
        """As the library's; returns when they can be seen."""
        super().create_topics(topics, timeout=timeout, finalize_timeout=finalize_timeout)
        self.remember([topic.name for topic in topics if topic.name not in self._found])

    def _finalize_create(self, futures: Mapping[str, Any], finalize_timeout: float = ANSWER) -> None:
        done, waiting = wait(futures.values(), finalize_timeout)
        if waiting:
            raise CreateTopicTimeout(f"{len(waiting)} of {len(futures)} topics were not made within {finalize_timeout:g} s")
        refused = {name: _refusal(future) for name, future in futures.items() if future in done}
        if reasons := {name: reason for name, reason in refused.items() if reason}:
            raise CreateTopicFailure(f"topics cannot be made: {reasons}")


def _refusal(future: Any) -> str:
    """Why a topic was not made; empty where it is there."""
    error = future.exception()
    if error is None:
        return ""
    if isinstance(error, KafkaException):
        return "" if error.args[0].name() == "TOPIC_ALREADY_EXISTS" else str(error.args[0].str())
    return str(error)


def changelog(group: str, between: str, store: str) -> str:
    """The topic that a store's changes go to, by the library's scheme."""
    return f"changelog__{group}--{between}--{store}"

"""The rules as Kafka keeps them: a compacted topic of ours, one message a rule. Each is checked again here."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # it is documented there

from appliance.agent.windows_counts import Counts
from appliance.agent.windows_log import RECONNECT, in_words, quiet
from appliance.core.streams.rules import Rule, check
from appliance.errors import RuleError

log = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds for a question to a broker."""
PROBE, SOON = 3.0, 2.0
"""Seconds between two questions whether the broker answers, and for the answer: the topic itself is silent for days."""
REMOVED = 2000
"""Removed rules that are remembered, to take their state away."""
MOST = 200
"""Rules at one time; what is beyond them is told and not carried out."""


class Follower:
    """Reads the rules' topic in a thread of its own.

    Args:
        client: Of librdkafka: where the brokers are, and how to log in.
        topic: The rules' topic.
        counts: Counts rules that are wrong.
        changed: Called by the thread when the rules are not what they were; first when they are known.
        create: Make the topic where it is missing.
    """

    def __init__(
        self, client: Mapping[str, Any], topic: str, counts: Counts, changed: Callable[[], None], *, create: bool
    ) -> None:
        self._client = {**client, **RECONNECT, "logger": quiet(log.getChild("client"))}
        self._topic = topic
        self._counts = counts
        self._changed = changed
        self._create = create
        self._rules: dict[str, Rule] = {}
        self._removed: dict[str, None] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="windows-rules", daemon=True)
        self.known = False
        """Whether everything that was in the topic has been read."""
        self.brokers = 1
        self.error = ""

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; blocks for some tenths of a second."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(PATIENCE)

    def rules(self) -> tuple[Rule, ...]:
        """The enabled ones, by name; at most MOST."""
        with self._lock:
            enabled = sorted((rule for rule in self._rules.values() if rule.enabled), key=lambda rule: rule.id)
        return tuple(enabled[:MOST])

    def forms(self) -> dict[str, str | None]:
        """The fingerprint of each rule that is there, enabled or not; None for those that are known to be removed."""
        with self._lock:
            return dict(self._removed) | {name: rule.fingerprint for name, rule in self._rules.items()}

    def beyond(self) -> int:
        """Enabled rules that are not carried out because there are too many."""
        with self._lock:
            return max(0, sum(rule.enabled for rule in self._rules.values()) - MOST)

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except KafkaException as error:
                self.error = in_words(error)
                log.warning("the rules cannot be read: %s", self.error)
                self._stopping.wait(2.0)

    def _follow(self) -> None:
        partitions = self._partitions()
        consumer = Consumer({**self._client, "group.id": "prime-spark-rules", "enable.auto.commit": False})
        try:
            ends = [consumer.get_watermark_offsets(TopicPartition(self._topic, one), timeout=PATIENCE)[1] for one in partitions]
            missing = dict(zip(partitions, ends, strict=True))
            consumer.assign([TopicPartition(self._topic, one, OFFSET_BEGINNING) for one in partitions])
            self._read(consumer, missing)
        finally:
            consumer.close()

    def _read(self, consumer: Consumer, missing: dict[int, int]) -> None:
        """Take messages until the end; `missing` has the offsets up to which the rules are not complete."""
        dirty, due = False, time.monotonic() + PROBE
        while not self._stopping.is_set():
            if time.monotonic() >= due:
                self._probe(consumer)
                due = time.monotonic() + PROBE
            message = consumer.poll(0.25)
            if message is not None and (error := message.error()) is not None:
                self._complain(error)
                continue
            if message is not None:
                self.error = ""
                dirty |= self._take(message)
            for place in consumer.position([TopicPartition(self._topic, one) for one in list(missing)]) if missing else ():
                if place.offset >= missing[place.partition] or missing[place.partition] == 0:
                    del missing[place.partition]
            if missing:
                continue
            if (dirty and message is None) or not self.known:
                self.known, dirty = True, False
                self._changed()

    def _probe(self, consumer: Consumer) -> None:
        """See whether the broker answers."""
        try:
            consumer.list_topics(self._topic, timeout=SOON)
        except KafkaException as error:
            if not self.error:
                log.warning("Kafka does not answer: %s", in_words(error))
            self.error = in_words(error)
        else:
            self.error = ""

    def _complain(self, error: KafkaError) -> None:
        self.error = error.str()
        if error.code() in {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError.OFFSET_OUT_OF_RANGE}:
            raise KafkaException(error)
        log.warning("reading the rules: %s", error.str())

    def _take(self, message: Message) -> bool:
        """Keep one message's rule; whether that changes anything."""
        name = (message.key() or b"").decode("utf-8", "replace")
        rule = self._checked(name, message.value())
        with self._lock:
            before = self._rules.get(name)
            if rule is None:
                self._rules.pop(name, None)
            else:
                self._rules[name] = rule
                self._removed.pop(name, None)
        return rule != before

    def _checked(self, name: str, body: bytes | None) -> Rule | None:
        """The rule of a message; None for a removed or a wrong one, which must not go on in its old form."""
        if not body:
            return None
        try:
            document = msgspec.json.decode(body)
            if not isinstance(document, dict):
                raise RuleError(f"Rule {name[:80]} is no object.")
            if document.get("removed") is True:
                self._note_removed(name)
                return None
            rule = check(document)
            if rule.id != name:
                raise RuleError(f"Rule {rule.id} came under the name {name[:80]!r}.")
        except (RuleError, msgspec.DecodeError, UnicodeDecodeError) as error:
            self._counts.fail(name[:63], "the rule is wrong")
            log.error("a rule is left out: %s", error)
            return None
        return rule

    def _note_removed(self, name: str) -> None:
        with self._lock:
            self._removed.pop(name, None)
            self._removed[name] = None
            while len(self._removed) > REMOVED:
                del self._removed[next(iter(self._removed))]

    def _partitions(self) -> list[int]:
        """Of the topic, which is made where it is missing."""
        admin = AdminClient(self._client)
        cluster = admin.list_topics(timeout=PATIENCE)
        self.brokers = max(1, len(cluster.brokers))
        if self._topic not in cluster.topics and self._create:
            config = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1"}
            made = admin.create_topics([NewTopic(self._topic, 1, min(3, self.brokers), config=config)])
            try:
                made[self._topic].result(PATIENCE)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
        ends = time.monotonic() + PATIENCE
        while time.monotonic() < ends and not self._stopping.is_set():
            found = admin.list_topics(self._topic, timeout=PATIENCE).topics[self._topic]
            if found.partitions and found.error is None:
                return sorted(found.partitions)
            self._stopping.wait(0.1)
        raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, f"there is no topic {self._topic}"))

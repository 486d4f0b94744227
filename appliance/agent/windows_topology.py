"""The stream itself, on quixstreams: sources → events of rules → windows → cloud.aggregated. Loaded late: it is heavy.

Two steps, joined by a topic of ours. The first reads the source topics and writes one message for each rule and event, keyed
by rule and group, so that any grouping is whole in one partition. The second keeps the windows. Both are one application
with exactly-once processing: offsets, the state's changelogs, and what is written are one transaction.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from quixstreams.dataframe.windows import Aggregator
from quixstreams.dataframe.windows.aggregations import BaseCollector
from quixstreams.kafka.configuration import ConnectionConfig
from quixstreams.models import TopicConfig
from quixstreams.models.topics import Topic

from appliance.agent.windows_bounds import Bounds
from appliance.agent.windows_client import AWAKE, BoundedApplication
from appliance.agent.windows_counts import Counts
from appliance.agent.windows_idle import IdleCloser
from appliance.agent.windows_log import RECONNECT
from appliance.core.analytics.model import Aggregation
from appliance.core.streams import rules_functions as functions
from appliance.core.streams import topics
from appliance.core.streams.rules import Kind, Rule
from appliance.core.streams.rules_events import OUTPUT, BadMessageError, Closed, Reader, envelope_of, key_of, read
from appliance.errors import RuleError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """Where a stream runs."""

    connection: Mapping[str, Any]
    """Of librdkafka, as ConnectionConfig has its names."""
    group: str
    state: Path
    replication: int
    commit_seconds: float
    create_topics: bool = True
    groups: int = 10_000
    """Of a rule, in one partition."""
    values: int = 100_000
    """Of a group, for a percentile, in one length of its window."""

    @property
    def between(self) -> str:
        """The topic between the two steps."""
        return f"{self.group}.events"


class _Function(Aggregator):
    """One of the functions, as the library wants it. A mark that time has passed adds nothing."""

    def __init__(self, function: Aggregation) -> None:
        super().__init__(None)
        self._function = function

    @property
    def state_suffix(self) -> str:
        return str(self._function.value)

    def initialize(self) -> functions.State:
        return functions.start(self._function)

    def agg(self, old: functions.State, new: Mapping[str, Any], timestamp: int) -> functions.State:  # the library's form
        return old if "mark" in new else functions.add(self._function, old, new["v"])

    def result(self, value: functions.State) -> float | int | None:
        return functions.result(self._function, value)

    def merge(self, a: functions.State, b: functions.State) -> functions.State:
        return functions.join(self._function, a, b)


class _Tally(Aggregator):
    """How many events a window has, and when the last one was."""

    def initialize(self) -> list[int]:
        return [0, -1]

    def agg(self, old: list[int], new: Mapping[str, Any], timestamp: int) -> list[int]:
        return old if "mark" in new else [old[0] + 1, max(old[1], timestamp)]

    def result(self, value: list[int]) -> list[int]:
        return value

    def merge(self, a: list[int], b: list[int]) -> list[int]:
        return [a[0] + b[0], max(a[1], b[1])]


class _Percentile(BaseCollector[Any]):
    """The values themselves are kept apart, once for all windows that they lie in."""

    def __init__(self, percent: float) -> None:
        self._percent = percent

    @property
    def column(self) -> str:
        return "v"

    def result(self, items: Iterable[float | None]) -> float | None:
        return functions.percentile([value for value in items if value is not None], self._percent)


class Stream:
    """One running set of rules.

    Args:
        rules: The enabled ones.
        plan: Where it runs.
        counts: Counts what happens.
        ready: Called by the stream's thread with each message that was worked on.
    """

    def __init__(self, rules: Sequence[Rule], plan: Plan, counts: Counts, ready: Callable[[], None]) -> None:
        self._plan = plan
        self._counts = counts
        self._app = BoundedApplication(
            ConnectionConfig(**plan.connection),
            consumer_group=plan.group,
            auto_offset_reset="earliest",
            commit_interval=plan.commit_seconds,
            state_dir=plan.state,
            processing_guarantee="exactly-once",
            consumer_poll_timeout=0.25,
            loglevel=None,
            auto_create_topics=plan.create_topics,
            on_processing_error=self._on_error,
            on_message_processed=lambda *_: ready(),
            consumer_extra_config={**RECONNECT, "session.timeout.ms": 10_000, "heartbeat.interval.ms": 2_000},
            producer_extra_config={
                **RECONNECT,
                **AWAKE,
                "compression.type": "snappy",
                "transaction.timeout.ms": _transaction_ms(plan),
            },
        )
        self._out = self._topic(OUTPUT)
        between = self._topic(plan.between, timestamp_extractor=_event_time)
        for name in sorted({rule.topic for rule in rules}):
            self._read(name, [Reader(rule) for rule in rules if rule.topic == name], between)
        self._idle = IdleCloser(self._app, between.name, counts)
        self._keep(rules, between)

    def run(self) -> None:
        """Work until `stop`; blocks. Raises what the library raises."""
        with self._idle:
            self._app.run()

    def stop(self) -> None:
        """End `run` soon, with everything committed; from any thread."""
        self._app.stop()

    def _topic(self, name: str, **form: Any) -> Topic:
        config = TopicConfig(topics.PARTITIONS, self._plan.replication, topics.created_with())
        return self._app.topic(name, config=config, **form)

    def _read(self, name: str, readers: Sequence[Reader], between: Topic) -> None:
        """The first step for one source topic."""
        frame = self._app.dataframe(self._topic(name, value_deserializer="bytes"))

        def split(value: bytes | None, key: Any, *_: Any) -> list[dict[str, Any]]:
            return self._split(value, key, readers)

        frame = frame.apply(split, expand=True, metadata=True)
        frame.to_topic(between, key=_key)

    def _split(self, body: bytes | None, key: Any, readers: Sequence[Reader]) -> list[dict[str, Any]]:
        name = key.decode("utf-8", "replace") if isinstance(key, bytes) else ""
        try:
            envelope, moment = read(body, name, int(time.time() * 1000))
        except BadMessageError as error:
            self._counts.add("bad", reason=error.reason)
            return []
        found = []
        for reader in readers:
            try:
                sample = reader.sample(envelope, moment)
            except RuleError as error:
                self._counts.fail(reader.rule.id, error.message)
                continue
            if sample is not None:
                mine = {"r": reader.rule.id, "f": reader.rule.fingerprint, "g": sample.group, "d": sample.device}
                found.append({**mine, "t": moment, "v": sample.value})
        return found

    def _keep(self, rules: Sequence[Rule], between: Topic) -> None:
        """The second step: a branch for each rule."""
        frame = self._app.dataframe(between)
        known = {(rule.id, rule.fingerprint) for rule in rules}
        frame.update(lambda value: self._counts.add("stale", value["r"]) if (value["r"], value["f"]) not in known else None)
        windows = [(rule, self._window(frame, rule)) for rule in rules]
        self._app.prepare_stores([window.name for _, window in windows], between)
        for rule, window in windows:
            self._publish(rule, window)

    def _window(self, frame: Any, rule: Rule) -> Any:
        own = frame.filter(lambda value: value["r"] == rule.id and value["f"] == rule.fingerprint)
        bounds = Bounds(rule, self._counts, self._plan.groups, self._plan.values)
        own = own.filter(bounds.admits, metadata=True)
        own_value: Any = _Percentile(rule.percentile) if rule.function is Aggregation.percentile else _Function(rule.function)
        window = self._define(own, rule).agg(tally=_Tally(), value=own_value)
        bounds.bind(own, window)
        self._idle.watch(own, window, rule)
        return window

    def _publish(self, rule: Rule, window: Any) -> None:
        def finish(value: Mapping[str, Any], key: bytes, *_: Any) -> list[dict[str, Any]]:
            return self._finish(rule, value, key)

        done = window.final().apply(finish, expand=True, metadata=True)
        done = done.set_timestamp(lambda *_: int(time.time() * 1000))  # brokers may refuse what is far from their clock
        done.to_topic(self._out, key=key_of)

    def _define(self, own: Any, rule: Rule) -> Any:
        def late(*_: Any) -> bool:
            self._counts.add("late", rule.id)
            return False  # it is counted, not logged

        shared: dict[str, Any] = {"grace_ms": rule.lateness_ms, "name": f"{rule.id}-{rule.fingerprint}", "on_late": late}
        size = rule.window.size_ms
        if rule.window.kind is Kind.session:
            return own.session_window(size, **shared)
        if rule.window.kind is Kind.sliding:
            return own.sliding_window(size, **shared)
        if rule.window.kind is Kind.hopping:
            return own.hopping_window(size, rule.window.step_ms, **shared)
        return own.tumbling_window(size, **shared)

    def _finish(self, rule: Rule, value: Mapping[str, Any], key: bytes) -> list[dict[str, Any]]:
        """The event of a closed window; nothing for one that only a mark had opened."""
        count, last = value["tally"]
        if not count or (rule.window.kind is Kind.sliding and last != value["end"]):
            return []
        _, _, group, device = msgspec.json.decode(key)
        closed = Closed(rule, group, device, value["start"], value["end"], value["value"], count)
        self._counts.add("windows", rule.id)
        self._counts.add("events", rule.id, number=count)
        return [envelope_of(closed, int(time.time() * 1000))]

    def _on_error(self, error: Exception, row: Any, _: logging.Logger) -> bool:
        where = f"{row.topic}[{row.partition}] at {row.offset}" if row is not None else "?"
        log.error("the stream failed at %s: %s", where, error, exc_info=error)
        return False  # what cannot be told apart from a failing broker is tried again from the last transaction


def _transaction_ms(plan: Plan) -> int:
    """Readers wait so long for the transaction of an instance that died, milliseconds."""
    return max(10_000, round(plan.commit_seconds * 5000))


def _key(value: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode([value["r"], value["f"], value["g"], value["d"]])


def _event_time(value: Mapping[str, Any], *_: Any) -> int:
    return int(value["t"])

"""Closes the windows of groups that have gone silent: the library closes a group's windows when later events of it come.

From time to time the open windows are looked at. Where a group's event time has not moved for the rule's `idle` (by a clock
that only goes forward), a mark goes into the topic between the steps: an event without a value, so far ahead that all of the
group's windows close. What comes for them afterwards is late, and counted.
"""

from __future__ import annotations

import logging
import time
from typing import Any, NamedTuple, Self

import msgspec
from quixstreams.dataframe.windows.session import SessionWindow

from appliance.agent.windows_counts import Counts
from appliance.core.streams.rules import Kind, Rule

log = logging.getLogger(__name__)

FLUSH = 2.0
"""Seconds that marks have to reach Kafka when the stream ends."""
FAR = 2**62
"""Later than any event, milliseconds."""


Seen = dict[tuple[str, int, bytes], tuple[int, float]]
"""(store, partition, group) → (event time, when it was first seen on the monotonic clock; inf where all is closed)."""


class _Watched(NamedTuple):
    rule: Rule
    stream: str
    store: str


class IdleCloser:
    """Looks at the windows of one application, in its thread.

    Args:
        app: The application.
        topic: The topic that its windows read.
        counts: Counts what was closed.
    """

    def __init__(self, app: Any, topic: str, counts: Counts) -> None:
        self._app = app
        self._topic = topic
        self._counts = counts
        self._watched: list[_Watched] = []
        self._seen: Seen = {}
        self._next = 0.0
        self._context: Any = None
        self._producer: Any = None

    def __enter__(self) -> Self:
        self._producer = self._app.get_producer()
        self._producer.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._producer.flush(FLUSH)  # a mark that is lost is written again

    def watch(self, frame: Any, window: Any, rule: Rule) -> None:
        """Take care of one rule's windows."""
        if isinstance(window, SessionWindow):
            _close_without_joining(window)
        if rule.idle_s is None:
            return
        if self._context is None:
            self._context = frame.processing_context
            self._context.dataframe_registry.register_periodic_task(self._look)
        self._watched.append(_Watched(rule, frame.stream_id, window.name))

    def _look(self) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        patience = min(one.rule.idle_s or 60.0 for one in self._watched)
        self._next = now + max(0.5, min(patience / 4, 15.0))
        present: Seen = {}
        for one in self._watched:
            store = self._context.state_manager.get_store(one.stream, one.store)
            for partition in list(store.partitions):
                self._look_at(one, partition, now, present)
        self._seen = present

    def _look_at(self, one: _Watched, partition: int, now: float, present: Seen) -> None:
        windows = self._context.checkpoint.get_store_transaction(one.stream, partition, one.store)
        for group in list(windows.iter_prefixes()):
            place = (one.store, partition, group)
            newest = windows.get_latest_timestamp(group)
            before = self._seen.get(place)
            if before is None or before[0] != newest:
                present[place] = (newest, now)
            elif now - before[1] < (one.rule.idle_s or 0):
                present[place] = before
            else:
                present[place] = (newest, float("inf"))
                if _has_open(one.rule, windows, group):
                    self._mark(one.rule, partition, group, newest)

    def _mark(self, rule: Rule, partition: int, group: bytes, newest: int) -> None:
        name, fingerprint, key, device = msgspec.json.decode(group)
        mark = {"r": name, "f": fingerprint, "g": key, "d": device, "v": None, "mark": True, "t": _after(rule, newest)}
        self._producer.produce(self._topic, msgspec.json.encode(mark), key=group, partition=partition)
        self._counts.add("idle", rule.id)


def _after(rule: Rule, newest: int) -> int:
    """The event time that closes all windows of a group, milliseconds."""
    if rule.window.kind is Kind.session:
        return newest + 1
    return newest + rule.window.size_ms + rule.lateness_ms + 2


def _has_open(rule: Rule, windows: Any, group: bytes) -> bool:
    closed = windows.get_latest_expired(group) if rule.window.kind is not Kind.session else -1
    found = windows.get_windows(start_from_ms=closed or -1, start_to_ms=FAR, prefix=group)
    states = (value[1] if rule.window.kind is Kind.sliding else value for _, value, _ in found)
    return any(tally[0] for state in states for name, tally in state.items() if name.startswith("tally/"))


def _close_without_joining(window: Any) -> None:
    """Let a mark close the sessions of its group without being part of one, which could join two that lie apart."""
    process = window.process_window

    def closing(value: Any, key: Any, timestamp_ms: int, headers: Any, transaction: Any) -> Any:
        if "mark" in value:
            return [], window.expire_by_key(key, transaction.as_state(prefix=key), timestamp_ms, window.collect)
        return process(value=value, key=key, timestamp_ms=timestamp_ms, headers=headers, transaction=transaction)

    window.process_window = closing

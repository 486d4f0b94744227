"""What a rule may hold: so many groups in a partition, and so many values of a group for a percentile. The rest is refused, and
counted; a group that was refused for want of room is refused for good, until the rule is changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quixstreams.context import message_context
from quixstreams.state.rocksdb.windowed.metadata import LATEST_TIMESTAMPS_CF_NAME

from appliance.agent.windows_counts import Counts
from appliance.core.analytics.model import Aggregation
from appliance.core.streams.rules import Kind, Rule

GROUPS_FULL = "too many groups"
VALUES_FULL = "too many values"


class Bounds:
    """Decides for the events of one rule whether there is room for them.

    Args:
        rule: Whose.
        counts: Counts what is refused.
        groups: Most groups in one partition that the rule keeps state of, closed windows or not.
        values: Most values of a group that lie in one length of its window, for a percentile; in a session, of the session.
            Counted since this process began.
    """

    def __init__(self, rule: Rule, counts: Counts, groups: int, values: int) -> None:
        self._rule = rule
        self._counts = counts
        self._groups = groups
        self._values = values
        self._context: Any = None
        self._stream = self._store = ""
        self._held: dict[int, tuple[Any, int]] = {}
        self._kept: dict[tuple[int, bytes], tuple[int, int]] = {}

    def bind(self, frame: Any, window: Any) -> None:
        """Say whose state it is about."""
        self._context, self._stream, self._store = frame.processing_context, frame.stream_id, window.name

    def admits(self, value: Mapping[str, Any], key: bytes, timestamp: int, _: Any) -> bool:
        """Whether to take an event. A mark that time has passed is always taken: it adds nothing."""
        if "mark" in value:
            return True
        partition = message_context().partition
        if not self._has_room(partition, key):
            return self._refuse(GROUPS_FULL, f"more than {self._groups} groups in a partition: group by less")
        if self._rule.function is Aggregation.percentile and not self._may_keep(partition, key, timestamp):
            return self._refuse(VALUES_FULL, f"more than {self._values} values of a group in a window: take a shorter one")
        return True

    def _refuse(self, reason: str, text: str) -> bool:
        self._counts.refuse(self._rule.id, reason, text)
        return False

    def _has_room(self, partition: int, key: bytes) -> bool:
        transaction = self._context.checkpoint.get_store_transaction(self._stream, partition, self._store)
        if transaction.get_latest_timestamp(key):
            return True
        state = self._context.state_manager.get_store(self._stream, self._store).partitions[partition]
        known, count = self._held.get(partition, (None, 0))
        if known is not state:  # the partition has come to us, perhaps from another instance
            count = sum(1 for _ in state.iter_items(b"", cf_name=LATEST_TIMESTAMPS_CF_NAME))
        room = count < self._groups
        self._held[partition] = (state, count + room)
        return room

    def _may_keep(self, partition: int, key: bytes, timestamp: int) -> bool:
        size = self._rule.window.size_ms
        since, count = self._kept.get((partition, key), (0, 0))
        if self._rule.window.kind is Kind.session:
            since, count = max(since, timestamp), count if timestamp - since <= size else 0
        elif timestamp // size > since:
            since, count = timestamp // size, 0
        room = count < self._values
        self._kept[partition, key] = (since, count + room)
        return room

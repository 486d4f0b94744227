"""What goes into the database in one transaction: rows, dead letters, roll-ups, and how far each partition was read."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from appliance.core.analytics.rows import HOUR, METRICS, Table
from appliance.core.streams.kafka_consumer import Place
from appliance.core.streams.sink_decode import Decoder, Now, Record, Stored, Unusable

LARGEST = 32 * 1024 * 1024
"""Bytes of rows from which on a batch is full, however few they are."""
TURN = 500
"""Rows that are made at a stretch, well under a millisecond."""
KEPT_BODY = 64 * 1024
"""Bytes of a dead letter's body that are kept."""


class Entry(NamedTuple):
    """An event with the message that brought it."""

    record: Record
    event: Stored


class Letter(NamedTuple):
    """A message that cannot be used."""

    record: Record
    reason: str


Series = tuple[int, str, str]
"""Hour (seconds since the epoch), device, metric."""
Sums = list[float]
"""[sum, least, greatest, count]"""


class Batch:
    """Filled in a thread, written by the loop.

    Args:
        life: Number of the assignment that it belongs to; batches of an earlier one are not written.
        limit: Rows from which on it is full. The event that passes it is still taken: events are stored whole.
    """

    def __init__(self, life: int, limit: int) -> None:
        self.life = life
        self._limit = limit
        self.rows = 0
        self._bytes = 0
        self.events: dict[Table, list[Entry]] = {}
        self.letters: list[Letter] = []
        self.starts: dict[Place, int] = {}
        self.ends: dict[Place, int] = {}
        self.rollups: dict[Series, Sums] = {}
        """Metrics by hour, once it is sealed."""

    def __bool__(self) -> bool:
        return bool(self.ends)

    @property
    def full(self) -> bool:
        """Whether to write it now."""
        return self.rows + len(self.letters) >= self._limit or self._bytes >= LARGEST

    def take(self, waiting: deque[Record], positions: dict[Place, int], decoder: Decoder, now: Now) -> None:
        """Decode messages until there are no more or the batch is full; positions move along."""
        since = self.rows
        while waiting and not self.full:
            if self.rows - since >= TURN:
                time.sleep(0)  # the loop feeds the database meanwhile: it must not wait for the interpreter's lock
                since = self.rows
            record = waiting.popleft()
            place = Place(record.topic, record.partition)
            at = positions.get(place)
            if at is None or record.offset < at:  # of before a seek
                continue
            self.starts.setdefault(place, at)
            positions[place] = self.ends[place] = record.offset + 1
            try:
                event = decoder.event(record, now)
            except Unusable as refused:
                self.letters.append(Letter(record, str(refused)))
                self._bytes += len(record.value or b"")
                continue
            self.events.setdefault(event.table, []).append(Entry(record, event))
            self.rows += len(event.rows)
            if event.rows:  # those of one event are of much the same length
                self._bytes += len(event.rows) * len(event.rows[0])

    def pass_over(self, passed: Mapping[Place, int], positions: dict[Place, int]) -> None:
        """Go on behind what Kafka has and never gives: marks of transactions, and what was aborted."""
        for place, offset in passed.items():
            at = positions.get(place)
            if at is not None and at < offset:
                self.starts.setdefault(place, at)
                positions[place] = self.ends[place] = offset

    def chunks(self) -> dict[Table, set[int]]:
        """Starts of the chunks that the rows lie in, seconds since the epoch."""
        return {
            table: {entry.event.moment // table.chunk * table.chunk for entry in entries}
            for table, entries in self.events.items()
        }

    def seal(self) -> None:
        """Sum the metrics up by hour: nothing more comes in."""
        hours: dict[tuple[int, str], dict[str, Sums]] = {}
        counted = 0
        for _, event in self.events.get(METRICS, ()):
            if (counted := counted + len(event.values)) >= TURN:
                time.sleep(0)
                counted = 0
            _count(hours.setdefault((event.moment // HOUR * HOUR, event.device), {}), event.values)
        self.rollups = {
            (bucket, device, name): sums for (bucket, device), names in hours.items() for name, sums in names.items()
        }


def _count(by_name: dict[str, Sums], values: dict[str, float]) -> None:
    for name, value in values.items():
        sums = by_name.get(name)
        if sums is None:
            by_name[name] = [value, value, value, 1]
            continue
        sums[0] += value
        if value < sums[1]:
            sums[1] = value
        elif value > sums[2]:
            sums[2] = value
        sums[3] += 1

"""Counts and times as they happen. Light: nothing is loaded for it, and a count costs about a microsecond.

Labels are bounded: sets of labels beyond the bound are counted together, as "other". Used on the core loop; read anywhere.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator

from appliance.core.observe.sample import Bucket, Distribution, Mark, Sample

OTHER = "other"
MOST = 500
"""Sets of labels of one name."""
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Limits of times of requests."""
LONG = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Limits of times of language models."""


class Counter:
    """How often something happened.

    Args:
        name: Ends in _total.
        words: What is counted.
        labels: Their names.
        most: Sets of values of labels that are counted apart.
    """

    def __init__(self, name: str, words: str, labels: tuple[str, ...] = (), most: int = MOST) -> None:
        self.name, self.words, self.labels = name, words, labels
        self._most = most
        self._counts: dict[tuple[str, ...], float] = {}

    def add(self, *values: str, number: float = 1.0) -> None:
        """Count; the values of the labels in their order."""
        counts = self._counts
        if values not in counts and len(counts) >= self._most:
            values = (OTHER,) * len(self.labels)
        counts[values] = counts.get(values, 0.0) + number

    def samples(self) -> Iterator[Sample]:
        """As they are now."""
        for values, count in self._counts.copy().items():
            yield Sample(self.name, "counter", self.words, count, tuple(zip(self.labels, values, strict=True)))


class _Row:
    __slots__ = ("counts", "marks", "total")

    def __init__(self, size: int) -> None:
        self.counts = [0] * size
        self.marks: list[Mark | None] = [None] * size
        self.total = 0.0


class Times:
    """How long something took, in buckets.

    Args:
        name: Ends in its unit.
        words: What is measured.
        labels: Their names.
        limits: Upper limits of the buckets, in the unit, growing; the infinite one is added.
        most: Sets of values of labels that are kept apart.
    """

    def __init__(
        self, name: str, words: str, labels: tuple[str, ...] = (), limits: tuple[float, ...] = SECONDS, most: int = MOST
    ) -> None:
        self.name, self.words, self.labels, self.limits = name, words, labels, limits
        self._most = most
        self._rows: dict[tuple[str, ...], _Row] = {}

    def observe(self, value: float, *values: str, trace_id: str = "") -> None:
        """One took so long; with the trace that shows how, where there is one."""
        row = self._rows.get(values)
        if row is None:
            if len(self._rows) >= self._most:
                values = (OTHER,) * len(self.labels)
            row = self._rows.setdefault(values, _Row(len(self.limits) + 1))
        place = bisect_left(self.limits, value)
        row.counts[place] += 1
        row.total += value
        if trace_id:
            row.marks[place] = Mark(trace_id, value, time.time())

    def distributions(self) -> Iterator[Distribution]:
        """As they are now."""
        limits = (*self.limits, math.inf)
        for values, row in self._rows.copy().items():
            found, before = [], 0
            for limit, count, mark in zip(limits, row.counts, row.marks, strict=True):
                before += count
                found.append(Bucket(limit, before, mark))
            yield Distribution(self.name, self.words, tuple(found), row.total, tuple(zip(self.labels, values, strict=True)))


class Meter:
    """All that is counted where it happens."""

    def __init__(self) -> None:
        self._counters: list[Counter] = []
        self._times: list[Times] = []
        self._asked: list[Callable[[], Iterable[Sample]]] = []

    def counter(self, name: str, words: str, *labels: str, most: int = MOST) -> Counter:
        """A new counter."""
        made = Counter(name, words, labels, most)
        self._counters.append(made)
        return made

    def times(self, name: str, words: str, *labels: str, limits: tuple[float, ...] = SECONDS) -> Times:
        """A new histogram."""
        made = Times(name, words, labels, limits)
        self._times.append(made)
        return made

    def ask(self, source: Callable[[], Iterable[Sample]]) -> None:
        """Have something asked for its numbers at every scrape."""
        self._asked.append(source)

    def samples(self) -> Iterator[Sample]:
        """All numbers."""
        for counter in self._counters:
            yield from counter.samples()
        for source in self._asked:
            yield from source()

    def distributions(self) -> Iterator[Distribution]:
        """All histograms."""
        for each in self._times:
            yield from each.distributions()

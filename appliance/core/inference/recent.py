"""The newest results, bounded in number and in memory."""

from __future__ import annotations

from collections import deque

from appliance.core.model import InferenceResult

MOST = 200
"""Results: they are found here at once, and on disk a moment later."""
VALUES = 250_000
"""Runs of masks and values of vectors in all of them, about 10 MB."""


class Recent:
    """Keeps them; the newest is kept in any case."""

    def __init__(self) -> None:
        self._kept: deque[tuple[InferenceResult, int]] = deque()
        self._values = 0

    def add(self, result: InferenceResult) -> None:
        """One more; the oldest go where it becomes too much."""
        size = sum(len(mask.counts) for mask in result.masks) + len(result.embedding)
        self._kept.appendleft((result, size))
        self._values += size
        while len(self._kept) > MOST or (self._values > VALUES and len(self._kept) > 1):
            self._values -= self._kept.pop()[1]

    def all(self) -> tuple[InferenceResult, ...]:
        """Newest first."""
        return tuple(result for result, _ in self._kept)

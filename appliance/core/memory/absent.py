"""Keys that are known to be nowhere: look-ups that are spared."""

from __future__ import annotations

import time
from collections import OrderedDict

ABSENT_KEPT = 20_000
"""Keys that are remembered as not there."""


class Absent:
    """Keys that were found nowhere, for a short while.

    Args:
        seconds: How long.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: OrderedDict[str, float] = OrderedDict()

    def has(self, name: str) -> bool:
        """Whether a look-up can be spared."""
        until = self._until.get(name)
        if until is None:
            return False
        if until <= time.monotonic():
            self._until.pop(name, None)
            return False
        return True

    def add(self, name: str) -> None:
        """Remember one; the oldest goes where there are too many."""
        self._until[name] = time.monotonic() + self._seconds
        while len(self._until) > ABSENT_KEPT:
            self._until.popitem(last=False)

    def discard(self, name: str) -> None:
        """It may be there now."""
        self._until.pop(name, None)

    def __len__(self) -> int:
        return len(self._until)

    def clear(self) -> None:
        """Anything may be there now."""
        self._until.clear()

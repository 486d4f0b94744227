"""Counts what goes out and comes in, for each topic, with rates over the last ten seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

WINDOW = 10.0
"""Seconds of a rate."""
TOPICS = 200
"""Most topics that are counted apart; what is beyond counts as OTHERS."""
OTHERS = "(others)"


@dataclass
class Counts:
    """Of one topic, since the start."""

    sent: int = 0
    received: int = 0
    refused: int = 0
    recent: deque[tuple[float, int, int]] = field(default_factory=deque)
    """(monotonic time, messages, bytes), one entry for each part of a second."""


class Traffic:
    """All topics.

    Args:
        monotonic: A clock that only goes forward, seconds.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._topics: dict[str, Counts] = {}

    def of(self, topic: str) -> Counts:
        """The counts of a topic."""
        if topic not in self._topics and len(self._topics) >= TOPICS:
            topic = OTHERS
        return self._topics.setdefault(topic, Counts())

    @property
    def topics(self) -> tuple[str, ...]:
        """Those that were seen."""
        return tuple(self._topics)

    def sent(self, topic: str, messages: int, size: int) -> None:
        """Messages went out, `size` bytes together."""
        self.of(topic).sent += messages
        self._note(topic, messages, size)

    def received(self, topic: str, messages: int, size: int) -> None:
        """Messages came in, `size` bytes together."""
        self.of(topic).received += messages
        self._note(topic, messages, size)

    def rates(self, topic: str) -> tuple[float, float]:
        """(messages a second, bytes a second), both ways."""
        recent = self.of(topic).recent
        since = self._monotonic() - WINDOW
        while recent and recent[0][0] < since:
            recent.popleft()
        return sum(each[1] for each in recent) / WINDOW, sum(each[2] for each in recent) / WINDOW

    def _note(self, topic: str, messages: int, size: int) -> None:
        recent, slot = self.of(topic).recent, round(self._monotonic(), 1)
        if recent and recent[-1][0] == slot:
            _, before, bytes_before = recent.pop()
            messages, size = before + messages, bytes_before + size
        recent.append((slot, messages, size))
        while recent[0][0] < slot - WINDOW:
            recent.popleft()

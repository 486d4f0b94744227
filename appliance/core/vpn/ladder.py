"""How a peer is brought back: its name looked up again, the socket opened anew, its entry renewed, at last the interface."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from appliance.core.backoff import backoff
from appliance.core.ports import Clock
from appliance.core.vpn.status import ATTEMPTS, Attempt

STEPS = ("resolve", "rebind", "renew", "restart")


@dataclass(frozen=True)
class Pace:
    """How fast a ladder is climbed; seconds."""

    between: float = 15.0
    """Between two steps: a handshake is tried every 5 s."""
    first: float = 30.0
    """At most, before the second climb."""
    longest: float = 600.0
    """Between two climbs, ever."""


class Ladder:
    """The tries to bring one peer back.

    Args:
        clock: For times.
        pace: How fast.
    """

    def __init__(self, clock: Clock, pace: Pace) -> None:
        self._clock = clock
        self._pace = pace
        self._at = 0
        self._climbs = 0
        self._next = 0.0
        """Monotonic; 0 for at once."""
        self._tried: deque[Attempt] = deque(maxlen=ATTEMPTS)
        self.total = 0
        """Tries since the start."""

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Newest last."""
        return tuple(self._tried)

    @property
    def next_wall(self) -> float:
        """Wall clock of the next try; 0 where none is planned."""
        left = self._next - self._clock.monotonic()
        return self._clock.wall() + left if self._next and left > 0 else 0.0

    def reset(self) -> None:
        """The peer is back: begin from below the next time."""
        self._at, self._climbs, self._next = 0, 0, 0.0

    def due(self, *, endpoint: bool, gone: bool, alone: bool) -> str:
        """The step to take now; empty for none.

        Args:
            endpoint: We know where the peer should be.
            gone: It is down for certain, not only silent: its session is no loss.
            alone: No other peer is connected either.
        """
        if self._clock.monotonic() < self._next:
            return ""
        may = {"resolve": endpoint, "rebind": True, "renew": gone and endpoint, "restart": gone and alone and endpoint}
        while self._at < len(STEPS) and not may[STEPS[self._at]]:
            self._at += 1
        if self._at < len(STEPS):
            return STEPS[self._at]
        self._rest()
        return ""

    def done(self, step: str, outcome: str) -> None:
        """Note a try, and plan the next."""
        self._tried.append(Attempt(self._clock.wall(), step, outcome))
        self.total += 1
        self._at = STEPS.index(step) + 1
        self._next = self._clock.monotonic() + self._pace.between
        if self._at >= len(STEPS):
            self._rest()

    def _rest(self) -> None:
        self._climbs += 1
        self._at = 0
        self._next = self._clock.monotonic() + backoff(self._climbs, self._pace.first, self._pace.longest)

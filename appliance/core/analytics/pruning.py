"""Says when the wall clock may be trusted to delete what is old.

A Raspberry Pi without a battery-backed clock can start in any year until it has asked the network. One start in a far
year must not delete the history: after a gap in the readings, or a step of the clock, nothing is deleted until the
clock has gone on evenly for some hours.
"""

from __future__ import annotations

from appliance.core.ports import Clock

EVERY = 86400.0
"""Seconds between deletions."""
GAP = 2 * 86400.0
"""Seconds without readings that are taken for a pause; after a longer one the clock has to prove itself."""
STEP = 3600.0
"""Seconds by which the wall clock may leave the monotonic one between two looks."""
HOLD = 6 * 3600.0
"""Seconds that a doubtful clock has to go on evenly."""


class PruneClock:
    """When to prune.

    Args:
        clock: The clock to judge.
        began: When the newest stretch of readings began that a long pause is before; None where there is no pause.
        newest: The newest reading of before this start; None where there is none. Both in seconds since the epoch.
    """

    def __init__(self, clock: Clock, began: float | None, newest: float | None) -> None:
        self._clock = clock
        self._offset = clock.wall() - clock.monotonic()
        self._next = clock.monotonic()
        if newest is not None and clock.wall() - newest > GAP:
            self._next += HOLD
        elif began is not None:
            self._next += max(0.0, began + HOLD - clock.wall())

    def due(self) -> bool:
        """Whether to delete now; look every few minutes, so that a step is noticed."""
        now = self._clock.monotonic()
        offset = self._clock.wall() - now
        if abs(offset - self._offset) > STEP:
            self._next = max(self._next, now + HOLD)
        self._offset = offset
        return now >= self._next

    def done(self) -> None:
        """It was done: again in a day."""
        self._next = self._clock.monotonic() + EVERY

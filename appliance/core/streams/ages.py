"""Since when something waits, on a machine whose wall clock jumps.

What waits carries the wall clock of its coming. Within one life the monotonic clock shows every step of the other; what came
in this life is dated anew then. Over a restart only the wall clock counts: where it doubts, nothing is given up for its age
until it has gone on evenly for an hour.
"""

from __future__ import annotations

from appliance.core.ports import Clock

STEP = 60.0
"""Seconds by which the wall clock may leave the monotonic one between two looks."""
GAP = 2 * 86400.0
"""Seconds without anything new that are taken for a pause; after a longer one the clock has to prove itself."""
HOLD = 3600.0
"""Seconds that a doubtful clock has to go on evenly."""


class AgeClock:
    """Judges the wall clock.

    Args:
        clock: The clock to judge.
        newest: When the newest of what waits came, in an earlier life; None where nothing waits.
    """

    def __init__(self, clock: Clock, newest: float | None) -> None:
        self._clock = clock
        self._offset = clock.wall() - clock.monotonic()
        self._trusted_at = clock.monotonic()
        if newest is not None and abs(clock.wall() - newest) > GAP:
            self._trusted_at += HOLD

    def look(self) -> float:
        """Seconds by which the wall clock was stepped since the last look; 0.0 where it was not. Look once a minute."""
        now = self._clock.monotonic()
        step = self._clock.wall() - now - self._offset
        self._offset += step
        if abs(step) <= STEP:
            return 0.0
        self._trusted_at = max(self._trusted_at, now + HOLD)
        return step

    @property
    def trusted(self) -> bool:
        """Whether something may be given up for its age now."""
        return self._clock.monotonic() >= self._trusted_at

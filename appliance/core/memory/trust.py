"""Whether the wall clock may be believed: a machine that boots with a wrong date would take everything for expired."""

from __future__ import annotations

import logging
from pathlib import Path

from appliance.core.ports import Clock

log = logging.getLogger(__name__)

JUMP = 3600.0
"""Seconds that the wall clock may run away from the monotonic one, or from the last run's end, unnoticed."""
PATIENCE = 600.0
"""Seconds after a jump until it is believed without anybody having set the clock."""
SYNCHRONISED = Path("/run/systemd/timesync/synchronized")
"""Touched by systemd-timesyncd whenever it has the time from a server."""


class ClockTrust:
    """Watches the wall clock for jumps.

    Args:
        clock: The one that is watched.
        mark: A file that is touched whenever the clock was set from a trusted source.
    """

    def __init__(self, clock: Clock, mark: Path = SYNCHRONISED) -> None:
        self._clock = clock
        self.mark = mark
        self._ahead = clock.wall() - clock.monotonic()
        self._doubted_since: float | None = None
        """Monotonic."""
        self._touched_before = self._touched()

    def recall(self, last: float) -> None:
        """Hear at the start what time it was when the clock was believed last (wall clock; 0 for never)."""
        away = self._clock.wall() - last
        if last and not -JUMP <= away <= JUMP:
            self._doubt(f"it is {away / 86400:.1f} days after the last run", None)

    def believed(self) -> bool:
        """Whether what the wall clock says may have something removed for good."""
        ahead = self._clock.wall() - self._clock.monotonic()
        jumped, touched = ahead - self._ahead, self._touched()
        self._ahead = ahead
        if abs(jumped) > JUMP:
            self._doubt(f"it jumped by {jumped / 86400:.1f} days", self._touched_before)
        self._settle(touched)
        if self._doubted_since is None:
            self._touched_before = touched
        return self._doubted_since is None

    def _doubt(self, why: str, touched_before: int | None) -> None:
        log.warning("the clock is not believed yet, nothing is taken for expired: %s", why)
        self._doubted_since = self._clock.monotonic()
        self._touched_before = touched_before

    def _settle(self, touched: int | None) -> None:
        if self._doubted_since is None:
            return
        was_set = touched is not None and touched != self._touched_before
        if was_set or self._clock.monotonic() - self._doubted_since >= PATIENCE:
            log.info("the clock is believed: %s", "it was set" if was_set else "it has run steadily")
            self._doubted_since = None

    def _touched(self) -> int | None:
        try:
            return self.mark.stat().st_mtime_ns
        except OSError:  # nobody sets the clock here, or has not yet
            return None

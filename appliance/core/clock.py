"""The clocks of the machine."""

from __future__ import annotations

import time


class SystemClock:
    """The machine's own clocks (implements ports.Clock)."""

    def wall(self) -> float:
        """Seconds since the epoch, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since boot, suspend included where the kernel offers it; never goes back."""
        return monotonic()


def monotonic() -> float:
    """Now, by the clock of all instants that the core shows: what SystemClock has, for whoever shows their age."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()

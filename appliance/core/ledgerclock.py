"""The time of a ledger that counts by days: a jump of the machine's clock neither turns it back nor makes it run ahead."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from appliance.core.ports import Clock

BOOT = Path("/proc/sys/kernel/random/boot_id")


class LedgerClock:
    """Goes on from where it stood, by the monotonic clock within one start of the machine.

    Args:
        clock: The machine's.
        table: Where it is kept: one row (1, tick, boot, monotonic, wall).
        boot: Names this start of the machine.
        correct: What is made of a new time: called with the one before, the new one and the machine's; seconds since the epoch.
    """

    def __init__(
        self,
        clock: Clock,
        table: str,
        boot: Callable[[], str] | None = None,
        correct: Callable[[float, float, float], float] = lambda _before, tick, _wall: tick,
    ) -> None:
        self._clock = clock
        self._read = f"SELECT tick, boot, monotonic, wall FROM {table}"  # noqa: S608 our own name
        self._keep = f"INSERT OR REPLACE INTO {table} (one, tick, boot, monotonic, wall) VALUES (1, ?, ?, ?, ?)"  # noqa: S608
        self._boot = boot or boot_id
        self._correct = correct

    def tick(self, connection: sqlite3.Connection) -> float:
        """The time now, seconds since the epoch; kept with what else the transaction writes. Raises sqlite3.Error."""
        wall, monotonic, boot = self._clock.wall(), self._clock.monotonic(), self._boot()
        row = connection.execute(self._read).fetchone()
        tick = wall
        if row is not None:
            passed = monotonic - row[2] if row[1] == boot else wall - row[3]
            tick = self._correct(row[0], row[0] + max(0.0, passed), wall)
        connection.execute(self._keep, (tick, boot, monotonic, wall))
        return float(tick)


def boot_id() -> str:
    """Names this start of the machine, as the kernel does; empty where its file is not there."""
    try:
        return BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""

"""Values as short text; what is not known is a dash, never a zero."""

from __future__ import annotations

import time
from datetime import datetime

NONE = "–"


def percent(value: float | None) -> str:
    """ "12 %"."""
    return NONE if value is None else f"{value:.0f} %"


def size(count: float | None) -> str:
    """Bytes in binary units (IEC 80000-13): "1.2 GiB"."""
    if count is None:
        return NONE
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def rate(count: float | None) -> str:
    """Bytes per second."""
    return NONE if count is None else f"{size(count)}/s"


def duration(seconds: float | None) -> str:
    """One unit, the largest that fits: "12 s", "3 min", "2 h", "5 d"."""
    if seconds is None:
        return NONE
    for limit, unit, name in ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h")):
        if seconds < limit:
            return f"{max(0, seconds) / unit:.0f} {name}"
    return f"{seconds / 86400:.0f} d"


def age(seconds: float | None) -> str:
    """How old a value is."""
    return "never" if seconds is None else duration(seconds)


class Stamp:
    """When something was last read, by a clock that does not jump."""

    def __init__(self) -> None:
        self.at: float | None = None

    def set(self) -> None:
        """It was read just now."""
        self.at = time.monotonic()

    @property
    def age(self) -> float | None:
        """Seconds since then; None where it never was read."""
        return None if self.at is None else time.monotonic() - self.at


def since(timestamp: float) -> str:
    """How long ago a moment was, by the wall clock."""
    return NONE if not timestamp else duration(time.time() - timestamp)


def clock(timestamp: float) -> str:
    """A moment's local time, with the date where it is not today's."""
    if not timestamp:
        return NONE
    moment = datetime.fromtimestamp(timestamp).astimezone()
    same_day = moment.date() == datetime.now().astimezone().date()
    return moment.strftime("%H:%M:%S" if same_day else "%m-%d %H:%M")


def milliseconds(value: float | None) -> str:
    """ "34 ms"."""
    return NONE if value is None else f"{value:.0f} ms"

"""Values as short text; what is not known is a dash, never a zero."""

from __future__ import annotations

import time
from collections.abc import Sequence
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


UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float | None) -> str:
    """The whole ones of the largest unit that fits: "12 s", "3 min", "2 h", "5 d"."""
    if seconds is None:
        return NONE
    whole = max(0, int(seconds))
    return next((f"{whole // unit} {name}" for unit, name in UNITS if whole >= unit), "0 s")


def span(seconds: float | None) -> str:
    """The two largest units: "3 h 32 min", "5 d 2 h", "40 s", "0.5 s"."""
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{max(0.0, seconds):.3g} s"
    whole = int(seconds)
    at = next(index for index, (unit, _) in enumerate(UNITS) if whole >= unit)
    (unit, name), (lower, lower_name) = UNITS[at], UNITS[at + 1]
    rest = whole % unit // lower
    return f"{whole // unit} {name}" + (f" {rest} {lower_name}" if rest else "")


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


def took(value: float | None) -> str:
    """How long something took, given in milliseconds, in 7 characters: "34 ms", "25.0 s", "59 min"."""
    if value is None or value < 999.5:
        return milliseconds(value)
    return f"{value / 1000:.1f} s" if value < 59_950 else duration(value / 1000)


def hit_rate(hits: int, misses: int) -> str:
    """A share of all reads; a dash before the first one."""
    return percent(100 * hits / (hits + misses)) if hits + misses else NONE


def ms(value: float | None) -> str:
    """Milliseconds in three digits."""
    return NONE if value is None else f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 10 else f"{value:.0f}"


def corners(points: Sequence[Sequence[float]]) -> str:
    """A zone's corners as `source set-zone` takes them: shares of the frame."""
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def counted(number: int, noun: str) -> str:
    """ "1 label", "2 labels"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

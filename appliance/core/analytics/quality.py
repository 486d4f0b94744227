"""Judges incoming readings, and turns what is wrong into incidents with a beginning and an end."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

import msgspec

from appliance.core.analytics import checks
from appliance.core.analytics.model import QualityFinding
from appliance.core.events import HostMetrics

SERIES = 2000
"""Metrics (with their tags) that are watched; the one longest silent makes room."""
ARRIVALS = 16
IDS = 4096
"""Newest event ids that are remembered."""
TIMES = 32
"""Newest times of a metric that are remembered."""
CLEAN = {"out_of_range": 3, "late": 3, "duplicate": 20}
"""Good readings in a row after which an incident is over."""
FORGET = 86400.0
"""Seconds after which a metric that stays away is taken for gone, not for silent."""

Key = tuple[str, tuple[tuple[str, str], ...]]


@dataclass
class Incident:
    """One thing wrong with one metric, while it lasts."""

    finding: QualityFinding
    clean: int = 0


@dataclass
class Line:
    """What is known of one metric with its tags."""

    arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=ARRIVALS))
    times: deque[float] = field(default_factory=lambda: deque(maxlen=TIMES))
    last: float = 0.0
    """Wall clock of the last arrival."""


class Judge:
    """All readings of one device.

    Args:
        device_id: Whose readings these are.
    """

    def __init__(self, device_id: str) -> None:
        self._device = device_id
        self._lines: OrderedDict[Key, Line] = OrderedDict()
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._open: dict[tuple[Key, str], Incident] = {}
        self._offset: float | None = None
        self._stepped_at = float("-inf")
        self.forgotten = 0
        """Metrics that had to make room."""

    def findings(self) -> tuple[QualityFinding, ...]:
        """What is wrong now, newest first."""
        return tuple(sorted((each.finding for each in self._open.values()), key=lambda each: -each.since))

    def clock(self, wall: float, monotonic: float) -> float | None:
        """Look at the clocks, before readings are judged; seconds by which the wall clock was set, where it was."""
        offset = wall - monotonic
        found = None if self._offset is None else checks.step(offset, self._offset)
        self._offset = offset
        if found is not None:
            self._stepped_at = monotonic
            for line in self._lines.values():
                line.times.clear()  # a clock that was set back goes through the same moments again
        return found

    def take(self, event: HostMetrics, wall: float, monotonic: float) -> list[QualityFinding]:
        """Judge one event; incidents that begin (until is None) or end with it."""
        again = event.id in self._ids
        self._ids[event.id] = None
        if len(self._ids) > IDS:
            self._ids.popitem(last=False)
        tags = tuple(sorted(event.tags.items()))
        told: list[QualityFinding] = []
        for metric, value in event.metrics.items():
            told += self._take((metric, tags), event.time, value, wall, monotonic, again)
        return told

    def _take(self, key: Key, time: float, value: float, wall: float, monotonic: float, again: bool) -> list[QualityFinding]:
        line = self._lines.setdefault(key, Line())
        self._lines.move_to_end(key)
        repeated = "the same event came again" if again else "two values for one moment" if time in line.times else ""
        settling = monotonic - self._stepped_at <= checks.LATE  # what was on its way while the clock was set is not late
        reasons = {
            "duplicate": repeated,
            "out_of_range": checks.out_of_range(key[0], value),
            "late": "" if settling else checks.late(time, wall),
        }
        told = self._make_room(wall)
        told += [each for check, reason in reasons.items() for each in self._note(key, check, reason, wall)]
        if not repeated:
            told += self._end(key, "gap", wall)
            line.arrivals.append(monotonic)
            line.times.append(time)
        line.last = wall
        return told

    def _make_room(self, wall: float) -> list[QualityFinding]:
        """Let go of the metric longest silent where there are too many; its incidents end."""
        if len(self._lines) <= SERIES:
            return []
        self.forgotten += 1
        return self._let_go(next(iter(self._lines)), wall)

    def _let_go(self, key: Key, wall: float) -> list[QualityFinding]:
        del self._lines[key]
        ended = [each for check in ("gap", *CLEAN) for each in self._end(key, check, wall)]
        return [msgspec.structs.replace(each, gone=True) for each in ended]

    def silence(self, wall: float, monotonic: float) -> list[QualityFinding]:
        """Look for metrics that stay away; incidents that begin or end."""
        told: list[QualityFinding] = []
        for key, line in list(self._lines.items()):
            if line.arrivals and monotonic - line.arrivals[-1] > FORGET:
                told += self._let_go(key, wall)
            elif reason := checks.gap(line.arrivals, monotonic):
                silent = monotonic - line.arrivals[-1]
                told += self._note(key, "gap", reason, wall - silent)
        return told

    def _note(self, key: Key, check: str, reason: str, wall: float) -> list[QualityFinding]:
        known = self._open.get((key, check))
        if reason and known is None:
            shown = f" ({', '.join(f'{name}={text}' for name, text in key[1])})" if key[1] else ""
            finding = QualityFinding(
                check=check, metric=key[0], device_id=self._device, since=wall, until=None, count=1, detail=f"{reason}{shown}"
            )  # fmt: skip
            self._open[key, check] = Incident(finding)
            return [finding]
        if known is None:
            return []
        if reason:
            known.clean = 0
            if check != "gap":
                known.finding = msgspec.structs.replace(known.finding, count=known.finding.count + 1)
            return []
        known.clean += 1
        return self._end(key, check, wall) if known.clean >= CLEAN[check] else []

    def _end(self, key: Key, check: str, wall: float) -> list[QualityFinding]:
        known = self._open.pop((key, check), None)
        return [] if known is None else [msgspec.structs.replace(known.finding, until=wall)]

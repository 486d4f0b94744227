"""What the sink counts and says of itself."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

from appliance.core.figures import counted
from appliance.core.model import Health, HealthReport
from appliance.core.streams.sink_writer import Written
from appliance.errors import ApplianceError

TOLD = 86_400.0
"""Seconds for which health tells of lost messages; the count stays."""
STALLS = 60.0
"""Seconds without a message stored, while there are some, from which health tells of it."""
WINDOW = 10.0
"""Seconds over which the rate is taken."""


class Figures:
    """Counts since the start, and what is wrong now."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.known = 0
        """Rows that were there already: events that came twice."""
        self.letters = 0
        self.batches = 0
        self.fenced = 0
        self.lost = 0
        """Messages that Kafka had dropped before they were read."""
        self._lost_at = 0.0
        self.lag: dict[str, int] = {}
        """Messages by topic."""
        self.note = ""
        self._stored, self._moved, self.stalled = -1, 0.0, 0.0
        self._recent: deque[tuple[float, int]] = deque(maxlen=10_000)
        self._trouble: dict[str, ApplianceError] = {}

    def wrote(self, done: Written, now: float) -> None:
        """A batch is in the database; `now` is monotonic, seconds."""
        self.rows.update(done.rows)
        self.known += done.known
        self.letters += done.letters
        self.batches += 1
        self._recent.append((now, sum(done.rows.values())))

    def missed(self, messages: int, now: float) -> None:
        """So many messages were dropped by Kafka before they were read."""
        self.lost += messages
        self._lost_at = now

    def moved(self, stored: int, now: float) -> None:
        """Where all partitions are read to, taken together, after a look at the lag; `now` is monotonic, seconds."""
        if stored != self._stored or not any(self.lag.values()):
            self._stored, self._moved = stored, now
        self.stalled = now - self._moved

    def trouble(self, where: str, error: ApplianceError | None) -> bool:
        """Something ("kafka", "database") fails, or works again (None); whether that is news."""
        before = self._trouble.pop(where, None)
        if error is not None:
            self._trouble[where] = error
        return (error and error.message) != (before and before.message)

    def rate(self, now: float) -> float:
        """Rows a second over the last ten."""
        while self._recent and self._recent[0][0] < now - WINDOW:
            self._recent.popleft()
        return sum(rows for _, rows in self._recent) / WINDOW

    def details(self, now: float) -> dict[str, Any]:
        """All of it, for programs."""
        return {
            "rows": dict(self.rows), "rows_per_s": round(self.rate(now), 1),
            "lag": None if "kafka" in self._trouble else dict(self.lag),  # it was true when Kafka last answered
            "known": self.known,
            "dead_letters": self.letters, "batches": self.batches, "fenced": self.fenced, "lost": self.lost,
            "note": self.note,
        }  # fmt: skip

    def report(self, now: float, partitions: int) -> HealthReport:
        """How the sink is."""
        details = self.details(now)
        for where, error in self._trouble.items():
            return HealthReport(Health.unhealthy, f"{where}: {error.message}", error.next_step, details)
        if self.stalled >= STALLS:
            return HealthReport(
                Health.degraded, f"{counted(sum(self.lag.values()), 'message')} wait, and none came for {self.stalled:.0f} s",
                "look at the network to the brokers, and at their logs.", details,
            )  # fmt: skip
        if self.lost and now - self._lost_at < TOLD:
            return HealthReport(
                Health.degraded, f"{self.lost} messages were dropped by Kafka before they were read",
                "let the sink run all the time, or have Kafka keep them longer.", details,
            )  # fmt: skip
        if not partitions:
            return HealthReport(
                Health.degraded, "no partition is ours",
                "wait for the group, or for the topics to be made; more sinks than partitions are idle.", details,
            )  # fmt: skip
        if self.note:
            return HealthReport(Health.degraded, self.note, "set both clocks right (NTP).", details)
        said = f"{self.rate(now):.0f} rows/s, lag {sum(self.lag.values())}, {partitions} partitions"
        return HealthReport(Health.healthy, said + (f", {self.letters} dead letters" if self.letters else ""), "", details)

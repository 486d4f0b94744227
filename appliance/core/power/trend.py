"""How long the charge lasts, reckoned from how it falls, for UPSes that do not say it themselves."""

from __future__ import annotations

from collections import deque

from appliance.core.power.model import Supply, UpsReading

SPAN = 1200.0
"""Seconds that are looked back over."""
LEAST_SECONDS, LEAST_DROP = 60.0, 1.0
"""Before the battery has fed for so long, and its charge has fallen by so many percent points, nothing is reckoned."""
EVERY = 5.0
"""Seconds between two points that are kept."""


class Trend:
    """The charge of one battery while it feeds."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, float]] = deque(maxlen=int(SPAN / EVERY) + 1)
        """(monotonic moment, percent), oldest first."""

    def add(self, reading: UpsReading) -> None:
        """Take a believable look; one that is not on battery begins anew."""
        if reading.supply is not Supply.battery:
            self._points.clear()
        elif reading.percent is not None and "percent" not in reading.ages:
            points = self._points
            if not points or reading.monotonic - points[-1][0] >= EVERY:
                points.append((reading.monotonic, reading.percent))

    def slope(self) -> float | None:
        """Percent points that the charge falls by in a second (least squares); None where it is not known, or does not fall."""
        points = self._points
        if len(points) < 3 or points[-1][0] - points[0][0] < LEAST_SECONDS or points[0][1] - points[-1][1] < LEAST_DROP:
            return None
        count = len(points)
        mean_t, mean_p = sum(t for t, _ in points) / count, sum(p for _, p in points) / count
        spread = sum((t - mean_t) ** 2 for t, _ in points)
        fall = -sum((t - mean_t) * (p - mean_p) for t, p in points) / spread
        return fall if fall > 0 else None

    def runtime(self, percent: float | None) -> float | None:
        """Seconds until the charge is at nothing; None where no rate is known."""
        slope = self.slope()
        return None if slope is None or percent is None else percent / slope

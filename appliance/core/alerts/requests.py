"""What the rules measure of the API: the share of its answers with 5xx, and how slow it is, over the last minute."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from appliance.core.alerts.reading import Measure, Reading
from appliance.core.observe.meter import Meter
from appliance.core.ports import Clock
from appliance.core.state import LiveState

REQUESTS, TIMES = "edge_http_requests_total", "edge_http_request_duration_seconds"
WINDOW, APART = 60.0, 2.0
"""Seconds that are looked at, and between two looks at the figures."""
PATIENT = (
    "/api/llm", "/v1/", "/api/chat", "/api/generate", "/api/embed", "/api/v1/actions", "/api/v1/jobs", "/api/v1/inference",
    "/api/v1/compute", "/api/v1/ml", "/api/v1/chat",
)  # fmt: skip
"""Routes that answer when models and jobs are done: their times say nothing of the API."""


class Look(NamedTuple):
    """The totals at one moment."""

    at: float
    requests: float
    errors: float
    buckets: Mapping[float, float]


class Requests:
    """Follows the API's figures.

    Args:
        figures: Where they are; asked for when a rule is evaluated.
        clock: For the window.
    """

    def __init__(self, figures: Callable[[], Meter], clock: Clock) -> None:
        self._figures = figures
        self._clock = clock
        self._looks: deque[Look] = deque()

    def measures(self) -> dict[str, Measure]:
        """By the name of the rule."""
        return {"api-errors": self.errors, "api-latency": self.latency}

    def errors(self, _: LiveState) -> list[Reading]:
        """Percent of the answers of the last minute that were 5xx."""
        first, last = self._ends()
        requests, errors = last.requests - first.requests, last.errors - first.errors
        if requests <= 0:
            return [Reading("API", None, "no request in the last minute")]
        return [Reading("API", 100.0 * errors / requests, f"{errors:.0f} of {requests:.0f} requests in the last minute")]

    def latency(self, _: LiveState) -> list[Reading]:
        """The 95th percentile of the answers' times in the last minute, in milliseconds, between the buckets' limits."""
        first, last = self._ends()
        rows = sorted((limit, count - first.buckets.get(limit, 0.0)) for limit, count in last.buckets.items())
        value = quantile(0.95, rows)
        if value is None:
            return [Reading("API", None, "no request in the last minute")]
        return [Reading("API", 1000.0 * value, f"p95 {1000.0 * value:.0f} ms in the last minute")]

    def _ends(self) -> tuple[Look, Look]:
        now = self._clock.monotonic()
        if not self._looks or now - self._looks[-1].at >= APART:
            self._looks.append(self._look(now))
        while len(self._looks) > 1 and self._looks[1].at <= now - WINDOW:
            self._looks.popleft()
        return self._looks[0], self._looks[-1]

    def _look(self, now: float) -> Look:
        figures = self._figures()
        requests = errors = 0.0
        for sample in figures.samples():
            if sample.name == REQUESTS:
                requests += sample.value
                errors += sample.value if ("status", "5xx") in sample.labels else 0.0
        buckets: dict[float, float] = {}
        for spread in figures.distributions():
            if spread.name == TIMES and not dict(spread.labels).get("route", "").startswith(PATIENT):
                for bucket in spread.buckets:
                    buckets[bucket.limit] = buckets.get(bucket.limit, 0.0) + bucket.upto
        return Look(now, requests, errors, buckets)


def quantile(share: float, rows: Sequence[tuple[float, float]]) -> float | None:
    """As histogram_quantile of Prometheus: between two limits in proportion; beyond the last one that limit.

    Args:
        share: 0 to 1.
        rows: (upper limit, how many up to it), growing, the infinite one last.
    """
    if not rows or rows[-1][1] <= 0:
        return None
    rank = share * rows[-1][1]
    below, before = 0.0, 0.0
    for limit, count in rows:
        if count >= rank:
            if math.isinf(limit):
                return below
            return below + (limit - below) * (rank - before) / (count - before) if count > before else limit
        below, before = limit, count
    return below

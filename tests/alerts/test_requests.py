"""The rules on the API: the share of 5xx, and the 95th percentile, over the last minute."""

from __future__ import annotations

import math

import pytest

from appliance.core.alerts.reading import Reading
from appliance.core.alerts.requests import REQUESTS, TIMES, Requests, quantile
from appliance.core.alerts.rules import effective
from appliance.core.observe.meter import Meter
from appliance.core.state import LiveState
from tests.support import ManualClock


class Bench:
    def __init__(self) -> None:
        self.clock, self.meter = ManualClock(), Meter()
        self.rules = {each.name: each for each in effective({}, Requests(lambda: self.meter, self.clock).measures())}
        self._count = self.meter.counter(REQUESTS, "requests", "front", "method", "route", "status")
        self._times = self.meter.times(TIMES, "times", "front", "method", "route")
        self.state = LiveState(self.clock)

    def ask(self, times: int, status: str = "2xx", seconds: float = 0.01, route: str = "/api/power/status") -> None:
        """Requests that were answered."""
        for _ in range(times):
            self._count.add("tcp", "GET", route, status)
            self._times.observe(seconds, "tcp", "GET", route)

    def read(self, rule: str, seconds: float = 0.0) -> Reading:
        self.clock.move(seconds)
        (reading,) = self.rules[rule].measure(self.state)
        return reading


def test_the_share_of_failures_is_that_of_the_last_minute() -> None:
    bench = Bench()
    bench.ask(1000, "5xx")
    assert bench.read("api-errors").value is None  # what was before the first look is not of the last minute
    bench.ask(90)
    bench.ask(10, "5xx")
    reading = bench.read("api-errors", 10)
    assert (reading.value, reading.message) == (10.0, "10 of 100 requests in the last minute")
    assert bench.rules["api-errors"].holds(10.0)
    assert bench.read("api-errors", 50).value == 10.0
    bench.ask(10)
    bench.read("api-errors", 5)
    assert bench.read("api-errors", 30).value == 0.0
    assert bench.read("api-errors", 60).value is None


def test_the_percentile_leaves_models_out() -> None:
    bench = Bench()
    bench.read("api-latency")
    bench.ask(90, seconds=0.04)
    bench.ask(10, seconds=0.9)
    bench.ask(1000, seconds=9.0, route="/api/llm/chat")
    reading = bench.read("api-latency", 10)
    assert reading.value == pytest.approx(750.0)  # half way from 0.5 to 1 s
    assert bench.rules["api-latency"].holds(750.0)
    assert bench.read("api-latency", 120).value is None


@pytest.mark.parametrize(
    ("rows", "value"),
    [
        ([], None),
        ([(1.0, 0.0), (math.inf, 0.0)], None),
        ([(1.0, 0.0), (math.inf, 5.0)], 1.0),
        ([(1.0, 5.0), (math.inf, 5.0)], 0.95),
    ],
)
def test_the_quantile_is_prometheus(rows: list[tuple[float, float]], value: float | None) -> None:
    assert quantile(0.95, rows) == (None if value is None else pytest.approx(value))

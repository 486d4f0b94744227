"""What scaling makes of the load: by the replica, of those that serve, and of nothing that is not known."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from appliance.core.deploy import scaling
from appliance.core.deploy.elastic import Elastic
from appliance.core.deploy.haproxy import Stat
from appliance.core.deploy.scaling import Memory
from appliance.core.deploy.spec import Scaling
from appliance.core.deploy.traffic import Traffic
from appliance.errors import DeployError

NOON = dt.datetime(2030, 1, 2, 12, 0, tzinfo=dt.UTC)


def rules(metric: str, value: float) -> Scaling:
    return msgspec.convert(
        {"most": 20, "up_cooldown": 0, "down_cooldown": 60, "target": [{"metric": metric, "value": value}]}, Scaling
    )


def test_requests_of_all_replicas_are_divided_among_them() -> None:
    by_rate, current, memory = rules("requests_per_second", 10), 1, Memory()
    for turn in range(20):
        verdict = scaling.decide(by_rate, {"requests_per_second": 35.0}, current, memory, float(turn), NOON, current)
        current, memory = verdict.replicas, verdict.memory
    assert current == 4


@pytest.mark.parametrize(
    ("current", "serving", "wish"),
    [(2, 2, 4), (4, 2, 4), (5, 2, 5), (3, 0, 3)],  # what is on its way is not multiplied once more; of nothing nothing follows
)
def test_readings_are_of_those_that_serve(current: int, serving: int, wish: int) -> None:
    assert scaling.decide(rules("cpu", 40), {"cpu": 80.0}, current, Memory(), 0.0, NOON, serving).replicas == wish


async def test_a_rollout_is_no_time_of_low_load_and_a_start_begins_cooldowns_anew() -> None:
    clock = SimpleNamespace(monotonic=lambda: 500.0)
    keeper, by_cpu = SimpleNamespace(helds={}, position="a rollout"), rules("cpu", 50)
    elastic = Elastic(cast("Any", SimpleNamespace(clock=clock)), cast("Any", keeper))
    low = scaling.decide(by_cpu, {"cpu": 5.0}, 4, Memory(), 0.0, NOON, 4)
    assert low.memory.lower
    elastic._memory = low.memory
    await elastic.turn()
    assert scaling.decide(by_cpu, {"cpu": 5.0}, 4, elastic._memory, 100.0, NOON, 4).replicas == 4
    elastic.resume()
    slow = msgspec.structs.replace(by_cpu, up_cooldown=60.0)
    verdict = scaling.decide(slow, {"cpu": 500.0}, 4, elastic._memory, 510.0, NOON, 4)
    assert (verdict.replicas, verdict.held_s) == (4, 50.0)


class Told:
    """A balancer that tells, until it is gone."""

    gone = False
    requests = 0

    async def stats(self) -> dict[tuple[str, str], Stat]:
        if self.gone:
            raise DeployError("it does not answer", "look at it.")
        self.requests += 50
        return {("web", "r1.n.1.abc"): msgspec.structs.replace(STAT, requests=self.requests)}


STAT = msgspec.convert(
    {"requests": 0, "errors": 0, "sessions": 0, "status": "UP", "weight": 1, "latency_ms": 12.0}, Stat, strict=False
)


async def test_without_the_balancer_nothing_is_known_of_the_load() -> None:
    now, told = [0.0], Told()
    traffic = Traffic(cast("Any", told), cast("Any", SimpleNamespace(monotonic=lambda: now[0])))
    traffic._fronts["web"] = cast("Any", object())
    for _ in range(3):
        now[0] += 1
        await traffic.look()
    assert (traffic.rate("web"), traffic.latency("web")) == (50.0, 12.0)
    now[0] += 100  # nobody looked for long
    assert (traffic.rate("web"), traffic.latency("web")) == (None, None)
    await traffic.look()
    told.gone = True
    await traffic.look()
    assert (traffic.rate("web"), traffic.latency("web")) == (None, None)

"""Actions on metrics."""

from __future__ import annotations

import asyncio
import functools
from typing import Any, Literal

from pydantic import Field

from appliance.core.actions import Action, Invocation, NoParams, Params
from appliance.core.analytics.duck import DuckStore
from appliance.core.model import Role
from appliance.core.ports import Clock
from appliance.errors import NotFoundError

BUCKETS = {"minute": "device_metrics_minute", "hour": "device_metrics_hourly"}


class History(Params):
    """One metric over a range of time."""

    metric: str = Field(max_length=256, description="Name of the metric, such as cpu_usage")
    hours: float = Field(1.0, gt=0, le=24 * 365, description="How far back, hours")
    bucket: Literal["minute", "hour"] = Field("minute", description="Width of one point")


def metric_actions(duck: DuckStore, clock: Clock) -> list[Action]:
    """Metrics kept locally."""

    async def names(_: Invocation, __: NoParams) -> list[str]:
        return await asyncio.to_thread(duck.metrics)

    async def history(_: Invocation, params: History) -> dict[str, Any]:
        now = clock.wall()
        points = await asyncio.to_thread(duck.trend, params.metric, now - params.hours * 3600, now, BUCKETS[params.bucket])
        if not points and params.metric not in await asyncio.to_thread(duck.metrics):
            raise NotFoundError(f"No metric is called {params.metric!r}.", "list them with `prime-spark metric list`.")
        return {"metric": params.metric, "bucket": params.bucket, "points": points}

    query = functools.partial(Action, query=True, role=Role.viewer)
    return [
        query("metric.list", "List the metrics that are kept", names),
        query("metric.history", "Show a metric over time (averages)", history, params=History, positional=("metric",)),
    ]

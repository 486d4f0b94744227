"""The action that keeps readings which others took: in the store that questions go to, and on the disk before it answers."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple, Protocol

import msgspec
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from appliance.core.actions import Action, Invocation, Params
from appliance.core.analytics.asking import time_of
from appliance.core.analytics.duck import GREATEST, DuckStore
from appliance.core.analytics.service import TRENDS
from appliance.core.events import new_id, rfc3339
from appliance.core.model import Role
from appliance.core.ports import Clock
from appliance.core.state import LiveState, Section
from appliance.core.telemetry.service import metrics_of
from appliance.errors import InvalidArgumentsError

AHEAD, BACK = 300.0, 30 * 86400.0
"""Seconds that a reading may lie ahead of now, and back."""
TAGS = 16
"""Most tags of a reading."""


def _real(value: float) -> float:
    if not math.isfinite(value) or abs(value) >= GREATEST:
        raise PydanticCustomError("reading", "this is no number to reckon with")
    return value


def _plain(text: str) -> str:
    if not text.isprintable():
        raise PydanticCustomError("name", "this has characters that nobody can see")
    return text


Name = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_plain)]
Tag = Annotated[str, Field(max_length=256), AfterValidator(_plain)]
Reading = Annotated[float, AfterValidator(_real)]
Tags = Annotated[dict[Name, Tag], Field(max_length=TAGS)]


class Point(Params):
    """One reading."""

    metric: Name = Field(description="Name of the metric")
    value: Reading = Field(description="The reading")
    time: str | float | None = Field(None, description="RFC 3339, or seconds since the epoch; now without it")
    device: Annotated[str, Field(max_length=256), AfterValidator(_plain)] = Field(
        "", description="Whose; this one's without it"
    )
    tags: Tags = Field({}, description="Names and values")


class Insert(Params):
    """Readings, as a list of points, or as metrics of one moment."""

    points: list[Point] = Field([], max_length=1000, description="Readings, each with metric, value, time, device, tags")
    metrics: Annotated[dict[Name, Reading], Field(max_length=1000)] = Field({}, description="Readings of one moment by name")
    time: str | float | None = Field(None, description="Moment of the metrics; now without it")
    device: Annotated[str, Field(max_length=256), AfterValidator(_plain)] = Field(
        "", description="Whose metrics; this one's without it"
    )
    tags: Tags = Field({}, description="Names and values, of the metrics")

    def all(self) -> list[Point]:
        """All readings."""
        few = [
            Point(metric=name, value=value, time=self.time, device=self.device, tags=self.tags)
            for name, value in self.metrics.items()
        ]
        return [*self.points, *few]


class Database(Protocol):
    """The configured store, where there is one."""

    async def insert(self, envelopes: list[dict[str, Any]]) -> None:
        """All of them, or none. Raises InvalidArgumentsError, DatabaseError."""


class _Moment(NamedTuple):
    """What the readings of one event share."""

    time: float
    device: str
    tags: str


def insert_action(
    device_id: str, duck: DuckStore, database: Callable[[], Database | None], state: LiveState, clock: Clock
) -> Action:
    """It.

    Args:
        device_id: Of this appliance.
        duck: The embedded store.
        database: Gives the configured one; None where there is none.
        state: Says what this machine measures itself.
        clock: Says what is now.
    """

    async def insert(_: Invocation, params: Insert) -> dict[str, Any]:
        events = _events(params.all(), device_id, measured(state), clock.wall())
        configured = database()
        if configured is not None:
            await configured.insert([_envelope(moment, readings) for moment, readings in events.items()])
        else:
            rows = [row for moment, readings in events.items() for row in _rows(moment, readings)]
            await asyncio.to_thread(duck.add_readings, rows)
        count = sum(len(readings) for readings in events.values())
        return {"inserted": count, "store": "database" if configured is not None else "embedded"}

    return Action("analytics.insert", "Keep readings that others took", insert, params=Insert, role=Role.operator)


def measured(state: LiveState) -> frozenset[str]:
    """Metrics that this machine measures itself: nobody else says them for it."""
    host = state.get(Section.host).value
    return frozenset(TRENDS) | (frozenset(metrics_of(host)) if host is not None else frozenset())


def _events(points: list[Point], device_id: str, own: frozenset[str], now: float) -> dict[_Moment, dict[str, float]]:
    if not points:
        raise InvalidArgumentsError("There is no reading.", 'give {"metrics": {NAME: NUMBER}}, or points.')
    found: dict[_Moment, dict[str, float]] = {}
    for point in points:
        device = point.device or device_id
        if device == device_id and point.metric in own:
            told = f"{point.metric} is what this machine measures itself."
            raise InvalidArgumentsError(told, "give it another name, or the device that it is of.")
        at = now if point.time is None else time_of(str(point.time))
        if not now - BACK <= at <= now + AHEAD:
            raise InvalidArgumentsError(f"{point.time} is no time of the last 30 days.", "give one that is, or none for now.")
        moment = _Moment(at, device, msgspec.json.encode(point.tags, order="sorted").decode())
        readings = found.setdefault(moment, {})
        if readings.setdefault(point.metric, point.value) != point.value:
            raise InvalidArgumentsError(f"{point.metric} has two values at one moment.", "give one.")
    return found


def _envelope(moment: _Moment, readings: dict[str, float]) -> dict[str, Any]:
    return {
        "v": 1, "id": new_id(), "timestamp": rfc3339(moment.time), "source": "edge", "device_id": moment.device,
        "type": "host.metrics", "data": {"metrics": readings, "tags": msgspec.json.decode(moment.tags)},
    }  # fmt: skip


def _rows(moment: _Moment, readings: dict[str, float]) -> list[tuple[Any, ...]]:
    at, event = datetime.fromtimestamp(moment.time, UTC), new_id()
    return [(at, moment.device, name, value, moment.tags, event) for name, value in readings.items()]

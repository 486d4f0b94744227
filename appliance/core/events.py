"""Typed events: what happened, once. Each type names its topic and its table here and nowhere else.

The envelope is the one of contracts.md, section 2; the event's id (UUID version 7, RFC 9562) is the
idempotency key from the bus to the last table.
"""

from __future__ import annotations

import functools
import math
from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec
import uuid_utils

from appliance.core.findings import Box, Class, Mask, Pose, Segment
from appliance.core.model import InferenceResult
from appliance.core.streams.model import Priority


def new_id() -> str:
    """A fresh UUID version 7: unique, and ordered by time."""
    return str(uuid_utils.uuid7())


def rfc3339(timestamp: float) -> str:
    """Format seconds since the epoch as RFC 3339 in UTC with a Z."""
    fraction, whole = math.modf(timestamp)
    micros = round(fraction * 1e6)  # half to even, as datetime does
    return f"{_second(int(whole) + micros // 1_000_000)}.{micros % 1_000_000:06d}Z"


@functools.lru_cache(maxsize=64)
def _second(whole: int) -> str:
    """A whole second; most events share theirs with others."""
    return datetime.fromtimestamp(whole, UTC).replace(tzinfo=None).isoformat()


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all events.

    Attributes:
        time: Wall clock, seconds since the epoch.
        id: UUID version 7.
    """

    topic: ClassVar[str] = ""
    table: ClassVar[str | None] = None
    type: ClassVar[str] = ""
    durable: ClassVar[bool] = False
    priority: ClassVar[Priority] = Priority.normal
    """All types of one topic have the same, and are all durable or all not, else the topic's order would not hold."""

    time: float
    id: str = msgspec.field(default_factory=new_id)

    def data(self) -> dict[str, Any]:
        """The payload as the topic's contract has it."""
        fields = msgspec.structs.asdict(self)
        del fields["time"], fields["id"]
        return fields


class HostMetrics(Event, frozen=True, kw_only=True):
    """One reading of the host's numbers."""

    topic = "edge.telemetry"
    table = "device_metrics"
    type = "host.metrics"
    priority = Priority.low

    metrics: dict[str, float]
    tags: dict[str, str] = {}


class InferenceCompleted(Event, frozen=True, kw_only=True):
    """A model gave a result for one input."""

    topic = "edge.ai.inference"
    table = "ai_inference_results"
    type = "inference.completed"
    durable = True

    model: str
    model_version: str
    task: str
    backend: str
    inference_time_ms: float
    total_time_ms: float
    cached: bool
    result: dict[str, Any]

    @classmethod
    def of(cls, done: InferenceResult) -> InferenceCompleted:
        """The event that carries this result; it takes the result's id."""
        return cls(
            time=done.time,
            id=done.result_id,
            model=done.model,
            model_version=done.model_version,
            task=done.task,
            backend=done.backend,
            inference_time_ms=done.inference_time_ms,
            total_time_ms=done.total_time_ms,
            cached=done.cached,
            result=_told(done),
        )

    def to_result(self) -> InferenceResult:
        """The result that this event carries; what an older version did not write has its default."""
        told = self.result
        found = {name: msgspec.convert(told[name], kind) for name, kind in FOUND.items() if name in told}
        how = {name: told[name] for name in HOW if name in told}
        return InferenceResult(
            result_id=self.id,
            time=self.time,
            source=told["source"],
            model=self.model,
            model_version=self.model_version,
            task=self.task,
            backend=self.backend,
            width=told["width"],
            height=told["height"],
            inference_time_ms=self.inference_time_ms,
            total_time_ms=self.total_time_ms,
            cached=self.cached,
            sha256=told.get("sha256", ""),
            **{"boxes": (), **found},
            **how,
        )


FOUND: dict[str, Any] = {
    "boxes": tuple[Box, ...], "classes": tuple[Class, ...], "poses": tuple[Pose, ...], "masks": tuple[Mask, ...],
    "segments": tuple[Segment, ...], "embedding": tuple[float, ...], "statistics": dict[str, float],
}  # fmt: skip
"""What a result may have found, by name."""
HOW = ("device", "reason", "fell_back", "priority", "queued_ms", "masks_left_out")
"""How a result came about, beside the columns."""


def _told(done: InferenceResult) -> dict[str, Any]:
    """The result as the topic has it: boxes always, other findings and facts where there are any."""
    usual = {field.name: field.default for field in msgspec.structs.fields(InferenceResult)} | {"statistics": {}}
    values = {name: getattr(done, name) for name in (*FOUND, *HOW)}
    some = {name: msgspec.to_builtins(value) for name, value in values.items() if value != usual[name]}
    return {"source": done.source, "sha256": done.sha256, "width": done.width, "height": done.height, **some}


class HealthChanged(Event, frozen=True, kw_only=True):
    """A component's health is another one than before."""

    topic = "system.health"
    table = "analytics_events"
    type = "health.changed"
    durable = True
    priority = Priority.critical

    component: str
    status: str
    message: str
    details: dict[str, Any] = {}


class Noted(Event, frozen=True, kw_only=True):
    """Something worth keeping: an alert's life, a clock step, a start or stop."""

    topic = "analytics.events"
    table = "analytics_events"
    type = "event.noted"
    durable = True
    priority = Priority.high

    event: str
    severity: str
    attributes: dict[str, Any] = {}


class CommandReplied(Event, frozen=True, kw_only=True):
    """What came of a signed command; it goes to the topic that the command named."""

    topic = "cloud.replies"
    table = None
    type = "command.reply"
    durable = True
    priority = Priority.high

    command_id: str
    reply_to: str
    status: str
    """"completed", "refused" or "failed"."""
    result: Any = None
    error: str = ""
    next_step: str = ""


EVENT_TYPES: dict[str, type[Event]] = {
    cls.type: cls for cls in (HostMetrics, InferenceCompleted, HealthChanged, Noted, CommandReplied)
}
"""Every event type by its type name."""


def topic_of(event_type: str, body: bytes) -> str:
    """Where a stored event goes: the topic of its type, or the one that a reply names.

    Args:
        event_type: Its type's name.
        body: Its envelope as JSON.

    Raises:
        KeyError: There is no such type, or a reply names no topic.
        msgspec.DecodeError: The body of a reply is no JSON.
    """
    cls = EVENT_TYPES[event_type]
    return str(msgspec.json.decode(body)["data"]["reply_to"]) if cls is CommandReplied else cls.topic


def envelope(event: Event, device_id: str) -> dict[str, Any]:
    """The event in the envelope of contracts.md, section 2 (version 1)."""
    return {
        "v": 1,
        "id": event.id,
        "timestamp": rfc3339(event.time),
        "source": "edge",
        "device_id": device_id,
        "type": event.type,
        "data": event.data(),
    }


def from_envelope(document: dict[str, Any]) -> Event:
    """The event that an envelope of ours carries.

    Raises:
        KeyError: The type is not one of `EVENT_TYPES`.
        msgspec.ValidationError: The data does not fit the type.
    """
    cls = EVENT_TYPES[document["type"]]
    moment = datetime.fromisoformat(document["timestamp"]).timestamp()
    return msgspec.convert({**document["data"], "time": moment, "id": document["id"]}, cls)

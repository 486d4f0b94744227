"""Events that this appliance has, as envelopes, to try a rule on: telemetry from DuckDB, the others from the journal."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from appliance.core.analytics.duck_query import Recorded
from appliance.core.events import Event, rfc3339
from appliance.core.outbox import Outbox


class Readings(Protocol):
    """What is needed of the embedded analytics store."""

    async def newest(self, limit: int) -> list[Recorded]:
        """The newest events with their readings, newest first. Raises QueryError, StoreError."""


class Samples:
    """Reads past events.

    Args:
        journal: The durable events.
        readings: Past telemetry.
        device_id: Of this appliance.
    """

    def __init__(self, journal: Outbox, readings: Readings, device_id: str) -> None:
        self._journal = journal
        self._readings = readings
        self._device_id = device_id

    async def newest(self, topic: str, limit: int) -> list[bytes]:
        """The newest events of a topic, oldest first. Raises QueryError, StoreError."""
        if topic == "edge.telemetry":
            return [_telemetry(each) for each in reversed(await self._readings.newest(limit))]
        found = await self._journal.read(max(0, self._journal.head - 10 * limit), 10 * limit)
        return [self._envelope(event) for _, event in found if event.topic == topic][-limit:]

    def _envelope(self, event: Event) -> bytes:
        return _body(event.id, event.time, self._device_id, event.type, event.data())


def _telemetry(event: Recorded) -> bytes:
    data = {"metrics": event.metrics, "tags": msgspec.json.decode(event.tags) if event.tags else {}}
    return _body(event.event_id, event.time, event.device, "host.metrics", data)


def _body(event_id: str, moment: float, device: str, kind: str, data: dict[str, Any]) -> bytes:
    head = {"v": 1, "id": event_id, "timestamp": rfc3339(moment), "source": "edge", "device_id": device}
    return msgspec.json.encode({**head, "type": kind, "data": data})

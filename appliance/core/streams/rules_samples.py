"""Events that this appliance has, as envelopes, to try a rule on: telemetry from DuckDB, the others from the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import groupby
from typing import Any

import msgspec

from appliance.core.events import Event, rfc3339
from appliance.core.outbox import Outbox

READINGS = 200
"""Most metrics of one reading that are looked for."""
TELEMETRY = (
    "SELECT epoch(time), device_id, event_id::VARCHAR, metric_name, value, tags::VARCHAR FROM device_metrics "
    "ORDER BY time DESC, event_id, metric_name LIMIT ?"
)


class Samples:
    """Reads past events.

    Args:
        journal: The durable events.
        rows: Runs a statement on the embedded analytics store; blocks.
        device_id: Of this appliance.
    """

    def __init__(self, journal: Outbox, rows: Callable[[str, list[Any]], list[tuple[Any, ...]]], device_id: str) -> None:
        self._journal = journal
        self._rows = rows
        self._device_id = device_id

    async def newest(self, topic: str, limit: int) -> list[bytes]:
        """The newest events of a topic, oldest first. Raises StoreError."""
        if topic == "edge.telemetry":
            return await asyncio.to_thread(self._telemetry, limit)
        found = await self._journal.read(max(0, self._journal.head - 10 * limit), 10 * limit)
        return [self._envelope(event) for _, event in found if event.topic == topic][-limit:]

    def _telemetry(self, limit: int) -> list[bytes]:
        rows = self._rows(TELEMETRY, [limit * READINGS])
        found = []
        for (moment, device, event_id), group in groupby(rows, key=lambda row: row[:3]):
            readings = list(group)
            tags = msgspec.json.decode(readings[0][5]) if readings[0][5] else {}
            data = {"metrics": {row[3]: row[4] for row in readings}, "tags": tags}
            found.append(_body(event_id, moment, device, "host.metrics", data))
        return found[:limit][::-1]

    def _envelope(self, event: Event) -> bytes:
        return _body(event.id, event.time, self._device_id, event.type, event.data())


def _body(event_id: str, moment: float, device: str, kind: str, data: dict[str, Any]) -> bytes:
    head = {"v": 1, "id": event_id, "timestamp": rfc3339(moment), "source": "edge", "device_id": device}
    return msgspec.json.encode({**head, "type": kind, "data": data})

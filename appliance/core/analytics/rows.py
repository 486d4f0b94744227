"""The tables of contracts.md, section 3, and what of an event becomes a row of which."""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple

DAY = 86_400
HOUR = 3600


class Table(NamedTuple):
    """One table.

    Attributes:
        name: In the database.
        columns: In the order in which rows are written.
        chunk: Seconds in one chunk or native partition.
        keep: Seconds that rows are kept.
    """

    name: str
    columns: tuple[str, ...]
    chunk: int
    keep: int


METRICS = Table("device_metrics", ("time", "device_id", "metric_name", "value", "tags", "event_id"), DAY, 30 * DAY)
INFERENCES = Table(
    "ai_inference_results",
    ("time", "device_id", "model_name", "inference_time_ms", "result", "accuracy", "event_id"),
    DAY,
    90 * DAY,
)
SENSORS = Table(
    "sensor_data", ("time", "device_id", "sensor_type", "sensor_id", "value", "unit", "data", "event_id"), HOUR, 7 * DAY
)
EVENTS = Table("analytics_events", ("time", "event_type", "device_id", "event_data", "event_id"), DAY, 30 * DAY)
TABLES = (METRICS, INFERENCES, SENSORS, EVENTS)
ROLLUP_KEEP = 365 * DAY
"""Seconds that device_metrics_hourly and device_metrics_daily are kept."""

TOPICS = MappingProxyType(
    {
        "edge.telemetry": METRICS,
        "edge.ai.inference": INFERENCES,
        "edge.sensors": SENSORS,
        "system.health": EVENTS,
        "analytics.events": EVENTS,
        "cloud.aggregated": EVENTS,
    }
)
"""Where the events of each topic go."""
ALIASES = MappingProxyType({"cpu_percent": "cpu_usage", "memory_percent": "memory_usage", "disk_percent": "disk_usage"})
"""Names of metrics of the first generation, and theirs now."""

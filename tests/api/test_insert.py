"""Readings of others in the database: the sink's own checks, all or none, and each once."""

from __future__ import annotations

import asyncpg
import pytest

from appliance.core.analytics.timescale import Database
from appliance.core.clock import SystemClock
from appliance.core.events import new_id, rfc3339
from appliance.core.streams.sink_insert import Inserter
from appliance.errors import DatabaseError, InvalidArgumentsError
from tests.sink.rig import place_of
from tests.support import free_port


def envelope(value: float = 1.5, name: str = "barn_temperature") -> dict[str, object]:
    now = SystemClock().wall()
    return {
        "v": 1, "id": new_id(), "timestamp": rfc3339(now), "source": "edge", "device_id": "barn", "type": "host.metrics",
        "data": {"metrics": {name: value}, "tags": {"room": "north"}},
    }  # fmt: skip


async def test_readings_reach_the_database_once_and_all_or_none(postgres: str) -> None:
    database = Database(place_of(postgres), "", "test")
    inserter = Inserter(database, SystemClock())
    try:
        first, second = envelope(1.5), envelope(2.5)
        await inserter.insert([first, second])
        await inserter.insert([first])  # whoever does not know whether it was stored sends it again
        with pytest.raises(InvalidArgumentsError):
            await inserter.insert([envelope(4.5), envelope(5.5, "bad\x00name")])
        connection = await asyncpg.connect(postgres)
        try:
            rows = await connection.fetch("SELECT device_id, metric_name, value, tags FROM device_metrics ORDER BY value")
            assert [(row[0], row[1], row[2]) for row in rows] == [
                ("barn", "barn_temperature", 1.5), ("barn", "barn_temperature", 2.5)
            ]  # fmt: skip
            summed = await connection.fetch("SELECT count, max_value FROM device_metrics_hourly")
            assert sum(row[0] for row in summed) == 2
        finally:
            await connection.close()
    finally:
        await database.close()


async def test_a_database_that_is_not_there_is_told() -> None:
    place = place_of(f"postgresql://x@127.0.0.1:{free_port()}/nothing")
    with pytest.raises(DatabaseError):
        await Inserter(Database(place, "", "test"), SystemClock()).insert([envelope()])

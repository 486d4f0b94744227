"""Offers of models: whoever may write to the topic fills neither the journal nor the dead letters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.core.bus import Bus
from appliance.core.events import new_id
from appliance.core.streams.kafka_reader import Record
from appliance.core.streams.updates import OFTEN, PERIOD, Updates
from tests.streams.outbox_rig import Rig


def offer(number: int) -> Record:
    data = {"model": "m", "version": str(number), "artifact": "s3://a/b", "sha256": "a" * 64, "stage": "production",
            "device_ids": ["*", *(f"device-{each:05d}" for each in range(500))]}  # fmt: skip
    body = {"v": 1, "id": new_id(), "timestamp": "2026-01-01T00:00:00Z", "data": data}
    return Record("models.updates", 0, number, 0.0, b"", json.dumps(body).encode())


@pytest.fixture
async def rig(tmp_path: Path) -> Rig:
    found = Rig(tmp_path)
    await found.open()
    return found


async def test_a_flood_of_offers_is_bounded_and_counted(rig: Rig) -> None:
    updates = Updates("pi", Bus(rig.journal), rig.outbox.letters, rig.clock)
    for number in range(3 * OFTEN):
        await updates.take(offer(number))
        await updates.take(Record("models.updates", 0, number, 0.0, b"", b"{}"))
    assert rig.journal.head == OFTEN
    assert rig.journal.bytes < OFTEN * 1000  # without the names of all devices
    assert len(await rig.outbox.letters.list(1000, "updates")) == OFTEN
    assert updates.passed == 4 * OFTEN
    assert updates.offers[0].version == str(3 * OFTEN - 1)
    rig.clock.move(PERIOD + 1)
    await updates.take(offer(1000))
    assert rig.journal.head == OFTEN + 1
    await rig.stop()

"""Events from four devices while broker, database, appliance and devices are killed at random.

At the end each event that was acknowledged is stored exactly once, in order for each key.
"""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from appliance.core.analytics import rows
from tests.chaos.device import acknowledged
from tests.chaos.rig import DURABLE, KINDS, STORED, Chaos, Device, Sinking, Started, count, ends_of, in_topics, sorted_once
from tests.servers.kafka import KafkaServer
from tests.servers.postgres import PostgresServer, private_directory
from tests.sink.rig import Rig, assert_rollups
from tests.support import wait_for

log = logging.getLogger(__name__)

DEVICES = 4


class Field:
    """Servers of the test's own, for they die; a whole appliance with a sink in it, a second sink, and the devices."""

    def __init__(self, home: Path, database: Path, template: Path) -> None:
        self.kafka, self.postgres = KafkaServer(home / "kafka"), PostgresServer(database, template)
        self.dsn = self.postgres.dsn("chaos")
        self.sinks = [
            Sinking(home / f"sink{number}", f"other-{number}", self.kafka, self.postgres, "chaos", appliance=number == 1)
            for number in (1, 2)
        ]
        wanted = -(-count() // DEVICES)
        self.devices = [Device(home / f"device{each}", f"chaos-{each}", self.kafka, wanted) for each in range(DEVICES)]

    async def start(self) -> None:
        """All but the second sink."""
        self.postgres.start()
        self.kafka.start()
        self.postgres.create_database("chaos")
        await asyncio.gather(*(self.kafka.create_topic(name, 3) for name in rows.TOPICS))
        processes: list[Started] = [self.sinks[0], *self.devices]
        for each in processes:
            each.start()

    def kill(self) -> None:
        """All of it."""
        processes: list[Started] = [*self.devices, *self.sinks]
        for each in processes:
            each.child.kill()
        self.kafka.kill()
        self.postgres.kill()

    async def fetch(self, query: str) -> list[Any]:
        """What a query brings; nothing where the tables are not there yet."""
        connection = await asyncpg.connect(self.dsn, timeout=10)
        try:
            return list(await connection.fetch(query))
        except asyncpg.UndefinedTableError:
            return []
        finally:
            await connection.close()

    async def stored(self) -> int:
        """Durable events of the devices in the tables."""
        return sum(int(row[0]) for row in await self.fetch(DURABLE))

    def acknowledged(self) -> set[str]:
        """Ids of all durable events that were acknowledged."""
        return {each for device in self.devices for each in acknowledged(device.home)}


@pytest.fixture
async def field(tmp_path: Path, postgres_template: Path) -> AsyncIterator[Field]:
    home = private_directory()
    made = Field(tmp_path, home, postgres_template)
    try:
        await made.start()
        yield made
    finally:
        made.kill()
        shutil.rmtree(home)


@pytest.mark.timeout(3600)
async def test_each_acknowledged_event_is_stored_exactly_once_whatever_dies(field: Field) -> None:
    seed, total, began = random.SystemRandom().randrange(2**32), count(), time.monotonic()
    log.info("seed %d", seed)
    chaos = Chaos(seed, field.kafka, field.postgres, field.dsn, field.sinks, field.devices)
    for kind in random.Random(seed).sample(KINDS, len(KINDS)):
        await chaos.strike(kind)
    while not all(each.done for each in field.devices):
        await chaos.strike()
    chaos.heal()

    async def all_there() -> bool:
        return await field.stored() >= len(field.acknowledged()) and await _drained(field)

    await wait_for(all_there, 60 + total / 500, f"all events; seed {seed}, struck by {chaos.done}", every=0.2)
    await _assert_all(field)
    lives = [each.lives for each in field.devices]
    log.info(
        "%d events acknowledged and stored, in %.0f s; lives of the devices: %s; seed %d, struck by %d: %s",
        len(field.acknowledged()), time.monotonic() - began, lives, seed, len(chaos.done), chaos.done,
    )  # fmt: skip


async def _drained(field: Field) -> bool:
    """Whether the sinks have read all that the devices sent; the appliance's own telemetry never ends."""
    ends = await ends_of(field.kafka.bootstrap())
    offsets = {
        (topic, part): at for topic, part, at in await field.fetch("SELECT topic, partition, next_offset FROM stream_offsets")
    }
    return all(offsets.get(place, 0) >= end for place, end in ends.items() if place[0] != "edge.telemetry")


async def _assert_all(field: Field) -> None:
    """Nothing acknowledged lacks, nothing is there twice, and each key's order holds in the topic.

    A table has no order but time, by which the numbers of each key have to grow too: no event has another one's time.
    """
    for each in field.devices:
        each.child.kill()
    await asyncio.to_thread(field.sinks[0].child.kill)  # its own telemetry goes on else, between the questions
    await asyncio.to_thread(field.sinks[1].child.kill)
    in_topic = await in_topics(field.kafka.bootstrap())
    found = await field.fetch(f"SELECT topic, device_id, event_id::text, n FROM ({STORED}) AS s ORDER BY time")
    ids = [row["event_id"] for row in found]
    assert len(set(ids)) == len(ids), "an event is there twice"
    assert field.acknowledged() <= set(ids), "an acknowledged event is lost"
    in_table: dict[tuple[str, str], list[int]] = {}
    for topic, device, _, number in found:
        in_table.setdefault((topic, device), []).append(number)
    assert in_table.keys() == in_topic.keys()
    assert (
        len([topic for topic, _ in in_table if topic != "edge.telemetry"]) == DEVICES * 3
    )  # telemetry may have died in memory
    assert [place for place, numbers in in_topic.items() if not sorted_once(list(numbers.values()))] == []
    assert [place for place, numbers in in_table.items() if not sorted_once(numbers)] == []
    assert await field.fetch("SELECT reason FROM dead_letters") == []
    rig = Rig.__new__(Rig)
    rig.dsn = field.dsn
    await assert_rollups(rig)

"""Questions to what the sink itself wrote, rows and roll-ups, get the answers of a plain calculation."""

from __future__ import annotations

import os
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from appliance.core.analytics.model import Query
from appliance.core.analytics.timescale import Database
from appliance.core.streams.kafka_consumer import Place
from appliance.core.streams.sink_batch import Batch
from appliance.core.streams.sink_decode import GREATEST, Brought, Decoder, Now, Record
from appliance.core.streams.sink_writer import Writer
from tests.analytics.rig import Reading, Stores, stores
from tests.analytics.test_same_answers import agree, data, question

EXAMPLES = int(os.environ.get("PRIME_SPARK_EXAMPLES", "40"))
PLACE = Place("edge.telemetry", 0)
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture
def both(tmp_path: Path, postgres: str) -> Iterator[Stores]:
    with stores(tmp_path, postgres) as found:
        yield found


def message(reading: Reading) -> bytes:
    """The event of a reading, with an id of its own."""
    body = {
        "v": 1, "id": str(uuid.uuid4()), "timestamp": (BEGINNING + timedelta(microseconds=reading.at)).isoformat(),
        "source": "edge", "device_id": reading.device, "type": "host.metrics",
        "data": {"metrics": {reading.metric: reading.value}, "tags": reading.tags},
    }  # fmt: skip
    return msgspec.json.encode(body)


class Pipe:
    """Messages, as they stand in a partition, through the sink's decoder, batches and writer."""

    def __init__(self, database: Database) -> None:
        self._writer = Writer(database, "questions")
        self._decoder = Decoder()
        self._at = 0

    async def begin(self) -> None:
        """Go on where the partition was left."""
        await self._writer.begin(PLACE, 0)
        self._at = (await self._writer.offsets())[PLACE]

    async def write(self, bodies: Sequence[bytes], size: int) -> int:
        """In batches of so many rows; returns how many rows were there already."""
        records = [
            Brought(topic=PLACE.topic, partition=PLACE.partition, offset=self._at + number, key=b"", value=body)
            for number, body in enumerate(bodies)
        ]
        self._at += len(records)
        waiting: deque[Record] = deque(records)
        positions, known = {PLACE: records[0].offset}, 0
        while waiting:
            batch = Batch(0, size)
            moment = datetime.fromisoformat(msgspec.json.decode(waiting[0].value or b"")["timestamp"]).timestamp()
            batch.take(waiting, positions, self._decoder, Now(moment - 1e9, moment + 1e9))  # any time is one that is kept
            batch.seal()
            assert batch.letters == []
            known += (await self._writer.write(batch)).known
        return known


@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(program=st.data())
def test_what_the_sink_wrote_answers_as_a_plain_calculation(both: Stores, program: st.DataObject) -> None:
    readings = program.draw(data())
    assume(all(abs(each.value) < GREATEST for each in readings))
    pipe, bodies = Pipe(both.database), [message(each) for each in readings]
    both.runner.run(pipe.begin())
    again = program.draw(st.lists(st.sampled_from(bodies), max_size=8))  # what a producer sent twice
    mixed = program.draw(st.permutations([*bodies, *again]))
    assert both.runner.run(pipe.write(mixed, program.draw(st.integers(1, 20)))) == len(again)
    both.clock.move(10)  # names are looked for again
    for _ in range(4):
        query = _without_tags(program.draw(question(readings)))
        agree(readings, query, both.runner.run(both.both[1].ask(query)))


def _without_tags(query: Query) -> Query:
    """Roll-ups have no tags, and tags are another test's matter."""
    return msgspec.structs.replace(query, tags={}, group_by=tuple(by for by in query.group_by if by == "device_id"))

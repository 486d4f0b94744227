"""The sink on a real Kafka and a real PostgreSQL, beside bare COPY into the same table with the same indexes: same rows.

What more would take: COPY is bound by one process of the server, which keeps the unique index of four columns, and the sink has
one writer. A second sink of the group writes in a process of the server of its own, for partitions of its own; giving up the
index would help too, and with it that events are unique.
"""

from __future__ import annotations

import asyncio
from statistics import median

from benchmarks import sink_rig
from benchmarks.rows import Figure, at_least

SCRAPES = 40_000
BATCH = 50_000
ROUNDS = 3
"""The middle one of so many counts: other programs share the machine."""


def run() -> list[Figure]:
    """All of it."""
    return asyncio.run(_all())


async def _all() -> list[Figure]:
    events = sink_rig.scrapes(SCRAPES)
    rows = SCRAPES * sink_rig.METRIC_NAMES
    async with sink_rig.ground() as place:
        await sink_rig.fill(place.kafka.bootstrap(), events)
        bare, ours = [], []
        for number in range(ROUNDS):
            bare.append(await sink_rig.bare_copy(place.database(f"bare_{number}"), events, BATCH))
            ours.append(await sink_rig.sink_speed(place, place.database(f"sink_{number}"), f"bench-{number}", rows, BATCH))
    share = median(ours) / median(bare)
    return [
        at_least("sink, share of bare COPY", 100 * share, "%", 80.0, "bare COPY, rows/s", round(median(bare))),
        Figure("sink, Kafka to tables and roll-ups", round(median(ours)), "rows/s", None, "bare COPY", round(median(bare))),
        Figure("sink, messages of 20 samples", round(median(ours) / sink_rig.METRIC_NAMES), "messages/s"),
    ]

"""A device of the chaos test, as a process: the real journal, outbox and link to Kafka, until it is killed.

What the journal acknowledged is written down, by one write for each event, so that kill -9 of this process forgets none. A
device that is started again goes on with greater numbers: what was under way when it died may have been kept or not.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from appliance.core.clock import SystemClock
from appliance.core.events import Event, HealthChanged, HostMetrics, InferenceCompleted, Noted
from appliance.core.outbox import Outbox
from appliance.core.store import Store
from appliance.core.streams.build import MIGRATIONS
from appliance.core.streams.kafka import Access
from appliance.core.streams.kafka_link import KafkaLink
from appliance.core.streams.model import LinkState
from appliance.core.streams.outbox import StreamOutbox
from appliance.core.streams.traffic import Traffic
from appliance.core.streams.watch import ClusterWatch
from appliance.settings import KafkaSettings, OutboxSettings

LIFE = 1_000_000
"""Numbers of one life."""
BURST = 20
"""Events that are under way at once."""
PAUSE = 0.04
"""Seconds between two bursts."""
ACKNOWLEDGED = "acknowledged"


def event_of(number: int, moment: float) -> Event:
    """The event of this number: of three durable types in turn, and every tenth one telemetry, which is not."""
    if number % 10 == 0:
        return HostMetrics(time=moment, metrics={"n": float(number)}, tags={"of": "chaos"})
    kind = number % 3
    if kind == 0:
        return HealthChanged(time=moment, component="chaos", status="healthy", message="", details={"n": number})
    if kind == 1:
        return Noted(time=moment, event="chaos", severity="info", attributes={"n": number})
    return InferenceCompleted(
        time=moment, model="m", model_version="1", task="t", backend="cpu", inference_time_ms=1.0, total_time_ms=1.0,
        cached=False, result={"n": number},
    )  # fmt: skip


class Device:
    """One life.

    Args:
        home: Its directory, kept from life to life.
        name: Its id.
        servers: Of Kafka.
    """

    def __init__(self, home: Path, name: str, servers: str) -> None:
        clock = SystemClock()
        access = Access(KafkaSettings(bootstrap_servers=servers), "", f"prime-spark-{name}")
        traffic = Traffic(clock.monotonic)
        self._state = Store(home / "state.sqlite")
        self._journal = Outbox(self._state, name, capacity=1_000_000)
        self._outbox = StreamOutbox(self._journal, Store(home / "streams.sqlite", MIGRATIONS), clock, OutboxSettings(), name)
        watch = ClusterWatch(access, traffic, clock, "chaos")
        self._link = KafkaLink(
            access, traffic, clock, watch.prepare, lambda status: self._outbox.link(status.state is LinkState.up)
        )
        self._told = os.open(home / ACKNOWLEDGED, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._moment = 0.0

    async def run(self, first: int, wanted: int) -> None:
        """Live: put in so many events, and send for ever."""
        self._state.open()
        await self._journal.load()
        await self._outbox.start()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._link.run())
            group.create_task(self._outbox.run(self._link))
            group.create_task(self._put(first, wanted))

    async def _put(self, first: int, wanted: int) -> None:
        number = first
        while wanted > 0:
            made = [event_of(each, self._later()) for each in range(number, number + BURST)]
            number += BURST
            await asyncio.gather(*(self._one(each) for each in made))
            await self._outbox.room()
            wanted -= sum(each.durable for each in made)
            await asyncio.sleep(PAUSE)

    def _later(self) -> float:
        """Now, and later than whatever was before."""
        self._moment = max(time.time(), self._moment + 2e-6)
        return self._moment

    async def _one(self, event: Event) -> None:
        if not event.durable:
            self._outbox.offer(event)
            return
        await self._journal.append(event)
        os.write(self._told, f"{event.id}\n".encode())


def acknowledged(home: Path) -> list[str]:
    """Ids of the events that were acknowledged in all lives."""
    path = home / ACKNOWLEDGED
    return path.read_text().split() if path.exists() else []


if __name__ == "__main__":
    place = Path(sys.argv[1])
    asyncio.run(Device(place, sys.argv[2], sys.argv[3]).run(int(sys.argv[4]), int(sys.argv[5]) - len(acknowledged(place))))

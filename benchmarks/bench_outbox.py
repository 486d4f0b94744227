"""The outbox of the streams: appends, the way out, and what it writes to the disk; beside bare sqlite3."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from appliance.core.clock import SystemClock
from appliance.core.events import HostMetrics, Noted
from appliance.core.outbox import Outbox
from appliance.core.store import Store
from appliance.core.streams.encode import Encoder
from appliance.core.streams.file import MIGRATIONS
from appliance.core.streams.model import Message, Refused
from appliance.core.streams.outbox import StreamOutbox
from appliance.errors import LinkDownError
from appliance.settings import OutboxSettings
from benchmarks.rows import Figure, at_least
from benchmarks.terminal import new_home

EVENTS = 200_000
DURABLE = 20_000
WRITERS = (64, 1000)
"""At one time; each waits for its event before it appends the next."""
CHUNK = 500
"""Events between two looks for room, as the bus hands them over."""
SCRAPES, NOTES = 720, 60
"""An hour of the appliance: one scrape in 5 s, one durable event a minute."""
NAMES = "cpu_usage memory_usage disk_usage temperature_c load_1m net_tx_rate net_rx_rate net_tx_bytes net_rx_bytes uptime_s"
METRICS = dict.fromkeys(NAMES.split(), 12.5)


class Null:
    """A producer that takes everything at once, or nothing."""

    def __init__(self, up: bool) -> None:
        self.up = up

    async def send(self, messages: Sequence[Message]) -> list[Refused]:
        """See streams.model.Producer."""
        if not self.up:
            raise LinkDownError("No broker answers.")
        await asyncio.sleep(0)
        return []


class FastClock(SystemClock):
    """The machine's clock, and so many seconds more as the hour that is measured has gone on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def wall(self) -> float:
        """Seconds since the epoch."""
        return super().wall() + self.ahead

    def monotonic(self) -> float:
        """Seconds from a start."""
        return super().monotonic() + self.ahead


class Bench:
    """One outbox."""

    def __init__(self, home: Path, up: bool) -> None:
        home.mkdir()
        self.clock = FastClock()
        self._state = Store(home / "state.sqlite")
        self._streams = Store(home / "streams.sqlite", MIGRATIONS)
        self.producer = Null(up)
        self.journal = Outbox(self._state, "bench")
        self.outbox = StreamOutbox(self.journal, self._streams, self.clock, OutboxSettings(), "bench")

    async def __aenter__(self) -> Bench:
        self._state.open()
        await self.journal.load()
        await self.outbox.start()
        self.outbox.link(self.producer.up)
        self._run = asyncio.create_task(self.outbox.run(self.producer))
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._run.cancel()
        await asyncio.wait({self._run})
        await self.outbox.stop()
        await asyncio.to_thread(self._state.close)

    async def drained(self) -> None:
        """Wait until nothing waits."""
        while (await self.outbox.status()).waiting:
            await asyncio.sleep(0.01)


def run() -> list[Figure]:
    """All of it."""
    with new_home() as home:
        return asyncio.run(_all(Path(home)))


async def _all(home: Path) -> list[Figure]:
    events = [HostMetrics(time=1.0 + index, metrics=METRICS) for index in range(EVENTS)]
    bare = await asyncio.to_thread(_bare, home, events)
    peer = f"bare sqlite3, durable, groups of {CHUNK}"
    async with Bench(home / "up", True) as bench:
        figures = [
            at_least("encode and keep in memory, Kafka up", await _append(bench, events), "events/s", 50_000, peer, bare),
        ]
        await bench.drained()
        dropped = (await bench.outbox.status()).dropped
    async with Bench(home / "down", False) as bench:
        figures.append(
            at_least("encode and bring all to disk, Kafka down", await _append(bench, events), "events/s", 50_000, peer, bare)
        )
        status = await bench.outbox.status()
        figures.append(
            Figure("given up in both", float(dropped + status.dropped), "events", 0.0, ok=not dropped + status.dropped)
        )
        figures.append(Figure("on disk for one event of an outage", round(status.bytes / max(1, status.waiting), 1), "bytes"))
        bench.producer.up = True
        began, before = time.perf_counter(), status.waiting
        bench.outbox.link(True)
        await bench.drained()
        figures.append(Figure("drain to a null producer", round(before / (time.perf_counter() - began)), "messages/s"))
    durable = [await _durable(home, writers) for writers in WRITERS]
    return [*figures, *durable, *await _hours(home)]


async def _append(bench: Bench, events: Sequence[HostMetrics]) -> float:
    began = time.perf_counter()
    for start in range(0, len(events), CHUNK):
        for event in events[start : start + CHUNK]:
            bench.outbox.offer(event)
        await bench.outbox.room()
        await asyncio.sleep(0)
    if not bench.producer.up:
        await bench.outbox.to_disk()
    return len(events) / (time.perf_counter() - began)


def _bare(home: Path, events: Sequence[HostMetrics]) -> float:
    encode = Encoder("bench").message
    with sqlite3.connect(home / "bare.sqlite", isolation_level=None) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE t (seq INTEGER PRIMARY KEY, id TEXT, topic TEXT, key BLOB, value BLOB)")
        began = time.perf_counter()
        for start in range(0, len(events), CHUNK):
            rows = [encode(event)[:4] for event in events[start : start + CHUNK]]
            connection.execute("BEGIN")
            connection.executemany("INSERT INTO t (id, topic, key, value) VALUES (?, ?, ?, ?)", rows)
            connection.execute("COMMIT")
    return len(events) / (time.perf_counter() - began)


async def _durable(home: Path, writers: int) -> Figure:
    bare = await asyncio.to_thread(_bare_durable, home, writers)
    async with Bench(home / f"durable-{writers}", True) as bench:
        events = iter(_notes())

        async def write() -> None:
            for event in events:
                await bench.journal.append(event)

        began = time.perf_counter()
        await asyncio.gather(*(write() for _ in range(writers)))
        rate = round(DURABLE / (time.perf_counter() - began))
        name, peer = f"durable appends, {writers} writers that wait", f"bare sqlite3, durable, groups of {writers}"
        if writers < 1000:  # what few can append is bound by the disk's commits
            return Figure(name, rate, "events/s", None, peer, round(bare))
        return at_least(name, rate, "events/s", 50_000, peer, round(bare))


def _notes() -> list[Noted]:
    return [Noted(time=1.0, event="bench", severity="info") for _ in range(DURABLE)]


def _bare_durable(home: Path, writers: int) -> float:
    """The same events into a table with the same unique id, one commit for as many as there are writers."""
    encode = Encoder("bench").message
    with sqlite3.connect(home / f"bare-durable-{writers}.sqlite", isolation_level=None) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE t (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, topic TEXT, value BLOB)")
        events, began = _notes(), time.perf_counter()
        for start in range(0, DURABLE, writers):
            rows = [(made.id, made.topic, made.value) for made in map(encode, events[start : start + writers])]
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO t (id, topic, value) VALUES (?, ?, ?)", rows)
            connection.execute("COMMIT")
        return DURABLE / (time.perf_counter() - began)


async def _hours(home: Path) -> list[Figure]:
    return [
        Figure("written in an hour and a stop, Kafka up", await _hour(home / "hour-up", True, NOTES), "KiB"),
        Figure("the same without durable events", await _hour(home / "hour-bare", True, 0), "KiB"),
        Figure("written in an hour and a stop, Kafka down", await _hour(home / "hour-down", False, NOTES), "KiB"),
        Figure("the same without durable events", await _hour(home / "hour-down-bare", False, 0), "KiB"),
    ]


async def _hour(home: Path, up: bool, notes: int) -> float:
    """KiB that the process writes in an hour of the appliance, whose waits are skipped, the last checkpoints included."""
    async with Bench(home, up) as bench:
        await bench.outbox.status()
        before = _written()
        for scrape in range(SCRAPES):
            bench.outbox.offer(HostMetrics(time=bench.clock.wall(), metrics=METRICS))
            if notes and scrape % (SCRAPES // notes) == 0:
                await bench.journal.append(Noted(time=bench.clock.wall(), event="bench", severity="info"))
            bench.clock.ahead += 5.0
            await _settle(bench)
    return round((_written() - before) / 1024, 1)


async def _settle(bench: Bench) -> None:
    """Let the outbox do what it does in five seconds."""
    if bench.producer.up:
        await bench.drained()
    await bench.outbox.housekeeping()


def _written() -> int:
    """Bytes that this process caused to be written to the storage layer (proc(5))."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("write_bytes")))

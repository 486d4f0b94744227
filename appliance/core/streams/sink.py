"""The sink: a consumer group that brings Kafka's events into the analytics database, each exactly once.

One task reads and decodes (in a thread) the next batch while another one writes the last. Whatever fails is waited for, with
backoff and jitter: the database, Kafka, or the right to write. A message that cannot be used never stops the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

from appliance.core.analytics.rows import TOPICS
from appliance.core.analytics.timescale import TIMED_OUT, Database, make_database
from appliance.core.backoff import backoff
from appliance.core.model import HealthReport
from appliance.core.ports import Clock
from appliance.core.streams.kafka import Access
from appliance.core.streams.kafka_consumer import GroupConsumer, Lost, Place
from appliance.core.streams.sink_batch import Batch
from appliance.core.streams.sink_decode import Decoder, Now, Record
from appliance.core.streams.sink_figures import Figures
from appliance.core.streams.sink_upkeep import Upkeep
from appliance.core.streams.sink_writer import FencedError, NoPartitionError, Writer
from appliance.errors import AbsentError, ApplianceError, DatabaseError, LinkDownError

if TYPE_CHECKING:
    from appliance.core.secrets import Secrets
    from appliance.settings import Settings, SinkSettings

log = logging.getLogger(__name__)

BACKOFF = (0.2, 15.0)
"""Seconds before the second try, and most."""
UPKEEP = 3600.0
"""Seconds between two rounds of upkeep."""
UPKEEP_AGAIN = 60.0
"""Seconds until the next one where it failed."""
PLACE_AGAIN = 15.0
"""Seconds until partitions that have no leader are looked for again."""
COMMIT = 1.0
"""Seconds between two messages to Kafka about how far the group is."""
WATCH = 5.0
"""Seconds between two looks at Kafka and at the lag."""
POLL = 2000
"""Most messages at once."""
PATIENCE = 10.0
"""Seconds that Kafka may have less than was read from it: after a change of leaders it does for a moment."""
LEAST = 100
"""Rows in a batch that is not made smaller, however slow the database is."""
SESSION = {"synchronous_commit": "off"}
"""A commit that the server loses in a crash takes its offsets along: its messages are read again."""


def make_sink(settings: Settings, secrets: Secrets, clock: Clock) -> Sink:
    """The sink of the settings. Raises StoreError where a secret cannot be read."""
    access = Access(settings.kafka, secrets.text("kafka.password"), f"prime-spark-sink-{settings.node.device_id}")
    database = make_database(settings.analytics, secrets, "sink", options=SESSION, pristine=False)
    return Sink(settings.sink, access, database, clock)


class Sink:
    """Kafka to the database (implements ports.Service).

    Args:
        settings: The group and its batches.
        access: How Kafka is reached.
        database: Where the rows go.
        clock: Ours.
        prefix: What the names of the topics begin with.
    """

    name = "sink"
    summary = "Kafka to the analytics database"
    depends: tuple[str, ...] = ()

    def __init__(self, settings: SinkSettings, access: Access, database: Database, clock: Clock, prefix: str = "") -> None:
        self._settings = settings
        self._access = access
        self._database = database
        self._clock = clock
        self._topics = [prefix + topic for topic in TOPICS]
        self._decoder = Decoder(prefix)
        self._consumer = GroupConsumer(access, settings.group, self._topics)
        self._writer = Writer(database, settings.group)
        self._upkeep = Upkeep(database)
        self.figures = Figures()
        self._positions: dict[Place, int] = {}
        self._place_due = 0.0
        """When to look again for partitions that could not be read."""
        self._short: dict[Place, float] = {}
        self._written: dict[Place, int] = {}
        """What Kafka has to be told."""
        self._stored: dict[Place, int] = {}
        """Up to where the database has it."""
        self._rows = settings.batch_rows
        """In one batch now: fewer while the database is too slow for more."""
        self._life = 0
        self._changes = -1
        self._clocks: Now | None = None
        self._clocks_at = 0.0
        self._writing = asyncio.Lock()

    async def start(self) -> None:
        """See what is configured. Raises AbsentError."""
        if not self._access.servers:
            raise AbsentError("No Kafka is configured.", "set kafka.bootstrap_servers (KAFKA_BOOTSTRAP_SERVERS).")
        if not self._database.configured:
            raise AbsentError("No analytics database is configured.", "set analytics.host (POSTGRES_HOST), user and password.")

    async def run(self) -> None:
        """Work until cancelled; Kafka and the database may come and go."""
        failures = 0
        while True:
            try:
                await self._prepare()
                failures = 0
                await self._work()
            except* (DatabaseError, LinkDownError) as group:
                error = _first(group)
                self._tell("database" if isinstance(error, DatabaseError) else "kafka", error)
                failures += 1
            await self._consumer.stop()
            await asyncio.sleep(backoff(failures, *BACKOFF))

    async def stop(self) -> None:
        """Leave the group, close the connections. What is being written is rolled back."""
        await self._consumer.stop()
        await self._database.close()

    async def health(self) -> HealthReport:
        """From what the last tries said."""
        return self.figures.report(self._clock.monotonic(), len(self._positions))

    async def _prepare(self) -> None:
        """Connect both sides. Raises DatabaseError, LinkDownError."""
        await self._database.open()
        await self._look_after()
        self._tell("database", None)
        await self._consumer.start()
        self._tell("kafka", None)
        self._reset()

    async def _work(self) -> None:
        batches: asyncio.Queue[Batch] = asyncio.Queue(maxsize=1)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read(batches), name="sink reads")
            tasks.create_task(self._write(batches), name="sink writes")
            tasks.create_task(self._watch(), name="sink watches")
            tasks.create_task(self._commit(), name="sink commits")

    def _reset(self) -> None:
        """What was read and is not written is given up; the database says where to go on."""
        self._life += 1
        self._positions.clear()

    async def _read(self, batches: asyncio.Queue[Batch]) -> None:
        """Fill batches, one after the other."""
        loop = asyncio.get_running_loop()
        waiting: deque[Record] = deque()
        batch, ends = Batch(self._life, self._rows), 0.0
        while True:
            if batch.life != self._life or self._changes != self._consumer.changes:
                waiting.clear()
                await self._place_all()
                batch = Batch(self._life, self._rows)
            if self._positions.keys() != self._consumer.assigned() and self._clock.monotonic() >= self._place_due:
                await self._place_rest()
            try:
                if not waiting:
                    left = ends - loop.time() if batch else self._settings.wait_ms / 1000
                    found = await self._consumer.poll(self._positions.keys(), max(0.001, min(left, 1.0)), POLL)
                    waiting.extend(record for records in found.values() for record in records)
            except Lost as error:
                self._forget(error)
                continue
            began = bool(batch)
            await asyncio.to_thread(batch.take, waiting, self._positions, self._decoder, self._now())
            if not waiting and self._consumer.passed_changes == self._consumer.changes == self._changes:
                batch.pass_over(self._consumer.passed, self._positions)
            if batch and not began:
                ends = loop.time() + self._settings.wait_ms / 1000
            if batch and (batch.full or loop.time() >= ends):
                await asyncio.to_thread(batch.seal)
                await batches.put(batch)
                batch = Batch(self._life, self._rows)

    def _forget(self, error: Lost) -> None:
        for place in error.places:
            self._positions.pop(place, None)

    async def _place_all(self) -> None:
        """After a rebalance or a fence: everything is placed anew, once nothing is being written."""
        async with self._writing:
            self._changes = self._consumer.changes
            self._place_due = 0.0
            self._reset()

    async def _place_rest(self) -> None:
        """Set the positions of partitions that have none, from the database. Raises DatabaseError, LinkDownError."""
        mine = self._consumer.assigned()
        for place in self._positions.keys() - mine:
            del self._positions[place]
        missing = sorted(mine - self._positions.keys())
        if not missing:
            return
        async with self._writing:
            stored = await self._writer.offsets()
        bounds = await self._bounds(missing)
        for place in missing:
            if place not in bounds:
                continue
            if (at := await self._position(place, stored.get(place), *bounds[place])) is None:
                await asyncio.sleep(0.5)
                continue
            try:
                self._consumer.seek({place: at})
            except Lost:
                continue
            self._positions[place] = self._stored[place] = at

    async def _bounds(self, missing: list[Place]) -> dict[Place, tuple[int, int]]:
        """First and last offsets; without those of partitions that have no leader now, while others can be read."""
        try:
            return await self._consumer.bounds(missing)
        except LinkDownError as error:
            each = await asyncio.gather(*(self._consumer.bounds([place]) for place in missing), return_exceptions=True)
            found = {place: ends for one in each if isinstance(one, dict) for place, ends in one.items()}
            if not found and not self._positions:
                raise
            log.warning("%d partitions cannot be read now: %s", len(missing) - len(found), error)
            self._place_due = self._clock.monotonic() + PLACE_AGAIN
            return found

    async def _position(self, place: Place, stored: int | None, first: int, last: int) -> int | None:
        """Where to read on; None where that cannot be said yet."""
        if stored is None:
            await self._writer.begin(place, first)
            return first
        if first <= stored <= last:
            self._short.pop(place, None)
            return stored
        if stored > last:
            since = self._short.setdefault(place, self._clock.monotonic())
            if self._clock.monotonic() - since < PATIENCE:
                return None
            self._short.pop(place)
            log.warning(
                "%s/%d ends at %d, and %d was read: the topic was made anew, it is read from its begin", *place, last, stored
            )
        else:
            self.figures.missed(first - stored, self._clock.monotonic())
            log.error("%s/%d: Kafka dropped %d messages before they were read", *place, first - stored)
        await self._writer.move(place, stored, first)
        return first

    async def _write(self, batches: asyncio.Queue[Batch]) -> None:
        """Write batches; each is tried until it is in, or is somebody else's."""
        while True:
            batch = await batches.get()
            failures = 0
            while batch.life == self._life:
                try:
                    async with self._writing:
                        await self._store(batch)
                    self._tell("database", None)
                    break
                except DatabaseError as error:
                    self._tell("database", error)
                    failures += 1
                    self._upkeep.forget()
                    if error.sqlstate == TIMED_OUT and batch.rows > LEAST:
                        self._shrink(batch)
                except NoPartitionError as error:
                    self._upkeep.forget()
                    failures += 1
                    if failures > 1:
                        self._tell("database", DatabaseError(f"{error}.", "attach that partition again, or drop it."))
                except FencedError as error:
                    log.info("others have written meanwhile, or an answer was lost: reading anew (%s)", error)
                    self.figures.fenced += 1
                    self._life += 1
                    break
                await asyncio.sleep(backoff(failures, *BACKOFF))

    def _shrink(self, batch: Batch) -> None:
        """A batch that the database does not store in time would never be stored: read it anew, in smaller ones."""
        self._rows = max(LEAST, batch.rows // 2)
        self._life += 1
        log.warning("the database is too slow for %d rows at once: %d from now on", batch.rows, self._rows)

    async def _store(self, batch: Batch) -> None:
        await self._upkeep.ensure(batch.chunks())
        done = await self._writer.write(batch)
        self._rows = min(self._settings.batch_rows, self._rows + self._rows // 10)
        self.figures.wrote(done, self._clock.monotonic())
        if done.letters:
            log.warning(
                "%d messages cannot be used: %s", done.letters, "; ".join(sorted({each.reason for each in batch.letters})[:3])
            )
        self._written |= batch.ends
        self._stored |= batch.ends

    async def _commit(self) -> None:
        """Tell Kafka once a second how far the database is: for those who look at the group's lag there."""
        while True:
            await asyncio.sleep(COMMIT)
            told, self._written = self._written, {}
            if told:
                await self._consumer.commit(told)

    async def _watch(self) -> None:
        """Look at the lag, and once an hour after the tables."""
        due = self._clock.monotonic() + UPKEEP
        while True:
            await asyncio.sleep(WATCH)
            try:
                mine = sorted(self._positions)
                bounds = await self._consumer.bounds(mine) if mine else {}
            except LinkDownError as error:
                self._tell("kafka", error)
                continue
            self._tell("kafka", None)
            self.figures.lag = self._lag({place: last for place, (_, last) in bounds.items()})
            self.figures.moved(sum(self._stored.values()), self._clock.monotonic())
            if self._clock.monotonic() >= due:
                try:
                    await self._look_after()
                    due = self._clock.monotonic() + UPKEEP
                except DatabaseError as error:
                    due = self._clock.monotonic() + UPKEEP_AGAIN
                    self._tell("database", error)

    def _lag(self, ends: dict[Place, int]) -> dict[str, int]:
        found: dict[str, int] = {}
        for place, last in ends.items():
            behind = max(0, last - self._stored.get(place, last))
            found[place.topic] = found.get(place.topic, 0) + behind
        return found

    async def _look_after(self) -> None:
        """One round of upkeep. Raises DatabaseError."""
        self._clocks = await self._upkeep.clocks(self._clock.wall())
        self._clocks_at = self._clock.monotonic()
        self.figures.note = await self._upkeep.round(self._clocks)

    def _now(self) -> Now:
        """Our clock as it is now, and the server's as it went on since it was last asked."""
        ours = self._clock.wall()
        if self._clocks is None:
            return Now(ours, ours)
        return Now(ours, self._clocks.database + self._clock.monotonic() - self._clocks_at)

    def _tell(self, where: str, error: ApplianceError | None) -> None:
        if self.figures.trouble(where, error):
            if error is None:
                log.info("%s: works again", where)
            else:
                log.warning("%s: %s", where, error)


def _first(group: BaseExceptionGroup[BaseException]) -> ApplianceError:
    """One of the errors of a group."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            return _first(error)
        if isinstance(error, ApplianceError):
            return error
    raise group

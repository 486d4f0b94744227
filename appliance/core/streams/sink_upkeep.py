"""Partitions, retention and bounds of the analytics database.

TimescaleDB sees to chunks and retention itself. Without it partitions are made ahead of time and on demand, and dropped with
the last row that they may keep. Nothing is dropped on the word of one clock: ours and the server's must agree.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from appliance.core.analytics.rows import DAY, ROLLUP_KEEP, TABLES, Table
from appliance.core.analytics.timescale import Database, failures
from appliance.core.streams.sink_decode import Now

if TYPE_CHECKING:
    from appliance.core.analytics.timescale import Connection

log = logging.getLogger(__name__)

AHEAD = 3
"""Chunks that are made ahead of time."""
AGREE = 3600.0
"""Seconds by which the two clocks may differ."""
LETTERS_KEPT = 30 * DAY
"""Seconds that dead letters are kept."""
LETTERS_MOST = 100_000
"""Most of them."""
ATTACHED = "SELECT count(*) > 0 FROM pg_inherits WHERE inhrelid = to_regclass($1)::oid AND inhparent = to_regclass($2)::oid"
IN_USE = ("55P03", "40P01")
"""SQLSTATE of a lock that was not to be had in time, and of a deadlock."""
LOCK = 0x5053_5041
"""Advisory lock of whoever makes or drops partitions."""


class Upkeep:
    """Keeps the tables' partitions.

    Args:
        database: Opened.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: set[tuple[str, int]] = set()
        self.dropped_letters = 0
        """Dead letters that went because there were too many, or they were too old; since the start."""

    @property
    def _native(self) -> bool:
        schema = self._database.schema
        return schema is not None and not schema.timescale

    def forget(self) -> None:
        """Look again which partitions there are."""
        self._known.clear()

    async def ensure(self, chunks: Mapping[Table, set[int]]) -> None:
        """Make the partitions that these chunks (starts, seconds since the epoch) need. Raises DatabaseError."""
        missing = [
            (table, start) for table, starts in chunks.items() for start in starts if (table.name, start) not in self._known
        ]
        if missing and self._native:
            await self._database.run(lambda connection: _make(connection, missing))
            self._known |= {(table.name, start) for table, start in missing}

    async def clocks(self, ours: float) -> Now:
        """The time by both clocks. Raises DatabaseError."""
        query = "SELECT extract(epoch FROM clock_timestamp())::float8"
        return Now(ours, float(await self._database.run(lambda connection: connection.fetchval(query), 15.0)))

    async def round(self, now: Now) -> str:
        """One round of upkeep; says why some of it was left out, or nothing. Raises DatabaseError."""
        ahead = {
            table: {int(moment // table.chunk + step) * table.chunk for moment in now for step in range(AHEAD)}
            for table in TABLES
        }
        await self.ensure(ahead)
        await self._bound_letters()
        if abs(now.ours - now.database) > AGREE:
            return f"this clock and the database's differ by {abs(now.ours - now.database):.0f} s: nothing old is dropped"
        if self._native:
            await self._database.run(lambda connection: self._drop(connection, min(now)))
        return ""

    async def _drop(self, connection: Connection, moment: float) -> None:
        """Partitions and roll-ups that are older than they are kept; each in a transaction of its own.

        "Now" is at most a day after the newest row: where both clocks are years ahead, nothing goes that is not replaced.
        """
        for table in TABLES:
            now = await _reached(connection, table.name, "time", moment)
            for name, start in await _partitions(connection, table):
                if start + table.chunk <= now - table.keep - table.chunk and await _dropped(connection, name):
                    self._known.discard((table.name, start))
        for period in ("hourly", "daily"):
            now = await _reached(connection, f"device_metrics_{period}", "bucket", moment)
            limit = datetime.fromtimestamp(now - ROLLUP_KEEP, UTC)
            await connection.execute(f"DELETE FROM device_metrics_{period} WHERE bucket < $1", limit)  # noqa: S608

    async def _bound_letters(self) -> None:
        async def bound(connection: Connection) -> int:
            old = await connection.execute(
                "DELETE FROM dead_letters WHERE time < now() - make_interval(secs => $1)", float(LETTERS_KEPT)
            )
            many = await connection.execute(
                "DELETE FROM dead_letters WHERE ctid IN (SELECT ctid FROM dead_letters ORDER BY time DESC OFFSET $1)",
                LETTERS_MOST,
            )
            return int(old.split()[-1]) + int(many.split()[-1])

        if gone := await self._database.run(bound):
            self.dropped_letters += gone
            log.warning("%d dead letters went: older than %d days, or more than %d", gone, LETTERS_KEPT // DAY, LETTERS_MOST)


def name_of(table: Table, start: int) -> str:
    """A partition's name: its table and its beginning in UTC."""
    moment = datetime.fromtimestamp(start, UTC)
    return f"{table.name}_{moment:%Y%m%d}" if table.chunk % DAY == 0 else f"{table.name}_{moment:%Y%m%d_%H}"


async def _reached(connection: Connection, table: str, column: str, moment: float) -> float:
    """A moment, or a day after the newest row where that is earlier; seconds since the epoch."""
    newest = await connection.fetchval(f"SELECT extract(epoch FROM max({column}))::float8 FROM {table}")  # noqa: S608
    return moment if newest is None else min(moment, newest + DAY)


async def _dropped(connection: Connection, name: str) -> bool:
    """Drop one partition; False where somebody reads it: to wait for the lock would hold up all others, so it is for later."""
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
            await connection.execute("SET LOCAL lock_timeout = '500ms'")
            await connection.execute(f"DROP TABLE IF EXISTS {name}")
    except failures() as error:
        if getattr(error, "sqlstate", None) not in IN_USE:
            raise
        log.warning("%s is old, but in use; it is dropped in a later round (%s)", name, error)
        return False
    log.info("dropped %s: its rows are older than they are kept", name)
    return True


async def _make(connection: Connection, missing: list[tuple[Table, int]]) -> None:
    """Made alone and then attached: that takes weaker locks than to make them as parts."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
        for table, start in missing:
            name = name_of(table, start)
            if await connection.fetchval(ATTACHED, name, table.name):
                continue
            since, until = (datetime.fromtimestamp(at, UTC).isoformat() for at in (start, start + table.chunk))
            if await connection.fetchval("SELECT to_regclass($1) IS NULL", name):
                await connection.execute(f"CREATE TABLE {name} (LIKE {table.name} INCLUDING ALL)")
            else:
                log.warning("%s stands beside its table: it is attached again", name)
            await connection.execute(
                f"ALTER TABLE {table.name} ATTACH PARTITION {name} FOR VALUES FROM ('{since}') TO ('{until}')"
            )


async def _partitions(connection: Connection, table: Table) -> list[tuple[str, int]]:
    """(name, start) of the partitions that were made here."""
    rows = await connection.fetch(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass($1)::oid", table.name
    )
    found = []
    for (name,) in rows:
        if match := re.fullmatch(rf"{table.name}_(\d{{8}})(?:_(\d\d))?", name):
            moment = datetime.strptime(match[1] + (match[2] or "00"), "%Y%m%d%H").replace(tzinfo=UTC)
            found.append((name, int(moment.timestamp())))
    return sorted(found)

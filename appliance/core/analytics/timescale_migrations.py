"""The analytics database's tables: made where they are missing, by whoever comes first, and never altered silently.

The files lie in postgres/: NNNN_common.sql for every server, NNNN_timescale.sql where the extension is, NNNN_plain.sql where it
is not. Which of the two it was is written down: a server that gets the extension later keeps its native partitions.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from appliance.errors import DatabaseError

if TYPE_CHECKING:
    from asyncpg import Connection

log = logging.getLogger(__name__)

LOCK = 0x5053_414E
"""Advisory lock of whoever makes the tables."""
OLDEST = 150000
"""server_version_num of PostgreSQL 15."""
KINDS = ("common", "timescale", "plain")


@dataclass(frozen=True)
class Schema:
    """What the tables are.

    Attributes:
        timescale: Hypertables and continuous aggregates; else native partitions and roll-up tables.
        version: The newest migration.
        note: What the operator may want to know; empty for nothing.
    """

    timescale: bool
    version: int
    note: str = ""


async def migrate(connection: Connection) -> Schema:
    """Bring the tables to the newest version; several programs may do so at the same time.

    Raises:
        DatabaseError: The server is too old, or its tables are another program's.
    """
    number = int(await connection.fetchval("SHOW server_version_num"))
    if number < OLDEST:
        raise DatabaseError(f"The analytics server is PostgreSQL {number // 10000}.", "use PostgreSQL 15 or later.")
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
        done = await _done(connection)
        kind, note = await _kind(connection, done)
        for version, name, sql in scripts(kind):
            digest = hashlib.sha256(sql.encode()).hexdigest()
            known = done.get((version, name))
            if known is None:
                await connection.execute(sql)
                await connection.execute("INSERT INTO analytics_migrations VALUES ($1, $2, $3)", version, name, digest)
                log.info("analytics database: made the tables of version %d (%s)", version, name)
            elif known != digest:
                raise DatabaseError(
                    f"Version {version} ({name}) of the analytics tables is not the one of this program.",
                    "start the version that made them, or use another database.",
                )
    return Schema(kind == "timescale", max(version for version, _, _ in scripts(kind)), note)


async def _done(connection: Connection) -> dict[tuple[int, str], str]:
    """(version, kind) → digest of what was carried out."""
    if await connection.fetchval("SELECT to_regclass('analytics_migrations') IS NULL"):
        if found := await connection.fetchval("SELECT to_regclass('device_metrics')::text"):
            raise DatabaseError(
                f"The analytics database has a table {found} that this program did not make.",
                "use an empty database, or move that table away.",
            )
        await connection.execute(
            "CREATE TABLE analytics_migrations (version integer, kind text, sha256 text NOT NULL, PRIMARY KEY (version, kind))"
        )
    return {(version, kind): digest for version, kind, digest in await connection.fetch("SELECT * FROM analytics_migrations")}


async def _kind(connection: Connection, done: dict[tuple[int, str], str]) -> tuple[str, str]:
    """ "timescale" or "plain", and what there is to say about it."""
    there = await connection.fetchval("SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'")
    kinds = {kind for _, kind in done}
    if "timescale" in kinds:
        if not there:
            raise DatabaseError("The extension timescaledb was removed under its tables.", "CREATE EXTENSION timescaledb;")
        return "timescale", ""
    if "plain" in kinds:
        return "plain", "made before the server had the extension timescaledb" if there else ""
    if there:
        return "timescale", ""
    if not await connection.fetchval("SELECT count(*) FROM pg_available_extensions WHERE name = 'timescaledb'"):
        return "plain", ""
    return await _with_extension(connection)


async def _with_extension(connection: Connection) -> tuple[str, str]:
    """Create the extension that the server offers; without the right to do so the tables are plain ones."""
    import asyncpg

    try:
        async with connection.transaction():
            await connection.execute("CREATE EXTENSION timescaledb")
    except asyncpg.PostgresError as error:
        log.warning("the server offers timescaledb, but it cannot be created (%s): native partitions are used", error)
        return "plain", f"the server offers timescaledb, but it cannot be created: {error}"
    return "timescale", ""


def scripts(kind: str) -> list[tuple[int, str, str]]:
    """(version, kind, SQL) of all migrations for a server of this kind, in order."""
    folder = resources.files("appliance.core.analytics") / "postgres"
    found = []
    for entry in folder.iterdir():
        number, _, rest = entry.name.partition("_")
        name = rest.removesuffix(".sql")
        if name in {"common", kind}:
            found.append((int(number), name, entry.read_text(encoding="utf-8")))
    return sorted(found)

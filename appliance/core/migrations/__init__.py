"""Versioned migrations of the SQLite store: NNNN_name.sql, applied in order, checksummed, never edited afterwards.

Each is recorded with whether it only added (see core.migrations.expanding). A program that does not know a migration goes on
with the database where it only added: so the former version runs after an update that was taken back.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from importlib import resources

from appliance.errors import StoreError

log = logging.getLogger(__name__)

TABLE = """CREATE TABLE IF NOT EXISTS migrations (
    version INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL, expands INTEGER NOT NULL DEFAULT 0)"""
EXPANDS = "ALTER TABLE migrations ADD COLUMN expands INTEGER NOT NULL DEFAULT 0"
"""For a database of before; what was applied then, every program that reads this column knows."""


def scripts(package: str = __name__) -> list[tuple[int, str, str]]:
    """All migrations of a package as (version, name, SQL), in order."""
    entries = [entry for entry in resources.files(package).iterdir() if entry.name.endswith(".sql")]
    return sorted((int(entry.name[:4]), entry.name, entry.read_text(encoding="utf-8")) for entry in entries)


def migrate(connection: sqlite3.Connection, package: str = __name__) -> None:
    """Bring the database to the newest version, each migration in a transaction of its own.

    Raises:
        StoreError: An applied migration differs from the one shipped, or the database is newer than the program and not
            only by what was added.
    """
    connection.execute(TABLE)
    if "expands" not in _columns(connection):
        connection.execute(EXPANDS)
    known = scripts(package)
    if barred := bars(connection, package):
        raise StoreError(
            f"The database has migration {max(barred)}, which this version of the program does not know.",
            "start the newer version that wrote it, or restore a backup.",
        )
    applied = {row[0]: row[1] for row in connection.execute("SELECT version, sha256 FROM migrations")}
    if newer := set(applied) - {version for version, _, _ in known}:
        log.info("the database has migrations of a newer version, which only add: %s", ", ".join(map(str, sorted(newer))))
    for version, name, sql in known:
        digest = hashlib.sha256(sql.encode()).hexdigest()
        if version in applied:
            _compare(name, applied[version], digest)
            continue
        _apply(connection, version, name, sql, digest)


def bars(connection: sqlite3.Connection, package: str = __name__) -> list[int]:
    """Migrations of a database that bar this program from it: unknown here, and not only adding. Raises sqlite3.Error."""
    known = {version for version, _, _ in scripts(package)}
    only = "expands" if "expands" in _columns(connection) else "0"
    rows = connection.execute(f"SELECT version, {only} FROM migrations ORDER BY version")  # noqa: S608 one of two words
    return [version for version, expands in rows if version not in known and not expands]


def _columns(connection: sqlite3.Connection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT name FROM pragma_table_info('migrations')")}


def _compare(name: str, applied: str, shipped: str) -> None:
    if applied != shipped:
        raise StoreError(
            f"Migration {name} was applied with another content than the one shipped.",
            "reinstall the version that created this database, or restore a backup.",
        )


def _apply(connection: sqlite3.Connection, version: int, name: str, sql: str, digest: str) -> None:
    from appliance.core.migrations.expanding import Watch

    watch = Watch(connection, sql)
    try:
        watch.begin()
        connection.executescript(f"BEGIN IMMEDIATE;\n{sql}")
        row = (version, name, digest, not watch.end())
        connection.execute("INSERT INTO migrations (version, name, sha256, expands) VALUES (?, ?, ?, ?)", row)
        connection.execute("COMMIT")
    except sqlite3.Error:
        _undo(connection)
        meanwhile = connection.execute("SELECT sha256 FROM migrations WHERE version = ?", (version,)).fetchone()
        if meanwhile is None:
            raise
        _compare(name, meanwhile[0], digest)  # a start that was given up as too slow goes on in its thread, and was first
    finally:
        _undo(connection)


def _undo(connection: sqlite3.Connection) -> None:
    connection.set_authorizer(None)
    if connection.in_transaction:
        connection.execute("ROLLBACK")

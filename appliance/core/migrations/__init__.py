"""Versioned migrations of the SQLite store: NNNN_name.sql, applied in order, checksummed, never edited afterwards."""

from __future__ import annotations

import hashlib
import sqlite3
from importlib import resources

from appliance.errors import StoreError


def scripts(package: str = __name__) -> list[tuple[int, str, str]]:
    """All migrations of a package as (version, name, SQL), in order."""
    entries = [entry for entry in resources.files(package).iterdir() if entry.name.endswith(".sql")]
    return sorted((int(entry.name[:4]), entry.name, entry.read_text(encoding="utf-8")) for entry in entries)


def migrate(connection: sqlite3.Connection, package: str = __name__) -> None:
    """Bring the database to the newest version, each migration in a transaction of its own.

    Raises:
        StoreError: An applied migration differs from the one shipped, or the database is newer than the program.
    """
    connection.execute(
        "CREATE TABLE IF NOT EXISTS migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL)"
    )
    applied = {row[0]: row[2] for row in connection.execute("SELECT version, name, sha256 FROM migrations")}
    known = scripts(package)
    if unknown := set(applied) - {version for version, _, _ in known}:
        raise StoreError(
            f"The database has migration {max(unknown)}, which this version of the program does not know.",
            "start the newer version that wrote it, or restore a backup.",
        )
    for version, name, sql in known:
        digest = hashlib.sha256(sql.encode()).hexdigest()
        if version in applied:
            _compare(name, applied[version], digest)
            continue
        _apply(connection, version, name, sql, digest)


def _compare(name: str, applied: str, shipped: str) -> None:
    if applied != shipped:
        raise StoreError(
            f"Migration {name} was applied with another content than the one shipped.",
            "reinstall the version that created this database, or restore a backup.",
        )


def _apply(connection: sqlite3.Connection, version: int, name: str, sql: str, digest: str) -> None:
    connection.executescript(
        f"BEGIN IMMEDIATE;\n{sql}\nINSERT INTO migrations VALUES ({version}, '{name}', '{digest}');\nCOMMIT;"
    )

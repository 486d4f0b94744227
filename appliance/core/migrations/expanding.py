"""Whether a migration only adds, so that the former version of the program can go on with the database; measured, not declared.

It is measured while it is applied: SQLite tells each thing that it prepares (its authoriser), and the schema before is held
against the one after. In doubt it does not only add: then the former version refuses the database, as it would without this.
A migration that changes the meaning of what is there says so in a line `-- narrows: why`; nothing can see that from outside.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any

NARROWS = "-- narrows:"
"""Begins the line of a migration that says itself that the former version cannot go on."""
DROPS = {
    sqlite3.SQLITE_DROP_TABLE: "table", sqlite3.SQLITE_DROP_TRIGGER: "trigger", sqlite3.SQLITE_DROP_VIEW: "view",
    sqlite3.SQLITE_DROP_VTABLE: "table",
}  # fmt: skip
FREES = {"CASCADE", "SET NULL"}
"""What lets the former version delete a row that a row unknown to it refers to."""


@dataclass(frozen=True)
class Table:
    """A table as it is at one moment: columns by name, unique keys, references to other tables, checks."""

    columns: dict[str, tuple[Any, ...]]
    unique: frozenset[str]
    references: frozenset[tuple[str, str, str]]
    checks: int


class Watch:
    """Watches one migration.

    Args:
        connection: Where it is applied, in a transaction that the caller ends.
        sql: The migration.
    """

    def __init__(self, connection: sqlite3.Connection, sql: str) -> None:
        self._connection = connection
        self._declared = [line.strip() for line in sql.splitlines() if line.strip().startswith(NARROWS)]
        self._before: dict[str, Table] = {}
        self._objects: dict[str, str] = {}
        self._done: list[tuple[int, str, str]] = []

    def begin(self) -> None:
        """Remember the schema; listen from now on."""
        self._before, self._objects = tables(self._connection), _objects(self._connection)
        self._connection.set_authorizer(self._heard)

    def _heard(self, what: int, one: str | None, two: str | None, _database: str | None, _trigger: str | None) -> int:
        self._done.append((what, one or "", two or ""))
        return sqlite3.SQLITE_OK

    def end(self) -> list[str]:
        """Why the former version cannot go on; empty where the migration only added."""
        self._connection.set_authorizer(None)
        after = tables(self._connection)
        found = [*self._declared, *self._acts(after), *self._others()]
        for name, table in after.items():
            found += self._references(name, table)
            if name in self._before:
                found += _changes(name, self._before[name], table)
        return list(dict.fromkeys(found))

    def _acts(self, after: dict[str, Table]) -> list[str]:
        found = []
        for what, one, two in self._done:
            if what in DROPS and not one.startswith("sqlite_"):
                found.append(f"drops {DROPS[what]} {one}")
            elif what in (sqlite3.SQLITE_INSERT, sqlite3.SQLITE_DELETE) and one in self._before:
                found.append(f"changes rows of {one}")
            elif what == sqlite3.SQLITE_UPDATE and one in self._before and two in self._before[one].columns:
                found.append(f"changes {one}.{two}")
        return found + [f"drops table {name}" for name in self._before if name not in after]

    def _others(self) -> list[str]:
        """Triggers and views: those of before stay, and no new one acts when the former version writes."""
        now = _objects(self._connection)
        found = [f"changes {each}" for each, sql in self._objects.items() if now.get(each) != sql]
        fresh = self._connection.execute("SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        return found + [
            f"trigger {name} acts on {table}, which was there before"
            for name, table in fresh
            if table in self._before and f"trigger {name}" not in self._objects
        ]

    def _references(self, name: str, table: Table) -> list[str]:
        known = self._before[name].references if name in self._before else frozenset()
        return [
            f"{name}.{column} refers to {parent} and keeps its rows from being deleted"
            for parent, column, deleted in sorted(table.references - known)
            if parent in self._before and deleted not in FREES
        ]


def _changes(name: str, before: Table, after: Table) -> list[str]:
    found = [f"changes {name}.{each}" for each, facts in before.columns.items() if after.columns.get(each) != facts]
    fresh = [(each, facts) for each, facts in after.columns.items() if each not in before.columns]
    found += [f"{name}.{each} has no default" for each, (_, needed, default, *_) in fresh if needed and default is None]
    if after.unique - before.unique:
        found.append(f"rows of {name} are unique in another way")
    if before.unique - after.unique:
        found.append(f"rows of {name} are not unique as they were")
    if after.checks > before.checks:
        found.append(f"rows of {name} are checked in another way")
    return found


def tables(connection: sqlite3.Connection) -> dict[str, Table]:
    """All tables by name, but SQLite's own."""
    sql = "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    return {name: _table(connection, name, text or "") for name, text in connection.execute(sql).fetchall()}


def _table(connection: sqlite3.Connection, name: str, sql: str) -> Table:
    columns = connection.execute('SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?)', (name,))
    unique = connection.execute(
        "SELECT (SELECT group_concat(coalesce(name, '?'), ', ') FROM pragma_index_info(list.name)) || ' ' || partial "
        'FROM pragma_index_list(?) list WHERE "unique"', (name,),
    )  # fmt: skip
    references = connection.execute('SELECT "table", "from", on_delete FROM pragma_foreign_key_list(?)', (name,))
    return Table(
        {row[0]: tuple(row[1:]) for row in columns}, frozenset(row[0] for row in unique),
        frozenset(tuple(row) for row in references), sql.upper().count("CHECK"),
    )  # fmt: skip


def _objects(connection: sqlite3.Connection) -> dict[str, str]:
    sql = "SELECT type || ' ' || name, sql FROM sqlite_master WHERE type IN ('trigger', 'view')"
    return dict(connection.execute(sql).fetchall())

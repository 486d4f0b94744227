"""Migrations: what only adds is measured, and the former version of the program goes on with what a newer one wrote."""

from __future__ import annotations

import ast
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import appliance
from appliance.core import migrations
from appliance.core.analytics import duck
from appliance.core.events import HostMetrics, InferenceCompleted, Noted
from appliance.core.lifecycle.backup.contents import MEMORY, SPINE, STREAMS
from appliance.core.migrations import bars, migrate, scripts
from appliance.core.migrations.expanding import NARROWS, Watch, tables
from appliance.core.store import Store
from appliance.errors import StoreError

PACKAGE = Path(appliance.__file__).parent
SHIPPED = [pytest.param(package, script, id=f"{package.split('.')[-2]}-{script[0]}")
           for package in (SPINE, STREAMS, MEMORY) for script in scripts(package)]  # fmt: skip
FIRST = {(MEMORY, 3)}
"""Not only adding, and known to every version that an update can go back to."""
BASE = """
CREATE TABLE parents (id INTEGER PRIMARY KEY, name TEXT NOT NULL, age INTEGER DEFAULT 3);
CREATE TABLE children (parent INTEGER REFERENCES parents (id), toy TEXT UNIQUE);
CREATE INDEX by_name ON parents (name);
CREATE TRIGGER born AFTER INSERT ON parents BEGIN INSERT INTO children (parent) VALUES (NEW.id); END;
CREATE VIEW names AS SELECT name FROM parents;
INSERT INTO parents (name) VALUES ('ada');
"""
ADDS = {
    "a table": "CREATE TABLE pets (id INTEGER PRIMARY KEY, name TEXT UNIQUE CHECK (name <> ''));",
    "rows of a new table": "CREATE TABLE pets (name); INSERT INTO pets SELECT name FROM parents; DELETE FROM pets;",
    "a column": "ALTER TABLE parents ADD COLUMN city TEXT;",
    "a column with a default": "ALTER TABLE parents ADD COLUMN city TEXT NOT NULL DEFAULT '';",
    "a column that is filled": "ALTER TABLE parents ADD COLUMN city TEXT; UPDATE parents SET city = name;",
    "an index": "CREATE INDEX by_age ON parents (age);",
    "without a plain index": "DROP INDEX by_name;",
    "a view": "CREATE VIEW ages AS SELECT age FROM parents;",
    "a trigger of a new table": "CREATE TABLE pets (n); CREATE TRIGGER fed AFTER INSERT ON pets BEGIN DELETE FROM pets; END;",
    "a reference that gives way": "CREATE TABLE pets (owner INTEGER REFERENCES parents (id) ON DELETE CASCADE);",
}
NARROWER = {
    "drop table": ("DROP TABLE children;", "drops table children"),
    "drop column": ("ALTER TABLE parents DROP COLUMN age;", "changes parents.age"),
    "rename column": ("ALTER TABLE parents RENAME COLUMN age TO years;", "changes parents.age"),
    "rename table": ("ALTER TABLE children RENAME TO kids;", "drops table children"),
    "another type": (
        "DROP VIEW names; DROP TABLE parents; CREATE TABLE parents (id INTEGER PRIMARY KEY, name BLOB, age DEFAULT 3);",
        "changes parents.name"),
    "needed": (
        "DROP VIEW names; DROP TABLE parents; CREATE TABLE parents (id INTEGER PRIMARY KEY, name TEXT, city NOT NULL);",
        "parents.city has no default"),
    "unique": ("CREATE UNIQUE INDEX one_name ON parents (name);", "rows of parents are unique in another way"),
    "no longer unique": (
        "DROP TABLE children; CREATE TABLE children (parent INTEGER REFERENCES parents (id), toy TEXT);",
        "rows of children are not unique as they were"),
    "check": ("ALTER TABLE parents ADD COLUMN city CHECK (length(name) < 4);", "rows of parents are checked in another way"),
    "trigger": (
        "CREATE TRIGGER no BEFORE DELETE ON parents BEGIN SELECT RAISE(ABORT, 'no'); END;",
        "trigger no acts on parents, which was there before"),
    "other trigger": (
        "DROP TRIGGER born; CREATE TRIGGER born AFTER INSERT ON parents BEGIN SELECT 1; END;", "changes trigger born"),
    "other view": ("DROP VIEW names; CREATE VIEW names AS SELECT age FROM parents;", "changes view names"),
    "insert": ("INSERT INTO parents (name) VALUES ('bob');", "changes rows of parents"),
    "delete": ("DELETE FROM parents;", "changes rows of parents"),
    "update": ("UPDATE parents SET age = age + 1;", "changes parents.age"),
    "reference": (
        "CREATE TABLE pets (owner INTEGER REFERENCES parents (id));",
        "pets.owner refers to parents and keeps its rows from being deleted"),
    "declared": (f"CREATE TABLE pets (n);\n{NARROWS} ages are months from now on", f"{NARROWS} ages are months from now on"),
}  # fmt: skip


def shipped(monkeypatch: pytest.MonkeyPatch, *later: str) -> None:
    """A program with this base and these further migrations."""
    found = [(number, f"{number:04}_x.sql", sql) for number, sql in enumerate((BASE, *later), 1)]
    monkeypatch.setattr(migrations, "scripts", lambda _=SPINE: list(found))


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        yield connection


@pytest.mark.parametrize("sql", ADDS.values(), ids=ADDS)
def test_the_former_program_goes_on_with_what_was_added(
    database: sqlite3.Connection, sql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped(monkeypatch, sql)
    migrate(database)
    shipped(monkeypatch)  # the one of before
    assert bars(database) == []
    migrate(database)
    database.execute("INSERT INTO parents (name) VALUES ('bob')")
    database.execute("DELETE FROM parents WHERE name = 'ada'")
    shipped(monkeypatch, sql)  # and the newer one again
    migrate(database)


@pytest.mark.parametrize(("sql", "why"), NARROWER.values(), ids=NARROWER)
def test_what_does_not_only_add_bars_the_former_program(
    database: sqlite3.Connection, sql: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    real = Watch.end

    def end(self: Watch) -> list[str]:
        told[:] = real(self)
        return told

    monkeypatch.setattr(Watch, "end", end)
    shipped(monkeypatch, sql)
    migrate(database)
    assert why in told
    shipped(monkeypatch)
    assert bars(database) == [2]
    with pytest.raises(StoreError, match="has migration 2, which this version"):
        migrate(database)


def test_a_failing_migration_leaves_no_watch_behind(database: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped(monkeypatch, "CREATE TABLE half (x); INSERT INTO nowhere VALUES (1);")
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        migrate(database)
    assert not database.in_transaction
    assert "half" not in tables(database)
    shipped(monkeypatch, "CREATE TABLE half (x);")
    migrate(database)
    assert database.execute("SELECT version, expands FROM migrations").fetchall() == [(1, 1), (2, 1)]


def test_a_database_of_before_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    Store(path).open()
    with closing(sqlite3.connect(path)) as old, old:
        old.execute("ALTER TABLE migrations DROP COLUMN expands")
        assert bars(old) == []
        old.execute("INSERT INTO migrations VALUES (9999, 'later.sql', 'x')")
        assert bars(old) == [9999]  # nothing is known of it
        old.execute("DELETE FROM migrations WHERE version = 9999")
    store = Store(path)
    store.open()
    store.close()
    with closing(sqlite3.connect(path)) as now, now:
        now.execute("INSERT INTO migrations (version, name, sha256, expands) VALUES (9999, 'later.sql', 'x', 1)")
    store.open()
    store.close()


@pytest.mark.parametrize(("package", "script"), SHIPPED)
def test_every_shipped_migration_only_adds_or_says_so(
    database: sqlite3.Connection, package: str, script: tuple[int, str, str]
) -> None:
    migrate(database, package)
    version, name, sql = script
    expands = bool(database.execute("SELECT expands FROM migrations WHERE version = ?", (version,)).fetchone()[0])
    assert expands or NARROWS in sql or (package, version) in FIRST, f"{name}: the former version cannot go back to it"


def texts() -> Iterator[tuple[str, str]]:
    """All texts of the program that SQLite may be given, with their places; what is put in later is a mark."""
    for path in PACKAGE.rglob("*.py"):
        program = path.read_text(encoding="utf-8")
        if not re.search("INSERT|REPLACE|SELECT", program):
            continue
        for node in ast.walk(ast.parse(program)):
            text = ""
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            elif isinstance(node, ast.JoinedStr):
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "?" for part in node.values)
            if re.match(r"\s*(INSERT|REPLACE|SELECT)\b", text):
                yield f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}", text


def test_no_statement_counts_on_the_columns_that_a_table_has_today() -> None:
    stores = []
    for package in (SPINE, STREAMS, MEMORY):
        connection = sqlite3.connect(":memory:", isolation_level=None)
        migrate(connection, package)
        for table in tables(connection):
            connection.execute(f"ALTER TABLE {table} ADD COLUMN added_later TEXT")
        stores.append(connection)
    understood, wrong = 0, []
    for place, text in texts():
        for connection in stores:
            try:
                connection.execute(f"EXPLAIN {text}", [None] * _marks(connection, text))
            except sqlite3.Error as error:
                if "values were supplied" in str(error) or "values for" in str(error):
                    wrong.append(f"{place}: {error}")
                continue
            understood += 1
            if re.match(r"\s*SELECT \*", text):
                wrong.append(f"{place}: {text}")
    for connection in stores:
        connection.close()
    assert wrong == []
    assert understood > 150, "the scan does not see the statements any more"


def _marks(connection: sqlite3.Connection, text: str) -> int:
    """How many values a statement takes."""
    try:
        connection.execute(f"EXPLAIN {text}", [])
    except sqlite3.ProgrammingError as error:
        if found := re.search(r"uses (\d+)", str(error)):
            return int(found[1])
    except sqlite3.Error:
        return 0
    return 0


def test_the_analytics_file_of_a_newer_program_is_used(tmp_path: Path) -> None:
    import duckdb

    store = duck.DuckStore(tmp_path / "a.duckdb", "pc")
    store.open()
    store.close()
    with duckdb.connect(str(store.path)) as newer:
        for (table,) in newer.execute("SELECT table_name FROM duckdb_tables()").fetchall():
            newer.execute(f"ALTER TABLE {table} ADD COLUMN added_later INTEGER DEFAULT 5")
    store.open()
    store.add_metrics([HostMetrics(time=1_790_000_000.0, metrics={"m": 4.0})])
    found = InferenceCompleted(
        time=3.0, model="m", model_version="1", task="t", backend="b", inference_time_ms=1.0, total_time_ms=1.0, cached=False,
        result={},
    )  # fmt: skip
    store.add_events("outbox", [(1, Noted(time=1.0, event="x", severity="info")), (2, found)])
    assert store.cursor("outbox") == (2, found.id)
    assert store.recent(["m"], 0.0, 2e9, 5) == [("m", 1_790_000_000.0, 4.0)]
    store.close()


def test_the_analytics_file_has_a_format_that_is_written_down(tmp_path: Path) -> None:
    import duckdb

    store = duck.DuckStore(tmp_path / "a.duckdb", "pc")
    store.open()
    store.copy_to(tmp_path / "copy.duckdb")
    assert duck.FORMAT in str(store.query("SELECT tags FROM duckdb_databases() WHERE database_name = 'a'", []))
    store.close()
    with duckdb.connect(str(tmp_path / "copy.duckdb"), read_only=True) as copy:
        assert duck.FORMAT in str(copy.execute("SELECT tags FROM duckdb_databases() WHERE database_name = 'copy'").fetchall())


def test_the_tables_of_the_analytics_are_only_added_to() -> None:
    import duckdb

    told = (PACKAGE / "core/analytics/schema.sql").read_text(encoding="utf-8")
    kinds = {
        (each.type, " ".join(re.findall(r"IF NOT EXISTS|ADD COLUMN", each.query))) for each in duckdb.extract_statements(told)
    }
    create, alter = duckdb.StatementType.CREATE, duckdb.StatementType.ALTER
    assert kinds == {(create, "IF NOT EXISTS"), (alter, "ADD COLUMN IF NOT EXISTS")}

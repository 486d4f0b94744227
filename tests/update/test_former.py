"""The former version starts on what a newer one left: every table of every database has a column more, one table is new."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from appliance import config, paths
from appliance.core.lifecycle.backup.contents import MEMORY, SPINE, STREAMS
from appliance.core.logs import LogRing
from appliance.core.migrations import migrate, scripts
from appliance.core.migrations.expanding import tables
from appliance.core.model import Health
from appliance.core.state import Section
from appliance.runtime import Appliance
from tests.screens.conftest import Bench, running


def databases(home: Path) -> dict[str, Path]:
    """Of an appliance with this home, by the package of their migrations."""
    where = paths.find({"PRIME_SPARK_HOME": str(home)})
    return {SPINE: where.database, STREAMS: where.streams, MEMORY: where.memory / "memory.sqlite"}


def bring_forward(path: Path, package: str, monkeypatch: Any) -> None:
    """What a newer version would do."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        names = [name for name in tables(connection) if name != "migrations"]
        sql = "".join(f"ALTER TABLE {name} ADD COLUMN of_later TEXT NOT NULL DEFAULT 'x';\n" for name in names)
        later = (9001, "9001_later.sql", f"{sql}CREATE TABLE of_later (name TEXT PRIMARY KEY);")
        with monkeypatch.context() as newer:
            newer.setattr("appliance.core.migrations.scripts", lambda _: [*scripts(package), later])
            migrate(connection, package)
        assert connection.execute("SELECT expands FROM migrations WHERE version = 9001").fetchone() == (1,)


@asynccontextmanager
async def again() -> AsyncIterator[Bench]:
    """The appliance of this home, started once more."""
    where = paths.find()
    appliance = Appliance(config.load(where, os.environ), where, LogRing(), dict(os.environ))
    appliance.start([])
    assert appliance.supervisor is not None
    await appliance.supervisor.settled()
    try:
        yield Bench(appliance)
    finally:
        await appliance.stop()


def bad(bench: Bench) -> set[str]:
    """Services that do not do their work."""
    return {each.name for each in bench.appliance.state.get(Section.services).value if each.health is Health.unhealthy}


async def test_the_former_version_goes_on_with_what_a_newer_one_left(home: Path, monkeypatch: Any) -> None:
    async with running(home) as bench:
        before = bad(bench)
        await bench.invoke("user.add", name="bob", password="correct horse", role="operator")
    for package, path in databases(home).items():
        bring_forward(path, package, monkeypatch)
    async with again() as bench:
        assert bad(bench) <= before
        users: Any = await bench.invoke("user.list")
        assert {each["name"] if isinstance(each, dict) else each.name for each in users} >= {"ada", "bob"}
        await bench.invoke("user.add", name="eve", password="correct horse", role="viewer")
        await bench.invoke("memory.set", key="a", value="b")
        found: Any = await bench.invoke("memory.get", key="a")
        assert "b" in str(found)
        rows: Any = await bench.invoke("audit.list")
        assert "user.add" in {each.action for each in rows}
        checked: Any = await bench.invoke("audit.verify")
        assert "altered" not in str(checked)

"""Two starts that migrate one database at a time: the first one was given up as too slow, and goes on in its thread."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path

import pytest

from appliance.core import migrations
from appliance.core.store import connect
from appliance.errors import StoreError


def test_both_find_the_database_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "appliance.sqlite"
    looked = threading.Barrier(2, timeout=20)
    plain = migrations._apply

    def apply(connection: sqlite3.Connection, version: int, name: str, sql: str, digest: str) -> None:
        looked.wait()  # each has read which ones are missing before the other applies this one
        plain(connection, version, name, sql, digest)

    monkeypatch.setattr(migrations, "_apply", apply)
    failed: list[BaseException] = []

    def start() -> None:
        with contextlib.closing(connect(path)) as connection:
            try:
                migrations.migrate(connection)
            except (StoreError, sqlite3.Error) as error:
                failed.append(error)
                looked.abort()

    with contextlib.closing(connect(path)) as connection:
        connection.execute(migrations.TABLE)
    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with contextlib.closing(connect(path)) as connection:
        applied = [row[0] for row in connection.execute("SELECT version FROM migrations ORDER BY version")]
    assert applied == [version for version, _, _ in migrations.scripts(migrations.__name__)]


def test_one_that_another_version_applied_meanwhile_is_refused(tmp_path: Path) -> None:
    with contextlib.closing(connect(tmp_path / "appliance.sqlite")) as connection:
        migrations.migrate(connection)
        version, name, sql = migrations.scripts(migrations.__name__)[0]
        with pytest.raises(StoreError, match="another content"):
            migrations._apply(connection, version, name, sql, "other")
        assert not connection.in_transaction

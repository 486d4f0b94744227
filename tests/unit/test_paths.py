"""Where things lie, who may read them, and that one home has one appliance."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import paths
from appliance.core.secrets import Secrets
from appliance.core.store import Store
from appliance.lock import Lock


def test_one_home_has_one_lock_whatever_the_login_says_of_sockets(tmp_path: Path) -> None:
    """With and without XDG_RUNTIME_DIR (cron, su, sudo), the same data has the same lock."""
    environ = {"HOME": str(tmp_path)}
    here = paths.find({**environ, "XDG_RUNTIME_DIR": str(tmp_path / "run-of-a-login")}, root=False)
    there = paths.find(environ, root=False)
    assert here.run != there.run
    assert here.database == there.database
    first, second = Lock(here.lock), Lock(there.lock)
    assert first.take()
    assert not second.take()
    assert second.holder() == first.holder()
    first.release()
    assert second.take()
    second.release()


@pytest.fixture
def open_umask() -> Iterator[None]:
    """What most logins have: others may read."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(directory: Path) -> dict[str, int]:
    return {each.name: each.stat().st_mode & 0o777 for each in directory.iterdir()}


@pytest.mark.usefixtures("open_umask")
def test_no_file_of_the_database_is_ever_readable_by_others(tmp_path: Path) -> None:
    store = Store(tmp_path / "data/state.sqlite")
    store.open()
    found = modes(store.path.parent)
    assert set(found) == {"state.sqlite", "state.sqlite-wal", "state.sqlite-shm"}
    assert set(found.values()) == {0o600}
    for each in store.path.parent.iterdir():  # as an earlier version left them when it was killed
        each.chmod(0o644)
    again = Store(store.path)
    again.open()
    assert set(modes(store.path.parent).values()) == {0o600}
    again.close()
    store.close()


@pytest.mark.usefixtures("open_umask")
def test_directories_that_were_there_before_become_private(tmp_path: Path) -> None:
    where = paths.find({"PRIME_SPARK_HOME": str(tmp_path)})
    for each in (where.data, where.run, where.logs, where.secrets):
        each.mkdir(parents=True)
        assert each.stat().st_mode & 0o777 == 0o755
    where.make()
    Secrets(where.secrets, {}).get_or_create("a.key")
    for each in (where.data, where.run, where.logs, where.secrets):
        assert each.stat().st_mode & 0o777 == 0o700

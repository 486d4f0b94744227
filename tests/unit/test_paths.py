"""Where things lie, who may read them, and that one home has one appliance."""

from __future__ import annotations

from pathlib import Path

from appliance import paths
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

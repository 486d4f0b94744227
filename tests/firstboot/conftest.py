"""A machine for each test; one to which the whole file was applied is made once, for its hashes are meant to be slow."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.firstboot import rig


@pytest.fixture
def box(tmp_path: Path) -> rig.Box:
    """A machine that was never started."""
    return rig.Box(tmp_path / "box").make()


@pytest.fixture(scope="session")
def seed(tmp_path_factory: pytest.TempPathFactory) -> rig.Box:
    """A machine to which the whole file was applied, by a clock that was never set."""
    found = rig.Box(tmp_path_factory.mktemp("seed") / "box").make()
    found.write(rig.WHOLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.time", lambda: 12.0)
        outcome = found.apply()
    assert outcome.state == "applied", outcome
    return found


@pytest.fixture
def used(seed: rig.Box, tmp_path: Path) -> rig.Box:
    """A copy of it."""
    shutil.copytree(seed.base, tmp_path / "used", symlinks=True)
    return rig.Box(tmp_path / "used")


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory, where there is one: what is cut at each step waits for the disk at each step."""
    if not Path("/dev/shm").is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)

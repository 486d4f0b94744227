"""A home that was backed up once; tests work on copies of it and of its repository."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.core.lifecycle.backup.keeper import Keeper
from tests.backup import rig
from tests.support import needs_program


@dataclass(frozen=True)
class Kept:
    """A home and its repository."""

    home: Path
    repository: Path

    @property
    def key(self) -> bytes:
        return (self.home / "data/secrets/backup.password").read_bytes()

    def keeper(self, **settings: object) -> Keeper:
        return rig.keeper(self.home, self.repository, **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that has seen some use; made once, for its users' passwords are meant to be slow to guess."""
    home = tmp_path_factory.mktemp("filled") / "home"
    asyncio.run(rig.fill(home))
    return home


@pytest.fixture
def used(filled: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(filled, tmp_path / "home"))


@pytest.fixture(scope="session")
def seed(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """Backed up once: a new repository costs seconds, for its key is meant to be slow to guess too."""
    needs_program("restic")
    root = tmp_path_factory.mktemp("seed")
    shutil.copytree(filled, root / "home")
    asyncio.run(rig.keeper(root / "home", root / "repository").run())
    return Kept(root / "home", root / "repository")


@pytest.fixture
def kept(seed: Kept, tmp_path: Path) -> Kept:
    """A copy of it."""
    shutil.copytree(seed.home, tmp_path / "home")
    shutil.copytree(seed.repository, tmp_path / "repository")
    book = tmp_path / "home/data/backup/book.json"
    book.write_text(book.read_text().replace(str(seed.repository), str(tmp_path / "repository")))
    return Kept(tmp_path / "home", tmp_path / "repository")

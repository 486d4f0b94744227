"""Bundles that are made once, and a machine of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.update import raucrig
from tests.update.raucrig import Bundles, Machine


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """Good ones and bad ones."""
    return raucrig.make_bundles(tmp_path_factory.mktemp("bundles"))


@pytest.fixture
def machine(tmp_path: Path, bundles: Bundles) -> Iterator[Machine]:
    """Two slots and RAUC."""
    with raucrig.machine(tmp_path / "machine", bundles, quick=True) as found:
        yield found


@pytest.fixture
def whole(tmp_path: Path, bundles: Bundles) -> Iterator[Machine]:
    """The same, and RAUC asks our program alone."""
    with raucrig.machine(tmp_path / "machine", bundles, quick=False) as found:
        yield found

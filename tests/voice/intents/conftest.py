"""Fixtures for the understanding."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.voice.intents.rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A dialogue whose actions count."""
    made = Rig(tmp_path)
    yield made
    made.close()

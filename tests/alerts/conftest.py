"""Fixtures of the channels."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from appliance.settingalerts import AlertSettings
from tests.alerts.rig import Desk
from tests.alerts.sink import Sink, sink


@pytest.fixture
async def server() -> AsyncIterator[Sink]:
    """A real HTTP server."""
    async with sink() as found:
        yield found


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Callable[[AlertSettings], Awaitable[Desk]]]:
    """Makes desks, and closes the last ones."""
    made: list[Desk] = []

    async def make(wanted: AlertSettings) -> Desk:
        made.append(Desk(tmp_path, wanted))
        return await made[-1].open()

    yield make
    for each in made:
        await each.close()

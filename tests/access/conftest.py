"""The API of a running appliance: one for all tests of a file."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.api.rig import Api, serving


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """An appliance that serves its API on a free port of loopback."""
    home = tmp_path_factory.mktemp("api") / "home"
    home.mkdir(mode=0o700)
    async with serving(home) as api:
        yield api

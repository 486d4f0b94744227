"""A rig: real sessions, drivers and servers, with a small App in the place of the console's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from appliance.core.auth import Accounts
from appliance.core.clock import SystemClock
from appliance.core.model import Role
from appliance.core.store import Store
from appliance.session.ssh import SshService
from appliance.session.ui import UiThread
from tests.session.rig import Rig, listen_on, make_service


@pytest.fixture
async def ui() -> AsyncIterator[UiThread]:
    """A UI thread, stopped at the end."""
    thread = UiThread()
    thread.start()
    yield thread
    await asyncio.to_thread(thread.stop)


@pytest.fixture
async def rig() -> Rig:
    """Sessions whose Apps run on the test's own loop."""
    return Rig(asyncio.get_running_loop())


@pytest.fixture
async def accounts(tmp_path: Path) -> AsyncIterator[Accounts]:
    """Real accounts: ada is admin, vic a viewer."""
    store = Store(tmp_path / "state.db")
    await asyncio.to_thread(store.open)
    accounts = Accounts(store, SystemClock())
    await accounts.add("ada", Role.admin, "correct horse")
    await accounts.add("vic", Role.viewer, "battery staple")
    yield accounts
    await asyncio.to_thread(store.close)


@pytest.fixture
async def ssh(ui: UiThread, rig: Rig, accounts: Accounts, tmp_path: Path) -> AsyncIterator[SshService]:
    """A real server on a free port of loopback."""
    service = make_service(ui, rig, accounts, listen_on(tmp_path))
    await service.start()
    yield service
    await service.stop()


@pytest.fixture
def started(rig: Rig) -> Callable[[], int]:
    """How many Apps were made so far."""
    return lambda: len(rig.apps)

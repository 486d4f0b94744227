"""Whether the appliance was set up, as its health tells it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from appliance.core.auth import Accounts
from appliance.core.model import Health, Role
from appliance.core.setup import SetupService
from appliance.core.state import LiveState
from appliance.core.store import Store
from tests.support import ManualClock


async def test_before_there_is_an_administrator_it_says_who_can_log_in(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.sqlite")
    store.open()
    accounts = Accounts(store, ManualClock())
    service = SetupService(accounts, LiveState(ManualClock()), "pc")
    report = await service.health()
    assert (report.health, report.reason) == (Health.degraded, "no administrator yet: nobody can log in over SSH")
    await accounts.add("vic", Role.viewer, "long enough")
    report = await service.health()
    assert report.reason == "no administrator yet: only 1 user without that role can log in over SSH"
    await accounts.add("ada", Role.admin, "long enough")
    report = await service.health()
    assert (report.health, report.reason) == (Health.healthy, "2 users")
    await asyncio.to_thread(store.close)
